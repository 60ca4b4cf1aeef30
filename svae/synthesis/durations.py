"""How many frames new speech gets, and which token stands at which frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from svae.errors import CheckpointError, ConfigError, DataError
from svae.models.tts.durations import DurationPredictor, PhoneDurations
from svae.synthesis.types import Prompt, Sampling
from svae.text.phonemes import FramePhonemes
from svae.text.vocabulary import Vocabulary

MAX_TOTAL_SECONDS = 60.0
"""Reference and new speech together; more is far beyond any utterance the models are trained on."""
Timeline = tuple[list[str], list[float]]
"""Symbols, and the frames that each lasts."""


@dataclass(frozen=True)
class Planner:
    """Decides durations for one TTS model.

    Raises:
        CheckpointError: frame-level phones without durations of phones, or the other way round.
    """

    vocabulary: Vocabulary
    predictor: DurationPredictor | PhoneDurations | None
    frame_rate: float
    """Of the latents, in Hz."""
    trained_seconds: float | None = None
    """The longest utterances the model was trained on, for messages."""

    def __post_init__(self) -> None:
        if isinstance(self.vocabulary, FramePhonemes) != isinstance(self.predictor, PhoneDurations):
            raise CheckpointError(
                "frame-level phones need durations of phones; was the checkpoint copied whole?"
            )

    def rule(self, sampling: Sampling) -> str:
        """Return which rule decides durations: `bytes`, `predictor` or `given`.

        Raises:
            ConfigError: the predictor is asked for and the checkpoint has none.
        """
        if sampling.duration_seconds is not None:
            return "given"
        if sampling.duration_rule == "predictor" and self.predictor is None:
            raise ConfigError(
                "duration rule `predictor`: this checkpoint has none; use `bytes` or `auto`"
            )
        return (
            "bytes" if sampling.duration_rule == "bytes" or self.predictor is None else "predictor"
        )

    def predict(self, prompt: Prompt, text: str, sampling: Sampling) -> int:
        """Return the frames of prompt and text together, by the rule."""
        if self.rule(sampling) == "bytes":
            return predict_frames(prompt.frames, prompt.text, text, speed=sampling.speed)
        if isinstance(self.vocabulary, FramePhonemes):
            _, (_, lasting) = self._timelines(prompt, text)
            return prompt.frames + max(1, round(sum(lasting) / sampling.speed))
        assert isinstance(self.predictor, DurationPredictor)
        return predict_with(
            self.predictor, self.vocabulary, prompt.frames, prompt.text, text, speed=sampling.speed
        )

    def plan(self, prompt: Prompt, text: str, sampling: Sampling) -> tuple[int, list[int]]:
        """Return the frames of prompt and text together, and the tokens of both.

        Raises:
            DataError: too long, or too short for the text.
        """
        total = self.total_frames(prompt, text, sampling)
        if not isinstance(self.vocabulary, FramePhonemes):
            return total, self.vocabulary.encode(prompt.text + text)
        (known, kept), (symbols, lasting) = self._timelines(prompt, text)
        spoken = sum(symbol[0].isalpha() for symbol in symbols)
        if not spoken:
            raise DataError(f"text: {text!r} holds nothing to say, only pauses")
        if total - prompt.frames < spoken:
            raise DataError(
                f"text: {spoken} phones do not fit in {total - prompt.frames} frames of new speech; at least "
                f"{spoken / self.frame_rate:.2f} s are needed: use a longer duration or a lower speed"
            )
        scale = (total - prompt.frames) / max(sum(lasting), 1e-6)
        ends = list(accumulate([*kept, *(frames * scale for frames in lasting)]))
        return total, self.vocabulary.frames([*known, *symbols], ends, total)

    def total_frames(self, prompt: Prompt, text: str, sampling: Sampling) -> int:
        """Return the frames of prompt and text together, given or by the rule. Raises as `plan`."""
        kept, rate = prompt.frames, self.frame_rate
        if sampling.duration_seconds is None:
            total = self.predict(prompt, text, sampling)
        else:
            total, characters = (
                kept + max(1, round(sampling.duration_seconds * rate)),
                len(prompt.text) + len(text),
            )
            if total < characters and not isinstance(self.vocabulary, FramePhonemes):
                raise DataError(
                    f"duration {sampling.duration_seconds:g} s: {characters} characters do not fit in {total} frames "
                    f"of reference and new speech; at least {(characters - kept) / rate:.2f} s are needed"
                )
        if total / rate > MAX_TOTAL_SECONDS:
            trained = self.trained_seconds
            known = (
                ""
                if trained is None
                else f" (this model was trained on utterances of up to {trained:g} s)"
            )
            raise DataError(
                f"text: reference and new speech would be {total / rate:.1f} s together; at most {MAX_TOTAL_SECONDS:g} s "
                f"are possible{known}. Split the text, use a shorter reference or a higher speed."
            )
        return total

    def _timelines(self, prompt: Prompt, text: str) -> tuple[Timeline, Timeline]:
        assert isinstance(self.vocabulary, FramePhonemes) and isinstance(
            self.predictor, PhoneDurations
        )
        known = prompt_timeline(
            self.vocabulary,
            self.predictor,
            prompt.text,
            prompt.words,
            frames=prompt.frames,
            frame_rate=self.frame_rate,
        )
        ended = end_sentence(
            text, self.vocabulary
        )  # without a pause at its end the last sound would be cut
        return known, predict_phones(self.vocabulary, self.predictor, known, ended)


SHORT_TEXT_BYTES = 10


SHORT_TEXT_SPEED = 0.3
"""Texts of fewer bytes than the former are spoken no faster than the latter, since the byte rule fails on them."""


def end_sentence(text: str, vocabulary: Vocabulary) -> str:
    """Return a text that ends in sentence punctuation and one space.

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


