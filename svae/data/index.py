"""Folders of shards: plain tar files that webdataset reads, and what is needed to read any sample without scanning.

    index.json           format, kind, corpus, statistics, list of shards with sha256, held-out keys; written last
    shard-00000.tar      key.flac + key.json (kind "waveforms"), key.npy + key.json (kinds "latents" and "features")
    shard-00000.jsonl    one row a sample: metadata, and offset, size and crc32 of its members in the tar

A folder without index.json is not finished. The same samples give the same bytes on any machine.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import svae
from svae.data.samples import Sample, Samples, SamplesBuilder
from svae.data.shard_source import ShardFiles, shard_files
from svae.data.shard_writer import REMAKE, read_rows
from svae.errors import DataError
from svae.runtime.files import write_text

FORMAT = 1
KINDS = ("waveforms", "latents", "features")
MIXTURE = Path("data.sources")
"""What several folders read as one are called in messages, where a folder has its path."""


@dataclass(frozen=True)
class Source:
    """A folder of shards in a mixture of several."""

    name: str
    """The end of its path, as much as tells it from the others; its samples' keys begin with it."""
    root: Path
    share: float
    """What part of the frames that are read is from here."""
    shards: range
    """Which of the mixture's shards are its own."""


@dataclass(frozen=True)
class ShardIndex:
    """A folder of shards, checked for completeness."""

    root: Path
    kind: str
    """`waveforms`, `latents` or `features`."""
    sample_rate: int
    """Hz, of the waveforms (for latents: of the waveforms they stand for)."""
    metadata: dict[str, Any]
    """The whole index.json."""
    shards: list[dict[str, Any]]
    """name, utterances, seconds, bytes, sha256 of each, and bytes and sha256 of its rows."""
    samples: Samples
    """In the order of the shards and within them."""
    files: ShardFiles = field(compare=False)
    """Where the files lie: on a disk or on a server."""
    sources: tuple[Source, ...] = ()
    """Of a mixture (`svae.data.sources`): which shards are whose. Empty for a folder."""

    @property
    def home(self) -> Path:
        """The folder that stands for the whole where one is needed: that of a mixture's first source."""
        return self.sources[0].root if self.sources else self.root

    @property
    def source_hashes(self) -> list[str]:
        """The hashes of the waveform shards: its own, or those that its latents stand for."""
        stored = self.metadata.get("latents", {}).get("source")
        return stored or [shard["sha256"] for shard in self.shards]

    @property
    def shares(self) -> dict[str, float]:
        """What part of the frames that are read is whose; all under an empty name where there is no mixture."""
        return {source.name: source.share for source in self.sources} or {"": 1.0}

    def by_source(self, samples: Samples) -> dict[str, Samples]:
        """Return which of the samples are whose; all under an empty name where there is no mixture."""
        if not self.sources:
            return {"": samples}
        return {
            source.name: samples.take(np.flatnonzero(np.isin(samples.shards, source.shards)))
            for source in self.sources
        }

    def validated_by_source(self, *, whole: bool) -> dict[str, Samples]:
        """Return which samples are validated on, by source: all, or those held out."""
        return self.by_source(self.samples if whole else self.validation)

    @property
    def train(self) -> Samples:
        """Samples to train on: those not held out."""
        held_out = set(self.metadata["validation"])
        return self.samples.where(lambda key: key not in held_out)

    @property
    def validation(self) -> Samples:
        """Samples held out of training, in the order of index.json."""
        place = {key: n for n, key in enumerate(self.metadata["validation"])}
        held_out = self.samples.where(place.__contains__)
        return held_out.take(np.argsort([place[key] for key in held_out.keys()]))

    @property
    def latent_content(self) -> str:
        """What latent shards hold of an utterance: its `posterior`, or a `sample` of it."""
        return self.metadata["latents"].get("content", "posterior")

    def samples_of(self, shard: int) -> Samples:
        """Return the samples of one shard, in their order."""
        first, last = np.searchsorted(self.samples.shards, [shard, shard + 1])
        return self.samples[first:last]

    def need(self, shards: Iterable[int]) -> None:
        """Hear which shards will be read soon: those on a server are fetched meanwhile."""
        self.files.need(self.shards[number] for number in shards)

    def describe(self, sample: Sample) -> str:
        """Return `ROOT/shard-00000.tar: sample KEY`, for messages."""
        return f"{self.root / self.shards[sample.shard]['name']}: sample {sample.key!r}"


