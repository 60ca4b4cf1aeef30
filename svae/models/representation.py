"""What a text-to-speech model generates: frames that speech is turned into, and that are turned into speech again.

Training and synthesis know the interface `Representation` alone. A further kind is one class with that interface, one
line in KINDS, and its name in the recipe's field `representation` (`svae.config.TTSTrainConfig`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Protocol, Self

import torch
from torch import Tensor

from svae.checkpoint import Checkpoint, open_checkpoint
from svae.errors import CheckpointError, ConfigError
from svae.models.mel import MelFrames
from svae.models.vae import streaming
from svae.models.vae.receptive_field import decoder_reach
from svae.models.vae.vae import Posterior, opened_vae


class Representation(Protocol):
    """Frames (B, D, T) with the ways from and to a waveform (B, 1, S).

    Sizes and names are known at once; what computes needs `load` before.
    """

    plural: ClassVar[str]
    """What the frames are called in messages."""
    in_shards: ClassVar[bool]
    """Whether `svae encode` stores such frames, so that they can be read in place of waveforms."""
    sample_rate: int
    hop_length: int
    """Samples a frame stands for."""
    latent_dim: int
    """D, numbers in a frame."""
    decoder_context: int
    """Frames before the first wanted one that its samples depend on; known after `load`."""
    identity: str
    """What the numbers mean: two representations of one identity can read each other's frames."""

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The VAE whose weights this needs; runs and TTS checkpoints carry a copy of it in their folder vae/."""

    @classmethod
    def make(
        cls, vae: Checkpoint | None, vocoder: str | None, latent_dim: int | None = None
    ) -> Self:
        """Make it of what a recipe or a TTS checkpoint names. Raises ConfigError where something is not named."""

    def to_config(self) -> dict[str, Any]:
        """Return the fields `representation`, `vae_hash` and `vocoder` of a TTS checkpoint's config.json."""

    def describe(self) -> str:
        """Return one line for a person."""

    def load(self, device: str | torch.device) -> Self:
        """Load the weights and return self. Raises CheckpointError where they are damaged."""

    def load_decoder(self) -> None:
        """Load what `decode` would load at its first call. Raises ConfigError where it cannot be had."""

    def encode(self, waveform: Tensor, lengths: Tensor | None = None) -> Posterior:
        """Return the frames, not normalised, as a distribution; `lengths` as in `SpeechVAE.encode`."""

    def normalize(self, latents: Tensor) -> Tensor:
        """Return frames (B, D, T) as the TTS model learns them."""

    def denormalize(self, latents: Tensor) -> Tensor:
        """Undo `normalize`."""

    def decode(self, latents: Tensor) -> Tensor:
        """Turn any number of frames (B, D, T), not normalised, into (B, 1, T * hop_length) in [-1, 1]."""

    def decode_in_pieces(self, latents: Tensor, frames: int) -> Iterator[Tensor]:
        """Yield what `decode` gives, to rounding, piece by piece; of so many frames each where that is possible."""


class VAELatents:
    """The latents of a frozen VAE, at zero mean and unit deviation per channel over its training set."""

    plural: ClassVar[str] = "the VAE's latents"
    in_shards: ClassVar[bool] = True

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self.identity = checkpoint.hash
        try:
            self.sample_rate: int = checkpoint.config["sample_rate"]
            self.hop_length: int = checkpoint.config["hop_length"]
            self.latent_dim: int = checkpoint.config["model"]["latent_dim"]
        except (KeyError, TypeError) as error:
            raise CheckpointError(f"{checkpoint.folder}/config.json: damaged: {error!r}") from None

    @classmethod
    def make(
        cls, vae: Checkpoint | None, vocoder: str | None, latent_dim: int | None = None
    ) -> Self:
        """Take the VAE; it needs no vocoder, and says itself how many latents it has."""
        if vae is None:
            raise ConfigError(
                "train-tts: no VAE given; pass --vae DIR (a run or checkpoint folder of `svae train-vae`)"
            )
        return cls(vae)

    def to_config(self) -> dict[str, Any]:
        """See `Representation`."""
        return {"representation": "latents", "vae_hash": self.identity, "vocoder": None}

    def describe(self) -> str:
        """See `Representation`."""
        return f"VAE: {self.checkpoint.folder} (step {self.checkpoint.step}, {self.identity[:12]}…)"

    def load(self, device: str | torch.device) -> Self:
        """See `Representation`."""
        self.vae = opened_vae(self.checkpoint, device)
        self.decoder_context, _ = decoder_reach(self.vae.decoder)
        return self

    def load_decoder(self) -> None:
        """Do nothing: the decoder comes with the encoder."""

    def encode(self, waveform: Tensor, lengths: Tensor | None = None) -> Posterior:
        """See `Representation`."""
        return self.vae.encode(waveform, lengths)

    def normalize(self, latents: Tensor) -> Tensor:
        """See `Representation`."""
        return self.vae.normalize(latents)

    def denormalize(self, latents: Tensor) -> Tensor:
        """See `Representation`."""
        return self.vae.denormalize(latents)

    def decode(self, latents: Tensor) -> Tensor:
        """See `Representation`; long latents are decoded in chunks, in bounded memory."""
        return streaming.decode(self.vae, latents)

    def decode_in_pieces(self, latents: Tensor, frames: int) -> Iterator[Tensor]:
        """See `Representation`."""
        seconds = frames * self.hop_length / self.sample_rate
        return streaming.iter_decode(self.vae, [latents], chunk_seconds=seconds)


KINDS: dict[str, type[Representation]] = {"latents": VAELatents, "mel": MelFrames}
"""What the field `representation` of recipes and checkpoints means."""


def kind_of(checkpoint: Checkpoint) -> str:
    """Return which kind a TTS model generates; those written before there was a choice generate latents."""
    return checkpoint.config.get("representation", "latents")


def load_representation(checkpoint: Checkpoint, device: str | torch.device) -> Representation:
    """Load what turns a TTS model's frames into a waveform, from its checkpoint.

    Raises:
        CheckpointError: it is damaged, or not what the model was trained on.
    """
    config = checkpoint.config
    vae = None
    if (wanted := config.get("vae_hash")) is not None:
        vae = open_checkpoint(checkpoint.folder / "vae", kind="vae")
        if vae.hash != wanted:
            raise CheckpointError(
                f"{checkpoint.folder}: was trained on VAE {wanted}, but {vae.folder} is VAE {vae.hash}.\n"
                "Latents of another VAE mean something else; put the right VAE back, or copy the checkpoint again."
            )
    kind = KINDS[kind_of(checkpoint)]
    return kind.make(vae, config.get("vocoder"), config["latent_dim"]).load(device)
