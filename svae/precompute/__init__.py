"""What is computed once over shards and stored: latents, teacher features, times of phones."""