# ----------------------------------------------------------------------------------------------- writing


def write_index(
    root: str | Path,
    *,
    kind: str,
    corpus: str,
    sample_rate: int,
    shards: Sequence[dict[str, Any]],
    validation: Sequence[str],
    rejected: dict[str, int] | None = None,
    extra: dict[str, Any] | None = None,
) -> ShardIndex:
    """Compute the statistics from the shards' jsonl files and write index.json, which completes the folder.

    `shards` are what `write_shard` returned, in order of number, `validation` the keys held out of training,
    `rejected` the utterances left out, counted by reason, `extra` more fields of index.json, e.g. `latents`.
    """
    root = Path(root)
    rows = [
        row for shard in shards for row in read_rows((root / shard["name"]).with_suffix(".jsonl"))
    ]
    durations = sorted(row["duration_seconds"] for row in rows)
    index = {
        "format": FORMAT,
        "kind": kind,
        "corpus": corpus,
        "sample_rate": sample_rate,
        "created_with": f"svae {svae.__version__}",
        "utterances": len(rows),
        "seconds": round(sum(durations), 3),
        "rejected": dict(sorted((rejected or {}).items())),
        "speakers": _totals(rows, "speaker"),
        "languages": _totals(rows, "language"),
        "characters": dict(sorted(Counter(char for row in rows for char in row["text"]).items())),
        "durations": {name: _quantile(durations, q) for name, q in _QUANTILES.items()},
        "shards": list(shards),
        "validation": list(validation),
        **(extra or {}),
    }
    try:
        write_text(root / "index.json", json.dumps(index, ensure_ascii=False, indent=1) + "\n")
    except OSError as error:
        raise DataError(
            f"{root / 'index.json'}: cannot be written ({error.strerror or error})."
        ) from error
    return read_index(root)


_QUANTILES = {"min": 0.0, "p5": 0.05, "median": 0.5, "p95": 0.95, "max": 1.0}


def _quantile(ordered: list[float], q: float) -> float:
    return round(ordered[round(q * (len(ordered) - 1))], 3) if ordered else 0.0


def _totals(rows: list[dict[str, Any]], name: str) -> dict[str, dict[str, float]]:
    counts: Counter[str] = Counter()
    seconds: defaultdict[str, float] = defaultdict(float)
    for row in rows:
        counts[row[name]] += 1
        seconds[row[name]] += row["duration_seconds"]
    return {
        value: {"utterances": counts[value], "seconds": round(seconds[value], 3)}
        for value in sorted(counts)
    }


# ----------------------------------------------------------------------------------------------- reading


def read_index(root: str | Path) -> ShardIndex:
    """Read index.json and the jsonl files; check that every shard is there with the right number of bytes.

    `root` is a folder or a URL (`s3://`, `gs://`, `hf://`, `https://`), whose shards come into the cache of this machine
    when they are needed.

    Raises:
        DataError: folder or index missing, another format, a shard missing or truncated, rows that do not fit.
    """
    files = shard_files(root)
    root = files.root
    metadata = _read_metadata(files)
    builder = SamplesBuilder()
    numbered = enumerate(zip(metadata["shards"], files.all_rows(metadata["shards"]), strict=True))
    for number, (shard, rows) in numbered:
        path = (root / shard["name"]).with_suffix(".jsonl")
        if len(rows) != shard["utterances"]:
            raise DataError(
                f"{path}: {len(rows)} rows, index.json says {shard['utterances']}. {REMAKE}"
            )
        try:
            for row in rows:
                builder.add(_sample(row, number))
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
            raise DataError(f"{path}: damaged row ({error!r}). {REMAKE}") from None
    index = ShardIndex(
        root,
        metadata["kind"],
        metadata["sample_rate"],
        metadata,
        metadata["shards"],
        builder.samples(),
        files,
    )
    unknown = set(metadata["validation"]).difference(index.samples.keys())
    if unknown:
        raise DataError(
            f"{root}/index.json: validation key {min(unknown)!r} is in no shard. {REMAKE}"
        )
    return index


