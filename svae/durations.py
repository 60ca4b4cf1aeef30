"""How many frames new speech gets: F5-TTS's byte rule, or the learned predictor of the checkpoint."""

from __future__ import annotations

from typing import Literal

from svae.models.duration import DurationPredictor
from svae.text import Vocabulary

DurationRule = Literal["auto", "bytes", "predictor"]
"""`auto`: the predictor where the checkpoint has one, else bytes."""
SHORT_TEXT_BYTES = 10
SHORT_TEXT_SPEED = 0.3
"""Texts of fewer bytes than the former are spoken no faster than the latter, since the byte rule fails on them."""


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
