"""Sources that are read from front to back, not listed in advance: one file a kind, all with the interface `Source`."""
