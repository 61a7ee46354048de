"""The task `rna_fold`: RNAs that fold into a structure that you name (inverse folding, ViennaRNA)."""
