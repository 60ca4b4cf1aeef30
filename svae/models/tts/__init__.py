"""The text-to-speech network, its training objective, its sampler and its predictors of duration."""
