"""How many frames new speech gets, and which token stands at which frame.

A model has one rule of its own, chosen by `open_rule` (`open_durations`) when it is loaded. A new rule is one class and one
line there. Without torch, since the runtime package (runtime/) uses it too.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import ClassVar, NamedTuple, Protocol

from svae.errors import ConfigError, DataError
from svae.synthesis.types import DurationChoice, Prompt, Sampling
from svae.text.phonemes import PAUSES, FramePhonemes
from svae.text.pinyin import PinyinVocabulary
from svae.text.vocabulary import Vocabulary

# Far beyond any utterance the models are trained on.
MAX_TOTAL_SECONDS = 60.0
"""The longest reference and new speech together."""
# The byte rule fails on such texts: the silence at their ends, which has no bytes, is most of them.
SHORT_TEXT_BYTES = 10
SHORT_TEXT_SPEED = 0.3
"""By the byte rule, texts of fewer than `SHORT_TEXT_BYTES` are spoken no faster than this."""


class TextPredictor(Protocol):
    """`svae.models.tts.durations.DurationPredictor`, or what stands for it."""

    def predict(
        self, tokens: Sequence[int], prompt_tokens: Sequence[int], prompt_frames: int
    ) -> float:
        """Return the frames of one text, without the prompt's."""


class PhonePredictor(Protocol):
    """`svae.models.tts.durations.PhoneDurations`, or what stands for it."""

    def predict(self, tokens: Sequence[int], durations: Sequence[float]) -> list[float]:
        """Return the frames of each symbol; those at the beginning, in `durations`, are known."""


@dataclass(frozen=True)
class DurationRule(ABC):
    """Decides how long speech lasts and which token stands where."""

    vocabulary: Vocabulary
    frame_rate: float
    """Frames per second."""

    name: ClassVar[DurationChoice]
    """How `Sampling.duration_rule` and reports call the rule."""

    @property
    def unit(self) -> str:
        """What messages call the symbols of a text."""
        return "characters" if self.vocabulary.tokens == "characters" else "symbols"

    uses_word_times: ClassVar[bool] = False
    """Whether a prompt should come with the times of its words."""

    @abstractmethod
    def total_frames(self, prompt: Prompt, text: str, speed: float) -> int:
        """Return the frames of prompt and new speech together, at least one more than the prompt's."""

    def word_times(
        self, prompt: Prompt, text: str, frames: int
    ) -> list[tuple[float, float]] | None:
        """Return when each word of a text begins and ends, in seconds of its speech of so many frames.

        None: the model itself decides that, while it speaks.
        """
        return None

    def lay_out(
        self, prompt: Prompt, text: str, speed: float, total: int | None = None
    ) -> tuple[int, list[int]]:
        """Return the frames of prompt and new speech together, and the tokens of both.

        Args:
            prompt: what is continued.
            text: what is said after it.
            speed: of speaking, relative to the prompt.
            total: the frames, where something else decides them.

        Raises:
            DataError: the text does not fit.
        """
        if total is None:
            total = self.total_frames(prompt, text, speed)
        characters = self.vocabulary.places(prompt.text + text)
        # The network has one place a frame for its tokens.
        if total < characters:
            raise DataError(
                f"text: {characters} {self.unit} do not fit in the {total} frames of reference and new speech; at "
                f"least {(characters - prompt.frames) / self.frame_rate:.2f} s are needed: use a longer duration"
            )
        return total, self.vocabulary.encode(prompt.text + text)


@dataclass(frozen=True)
class ByteRule(DurationRule):
    """F5-TTS's rule: the text is spoken at the prompt's rate of UTF-8 bytes."""

    name = "bytes"

    def total_frames(self, prompt: Prompt, text: str, speed: float) -> int:
        """Return the frames of both; see `predict_frames`."""
        total = predict_frames(prompt.frames, prompt.text, text, speed=speed)
        return max(total, self.vocabulary.places(prompt.text + text) + 1)


@dataclass(frozen=True)
class TextRule(DurationRule):
    """A learned predictor of the length of whole texts."""

    predictor: TextPredictor
    name = "predictor"

    def total_frames(self, prompt: Prompt, text: str, speed: float) -> int:
        """Return the frames of both, within the bounds of `predict_frames`."""
        prompt_tokens = self.vocabulary.encode(prompt.text.rstrip())
        tokens = self.vocabulary.encode(text)
        frames = self.predictor.predict(tokens, prompt_tokens, prompt.frames) / speed
        fewest = max(self.vocabulary.places(prompt.text + text), prompt.frames) + 1
        return max(prompt.frames + round(frames), fewest)


class Timeline(NamedTuple):
    """Phones and pauses in the order in which they are spoken."""

    symbols: list[str]
    frames: list[float]
    """How long each symbol lasts."""


