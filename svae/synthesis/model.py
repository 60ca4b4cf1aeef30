"""A trained text-to-speech model and its VAE: text and a reference recording to a waveform.

The model continues the reference: it gets the reference's latents and the text of both, and generates the frames that
follow. Durations count latent frames (`hop_length` samples each).
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from svae.audio import resample
from svae.data.order import pack
from svae.errors import DataError
from svae.models.cpu.linear import use_bf16_products
from svae.models.representation import Representation
from svae.models.tts.dit import DiT
from svae.models.tts.sampler import sample_latents
from svae.synthesis.durations import DurationRule, Planner, end_sentence
from svae.synthesis.open_durations import open_rule
from svae.synthesis.types import DurationChoice, Prompt, Sampling, Synthesis, Utterance
from svae.text import phone_aligner
from svae.text.vocabulary import PADDING_ID, Vocabulary

MIN_PROMPT_SECONDS = 0.1
MAX_PROMPT_SECONDS = 30.0
"""Shorter and longer references are refused; see also `TTS.prompt_limit`."""
PROMPT_RMS = 0.1
"""Quieter references are raised to this level, and the result lowered again (F5-TTS)."""
QUIET_RMS = 0.01
"""Recordings below this are raised to `PROMPT_RMS` for recogniser and aligner, which hear in 16 bits."""
SILENT_RMS = 1e-4
"""References quieter than this (-80 dB) are refused: they hold no voice."""
PIECE_SECONDS = 1.0
"""What is decoded at a time where speech leaves as it is decoded."""
BATCH_FRAMES = 16384
"""Frames, prompts and padding included, that go through the network together on a GPU; seven minutes at 40 frames a second."""


class TTS:
    """A text-to-speech model with the representation that it generates.

    Args:
        model: the velocity network, in eval mode.
        representation: what it generates, loaded on the same device.
        vocabulary: of the text it was trained on.
        identity: what results should say about the checkpoint.
        rule: how durations are decided; None is the byte rule, which is not enough for models of frame-level phones.
        prompt_file: the voice that it speaks in where no other is given, as `svae.synthesis.voices` reads it.
        teacher: of a student, gives its teacher, which takes any steps and guidance; called when it is first asked for.

    `batch_frames` is how many frames go through the network together. 0, the CPU's: every utterance alone, in its own
    shape. The sums of a matrix product and of attention come in another order where the shape is another, so that is what
    makes a batch equal its utterances byte for byte; and one utterance already keeps a CPU busy (docs/benchmarks.md).
    """

    def __init__(
        self,
        model: DiT,
        representation: Representation,
        vocabulary: Vocabulary,
        identity: dict[str, Any] | None = None,
        rule: DurationRule | None = None,
        prompt_file: Path | None = None,
        teacher: Callable[[], DiT] | None = None,
    ) -> None:
        self.prompt_file = prompt_file
        self.model = model
        self._teacher = None if teacher is None else lru_cache(teacher)
        self.representation = representation
        self.vocabulary = vocabulary
        self.identity: dict[str, Any] = {} if identity is None else identity
        self.sample_rate = representation.sample_rate
        self.hop_length = representation.hop_length
        self.device = next(model.parameters()).device
        self.batch_frames = 0 if self.device.type == "cpu" else BATCH_FRAMES
        if rule is None:
            rule = open_rule(vocabulary, self.sample_rate / self.hop_length)
        self.planner = Planner(rule, self.identity.get("max_seconds"))

    @property
    def short_description(self) -> str:
        """The beginning of the model's hash, and a few words of its makers."""
        words = self.identity.get("description")
        return f"{self.identity['hash'][:12]}…" + (f", {words}" if words else "")

    def in_language(self, language: str | None) -> TTS:
        """Return the same model as it reads another language; itself where that makes no difference.

        Raises:
            ConfigError: nobody can read that language.
        """
        vocabulary = self.vocabulary.in_language(language)
        if vocabulary is self.vocabulary:
            return self
        other = copy.copy(self)
        other.vocabulary = vocabulary
        rule = replace(self.planner.own, vocabulary=vocabulary)
        other.planner = Planner(rule, self.planner.trained_seconds)
        return other

    @property
    def prompt_limit(self) -> float:
        """Longest reference in seconds: what the model was trained on, less room for new speech; at most 30 s."""
        trained = self.identity.get("max_seconds")
        if trained is None:
            return MAX_PROMPT_SECONDS
        return min(MAX_PROMPT_SECONDS, max(trained - 3.0, trained / 2))

    def resolve(self, sampling: Sampling) -> Sampling:
        """Return the settings with the model's own numbers where none are given. Raises as `Sampling.check`."""
        return sampling.filled(self.identity)

    def synthesize(
        self, text: str, prompt_waveform: Tensor, prompt_text: str, **sampling: Any
    ) -> Tensor:
        """Speak `text` in the voice of the prompt; arguments and errors as in `generate`.

        Returns:
            The waveform (1, 1, S) on the CPU, without the prompt.
        """
        return self.generate(text, prompt_waveform, prompt_text, **sampling).waveform

    def generate(
        self, text: str, prompt_waveform: Tensor, prompt_text: str, **sampling: Any
    ) -> Synthesis:
        """Speak `text` in the voice of the prompt, and say how long everything took.

        Args:
            text: what to say; one utterance (`svae.synthesis.long_text.speak_long` takes any length).
            prompt_waveform: the reference, (S,), (1, S) or (1, 1, S), at `sample_rate`.
            prompt_text: what is said in the reference.
            **sampling: fields of `Sampling`.

        Raises:
            ConfigError: a number is out of range.
            DataError: a text is empty or has unknown characters; the prompt or the result is unusable or too long.
        """
        settings = Sampling(**sampling)
        settings.check()
        text = self._clean(text, "text")
        timings: dict[str, float] = {}
        with self._timed(timings, "encode"):
            prompt = self.encode_prompt(prompt_waveform, prompt_text)
        result = self.speak([text], [prompt], settings)[0]
        return replace(result, timings=timings | result.timings)

    def speak(
        self, texts: Sequence[str], prompts: Sequence[Prompt], sampling: Sampling
    ) -> list[Synthesis]:
        """Speak texts, each in the voice of its prompt; errors as in `generate`, before anything is spoken.

        The noise of an utterance is drawn from (seed, text), so what a batch gives is what each text gives alone: byte for
        byte on a CPU, where `batch_frames` is 0; to rounding where utterances are padded to one length.
        """
        return self.speak_prepared(
            [
                self.prepare(text, prompt, sampling)
                for text, prompt in zip(texts, prompts, strict=True)
            ]
        )

    @torch.no_grad()
    def prepare(self, text: str, prompt: Prompt, sampling: Sampling) -> Utterance:
        """Decide how long a text is spoken, and with which settings; errors as in `generate`."""
        settings = self.resolve(sampling)
        text = self._clean(text, "text")
        frames, tokens = self.planner.plan(prompt, text, settings)
        return Utterance(text, prompt, settings, frames, tokens)

    def speak_prepared(self, utterances: Sequence[Utterance]) -> list[Synthesis]:
        """Speak utterances, in their order; `batch_frames` says how many go through the network together."""
        spoken: dict[int, Synthesis] = {}
        for group in batches(utterances, self.batch_frames):
            together = self._speak_together([utterances[place] for place in group])
            spoken |= zip(group, together, strict=True)
        return [spoken[place] for place in range(len(utterances))]

    @torch.no_grad()
    def speak_in_pieces(self, utterance: Utterance) -> Iterator[Tensor]:
        """Yield an utterance's waveform (S,), on the CPU, as it is decoded: to rounding that of `speak_prepared`."""
        latents, _ = self._sample([utterance])
        frames, drop = self._to_decode(latents, utterance.prompt)
        size = drop + round(PIECE_SECONDS * self.sample_rate / self.hop_length)
        skip = drop * self.hop_length
        for piece in self.representation.decode_in_pieces(frames, size):
            yield (piece[0, 0, skip:] / utterance.prompt.gain).cpu()
            skip = 0

    @torch.no_grad()
    def _speak_together(self, utterances: Sequence[Utterance]) -> list[Synthesis]:
        """Speak utterances that share `Sampling.of_network` as one batch, padded to the longest."""
        latents, sample_seconds = self._sample(utterances)
        new_frames = [each.frames - each.prompt.frames for each in utterances]
        results = []
        for row, each, frames in zip(latents, utterances, new_frames, strict=True):
            timings = {"sample": sample_seconds * frames / sum(new_frames)}
            with self._timed(timings, "decode"):
                waveform = self._decode(row[None, :, : each.frames], each.prompt)
            results.append(
                Synthesis(
                    waveform=waveform,
                    sample_rate=self.sample_rate,
                    text=each.text,
                    prompt_text=each.prompt.text.rstrip(),
                    sampling=each.sampling,
                    prompt_seconds=each.prompt.seconds,
                    generated_seconds=waveform.shape[-1] / self.sample_rate,
                    timings=timings,
                )
            )
        return results

    def _sample(self, utterances: Sequence[Utterance]) -> tuple[Tensor, float]:
        """Return normalised latents (B, D, T) of prompts and new speech, and the seconds they took."""
        sampling = utterances[0].sampling
        assert sampling.num_steps is not None and sampling.guidance_scale is not None
        assert sampling.temperature is not None
        totals = [each.frames for each in utterances]
        kept = [each.prompt.frames for each in utterances]
        tokens = [torch.tensor(each.tokens) for each in utterances]
        latents = torch.zeros(
            len(utterances), self.representation.latent_dim, max(kept), device=self.device
        )
        for row, each in zip(latents, utterances, strict=True):
            row[:, : each.prompt.frames] = each.prompt.latents[0]
        timings: dict[str, float] = {}
        network = self._network(sampling)
        with self._timed(timings, "sample"), self._precision(network, sampling):
            latents = sample_latents(
                network,
                latents,
                torch.tensor(kept, device=self.device),
                pad_sequence(tokens, batch_first=True, padding_value=PADDING_ID).to(self.device),
                torch.tensor(totals),
                seed=[each.sampling.seed for each in utterances],
                keys=[each.text for each in utterances],
                num_steps=sampling.num_steps,
                guidance_scale=sampling.guidance_scale,
                prompt_guidance=sampling.prompt_guidance,
                temperature=sampling.temperature,
                solver=sampling.solver,
                sway=sampling.sway,
            )
        return latents, timings["sample"]

    def _to_decode(self, latents: Tensor, prompt: Prompt) -> tuple[Tensor, int]:
        """Return what is decoded of normalised latents (1, D, T), and how many of its frames are the prompt's."""
        # All that the first new sample depends on: it then sounds as if the reference had gone on.
        context = min(self.representation.decoder_context, prompt.frames)
        return self.representation.denormalize(latents[..., prompt.frames - context :]), context

    def _decode(self, latents: Tensor, prompt: Prompt) -> Tensor:
        """Return the waveform (1, 1, S), on the CPU, of normalised latents (1, D, T) after the prompt's frames."""
        frames, context = self._to_decode(latents, prompt)
        waveform = self.representation.decode(frames)
        return (waveform[..., context * self.hop_length :] / prompt.gain).cpu()

    @torch.no_grad()
    def encode_prompt(self, waveform: Tensor, text: str) -> Prompt:
        """Encode a reference (S,), (1, S) or (1, 1, S) at `sample_rate`, spoken as `text`.

        Raises:
            DataError: see `generate`.
        """
        text = self.end_prompt_text(text)
        waveform = self.check_prompt(waveform).to(self.device)
        rms = float(waveform.square().mean().sqrt())
        gain = max(PROMPT_RMS / rms, 1.0)
        mean = self.representation.encode(waveform * gain).mean
        seconds = waveform.shape[-1] / self.sample_rate
        words, note = self.align_prompt(waveform, text)
        return Prompt(self.representation.normalize(mean), text, gain, seconds, words, note)

    def align_prompt(
        self, waveform: Tensor, text: str
    ) -> tuple[list[list[float]] | None, str | None]:
        """Return when the words of a reference (1, 1, S) are spoken, or why that is not known.

        Both are None for models that have no use for the times.
        """
        if not self.planner.own.uses_word_times:
            return None, None
        try:
            heard = resample(
                audible(waveform.reshape(1, -1).cpu()), self.sample_rate, phone_aligner.SAMPLE_RATE
            )
            return aligner().align(heard[0], text), None
        except phone_aligner.AlignmentError as error:
            return (
                None,
                f"reference not aligned with its transcript, phones spread by predicted durations: {error}",
            )

    def end_prompt_text(self, text: str) -> str:
        """Return prompt text as the model gets it: normalised, ended like a sentence. Raises as `generate`."""
        return end_sentence(self._clean(text, "prompt text"), self.vocabulary)

    def check_prompt(self, waveform: Tensor) -> Tensor:
        """Return the reference as (1, 1, S), float32.

        Raises:
            DataError: empty, not one channel, not finite, silent, too short, or longer than `prompt_limit`.
        """
        shape = tuple(waveform.shape)
        if (
            waveform.dim() not in (1, 2, 3)
            or waveform.numel() != waveform.shape[-1]
            or waveform.numel() == 0
        ):
            raise DataError(
                f"reference: got a waveform of shape {shape}, expected (S,), (1, S) or (1, 1, S) with S > 0"
            )
        waveform = waveform.detach().float().reshape(1, 1, -1)
        if not bool(waveform.isfinite().all()):
            raise DataError("reference: the waveform holds NaN or infinite samples")
        seconds = waveform.shape[-1] / self.sample_rate
        if seconds < MIN_PROMPT_SECONDS:
            raise DataError(
                f"reference: {seconds:.3f} s long, at least {MIN_PROMPT_SECONDS} s are needed"
            )
        if seconds > self.prompt_limit:
            raise DataError(
                f"reference: {seconds:.1f} s long, at most {self.prompt_limit:g} s are possible. "
                "Cut it at a pause (3 to 12 s are best) and shorten its text with it."
            )
        rms = float(waveform.square().mean().sqrt())
        if rms < SILENT_RMS:
            raise DataError(
                f"reference: silent (RMS {rms:.1e}, expected at least {SILENT_RMS:g}); record it again"
            )
        return waveform

    def _clean(self, text: str, what: str) -> str:
        plain = self.vocabulary.fit(text)
        if not plain:
            raise DataError(
                f"{what}: empty. Expected at least one character that is not white space."
            )
        self.vocabulary.encode(plain)  # names unknown characters before anything slow happens
        return plain

    def new_seconds(self, text: str, prompt: Prompt, sampling: Sampling) -> float:
        """Return how long the speech of a text is predicted to be, without the prompt."""
        rule = self.planner.rule(sampling)
        total = rule.total_frames(prompt, self.vocabulary.fit(text), sampling.speed)
        return (total - prompt.frames) * self.hop_length / self.sample_rate

    def duration_rule(self, sampling: Sampling) -> DurationChoice:
        """Return which rule decides durations that are not given. Raises ConfigError as `Planner.rule`."""
        return self.planner.rule(sampling).name

    def _network(self, sampling: Sampling) -> DiT:
        """Return what speaks with these settings: a student, or its teacher."""
        if self._teacher is None or sampling.by_student(self.identity):
            return self.model
        return self._teacher()

    def _precision(self, network: DiT, sampling: Sampling) -> AbstractContextManager[Any]:
        """Let the network multiply as `sampling` says."""
        low = sampling.precision == "bf16"
        use_bf16_products(network, low and self.device.type == "cpu")
        return torch.autocast(
            self.device.type, torch.bfloat16, enabled=low and self.device.type != "cpu"
        )

    @contextmanager
    def _timed(self, timings: dict[str, float], stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        timings[stage] = time.perf_counter() - start


def batches(utterances: Sequence[Utterance], batch_frames: int) -> list[list[int]]:
    """Return the places of utterances that go through the network together: of like length, and with the same settings.

    A batch has at most `batch_frames` frames, padding included, unless it is one utterance.
    """
    frames = [utterance.frames for utterance in utterances]
    alike: dict[Sampling, list[int]] = {}
    for place, utterance in enumerate(utterances):
        alike.setdefault(utterance.sampling.of_network, []).append(place)
    found = []
    for places in alike.values():
        places.sort(key=frames.__getitem__)
        cuts = pack([frames[place] for place in places], batch_frames)
        found += [places[first:last] for first, last in cuts]
    return found


def audible(waveform: Tensor) -> Tensor:
    """Return a recording, raised where it is so quiet that 16 bits would tell little of it."""
    rms = float(waveform.square().mean().sqrt())
    return waveform * (PROMPT_RMS / rms) if 0.0 < rms < QUIET_RMS else waveform


@lru_cache(maxsize=1)
def aligner() -> phone_aligner.PhoneAligner:
    """Return the aligner of prompts, opened at the first use."""
    return phone_aligner.PhoneAligner()
