"""Several folders of shards read as one: a mixture, in which every source has its share of what is trained on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from svae.config import SourceConfig
from svae.data.index import MIXTURE, ShardIndex, Source
from svae.data.samples import Samples, SamplesBuilder
from svae.data.shard_source import JoinedShards, ShardFiles
from svae.errors import ConfigError, DataError
from svae.runtime.files import telling_names


def shares(weights: Sequence[float], temperature: float) -> list[float]:
    """Return what part of the frames each source has: in proportion to its weight to the power 1 / temperature."""
    # Relative to the largest, so that no power overflows.
    flattened = [(weight / max(weights)) ** (1 / temperature) for weight in weights]
    return [each / sum(flattened) for each in flattened]


def mix(
    indexes: Sequence[ShardIndex], sources: Sequence[SourceConfig], temperature: float
) -> ShardIndex:
    """Return several indexes as one, whose `sources` say which shards are whose and how much of each is read.

    Keys and speakers get the source's name in front, as two corpora may have the same. A source without a weight weighs
    as much as it has seconds to train on. A source's `language` is that of all its utterances.

    Raises:
        ConfigError: a source is named twice, or they are not of one kind: waveforms of one rate, or latents of one VAE.
        DataError: a source has nothing to train on.
    """
    if len({index.root.resolve() for index in indexes}) < len(indexes):
        raise ConfigError("data.sources: a folder is named twice")
    _check_alike(indexes)
    names = telling_names([index.root for index in indexes])
    weights = []
    for index, source in zip(indexes, sources, strict=True):
        seconds = sum(sample.duration_seconds for sample in index.train)
        if not seconds:
            raise DataError(
                f"{index.root}: nothing to train on: all {len(index.samples)} utterances are held out for validation.\n"
                "Leave it out of data.sources, or run `svae prepare` with a smaller --validation."
            )
        weights.append(seconds if source.weight is None else source.weight)
    shards: list[dict[str, Any]] = []
    joined: list[tuple[ShardFiles, dict[str, Any], str]] = []
    builder = SamplesBuilder()
    held_out: list[str] = []
    parts: list[Source] = []
    for name, index, source, share in zip(
        names, indexes, sources, shares(weights, temperature), strict=True
    ):
        first = len(shards)
        for shard in index.shards:
            named = str((index.root / shard["name"]).absolute())
            shards.append(shard | {"name": named})
            joined.append((index.files, shard, named))
        for sample in index.samples:
            builder.add(
                replace(
                    sample,
                    key=f"{name}/{sample.key}",
                    shard=first + sample.shard,
                    speaker=f"{name}/{sample.speaker}",
                    language=sample.language if source.language is None else source.language,
                )
            )
        held_out += [f"{name}/{key}" for key in index.metadata["validation"]]
        parts.append(Source(name, index.root, share, range(first, len(shards))))
    samples = builder.samples()
    metadata = indexes[0].metadata | {
        "corpus": " + ".join(names),
        "utterances": len(samples),
        "seconds": sum(index.metadata["seconds"] for index in indexes),
        "rejected": _added([index.metadata["rejected"] for index in indexes]),
        "characters": _added([index.metadata["characters"] for index in indexes]),
        "speakers": _totals(samples, "speaker"),
        "languages": _totals(samples, "language"),
        "shards": shards,
        "validation": held_out,
    }
    return replace(
        indexes[0],
        root=MIXTURE,
        metadata=metadata,
        shards=shards,
        samples=samples,
        files=JoinedShards(MIXTURE, joined),
        sources=tuple(parts),
    )


def _check_alike(indexes: Sequence[ShardIndex]) -> None:
    """Raise ConfigError where sources cannot be learned as one."""
    first = indexes[0]
    for other in indexes[1:]:
        if other.kind != first.kind:
            raise ConfigError(
                f"data.sources: {other.root} holds {other.kind}, but {first.root} holds {first.kind}; "
                "all must be waveforms, or all latents of one VAE"
            )
        if other.sample_rate != first.sample_rate:
            raise ConfigError(
                f"data.sources: {other.root} has audio at {other.sample_rate} Hz, but that of {first.root} is at "
                f"{first.sample_rate} Hz.\nRun `svae prepare … --sample-rate {first.sample_rate}` into another folder."
            )
        if first.kind != "latents":
            continue
        vaes = [index.metadata["latents"]["vae_hash"] for index in (other, first)]
        if vaes[0] != vaes[1]:
            raise ConfigError(
                f"data.sources: {other.root} holds latents of VAE {vaes[0][:12]}…, but those of {first.root} are of VAE "
                f"{vaes[1][:12]}….\nRun `svae encode` with one VAE on all sources."
            )
        if other.latent_content != first.latent_content:
            raise ConfigError(
                f"data.sources: {other.root} holds a {other.latent_content} of every utterance, but {first.root} a "
                f"{first.latent_content}; run `svae encode` with the same --content"
            )


def _added(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return dict(sorted(total.items()))


def _totals(samples: Samples, name: str) -> dict[str, dict[str, float]]:
    totals: dict[str, dict[str, float]] = {}
    for sample in samples:
        entry = totals.setdefault(getattr(sample, name), {"utterances": 0, "seconds": 0.0})
        entry["utterances"] += 1
        entry["seconds"] += sample.duration_seconds
    return dict(sorted(totals.items()))
