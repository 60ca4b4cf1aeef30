"""Written text to what a model reads: spelled out, in sentences, as characters or phones."""
