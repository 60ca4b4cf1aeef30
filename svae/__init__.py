"""Speech synthesis over semantically aligned latents: Semantic-VAE and flow-matching voice cloning.

import svae
vae = svae.load_vae("runs/tiny-vae")            # .encode(waveform) -> .mean .logvar (B, D, T); .decode(latents)
tts = svae.load_tts("embedded")                 # .synthesize(text, prompt_waveform, prompt_text, seed=0)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = ["__version__", "load_tts", "load_vae"]

if TYPE_CHECKING:
    from svae.models.vae.vae import load_vae
    from svae.synthesis.load import load_tts


def __getattr__(name: str) -> object:
    """Import on first use, so that `import svae` and `svae --help` stay free of torch."""
    if name == "load_vae":
        from svae.models.vae.vae import load_vae

        return load_vae
    if name == "load_tts":
        from svae.synthesis.load import load_tts

        return load_tts
    raise AttributeError(f"module 'svae' has no attribute {name!r}")
