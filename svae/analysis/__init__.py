"""Looking at runs, latents and the machine."""
