"""How many frames new speech gets: F5-TTS's byte rule, or the learned predictor of the checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from svae.models.duration import DurationPredictor, PhoneDurations
from svae.phonemes import FramePhonemes
from svae.text import Vocabulary

DurationRule = Literal["auto", "bytes", "predictor"]
"""`auto`: the predictor where the checkpoint has one, else bytes."""
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
    vocabulary: FramePhonemes, predictor: PhoneDurations, prompt: tuple[list[str], list[float]], text: str
) -> tuple[list[str], list[float]]:
    """Return the symbols of a text that follows a prompt, and the frames each is predicted to last.

    The pause before its first word is the prompt's last.
    """
    symbols, _ = vocabulary.timeline(text)
    known, lasting = prompt
    predicted = predictor.predict(vocabulary.ids([*known, *symbols[1:]]), lasting)
    return symbols[1:], predicted[len(known) :]
