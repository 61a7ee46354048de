"""The task `protein`: single-chain proteins of 50 to 150 residues, toward a content of strands or helices."""
