"""Speech from a folder that `svae export` wrote, without torch."""

from svae_runtime.voice import Speech, Voice

__all__ = ["Speech", "Voice"]
__version__ = "0.1.0"
