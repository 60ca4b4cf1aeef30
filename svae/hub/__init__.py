"""Models to the Hugging Face hub and from it: `svae push` and `svae pull`."""
