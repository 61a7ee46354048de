"""The task `enhancer`: 200-bp enhancers that are active in HepG2 liver cells (lentiMPRA, Agarwal et al. 2025)."""
