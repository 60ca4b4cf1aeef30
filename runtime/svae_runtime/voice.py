"""A voice: the folder that `svae export` wrote, and what svae does between a text and a waveform, without torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from svae_runtime import audio
from svae_runtime.noise import keyed_noise
from svae_runtime.shared.errors import CheckpointError, ConfigError, DataError
from svae_runtime.shared.models.tts.solver import guidance_passes, integrate, time_grid
from svae_runtime.shared.synthesis.chunks import divide
from svae_runtime.shared.synthesis.durations import (
    ByteRule,
    DurationRule,
    PhoneRule,
    Planner,
    TextRule,
    end_sentence,
)
from svae_runtime.shared.synthesis.loudness import TARGET_LUFS, Leveller, check_loudness
from svae_runtime.shared.synthesis.types import STUDENT, Prompt, Sampling
from svae_runtime.shared.text import phonemes, unknown_words
from svae_runtime.shared.text.phone_aligner import SAMPLE_RATE, AlignmentError, PhoneAligner
from svae_runtime.shared.text.sentences import prepare_prompt_text, prepare_sentences
from svae_runtime.shared.text.vocabulary import Vocabulary

FORMAT = 1
"""Of the folders that are understood."""
MIN_PROMPT_SECONDS, SILENT_RMS, QUIET_RMS = 0.1, 1e-4, 0.01
Noise = Callable[[int, str, int, int], np.ndarray]
"""Seed, text, channels and frames to normal numbers (channels, frames)."""


@dataclass(frozen=True)
class Speech:
    """New speech."""

    waveform: np.ndarray
    """(S,), float32."""
    sample_rate: int
    said: dict[str, object]
    """What made it; goes into its file."""
    notes: tuple[str, ...] = ()
    """What a listener should know: how the reference was read, what was left out."""

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self.waveform) / self.sample_rate

    def save(self, path: str | Path) -> None:
        """Write it as .wav, .flac or .ogg, marked as synthetic. Raises ConfigError or DataError where that fails."""
        audio.write(Path(path), self.waveform, self.sample_rate, self.said)


class Networks:
    """The graphs of a folder, each loaded at its first use."""

    def __init__(self, folder: Path, threads: int) -> None:
        self.folder, self.threads = folder, threads
        self._sessions: dict[str, onnxruntime.InferenceSession] = {}

    def run(self, name: str, **inputs: np.ndarray) -> np.ndarray:
        """Return the output of a graph. Raises CheckpointError where it is missing or damaged."""
        if name not in self._sessions:
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 3
            options.intra_op_num_threads = self.threads
            path = self.folder / f"{name}.onnx"
            try:
                self._sessions[name] = onnxruntime.InferenceSession(
                    str(path), options, providers=["CPUExecutionProvider"]
                )
            except Exception as error:  # onnxruntime has a class for each reason
                raise CheckpointError(
                    f"{path}: missing or damaged ({str(error)[:200]}); copy the folder again, or repeat `svae export`"
                ) from None
        session = self._sessions[name]
        taken = {each.name for each in session.get_inputs()}
        return session.run(None, {key: x for key, x in inputs.items() if key in taken})[0]


@dataclass(frozen=True)
class PhoneDurations:
    """The graph that predicts how long phones last, as a rule of durations takes it."""

    networks: Networks

    def predict(self, tokens: Sequence[int], durations: Sequence[float]) -> list[float]:
        """Return the frames of each symbol; those at its beginning, in `durations`, are known."""
        given = np.zeros((1, len(tokens)), np.float32)
        given[0, : len(durations)] = durations
        known = np.arange(len(tokens))[None] < len(durations)
        ids = np.array([tokens], dtype=np.int64)
        logs = self.networks.run("durations", tokens=ids, durations=given, known=known)
        frames = np.where(known, given, np.expm1(logs).clip(0.0))
        return [float(each) for each in frames[0]]


@dataclass(frozen=True)
class TextDurations:
    """The graph that predicts how long texts last, as a rule of durations takes it."""

    networks: Networks

    def predict(
        self, tokens: Sequence[int], prompt_tokens: Sequence[int], prompt_frames: int
    ) -> float:
        """Return the frames of one text, without the prompt's."""
        ids = np.array([tokens], dtype=np.int64), np.array([prompt_tokens], dtype=np.int64)
        frames = np.array([prompt_frames], dtype=np.int64)
        logs = self.networks.run(
            "durations", tokens=ids[0], prompt_tokens=ids[1], prompt_frames=frames
        )
        return float(np.exp(logs)[0])


