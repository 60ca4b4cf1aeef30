"""The way that all commands go which make something of every shard: claim the folder, make what is missing, index it.

A shard is made by one process alone with one thread, whole or not at all, so that its bytes depend neither on the
number of processes nor on how often the command was interrupted. Under torchrun the shards are dealt to the ranks;
`--ray` has the nodes of a cluster make them.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from svae.data.index import ShardIndex, read_index, write_index
from svae.data.samples import Sample
from svae.data.shard_writer import ShardItem, describe_shard, shard_name
from svae.errors import DataError
from svae.models.vae.vae import load_vae
from svae.runtime.distributed import PATIENT_MINUTES, World, barrier, open_world
from svae.runtime.files import writable_folder, write_text
from svae.runtime.jobs import Tick, cores
from svae.runtime.outgoing import destination
from svae.runtime.ray_jobs import RayOptions, Runner, open_runner

ShardJob = Callable[[int, str, Tick], Any]
"""Makes what belongs to one shard: called with its number, the device, and a tick for every utterance."""


@dataclass(frozen=True)
class ShardRun:
    """A command at work on the shards of a folder. All ranks must call each of its methods."""

    index: ShardIndex
    """What is read."""
    out: Path
    """On this machine; `shown(out)` is where it ends, when that is a URL."""
    world: World
    console: Console
    """Quiet on all ranks but the first."""
    runner: Runner
    """Where the jobs of this rank are done."""

    @property
    def device(self) -> str:
        """On what they are done there."""
        return self.runner.device

    @property
    def where(self) -> str:
        """That in words."""
        return self.runner.where

    def claim(
        self,
        name: str,
        description: dict[str, Any],
        *,
        contents: str,
        command: str,
        files: tuple[str, ...] = ("index.json", "shard-*"),
        always_described: bool = True,
    ) -> None:
        """Leave a description of what is made in the folder, or check that what is there was made in the same way.

        Args:
            name: file of the description.
            description: everything that decides the bytes; `source` holds the hashes of the shards that are read.
            contents: what is made, in a word, for messages.
            command: what makes it.
            files: patterns of files that no other command may have left there.
            always_described: False where older versions of the command left no description.

        Raises:
            DataError: the folder holds something else.
        """
        if self.world.is_main:
            path = self.out / name
            if path.is_file():
                _check_same(path, description, contents)
            elif foreign := [entry.name for pattern in files for entry in self.out.glob(pattern)]:
                which = f"{self.out}: holds {min(foreign)}, which `{command}` did not begin"
                if always_described:
                    raise DataError(f"{which}; choose another --out")
                raise DataError(
                    f"{which}, or an older svae did, which left no {name}.\n"
                    f"Choose another --out, or delete the folder, where it holds nothing else, to have its {contents} made again."
                )
            else:
                write_text(path, json.dumps(description, indent=2) + "\n")
        barrier(self.world)

    def make(self, job: ShardJob, *, finished: Callable[[int], bool], label: str) -> None:
        """Do the job for this rank's unfinished shards, and wait for the other ranks.

        The job is a function of a module, or a `functools.partial` of one, so that other processes can be given it.
        """
        sizes = {
            number: shard["utterances"]
            for number, shard in enumerate(self.index.shards)
            if number % self.world.world_size == self.world.rank
        }
        missing = [number for number in sizes if not finished(number)]
        total = sum(sizes.values())
        done = total - sum(sizes[number] for number in missing)
        self.runner.run(
            job,
            {number: (number, self.device) for number in missing},
            description=label,
            console=self.console,
            total=total,
            completed=done,
        )
        barrier(self.world)

    def has_shard(self, number: int) -> bool:
        """Return whether a shard lies in the output folder; it gets its name when it is complete."""
        return (self.out / shard_name(number)).is_file()

    def write_index(self, *, kind: str, extra: dict[str, Any]) -> ShardIndex:
        """Complete the folder: same shards, utterances and held-out set as what was read. The first rank calls it."""
        source = self.index.metadata
        return write_index(
            self.out,
            kind=kind,
            corpus=source["corpus"],
            sample_rate=self.index.sample_rate,
            shards=[describe_shard(self.out, number) for number in range(len(self.index.shards))],
            validation=source["validation"],
            rejected=source["rejected"],
            extra=extra,
        )


@contextmanager
def open_run(
    index: ShardIndex,
    out: Path,
    *,
    device: str = "cpu",
    workers: int | None = None,
    ray: RayOptions | None = None,
    console: Console | None = None,
) -> Iterator[ShardRun]:
    """Join the ranks and make the output folder; without a console, what is printed goes to stdout.

    What is made for a URL is uploaded when the block ends.

    Raises:
        ConfigError: no such device or cluster, or the folder cannot be written to.
    """
    with (
        open_world("cpu" if ray else device, timeout_minutes=PATIENT_MINUTES) as world,
        destination(out, is_main=world.is_main, meet=lambda: barrier(world)) as work,
    ):
        folder = writable_folder(work, option="--out")
        shown = console if console is not None and world.is_main else None
        console = shown or Console(quiet=not world.is_main)
        if world.device.type == "cpu" and workers is None:
            workers = max(1, cores() // world.world_size)
        with open_runner(
            folder=folder, device=device if ray else str(world.device), workers=workers, ray=ray
        ) as runner:
            yield ShardRun(index, folder, world, console, runner)


def read_waveform_index(root: Path, *, command: str) -> ShardIndex:
    """Read a folder of waveform shards.

    Raises:
        DataError: it is damaged, or holds something else than `command` needs.
    """
    index = read_index(root)
    if index.kind != "waveforms":
        raise DataError(
            f"{index.root}: holds {index.kind}; `{command}` needs waveform shards from `svae prepare`"
        )
    return index


def shard_hashes(index: ShardIndex) -> list[str]:
    """Return the sha256 of every shard, by which what was made of them knows them again."""
    return [shard["sha256"] for shard in index.shards]


def array_item(index: ShardIndex, sample: Sample, array: np.ndarray) -> ShardItem:
    """Return an array that was computed from a sample as the sample of another folder."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return ShardItem(
        key=sample.key,
        members={"npy": buffer.getvalue()},
        num_samples=sample.num_samples,
        sample_rate=index.sample_rate,
        speaker=sample.speaker,
        language=sample.language,
        text=sample.text,
    )


# One of each in a process: a process makes many shards of one folder with one model.
cached_vae = lru_cache(maxsize=1)(load_vae)
cached_index = lru_cache(maxsize=1)(read_index)


def _check_same(path: Path, description: dict[str, Any], contents: str) -> None:
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        changed = [name for name, value in description.items() if before.get(name) != value]
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(f"{path}: damaged ({error}); choose another --out") from None
    if "source" in changed:
        raise DataError(
            f"{path.parent}: holds {contents} of other shards than these; choose another --out"
        )
    if changed:
        raise DataError(
            f"{path.parent}: holds {contents} made otherwise ({', '.join(changed)} differ); choose another --out"
        )
