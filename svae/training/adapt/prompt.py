"""The recordings that an adapted model keeps as its prompt: those that are most like the person's voice as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.markup import escape

from svae.data.batches import read_waveform
from svae.data.index import ShardIndex
from svae.data.samples import Sample
from svae.errors import ConfigError, DataError
from svae.synthesis.model import TTS
from svae.synthesis.reference import OpenedPrompt
from svae.synthesis.voices import NO_CONSENT, check_consent, kept_voice, write_voice
from svae.training.adapt.held_out import Judges, read_clips

WANTED_SECONDS = 5.0
"""A prompt that short recordings make together gets at least this long, where there is enough."""
LONGEST_SECONDS = 12.0
MOST_RECORDINGS = 4
CANDIDATES = 48
"""So many recordings are compared: the judges take time."""
PAUSE_SECONDS = 0.15
"""Between recordings that are joined."""


def choose_prompt(
    index: ShardIndex, samples: Sequence[Sample], tts: TTS, judges: Judges
) -> list[Sample]:
    """Return the recordings whose voice is nearest to the mean of all, the nearest first, until they are long enough.

    Where a judge of naturalness listens, what it says counts as much.

    Raises:
        DataError: none is short enough for the model.
    """
    limit = min(tts.prompt_limit, LONGEST_SECONDS)
    fitting = [sample for sample in samples if 1.0 <= sample.duration_seconds <= limit]
    if not fitting:
        raise DataError(
            f"no recording that is trained on is between 1 and {limit:g} s long, as a prompt must be; cut some of them"
        )
    # The longest say most of a voice.
    chosen = sorted(fitting, key=lambda s: (-s.duration_seconds, s.key))[:CANDIDATES]
    clips = read_clips(index, chosen)
    voices = judges.speaker.embed(clips)
    merit = voices @ torch.nn.functional.normalize(voices.mean(dim=0), dim=0)
    if judges.mos is not None:
        column = judges.mos.columns[0]
        natural = [predicted[column] for predicted in judges.mos.predict(clips)]
        merit = merit + (torch.tensor(natural) - 1) / 4
    best: list[Sample] = []
    seconds = 0.0
    for place in merit.argsort(descending=True).tolist():
        more = chosen[place].duration_seconds + (PAUSE_SECONDS if best else 0.0)
        if seconds + more <= limit:
            best.append(chosen[place])
            seconds += more
        if seconds >= min(WANTED_SECONDS, limit) or len(best) == MOST_RECORDINGS:
            break
    return best


def keep_prompt(
    path: Path,
    index: ShardIndex,
    samples: Sequence[Sample],
    tts: TTS,
    console: Console,
    consent: str | None = None,
) -> None:
    """Join recordings to a prompt and write it, with a note of consent, as a voice that `svae.synthesis.voices` reads."""
    pause = torch.zeros(1, round(PAUSE_SECONDS * index.sample_rate))
    parts: list[torch.Tensor] = []
    for sample in samples:
        parts += [pause] if parts else []
        parts.append(read_waveform(index, sample))
    waveform = torch.cat(parts, dim=1)
    text = "".join(tts.end_prompt_text(sample.text) for sample in samples)
    prompt = tts.encode_prompt(waveform, text)
    if prompt.note is not None:
        console.print(f"[yellow]{escape(prompt.note)}[/]")
    keys = ", ".join(sample.key for sample in samples)
    description = {"reference": keys, "consent": consent}
    write_voice(path, OpenedPrompt(prompt, waveform, description, 0.0), tts)
    console.print(
        f"Prompt: {prompt.seconds:.1f} s: {escape(prompt.text.rstrip())}", highlight=False
    )
    if consent is None:
        console.print(NO_CONSENT, highlight=False)


def check_consent_of_run(consent: str | None, prompt: Path) -> str | None:
    """Return the note of consent that a run keeps with its voice.

    Args:
        consent: what was given; None: nothing.
        prompt: the voice that the run keeps, if it has come so far.

    Raises:
        ConfigError: the note says nothing, or the run's voice is kept with another: its checkpoints have the hash of it.
    """
    consent = check_consent(consent)
    if consent is None or not prompt.is_file():
        return consent
    kept = kept_voice(prompt).consent
    if kept != consent:
        raise ConfigError(
            f"--consent {consent!r}: the voice of this run is kept with {'no note' if kept is None else repr(kept)}, and its "
            "checkpoints list it as it is; leave the option out, or adapt into another --out"
        )
    return consent
