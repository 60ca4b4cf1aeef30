"""Log-mel frames in place of a VAE's latents: what F5-TTS generates, and the baseline that latents are compared with."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
import torchaudio.functional as AF
from torch import Tensor, nn

from svae.checkpoint import Checkpoint
from svae.errors import CheckpointError, ConfigError
from svae.frames import length_mask, num_frames
from svae.models.vae.vae import Posterior
from svae.runtime.pretrained import first_line, load_pretrained

SAMPLE_RATE = 24000
N_FFT = 1024
HOP_LENGTH = 256
NUM_BINS = 100
FLOOR = 1e-5
VOCOS = "charactr/vocos-mel-24khz"
"""Hub id of the vocoder that F5-TTS uses."""
GRIFFIN_LIM = "griffin-lim"
"""Decoder without weights, for tests and for a first impression without a network; its speech sounds metallic."""


@functools.cache
def mel_filters(num_bins: int = NUM_BINS) -> Tensor:
    """Return the filter bank (N_FFT // 2 + 1, num_bins): HTK scale, triangles of height 1, 0 to 12 kHz."""
    return AF.melscale_fbanks(
        N_FFT // 2 + 1, 0.0, SAMPLE_RATE / 2, num_bins, SAMPLE_RATE, norm=None, mel_scale="htk"
    )


class MelFrames(nn.Module):
    """Natural log of mel magnitudes, as F5-TTS and Vocos have it; a `svae.models.representation.Representation`.

    24 kHz, Hann window of 1024, hop 256, HTK filters, floor 1e-5. The signal is mirrored at its ends. Frame j is centred
    on sample 256 j; there are ceil(S / 256), where F5-TTS has one more if S is a multiple of 256.

    Args:
        vocoder: what `decode` uses: a hub id or a local folder of Vocos (config.yaml, pytorch_model.bin), read with the
            package `vocos` at the first decoding; or `griffin-lim`.
        num_bins: D.

    Source: F5-TTS (arXiv 2410.06885), section 4; Vocos (arXiv 2306.00814).
    """

    sample_rate = SAMPLE_RATE
    hop_length = HOP_LENGTH
    decoder_context = 16
    """Frames of the reference decoded with the new ones and cut off, so that the vocoder does not start from nothing."""
    plural: ClassVar[str] = "mel frames"
    in_shards: ClassVar[bool] = False
    checkpoint: Checkpoint | None = None

    window: Tensor
    filters: Tensor

    def __init__(self, vocoder: str = VOCOS, num_bins: int = NUM_BINS) -> None:
        super().__init__()
        self.vocoder = vocoder
        self.latent_dim = num_bins
        self.identity = f"mel-{num_bins}"
        self.register_buffer("window", torch.hann_window(N_FFT), persistent=False)
        self.register_buffer("filters", mel_filters(num_bins).clone(), persistent=False)
        self._decoder: Callable[[Tensor], Tensor] | None = None

    @classmethod
    def make(
        cls, vae: Checkpoint | None, vocoder: str | None, latent_dim: int | None = None
    ) -> Self:
        """Take the vocoder; there is no VAE."""
        return cls(vocoder or VOCOS, latent_dim or NUM_BINS)

    def to_config(self) -> dict[str, Any]:
        """See `Representation`."""
        return {"representation": "mel", "vae_hash": None, "vocoder": self.vocoder}

    def describe(self) -> str:
        """See `Representation`."""
        return f"Representation: mel frames, {self.latent_dim} bins, decoded by {self.vocoder}"

    def load(self, device: str | torch.device) -> Self:
        """Move the filters to a device; the vocoder is loaded at the first decoding."""
        return self.to(device)

    def load_decoder(self) -> None:
        """Load the vocoder; raises as `decode`."""
        if self._decoder is not None:
            return
        if self.vocoder == GRIFFIN_LIM:
            self._decoder = functools.partial(griffin_lim, window=self.window, filters=self.filters)
        else:
            vocos = load_vocos(self.vocoder, self.latent_dim)
            self._decoder = vocos.to(self.window.device).decode

    @torch.no_grad()
    def encode(self, waveform: Tensor, lengths: Tensor | None = None) -> Posterior:
        """Return the frames of a waveform (B, 1, S) as the mean of a posterior that is certain (logvar -inf).

        What lies beyond `lengths` (B,) is ignored, and each item's end is mirrored. None: all are S.
        """
        if waveform.dim() != 3 or waveform.shape[1] != 1 or waveform.shape[2] == 0:
            raise ValueError(f"waveform must be (B, 1, S) with S > 0, got {tuple(waveform.shape)}")
        batch, _, samples = waveform.shape
        if lengths is None:
            lengths = torch.full((batch,), samples, dtype=torch.int64, device=waveform.device)
        frames = num_frames(lengths, HOP_LENGTH)
        longest = num_frames(samples, HOP_LENGTH)
        span = (longest - 1) * HOP_LENGTH + N_FFT
        source = _mirrored(torch.arange(span, device=waveform.device) - N_FFT // 2, lengths)
        padded = waveform[:, 0].float().gather(1, source)
        spectrum = torch.stft(
            padded, N_FFT, HOP_LENGTH, window=self.window, center=False, return_complex=True
        ).abs()
        mel = (spectrum.mT @ self.filters).mT.clamp_min(FLOOR).log()
        mean = mel.masked_fill(~length_mask(frames, longest)[:, None], 0.0)
        return Posterior(mean, torch.full_like(mean, -torch.inf), frames)

    def normalize(self, latents: Tensor) -> Tensor:
        """Return the frames as they are: F5-TTS learns them unscaled."""
        return latents

    def denormalize(self, latents: Tensor) -> Tensor:
        """Undo `normalize`."""
        return latents

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Turn frames (B, D, T) into a waveform (B, 1, T * 256) in [-1, 1].

        Raises:
            ConfigError: the vocoder cannot be loaded; the message says what works without a network.
            CheckpointError: it is not a vocoder for these frames.
        """
        self.load_decoder()
        assert self._decoder is not None
        # Frames are centred, so T + 1 of them span T hops.
        mel = torch.cat([latents, latents[..., -1:]], dim=-1).float()
        return self._decoder(mel).clamp(-1.0, 1.0)[:, None]

    def decode_in_pieces(self, latents: Tensor, frames: int) -> Iterator[Tensor]:
        """See `Representation`; all in one piece."""
        yield self.decode(latents)


def _mirrored(position: Tensor, lengths: Tensor) -> Tensor:
    """Return (B, P) indices below each length: positions outside 0 … length - 1 mirrored at the ends."""
    period = (2 * (lengths - 1)).clamp_min(1)[:, None]
    folded = position[None].remainder(period)
    return torch.minimum(folded, period - folded).minimum(lengths[:, None] - 1).clamp_min(0)


def griffin_lim(mel: Tensor, *, window: Tensor, filters: Tensor, iterations: int = 32) -> Tensor:
    """Guess a waveform (B, (T - 1) * 256) whose log-mel magnitudes are (B, D, T); phases start at zero, so no chance.

    Source: Griffin and Lim, 1984; the fast variant in torchaudio.
    """
    inverse = torch.linalg.pinv(filters.double()).float()
    magnitude = (mel.exp().mT @ inverse).mT.clamp_min(0.0)
    length = (mel.shape[-1] - 1) * HOP_LENGTH
    return AF.griffinlim(
        magnitude,
        window,
        n_fft=N_FFT,
        hop_length=HOP_LENGTH,
        win_length=N_FFT,
        power=1.0,
        n_iter=iterations,
        momentum=0.99,
        length=length,
        rand_init=False,
    )


def load_vocos(source: str, num_bins: int) -> Any:
    """Load Vocos from the hub or from a folder, with weights that are plain tensors.

    Raises:
        ConfigError: the package `vocos` is missing, or neither the folder nor the hub has the vocoder.
        CheckpointError: it is not a vocoder for these frames.
    """
    offline = f"Without a network pass a folder with config.yaml and pytorch_model.bin of {VOCOS}, or {GRIFFIN_LIM}."
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import vocos
    except ImportError as error:
        raise ConfigError(
            f"vocoder {source}: decoding mel frames needs the package vocos ({first_line(error)}).\n"
            f"Install it with `pip install 'svae[mel]'`, or use the vocoder {GRIFFIN_LIM} for a rough impression."
        ) from None
    config, weights = load_pretrained(
        functools.partial(_vocos_files, source),
        source,
        option="vocoder",
        offline=offline,
        probe="config.yaml",
    )
    text = config.read_text(encoding="utf-8")
    foreign = [path for path in _class_paths(text) if not path.startswith("vocos.")]
    if foreign:  # Vocos imports and calls whatever its configuration names
        raise CheckpointError(
            f"{config}: names {', '.join(foreign)}; only classes of vocos are built"
        )
    model = vocos.Vocos.from_hparams(str(config))
    bins = model.backbone.input_channels
    if bins != num_bins:
        raise CheckpointError(
            f"{config}: a vocoder for {bins} channels, but the model generates {num_bins}"
        )
    try:
        model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    except Exception as error:  # torch raises a different class for each kind of damage
        raise CheckpointError(
            f"{weights}: not the weights of {config}: {first_line(error)}"
        ) from None
    return model.eval().requires_grad_(False)


def _class_paths(text: str) -> list[str]:
    """Return every `class_path` in a Vocos configuration."""
    from ruamel.yaml import YAML

    found: list[str] = []
    unseen: list[object] = [YAML(typ="safe", pure=True).load(text)]
    while unseen:
        node = unseen.pop()
        if isinstance(node, dict):
            if "class_path" in node:
                found.append(str(node["class_path"]))
            unseen += node.values()
        elif isinstance(node, list):
            unseen += node
    return found


def _vocos_files(source: str, local_only: bool) -> tuple[Path, Path]:
    names = ("config.yaml", "pytorch_model.bin")
    if Path(source).is_dir():
        paths = [Path(source) / name for name in names]
        missing = [str(path) for path in paths if not path.is_file()]
        if missing:
            raise ConfigError(f"vocoder: missing {', '.join(missing)}")
        return paths[0], paths[1]
    from huggingface_hub import hf_hub_download

    paths = [Path(hf_hub_download(source, name, local_files_only=local_only)) for name in names]
    return paths[0], paths[1]
