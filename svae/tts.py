"""A trained text-to-speech model and its VAE: text and a reference recording to a waveform.

The model continues the reference: it gets the reference's latents and the text of both, and generates the frames that
follow. Durations count latent frames (`hop_length` samples each).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from svae.checkpoint import load_strict, open_checkpoint
from svae.config import DiTConfig
from svae.errors import CheckpointError, ConfigError, DataError
from svae.models import streaming
from svae.models.dit import DiT
from svae.models.flow import sample_latents
from svae.models.vae import SpeechVAE, load_vae
from svae.recipe import from_tree
from svae.text import Vocabulary, normalize_text

MAX_PROMPT_SECONDS = 30.0
"""Longer references are refused."""
MAX_TOTAL_SECONDS = 60.0
"""Reference and new speech together; more is far beyond any utterance the models are trained on."""
PROMPT_RMS = 0.1
"""Quieter references are raised to this level, and the result lowered again (F5-TTS)."""
SILENT_RMS = 1e-4
"""References quieter than this (-80 dB) are refused: they hold no voice."""
SHORT_TEXT_BYTES = 10
SHORT_TEXT_SPEED = 0.3
"""Texts of fewer bytes than the former are spoken no faster than the latter, since the byte rule fails on them."""
DECODER_CONTEXT_FRAMES = 16
"""Reference frames decoded with the new ones and cut off, so that the decoder does not start from nothing."""


@dataclass(frozen=True)
class Prompt:
    """An encoded reference, usable for any number of texts."""

    latents: Tensor
    """(1, D, P), normalised."""
    text: str
    """Ends in sentence punctuation and a space."""
    gain: float
    """What the waveform was multiplied by before encoding."""
    seconds: float


@dataclass(frozen=True)
class Synthesis:
    """New speech and how it was made."""

    waveform: Tensor
    """(1, 1, S) on the CPU, float32, without the reference."""
    sample_rate: int
    text: str
    prompt_text: str
    seed: int
    num_steps: int
    guidance_scale: float
    speed: float
    prompt_seconds: float
    generated_seconds: float
    timings: dict[str, float]
    """Wall-clock seconds of `encode`, `sample` and `decode`."""

    @property
    def real_time_factors(self) -> dict[str, float]:
        """Seconds of computing per second of new speech: by stage, and `total`."""
        factors = {stage: seconds / self.generated_seconds for stage, seconds in self.timings.items()}
        return {**factors, "total": sum(factors.values())}


def end_sentence(text: str, vocabulary: Vocabulary) -> str:
    """Return prompt text that ends in sentence punctuation and one space.

    A full stop is added where there is none and the model knows it, as F5-TTS does.
    """
    bare = text.rstrip("\"')]”’ ")
    ended = bare.endswith((".", "!", "?", "。", "！", "？"))
    return text + (" " if ended or "." not in vocabulary else ". ")


def predict_frames(prompt_frames: int, prompt_text: str, text: str, *, speed: float = 1.0) -> int:
    """Return the total frames, prompt included, if both texts are spoken at one rate of UTF-8 bytes per frame.

    Source: F5-TTS's rule. Never fewer frames than characters, nor than one beyond the prompt.
    """
    size = len(text.encode())
    if size < SHORT_TEXT_BYTES:
        speed = min(speed, SHORT_TEXT_SPEED)
    total = prompt_frames + int(prompt_frames / len(prompt_text.encode()) * size / speed)
    return max(total, max(len(prompt_text) + len(text), prompt_frames) + 1)


class TTS:
    """A text-to-speech model with the VAE whose latents it generates.

    Args:
        model: the velocity network, in eval mode.
        vae: on the same device, in eval mode.
        vocabulary: of the text it was trained on.
        identity: what results should say about the checkpoint.
    """

    def __init__(
        self, model: DiT, vae: SpeechVAE, vocabulary: Vocabulary, identity: dict[str, Any] | None = None
    ) -> None:
        self.model, self.vae, self.vocabulary = model, vae, vocabulary
        self.identity: dict[str, Any] = {} if identity is None else identity
        self.sample_rate, self.hop_length = vae.sample_rate, vae.hop_length
        self.device = next(model.parameters()).device

    def synthesize(
        self,
        text: str,
        prompt_waveform: Tensor,
        prompt_text: str,
        *,
        seed: int = 0,
        num_steps: int = 32,
        guidance_scale: float = 2.0,
        speed: float = 1.0,
        duration_seconds: float | None = None,
    ) -> Tensor:
        """Speak `text` in the voice of the prompt; arguments and errors as in `generate`.

        Returns:
            The waveform (1, 1, S) on the CPU, without the prompt.
        """
        return self.generate(
            text,
            prompt_waveform,
            prompt_text,
            seed=seed,
            num_steps=num_steps,
            guidance_scale=guidance_scale,
            speed=speed,
            duration_seconds=duration_seconds,
        ).waveform

    @torch.no_grad()
    def generate(
        self,
        text: str,
        prompt_waveform: Tensor,
        prompt_text: str,
        *,
        seed: int = 0,
        num_steps: int = 32,
        guidance_scale: float = 2.0,
        speed: float = 1.0,
        duration_seconds: float | None = None,
    ) -> Synthesis:
        """Speak `text` in the voice of the prompt, and say how long everything took.

        Args:
            text: what to say.
            prompt_waveform: the reference, (S,), (1, S) or (1, 1, S), at `sample_rate`.
            prompt_text: what is said in the reference.
            seed: decides the noise; on the CPU the same arguments give the same samples.
            num_steps: solver steps.
            guidance_scale: g in v = v_cond + g·(v_cond - v_uncond); 0 = none, in half the time.
            speed: of speaking, relative to the reference.
            duration_seconds: of the new speech alone; None predicts it from the texts' lengths.

        Raises:
            ConfigError: a number is out of range.
            DataError: a text is empty or has unknown characters; the prompt or the result is unusable or too long.
        """
        _check_numbers(num_steps, guidance_scale, speed, duration_seconds)
        text = self._clean(text, "text")
        timings: dict[str, float] = {}
        with self._timed(timings, "encode"):
            prompt = self.encode_prompt(prompt_waveform, prompt_text)
        kept = prompt.latents.shape[2]
        total = self._total_frames(prompt, text, speed, duration_seconds)
        tokens = torch.tensor([self.vocabulary.encode(prompt.text + text)], device=self.device)
        with self._timed(timings, "sample"):
            latents = sample_latents(
                self.model,
                prompt.latents,
                torch.tensor([kept], device=self.device),
                tokens,
                torch.tensor([total], device=self.device),
                seed=seed,
                num_steps=num_steps,
                guidance_scale=guidance_scale,
            )
        with self._timed(timings, "decode"):
            context = min(DECODER_CONTEXT_FRAMES, kept)
            waveform = streaming.decode(self.vae, self.vae.denormalize(latents[..., kept - context :]))
            waveform = (waveform[..., context * self.hop_length :] / prompt.gain).cpu()
        return Synthesis(
            waveform=waveform,
            sample_rate=self.sample_rate,
            text=text,
            prompt_text=prompt.text.rstrip(),
            seed=seed,
            num_steps=num_steps,
            guidance_scale=guidance_scale,
            speed=speed,
            prompt_seconds=prompt.seconds,
            generated_seconds=waveform.shape[-1] / self.sample_rate,
            timings=timings,
        )

    @torch.no_grad()
    def encode_prompt(self, waveform: Tensor, text: str) -> Prompt:
        """Encode a reference (S,), (1, S) or (1, 1, S) at `sample_rate`, spoken as `text`.

        Raises:
            DataError: see `generate`.
        """
        text = end_sentence(self._clean(text, "prompt text"), self.vocabulary)
        waveform = self.check_prompt(waveform).to(self.device)
        rms = float(waveform.square().mean().sqrt())
        gain = max(PROMPT_RMS / rms, 1.0)
        mean = self.vae.encode(waveform * gain).mean
        seconds = waveform.shape[-1] / self.sample_rate
        return Prompt(self.vae.normalize(mean), text, gain, seconds)

    def check_prompt(self, waveform: Tensor) -> Tensor:
        """Return the reference as (1, 1, S), float32.

        Raises:
            DataError: empty, not one channel, not finite, silent, or longer than `MAX_PROMPT_SECONDS`.
        """
        shape = tuple(waveform.shape)
        if waveform.dim() not in (1, 2, 3) or waveform.numel() != waveform.shape[-1] or waveform.numel() == 0:
            raise DataError(
                f"reference: got a waveform of shape {shape}, expected (S,), (1, S) or (1, 1, S) with S > 0"
            )
        waveform = waveform.detach().float().reshape(1, 1, -1)
        if not bool(waveform.isfinite().all()):
            raise DataError("reference: the waveform holds NaN or infinite samples")
        seconds = waveform.shape[-1] / self.sample_rate
        if seconds > MAX_PROMPT_SECONDS:
            raise DataError(
                f"reference: {seconds:.1f} s long, at most {MAX_PROMPT_SECONDS:g} s are possible. "
                "Cut it at a pause (3 to 12 s are best) and shorten its text with it."
            )
        rms = float(waveform.square().mean().sqrt())
        if rms < SILENT_RMS:
            raise DataError(f"reference: silent (RMS {rms:.1e}, expected at least {SILENT_RMS:g}); record it again")
        return waveform

    def _clean(self, text: str, what: str) -> str:
        plain = normalize_text(text)
        if not plain:
            raise DataError(f"{what}: empty. Expected at least one character that is not white space.")
        self.vocabulary.encode(plain)  # names unknown characters before anything slow happens
        return plain

    def _total_frames(self, prompt: Prompt, text: str, speed: float, duration_seconds: float | None) -> int:
        kept, rate = prompt.latents.shape[2], self.sample_rate / self.hop_length
        if duration_seconds is None:
            total = predict_frames(kept, prompt.text, text, speed=speed)
        else:
            total, characters = kept + max(1, round(duration_seconds * rate)), len(prompt.text) + len(text)
            if total < characters:
                raise DataError(
                    f"duration {duration_seconds:g} s: {characters} characters do not fit in {total} frames of reference "
                    f"and new speech; at least {(characters - kept) / rate:.2f} s are needed"
                )
        if total / rate > MAX_TOTAL_SECONDS:
            trained = self.identity.get("max_seconds")
            known = "" if trained is None else f" (this model was trained on utterances of up to {trained:g} s)"
            raise DataError(
                f"text: reference and new speech would be {total / rate:.1f} s together; at most {MAX_TOTAL_SECONDS:g} s "
                f"are possible{known}. Split the text, use a shorter reference or a higher speed."
            )
        return total

    @contextmanager
    def _timed(self, timings: dict[str, float], stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        timings[stage] = time.perf_counter() - start


def _check_numbers(num_steps: int, guidance_scale: float, speed: float, duration_seconds: float | None) -> None:
    if num_steps < 1:
        raise ConfigError(f"steps: must be at least 1, got {num_steps}")
    if not math.isfinite(guidance_scale) or guidance_scale < 0:
        raise ConfigError(f"guidance: must be a number from 0 (none) up, got {guidance_scale}")
    for name, value in (("speed", speed), ("duration", duration_seconds)):
        if value is not None and (not math.isfinite(value) or value <= 0):
            raise ConfigError(f"{name}: must be greater than 0, got {value}")


def load_tts(path: str | Path, device: str | torch.device = "cpu") -> TTS:
    """Load a TTS checkpoint with the VAE inside it, ready for synthesis.

    Args:
        path: checkpoint folder, or run folder (its latest checkpoint).
        device: where to compute.

    Raises:
        CheckpointError: missing, damaged, of another kind, or with another VAE than it was trained on.
    """
    checkpoint = open_checkpoint(path, kind="tts")
    config, folder = checkpoint.config, checkpoint.folder
    inner = open_checkpoint(folder / "vae", kind="vae")
    try:
        if inner.hash != config["vae_hash"]:
            raise CheckpointError(
                f"{folder}: was trained on VAE {config['vae_hash']}, but {inner.folder} is VAE {inner.hash}.\n"
                "Latents of another VAE mean something else; put the right VAE back, or copy the checkpoint again."
            )
        vocabulary = Vocabulary.from_json(config["vocabulary"])
        model = DiT(from_tree(DiTConfig, config["model"]), len(vocabulary), config["latent_dim"])
    except (KeyError, ValueError, TypeError, ConfigError, DataError) as error:
        raise CheckpointError(f"{folder}/config.json: damaged: {error!r}") from None
    vae = load_vae(inner.folder, device)
    if config["latent_dim"] != vae.latent_dim:
        raise CheckpointError(f"{folder}: generates {config['latent_dim']} channels, its VAE has {vae.latent_dim}")
    load_strict(model, checkpoint.model_state(), folder)
    identity = {"path": str(folder), "hash": checkpoint.hash, "vae_hash": inner.hash, "step": checkpoint.step}
    identity["max_seconds"] = config.get("max_seconds")
    return TTS(model.to(device).eval().requires_grad_(False), vae, vocabulary, identity)
