"""Rewards of any kind of design: of functions, programs, predictors and of other rewards."""
