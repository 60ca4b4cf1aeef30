"""Training the text-to-speech model."""
