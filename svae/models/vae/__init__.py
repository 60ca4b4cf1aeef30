"""The speech VAE and its discriminators."""
