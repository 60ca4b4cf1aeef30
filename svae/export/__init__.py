"""Models for programs without torch: `svae export`."""