@dataclass(frozen=True)
class PhoneRule(DurationRule):
    """A learned predictor of the length of each phone, for models that get one phone a frame."""

    vocabulary: FramePhonemes
    predictor: PhonePredictor
    name = "predictor"
    uses_word_times = True

    def total_frames(self, prompt: Prompt, text: str, speed: float) -> int:
        """Return the frames of both: the sum of the new phones', after the prompt's."""
        _, new = self._timelines(prompt, text)
        return _total(prompt, new, speed)

    def lay_out(
        self, prompt: Prompt, text: str, speed: float, total: int | None = None
    ) -> tuple[int, list[int]]:
        """Return the frames of both, and the phone in the middle of each; see `DurationRule.lay_out`.

        Raises:
            DataError: the text holds only pauses, or has more phones than frames.
        """
        known, new = self._timelines(prompt, text)
        if total is None:
            total = _total(prompt, new, speed)
        new_frames = total - prompt.frames
        phones = sum(symbol[0].isalpha() for symbol in new.symbols)
        if not phones:
            raise DataError(f"text: {text!r} holds nothing to say, only pauses")
        if new_frames < phones:
            raise DataError(
                f"text: {phones} phones do not fit in {new_frames} frames of new speech; at least "
                f"{phones / self.frame_rate:.2f} s are needed: use a longer duration or a lower speed"
            )
        scale = new_frames / max(sum(new.frames), 1e-6)
        ends = accumulate([*known.frames, *(frames * scale for frames in new.frames)])
        return total, self.vocabulary.frames([*known.symbols, *new.symbols], list(ends), total)

    def word_times(
        self, prompt: Prompt, text: str, frames: int
    ) -> list[tuple[float, float]] | None:
        """Return when each word is said, as `lay_out` lays it out; see `DurationRule.word_times`."""
        _, new = self._timelines(prompt, text)
        scale = frames / self.frame_rate / max(sum(new.frames), 1e-6)
        found, start, end = [], 0.0, 0.0
        for symbol, length in zip(new.symbols, new.frames, strict=True):
            if symbol in PAUSES:  # one behind each word
                found.append((start, end))
                start = end + length * scale
            end += length * scale
        return found

    def _timelines(self, prompt: Prompt, text: str) -> tuple[Timeline, Timeline]:
        known = self.prompt_timeline(prompt)
        # Without a pause at its end the last sound would be cut.
        return known, self.new_timeline(known, end_sentence(text, self.vocabulary))

    def prompt_timeline(self, prompt: Prompt) -> Timeline:
        """Return what is said in a prompt; where its times are not known, predicted ones fill its length."""
        symbols, ends = self.vocabulary.timeline(prompt.text, prompt.words)
        if prompt.words is None:
            predicted = self.predictor.predict(self.vocabulary.ids(symbols), [])
            scale = prompt.frames / max(sum(predicted), 1e-6)
            return Timeline(symbols, [frames * scale for frames in predicted])
        last = float(prompt.frames)
        bounds = [0.0, *(min(end * self.frame_rate, last) for end in ends[:-1]), last]
        return Timeline(symbols, [max(0.0, end - start) for start, end in pairwise(bounds)])

    def new_timeline(self, known: Timeline, text: str) -> Timeline:
        """Return what is said in a text after a prompt, as long as predicted for this voice.

        The pause before its first word is the prompt's last.
        """
        symbols = self.vocabulary.timeline(text)[0][1:]
        ids = self.vocabulary.ids([*known.symbols, *symbols])
        predicted = self.predictor.predict(ids, known.frames)
        return Timeline(symbols, predicted[len(known.symbols) :])


def _total(prompt: Prompt, new: Timeline, speed: float) -> int:
    return prompt.frames + max(1, round(sum(new.frames) / speed))


class Planner:
    """Decides the frames and tokens of a model's utterances, by its own rule or as a user asks.

    Args:
        own: the model's rule, which also lays out the tokens of durations that something else decides.
        trained_seconds: the longest utterances the model was trained on, for messages.
    """

    def __init__(self, own: DurationRule, trained_seconds: float | None = None) -> None:
        self.own = own
        self.trained_seconds = trained_seconds
        by_bytes = ByteRule(own.vocabulary, own.frame_rate)
        self._rules: dict[DurationChoice, DurationRule] = {by_bytes.name: by_bytes}
        self._rules |= {own.name: own, "auto": own}

    def rule(self, sampling: Sampling) -> DurationRule:
        """Return the rule that decides durations which are not given.

        Raises:
            ConfigError: the checkpoint lacks the one that is asked for.
        """
        choice = sampling.duration_rule
        if choice not in self._rules:
            raise ConfigError(
                f"duration rule `{choice}`: this checkpoint has none; use `bytes` or `auto`"
            )
        return self._rules[choice]

    def plan(self, prompt: Prompt, text: str, sampling: Sampling) -> tuple[int, list[int]]:
        """Return the frames of prompt and text together, and the tokens of both.

        Raises:
            ConfigError: see `rule`.
            DataError: too long, or too short for the text.
        """
        rate = self.own.frame_rate
        total = None
        if sampling.duration_seconds is not None:
            total = prompt.frames + max(1, round(sampling.duration_seconds * rate))
        elif (rule := self.rule(sampling)) is not self.own:
            total = rule.total_frames(prompt, text, sampling.speed)
        total, tokens = self.own.lay_out(prompt, text, sampling.speed, total)
        if total / rate > MAX_TOTAL_SECONDS:
            known = ""
            if self.trained_seconds is not None:
                known = (
                    f" (this model was trained on utterances of up to {self.trained_seconds:g} s)"
                )
            raise DataError(
                f"text: reference and new speech would be {total / rate:.1f} s together; at most {MAX_TOTAL_SECONDS:g} s "
                f"are possible{known}. Split the text, use a shorter reference or a higher speed."
            )
        return total, tokens


def end_sentence(text: str, vocabulary: Vocabulary) -> str:
    """Return a text that ends in sentence punctuation and one space; without the space after Chinese read as pinyin.

    A full stop is added where there is none and the model knows it, as F5-TTS does.
    """
    bare = text.rstrip("\"')]”’ ")
    if vocabulary.tokens == PinyinVocabulary.tokens and bare.endswith(("。", "！", "？")):
        return text  # as F5-TTS: a space belongs to the syllable that follows
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
    return max(total, len(prompt_text) + len(text) + 1, prompt_frames + 1)
