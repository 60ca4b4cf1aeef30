"""Checkpoints of the official codes as checkpoints of svae."""
