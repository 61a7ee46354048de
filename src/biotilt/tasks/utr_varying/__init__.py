"""The task `utr_varying`: 5′UTRs of 25 to 100 letters that are translated well (Sample et al. 2019)."""
