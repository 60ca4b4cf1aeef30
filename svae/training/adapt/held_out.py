"""What an adapted model is judged by: held-out texts, said in the model's own voice, beside the person's recordings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from torch import Tensor

from svae.config import JudgesConfig
from svae.data.batches import read_waveform
from svae.data.index import ShardIndex
from svae.data.samples import Sample
from svae.errors import DataError
from svae.judges.asr import Recognizer, load_asr
from svae.judges.clips import at_speech_rate
from svae.judges.distillmos import DISTILLMOS, DistillMOS
from svae.judges.naturalness import UTMOS, OnnxPredictor, QualityPredictor
from svae.judges.speaker import SpeakerModel, load_speaker_model
from svae.judges.wer import WordErrors, word_errors
from svae.synthesis.marks import save_speech, tags
from svae.synthesis.model import TTS
from svae.synthesis.reference import OpenedPrompt
from svae.synthesis.types import Sampling
from svae.training.session import Session


@dataclass(frozen=True)
class Judges:
    """Who listens."""

    asr: Recognizer
    speaker: SpeakerModel
    mos: QualityPredictor | None


def open_judges(config: JudgesConfig, device: str) -> Judges:
    """Load the judges. Raises ConfigError where one cannot be had."""
    mos: QualityPredictor | None = None
    if config.mos == DISTILLMOS:
        mos = DistillMOS(device)
    elif config.mos is not None:
        mos = OnnxPredictor(UTMOS, Path(config.mos))
    return Judges(load_asr(config.asr, device), load_speaker_model(config.speaker, device), mos)


def read_clips(index: ShardIndex, samples: Sequence[Sample]) -> list[Tensor]:
    """Read recordings as judges hear them, (S,) each."""
    return [at_speech_rate(read_waveform(index, sample), index.sample_rate) for sample in samples]


def score(row: dict[str, float]) -> float:
    """Return how good a judged point is: similarity minus word error rate, plus naturalness on a scale of one.

    A point where nothing could be said is worse than any.
    """
    if "similarity" not in row:
        return float("-inf")
    natural = (row["mos"] - 1) / 4 if "mos" in row else 0.0
    return row["similarity"] - row["wer"] + natural


@dataclass
class HeldOut:
    """The texts, the recordings of them, and the judges."""

    samples: list[Sample]
    recordings: list[Tensor]
    """(S,) each, at `SPEECH_RATE`."""
    judges: Judges

    def __post_init__(self) -> None:
        self.voices = self.judges.speaker.embed(self.recordings)

    def originals(self) -> dict[str, float]:
        """Return what the judges say of the recordings themselves: what nothing made from them can be better than."""
        return self._row(self.recordings, range(len(self.samples)))

    def said(
        self, tts: TTS, opened: OpenedPrompt, sampling: Sampling, session: Session, step: int
    ) -> dict[str, float]:
        """Say every text, leave it in samples/, and return what the judges say; what cannot be said is named."""
        # With the voice's note of consent; no hash of the model: what speaks now is in no file.
        save = partial(save_speech, content=tags(tts.identity, sampling.seed, opened.description))
        clips: list[Tensor] = []
        places: list[int] = []
        for place, sample in enumerate(self.samples):
            try:
                result = tts.speak([sample.text], [opened.prompt], sampling)[0]
            except Exception as error:  # of any kind: a row without this text says more than none
                session.console.print(f"[yellow]synthesis of {sample.key}: {escape(str(error))}[/]")
                continue
            with session.side_work(f"writing the sample {sample.key}"):
                session.tracker.audio(
                    step, sample.key, result.waveform[0], result.sample_rate, save
                )
            clips.append(at_speech_rate(result.waveform, result.sample_rate))
            places.append(place)
        return self._row(clips, places)

    def _row(self, clips: Sequence[Tensor], places: Sequence[int]) -> dict[str, float]:
        """Return word error rate, similarity and naturalness of clips of the texts at these places.

        A clip is compared with the person's next recording, so that similar words do not make a similar voice.
        """
        row: dict[str, float] = {"utterances": len(clips)}
        if not clips:
            return row
        heard = self.judges.asr.transcribe(list(clips))
        errors: list[WordErrors] = [
            word_errors(self.samples[place].text, text)
            for place, text in zip(places, heard, strict=True)
        ]
        row["wer"] = sum(e.errors for e in errors) / sum(e.words for e in errors)
        others = [(place + 1) % len(self.samples) for place in places]
        voices = self.judges.speaker.embed(list(clips))
        row["similarity"] = float((voices * self.voices[others]).sum(dim=1).mean())
        if self.judges.mos is not None:
            predicted = self.judges.mos.predict(list(clips))
            row["mos"] = sum(p[self.judges.mos.columns[0]] for p in predicted) / len(predicted)
        return row


def open_held_out(index: ShardIndex, samples: Sequence[Sample], judges: Judges) -> HeldOut:
    """Read held-out recordings from waveform shards. Raises DataError where there are none."""
    if not samples:
        raise DataError(
            f"{index.root}: the words of no held-out recording fit what is said in it, so nothing can be judged; "
            "check the texts"
        )
    return HeldOut(list(samples), read_clips(index, samples), judges)


def show_table(rows: dict[str, dict[str, float]], judges: JudgesConfig, console: Console) -> None:
    """Print the rows: what was judged → what the judges said."""
    from rich.table import Table

    table = Table(title="Held-out texts", show_edge=False)
    table.add_column("")
    table.add_column(f"WER ({judges.asr})", justify="right")
    table.add_column(f"SIM ({judges.speaker})", justify="right")
    if judges.mos is not None:
        table.add_column(f"MOS ({Path(judges.mos).name})", justify="right")
    for name, row in rows.items():
        cells = [
            f"{row['wer']:.1%}" if "wer" in row else "–",
            f"{row['similarity']:.3f}" if "similarity" in row else "–",
        ]
        if judges.mos is not None:
            cells.append(f"{row['mos']:.2f}" if "mos" in row else "–")
        table.add_row(name, *cells)
    console.print(table)
