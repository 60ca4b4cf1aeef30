"""Where somebody speaks in a recording, and where it is cut: in pauses, the longest first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Protocol

import torch
from torch import Tensor

from svae.audio import SPEECH_RATE
from svae.errors import ConfigError
from svae.synthesis.trim import find_cut

THRESHOLD = 0.5
"""Of silero-vad, its default."""
LEAST_SILENCE_MS = 100
LEAST_SPEECH_MS = 100
WINDOW = 512
"""Samples at 16 kHz that silero-vad hears at a time."""
JOINED_SECONDS = 1.0
"""Speech across a shorter pause belongs together, as far as it is not too long."""
MARGIN_SECONDS = 0.15
"""What is kept of the pauses at both ends, or half of a shorter one: voices begin and end softly."""


@dataclass(frozen=True)
class Stretch:
    """A stretch of speech without a pause."""

    start: float
    """In seconds."""
    end: float
    text: str | None = None
    """What is said in it, where subtitles tell."""

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.end - self.start


class SpeechDetector(Protocol):
    """What tells speech from everything else."""

    description: dict[str, Any]
    """Name, version and settings, as stored with the shards."""

    def stretches(self, waveform: Tensor) -> list[Stretch]:
        """Return where there is speech in (S,) at 16 kHz, in order."""
        ...


class SileroVAD:
    """silero-vad, a small network that has heard many languages; its package carries it, as ONNX here.

    Source: https://github.com/snakers4/silero-vad (MIT).

    Raises:
        ConfigError: the package, or onnxruntime, is not installed.
    """

    def __init__(self) -> None:
        threads = torch.get_num_threads()
        try:
            import silero_vad  # it sets the threads of the whole process to one
            from silero_vad import utils_vad

            self._model = silero_vad.load_silero_vad(onnx=True)
        except ImportError as error:
            raise ConfigError(
                f"svae prepare recordings: needs silero-vad and onnxruntime ({error}); try: pip install 'svae[recordings]'"
            ) from None
        finally:
            torch.set_num_threads(threads)
        self._from_probabilities = utils_vad.get_speech_timestamps_from_probs
        self.description: dict[str, Any] = {
            "vad": "silero-vad",
            "version": metadata.version("silero-vad"),
            "model": "silero_vad.onnx (in the package)",
            "threshold": THRESHOLD,
            "least_silence_ms": LEAST_SILENCE_MS,
            "least_speech_ms": LEAST_SPEECH_MS,
        }

    @torch.inference_mode()
    def stretches(self, waveform: Tensor) -> list[Stretch]:
        """Return where there is speech in (S,) at 16 kHz, in order."""
        self._model.reset_states()
        padded = torch.nn.functional.pad(waveform, (0, -len(waveform) % WINDOW))
        found = self._from_probabilities(
            [float(self._model(window[None], SPEECH_RATE)) for window in padded.split(WINDOW)],
            sampling_rate=SPEECH_RATE,
            threshold=THRESHOLD,
            min_speech_duration_ms=LEAST_SPEECH_MS,
            min_silence_duration_ms=LEAST_SILENCE_MS,
            speech_pad_ms=0,
            audio_length_samples=len(waveform),
        )
        return [Stretch(each["start"] / SPEECH_RATE, each["end"] / SPEECH_RATE) for each in found]


def group(stretches: Sequence[Stretch], max_seconds: float) -> list[list[Stretch]]:
    """Join stretches of speech to utterances of at most `max_seconds`, or single stretches that are longer.

    What a pause of `JOINED_SECONDS` separates stays apart. What is too long is cut in its longest pause, and its parts
    again: people pause longest between sentences.
    """
    groups: list[list[Stretch]] = []
    for stretch in stretches:
        if groups and stretch.start - groups[-1][-1].end <= JOINED_SECONDS:
            groups[-1].append(stretch)
        else:
            groups.append([stretch])
    done = []
    while groups:
        first = groups.pop(0)
        if len(first) == 1 or first[-1].end - first[0].start + 2 * MARGIN_SECONDS <= max_seconds:
            done.append(first)
            continue
        pauses = [b.start - a.end for a, b in zip(first, first[1:], strict=False)]
        middle = (first[0].start + first[-1].end) / 2
        # Of pauses that are equally long the one nearest to the middle.
        longest = max(
            range(len(pauses)), key=lambda i: (round(pauses[i], 2), -abs(first[i].end - middle))
        )
        groups[:0] = [first[: longest + 1], first[longest + 1 :]]
    return done


def shortened(
    stretches: Sequence[Stretch], waveform: Tensor, sample_rate: int, max_seconds: float
) -> list[Stretch]:
    """Cut stretches of more than `max_seconds`, in which nobody pauses, at their quietest places.

    Args:
        stretches: of one recording.
        waveform: the recording, (1, S).
        sample_rate: in Hz.
        max_seconds: what a stretch may last with its margins.
    """
    limit = max_seconds - 2 * MARGIN_SECONDS
    done = []
    for stretch in stretches:
        start = stretch.start
        while stretch.end - start > limit:
            part = waveform[:, round(start * sample_rate) : round(stretch.end * sample_rate)]
            cut = find_cut(part, sample_rate, limit)
            if cut is None:
                break
            done.append(Stretch(start, start + cut.seconds))
            start += cut.seconds
        done.append(Stretch(start, stretch.end))
    return done


def with_margins(groups: Sequence[Sequence[Stretch]], seconds: float) -> list[tuple[float, float]]:
    """Return where each utterance of a recording of so many seconds begins and ends, with a margin of the pauses."""
    bounds = []
    for number, stretches in enumerate(groups):
        before = groups[number - 1][-1].end if number else 0.0
        after = groups[number + 1][0].start if number + 1 < len(groups) else seconds
        start, end = stretches[0].start, stretches[-1].end
        lead = start - before if number == 0 else (start - before) / 2
        tail = after - end if number + 1 == len(groups) else (after - end) / 2
        bounds.append(
            (start - min(MARGIN_SECONDS, max(lead, 0.0)), end + min(MARGIN_SECONDS, max(tail, 0.0)))
        )
    return bounds
