"""Recognisers, speaker models and predictors of naturalness: what synthesis, training and evaluation ask."""