class Voice:
    """What speaks. Made by `Voice.load`; one text at a time."""

    def __init__(self, folder: Path, about: dict[str, Any], networks: Networks) -> None:
        self.folder, self.about, self.networks = folder, about, networks
        self.sample_rate: int = about["sample_rate"]
        self.hop_length: int = about["hop_length"]
        self.channels: int = about["latent_dim"]
        self.vocabulary: Vocabulary = phonemes.open_vocabulary(
            about["vocabulary"], guess=unknown_words.guess
        )
        self.planner = Planner(self._rule(), about["max_seconds"])

    @classmethod
    def load(cls, folder: str | Path, *, threads: int = 0) -> Voice:
        """Open a folder of `svae export`; networks are loaded when they are first used.

        `threads` are those of onnxruntime; 0: as many as the machine has cores.

        Raises:
            CheckpointError: it is none, is damaged, or of a later version.
        """
        folder = Path(folder)
        path = folder / "voice.json"
        if not path.is_file():
            raise CheckpointError(
                f"{folder}: no exported voice: it has no voice.json. Expected a folder of `svae export RUN --onnx DIR`."
            )
        try:
            about = json.loads(path.read_text(encoding="utf-8"))
            if about["format"] != FORMAT:
                raise CheckpointError(
                    f"{path}: of format {about['format']!r}, this svae-runtime reads {FORMAT}; install the one that fits"
                )
            missing = [name for name in about["files"] if not (folder / name).is_file()]
            if missing:
                raise CheckpointError(
                    f"{folder}: {', '.join(missing)} missing; copy the folder again"
                )
            for name, expected in about["files"].items():
                if _sha256(folder / name) != expected:
                    raise CheckpointError(
                        f"{folder / name}: damaged: not the file that voice.json lists (sha256 {expected[:12]}…); copy the folder again"
                    )
            _take_text_data(folder)
            return cls(folder, about, Networks(folder, threads))
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{path}: damaged ({error!r}); copy the folder again") from None

    def _rule(self) -> DurationRule:
        rate = self.sample_rate / self.hop_length
        if isinstance(self.vocabulary, phonemes.FramePhonemes):
            return PhoneRule(self.vocabulary, rate, PhoneDurations(self.networks))
        if "durations.onnx" in self.about["files"]:
            return TextRule(self.vocabulary, rate, TextDurations(self.networks))
        return ByteRule(self.vocabulary, rate)

    def speak(
        self,
        text: str,
        ref: str | Path | Prompt | None = None,
        ref_text: str | None = None,
        *,
        language: str | None = "en",
        loudness: float | None = TARGET_LUFS,
        noise: Noise = keyed_noise,
        **sampling: Any,
    ) -> Speech:
        """Speak a text of any length.

        Args:
            text: HTML and Markdown are taken for what they mean; numbers are spelled out.
            ref: a recording of the voice, or what `prompt` made of it; None: the voice that came with the model.
            ref_text: what is said in the recording.
            language: of the text; None: nothing is spelled out.
            loudness: in LUFS; None: as loud as the reference.
            noise: what speech begins as.
            **sampling: fields of svae's `Sampling`: seed, speed, num_steps, guidance_scale, …

        Raises:
            ConfigError, DataError: what is wrong, where, and what was expected.
        """
        notes: list[str] = []
        settings = self._settings(sampling)
        check_loudness(loudness)
        prompt = ref if isinstance(ref, Prompt) else self._prompt(ref, ref_text, language, notes)
        sentences, changed = prepare_sentences(text, self.vocabulary, language=language)
        notes += changed
        leveller = Leveller(loudness, None, self.sample_rate, audio.integrated_loudness)
        joiner = audio.Joiner(self.sample_rate, leveller)
        parts: list[np.ndarray] = []
        for chunk, chunk_settings in self._chunks(sentences, prompt, settings):
            if chunk.pause_before:
                parts.append(joiner.pause(chunk.pause_before))
            if chunk:
                parts.append(joiner.add(self.speak_chunk(chunk, prompt, chunk_settings, noise)))
            if chunk.pause_after:
                parts.append(joiner.pause(chunk.pause_after))
        waveform = np.concatenate([*parts, joiner.tail])
        said = self._said(settings, own_voice=ref is None)
        return Speech(waveform, self.sample_rate, said, tuple(notes))

    def _settings(self, sampling: dict[str, Any]) -> Sampling:
        unknown = set(sampling) - set(Sampling.__dataclass_fields__)
        if unknown:
            raise ConfigError(
                f"speak: unknown setting(s) {', '.join(sorted(unknown))}; known are {', '.join(Sampling.__dataclass_fields__)}"
            )
        asked, own = Sampling(**sampling), self.about["own"]
        settings = asked.filled(own)
        if STUDENT in own and not asked.by_student(own):
            raise ConfigError(
                f"steps and guidance: {self.folder} holds a student, which speaks in {own[STUDENT]['steps']} steps with its guidance "
                "inside; leave them out, or speak with svae, which has its teacher too"
            )
        if settings.precision != "fp32":
            raise ConfigError(
                "precision: exported networks are of fp32, or of 8 bits (`svae export --int8`)"
            )
        return settings

    def _said(self, settings: Sampling, *, own_voice: bool) -> dict[str, object]:
        from svae_runtime import __version__

        # Folders of before 2026-11-29 have no such line.
        consent = self.about.get("consent") if own_voice else None
        said = {
            "tool": f"svae-runtime {__version__}",
            "model": self.about["model_hash"],
            "vae": self.about["vae_hash"],
            "seed": settings.seed,
        }
        return said if consent is None else said | {"consent": consent}

    def _chunks(
        self, sentences: Sequence[str], prompt: Prompt, settings: Sampling
    ) -> Iterator[tuple[Any, Sampling]]:
        def seconds_of(text: str) -> float:
            rule = self.planner.rule(settings)
            total = rule.total_frames(prompt, self.vocabulary.fit(text), settings.speed)
            return (total - prompt.frames) * self.hop_length / self.sample_rate

        return divide(sentences, seconds_of, prompt.seconds, self.about["max_seconds"], settings)

    # ------------------------------------------------------------------------------------------- prompts

    def prompt(self, ref: str | Path, ref_text: str, *, language: str | None = "en") -> Prompt:
        """Return a recording as what `speak` continues, for many texts. Raises as `speak`."""
        return self._prompt(ref, ref_text, language, [])

    def _prompt(
        self, ref: str | Path | None, ref_text: str | None, language: str | None, notes: list[str]
    ) -> Prompt:
        if ref is None:
            return self._own_prompt()
        if ref_text is None or not ref_text.strip():
            raise ConfigError(
                f"{ref}: pass what is said in it (--ref-text): nothing here recognises speech, as svae does"
            )
        text = prepare_prompt_text(ref_text, self.vocabulary, language=language)
        text = end_sentence(self.vocabulary.fit(text), self.vocabulary)
        samples, rate, said = audio.read(ref)
        notes += said
        samples = audio.resample(audio.trim_silence(samples, rate), rate, self.sample_rate)
        seconds, level = len(samples) / self.sample_rate, audio.rms(samples)
        limit = self.about["prompt_limit"]
        if not MIN_PROMPT_SECONDS <= seconds <= limit:
            raise DataError(
                f"{ref}: {seconds:.2f} s long, {MIN_PROMPT_SECONDS:g} to {limit:g} s are possible. Cut it at a pause (3 to 12 s are "
                "best) and shorten its text with it."
            )
        if level < SILENT_RMS:
            raise DataError(
                f"{ref}: silent (RMS {level:.1e}, expected at least {SILENT_RMS:g}); record it again"
            )
        gain = max(self.about["prompt_rms"] / level, 1.0)
        padded = np.pad(samples * np.float32(gain), (0, -len(samples) % self.hop_length))
        latents = self.networks.run("encoder", waveform=padded[None, None].astype(np.float32))
        words = self._word_times(samples, text, notes)
        return Prompt(latents, text, gain, seconds, words)

    def _own_prompt(self) -> Prompt:
        path = self.folder / "voice.npz"
        if not path.is_file():
            raise ConfigError(
                f"{self.folder}: has no voice of its own; pass a recording (--ref) and what is said in it (--ref-text)"
            )
        with np.load(path, allow_pickle=False) as kept:
            words = json.loads(str(kept["words"]))
            return Prompt(
                kept["latents"],
                str(kept["text"]),
                float(kept["gain"]),
                float(kept["seconds"]),
                words,
            )

    def _word_times(
        self, samples: np.ndarray, text: str, notes: list[str]
    ) -> list[list[float]] | None:
        """Return when the words of a reference are spoken; None where that is not known, with a note where it is wanted."""
        if not self.planner.own.uses_word_times:
            return None
        level = audio.rms(samples)
        if 0.0 < level < QUIET_RMS:
            samples = samples * np.float32(self.about["prompt_rms"] / level)
        try:
            heard = audio.resample(samples, self.sample_rate, SAMPLE_RATE)
            return _aligner().align(heard, text)
        except (AlignmentError, ModuleNotFoundError) as error:
            reason = (
                "no pocketsphinx; `pip install 'svae-runtime[align]'` speaks nearer to the voice"
                if isinstance(error, ModuleNotFoundError)
                else str(error)
            )
            notes.append(
                f"reference not aligned with its transcript, phones spread by predicted durations: {reason}"
            )
            return None

    # ------------------------------------------------------------------------------------------- speech

    def speak_chunk(
        self, text: str, prompt: Prompt, settings: Sampling, noise: Noise = keyed_noise
    ) -> np.ndarray:
        """Return the waveform (S,) of a text that is spoken at once; `settings` are complete."""
        text = self.vocabulary.fit(text)
        total, tokens = self.planner.plan(prompt, text, settings)
        latents = self._sample(
            total, tokens, prompt, settings, noise(settings.seed, text, self.channels, total)
        )
        context = min(self.about["decoder_context"], prompt.frames)
        waveform = self.networks.run("decoder", latents=latents[..., prompt.frames - context :])
        return waveform[0, 0, context * self.hop_length :] / np.float32(prompt.gain)

    def _sample(
        self,
        total: int,
        tokens: Sequence[int],
        prompt: Prompt,
        settings: Sampling,
        noise: np.ndarray,
    ) -> np.ndarray:
        """Return normalised latents (1, D, T) that begin with the prompt's; see svae's `sample_latents`."""
        condition = np.zeros((1, self.channels, total), np.float32)
        condition[..., : prompt.frames] = prompt.latents
        ids = np.full((1, total), -1, np.int64)
        ids[0, : len(tokens)] = tokens[:total]
        assert settings.num_steps is not None and settings.guidance_scale is not None
        assert settings.temperature is not None
        passes = guidance_passes(settings.guidance_scale, settings.prompt_guidance)
        texts = {
            has_text: self.networks.run("text", tokens=ids, drop=np.array([not has_text]))
            for has_text in {each.has_text for each in passes}
        }
        conditions = np.concatenate([condition * each.has_prompt for each in passes])
        text = np.concatenate([texts[each.has_text] for each in passes])
        weights = np.array([each.weight for each in passes], np.float32)[:, None, None]

        def velocity(x: np.ndarray, t: float) -> np.ndarray:
            found = self.networks.run(
                "step",
                noisy=np.repeat(x, len(passes), axis=0),
                condition=conditions,
                t=np.array([t], np.float32),
                text=text,
            )
            return (weights * found).sum(axis=0, keepdims=True)

        times = time_grid(settings.num_steps, sway=settings.sway)
        begin = np.float32(settings.temperature) * noise[None].astype(np.float32)
        x = integrate(velocity, begin, times, settings.solver)
        x[..., : prompt.frames] = prompt.latents
        return x.astype(np.float32)


@lru_cache(maxsize=1)
def _aligner() -> PhoneAligner:
    return PhoneAligner()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _take_text_data(folder: Path) -> None:
    """Have words pronounced by the files of a folder; those of all folders of one version of svae are the same."""
    for name, module, function in (
        ("pronunciations.txt", phonemes, "dictionary_file"),
        ("guess.npz", unknown_words, "weights_file"),
    ):
        if (path := folder / name).is_file():
            setattr(module, function, lambda path=path: path)
