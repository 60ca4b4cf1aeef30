"""Faster inference on the CPU, by operators of torch that are not public."""
