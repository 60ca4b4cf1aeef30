"""Training the VAE."""