def verify_shards(index: ShardIndex) -> None:
    """Compare the sha256 of every shard with index.json (reads everything once).

    Raises:
        DataError: the first shard whose content changed.
    """
    for shard in index.shards:
        with index.files.open(shard) as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != shard["sha256"]:
            raise DataError(
                f"{index.root / shard['name']}: content changed: sha256 {found[:16]}…, index.json says "
                f"{shard['sha256'][:16]}…. {REMAKE}"
            )


def read_member(index: ShardIndex, sample: Sample, extension: str) -> bytes:
    """Read one member of a sample from its tar.

    Raises:
        DataError: no such member, a truncated shard, or a content that does not have the checksum it was written with.
    """
    if extension not in sample.members:
        raise DataError(
            f"{index.describe(sample)} has no member {extension!r}, only {', '.join(sample.members)}."
        )
    offset, size = sample.members[extension]
    try:
        with index.files.open(index.shards[sample.shard]) as file:
            data = os.pread(file.fileno(), size, offset)
    except OSError as error:
        raise DataError(
            f"{index.describe(sample)} cannot be read ({error.strerror or error}). {REMAKE}"
        ) from error
    if len(data) != size:
        raise DataError(
            f"{index.describe(sample)}: shard truncated: {len(data)} of {size} bytes of .{extension}. {REMAKE}"
        )
    if zlib.crc32(data) != sample.crc32[extension]:
        raise DataError(
            f"{index.describe(sample)}: .{extension} is corrupt (its checksum differs). {REMAKE}"
        )
    return data


def read_array(index: ShardIndex, sample: Sample) -> np.ndarray:
    """Read the array of a sample of latents or features.

    Raises:
        DataError: the shard is truncated or corrupt, or the member is no array.
    """
    try:
        return np.load(io.BytesIO(read_member(index, sample, "npy")), allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise DataError(
            f"{index.describe(sample)}: .npy cannot be read ({error}). {REMAKE}"
        ) from error


def _read_metadata(files: ShardFiles) -> dict[str, Any]:
    path = files.root / "index.json"
    text = files.index_text()
    try:
        metadata = json.loads(text)
        found = (metadata["format"], metadata["kind"])
        int(metadata["sample_rate"]), list(metadata["shards"]), list(metadata["validation"])
        for name in ("corpus", "utterances", "seconds", "rejected", "speakers", "characters"):
            metadata[name]
        for shard in metadata["shards"]:
            shard["name"], shard["bytes"], shard["utterances"], shard["sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: damaged or not an index of shards ({type(error).__name__}: {error}). {REMAKE}"
        ) from error
    if found[0] != FORMAT or found[1] not in KINDS:
        raise DataError(
            f"{path}: format {found[0]!r}, kind {found[1]!r}. This version of svae ({svae.__version__}) reads format "
            f"{FORMAT} of the kinds {', '.join(KINDS)}. {REMAKE}"
        )
    return metadata


def _sample(row: dict[str, Any], shard: int) -> Sample:
    return Sample(
        key=row["key"],
        shard=shard,
        duration_seconds=row["duration_seconds"],
        num_samples=row["num_samples"],
        speaker=row["speaker"],
        language=row["language"],
        text=row["text"],
        members={name: (offset, size) for name, (offset, size) in row["members"].items()},
        crc32=row["crc32"],
    )
