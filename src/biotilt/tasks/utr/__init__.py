"""The task `utr`: 50-nt 5′UTRs that are translated well (mean ribosome load, Sample et al. 2019)."""