def predict_with(
    predictor: DurationPredictor,
    vocabulary: Vocabulary,
    prompt_frames: int,
    prompt_text: str,
    text: str,
    *,
    speed: float,
) -> int:
    """Return the total frames, prompt included, by the learned predictor; bounds as in `predict_frames`."""
    prompt_tokens = vocabulary.encode(prompt_text.rstrip())
    frames = predictor.predict(vocabulary.encode(text), prompt_tokens, prompt_frames) / speed
    return max(prompt_frames + round(frames), max(len(prompt_text) + len(text), prompt_frames) + 1)


def prompt_timeline(
    vocabulary: FramePhonemes,
    predictor: PhoneDurations,
    text: str,
    words: Sequence[Sequence[float]] | None,
    *,
    frames: int,
    frame_rate: float,
) -> tuple[list[str], list[float]]:
    """Return the symbols of a prompt and the frames that each lasts, together `frames`.

    Args:
        vocabulary: of the model.
        predictor: of the model; it stands in where the times are not known.
        text: what is said in the prompt.
        words: when, in seconds (`PhoneAligner.align`); None: not known.
        frames: how long the prompt is.
        frame_rate: in Hz.
    """
    symbols, ends = vocabulary.timeline(text, words)
    if words is None:
        predicted = predictor.predict(vocabulary.ids(symbols), [])
        scale = frames / max(sum(predicted), 1e-6)
        return symbols, [duration * scale for duration in predicted]
    bounds = [0.0, *(min(end * frame_rate, frames) for end in ends[:-1]), float(frames)]
    return symbols, [max(0.0, b - a) for a, b in zip(bounds[:-1], bounds[1:], strict=True)]


def predict_phones(
    vocabulary: FramePhonemes,
    predictor: PhoneDurations,
    prompt: tuple[list[str], list[float]],
    text: str,
) -> tuple[list[str], list[float]]:
    """Return the symbols of a text that follows a prompt, and the frames each is predicted to last.

    The pause before its first word is the prompt's last.
    """
    symbols, _ = vocabulary.timeline(text)
    known, lasting = prompt
    predicted = predictor.predict(vocabulary.ids([*known, *symbols[1:]]), lasting)
    return symbols[1:], predicted[len(known) :]
