"""From recordings that are ready to what is trained on: shards, times of phones, latents. All by the ordinary commands."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from svae.checkpoint import Checkpoint
from svae.data.index import read_index
from svae.data.prepare import prepare
from svae.data.prepare_plan import PrepareOptions
from svae.data.timings import Timings
from svae.precompute.latents import EncodeOptions, encode_shards
from svae.precompute.phone_times import align_shards
from svae.synthesis.adapter import PROMPT_FILE
from svae.training.adapt.recordings import MAX_SECONDS

SHARDS = 4
"""At most: so many processes encode at once."""
HELD_OUT_SHARE = 1 / 6
"""Of the recordings are held out at most."""


@dataclass(frozen=True)
class DataFolders:
    """Where the run keeps what it is trained on."""

    root: Path

    @property
    def cut(self) -> Path:
        """Utterances of recordings that were longer, as `svae prepare recordings` leaves them."""
        return self.root / "cut"

    @property
    def recordings(self) -> Path:
        """Recordings that are ready."""
        return self.root / "audio"

    @property
    def shards(self) -> Path:
        """Waveform shards."""
        return self.root / "shards"

    @property
    def times(self) -> Path:
        """Times of phones."""
        return self.root / "times"

    @property
    def latents(self) -> Path:
        """Latent shards."""
        return self.root / "latents"

    @property
    def prompt(self) -> Path:
        """The model's own voice, as its checkpoints carry it."""
        return self.root / PROMPT_FILE


def held_out_count(recordings: int, wanted: int) -> int:
    """Return how many of the recordings are held out."""
    return max(1, min(wanted, round(recordings * HELD_OUT_SHARE)))


def make_shards(
    folders: DataFolders,
    listed: Path,
    *,
    sample_rate: int,
    count: int,
    held_out: int,
    console: Console,
) -> None:
    """Write waveform shards of the listed recordings; names those that are left out."""
    options = PrepareOptions(
        corpus="jsonl",
        root=listed,
        out=folders.shards,
        sample_rate=sample_rate,
        shards=min(SHARDS, count),
        validation=held_out / count,
        max_seconds=MAX_SECONDS + 1,
    )
    report = prepare(options, Console(quiet=True))
    for reason, number in report.rejected.items():
        console.print(f"[yellow]Left out: {number} recordings, {reason}[/]")


def make_times(folders: DataFolders, console: Console) -> None:
    """Find when every phone is spoken; what does not fit its text is named and left out of training."""
    console.print("Finding when each phone is spoken")
    align_shards(folders.shards, folders.times, console=Console(quiet=True))
    index, timings = read_index(folders.shards), Timings(folders.times)
    for sample in index.samples:
        if sample.key not in timings:
            console.print(
                f"[yellow]Left out: {escape(sample.key)}: its words do not fit the recording: "
                f"{escape(sample.text[:80])}[/]",
                highlight=False,
            )


def make_latents(folders: DataFolders, vae: Checkpoint, device: str, console: Console) -> None:
    """Encode the shards with the model's VAE."""
    console.print("Encoding")
    options = EncodeOptions(folders.shards, vae.folder, folders.latents, device=device)
    encode_shards(options, Console(quiet=True))
