"""Corpora, shards and loaders."""
