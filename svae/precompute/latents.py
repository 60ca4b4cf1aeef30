"""`svae encode`: waveform shards into latent shards of a frozen VAE.

A latent shard holds `key.npy` beside `key.json` with the text: (2, D, T), the posterior's mean and log-variance, or
(1, D, T), one sample of it seeded by the utterance's key. `index.json` says which, and names the VAE by the hash of
its weights; `vae/` is a copy of it. Everything that reads latents compares the hashes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from svae.checkpoint import Checkpoint, copy_weights, open_checkpoint
from svae.data.batches import read_waveform
from svae.data.index import ShardIndex
from svae.data.samples import Sample
from svae.data.shard_writer import ShardItem, write_shard
from svae.errors import CheckpointError, DataError
from svae.models.tts.flow import posterior_latents
from svae.models.vae import streaming
from svae.models.vae.vae import SpeechVAE, load_vae
from svae.precompute.driver import (
    ShardRun,
    array_item,
    cached_index,
    cached_vae,
    open_run,
    read_waveform_index,
    shard_hashes,
)
from svae.precompute.statistics import STATISTICS_UTTERANCES, measure_statistics
from svae.runtime.distributed import barrier
from svae.runtime.files import atomic_folder, write_text
from svae.runtime.jobs import Tick
from svae.runtime.outgoing import shown
from svae.runtime.ray_jobs import RayOptions


@dataclass(frozen=True)
class EncodeOptions:
    """Options of `svae encode`."""

    data: Path
    vae: Path
    out: Path
    dtype: Literal["float16", "float32"] = "float16"
    content: Literal["posterior", "sample"] = "posterior"
    """Mean and log-variance, or one sample of the posterior."""
    seed: int = 0
    """The seed of the samples; each utterance's noise is a function of (seed, key) alone."""
    batch_size: int = 16
    """Utterances that a GPU encodes at once. On the CPU each goes alone."""
    workers: int | None = None
    """Processes on the CPU; None: one per core. GPUs take one process each, by torchrun."""
    device: str = "auto"
    ray: RayOptions | None = None
    """A cluster that does the work."""


def encode_shards(options: EncodeOptions, console: Console | None = None) -> Path:
    """Write latent shards beside the text: the same shards, utterances and held-out set as the waveform shards.

    On the CPU the bytes depend on data, VAE, dtype, content and seed alone: every utterance is encoded by itself with
    one thread. Finished shards are kept when the command is run again after an interruption. Under torchrun the
    shards are dealt to the ranks.

    Raises:
        DataError: the data are not waveform shards, or the folder holds latents made otherwise.
        CheckpointError: the VAE is unusable.
    """
    index = read_waveform_index(options.data, command="svae encode")
    checkpoint = open_checkpoint(options.vae, kind="vae")
    _check_rate(index, checkpoint)
    # A folder of checkpoints would be looked up again in every process, and may have a newer one by then.
    options = replace(options, vae=checkpoint.folder)
    with open_run(
        index,
        options.out,
        device=options.device,
        workers=options.workers,
        ray=options.ray,
        console=console,
    ) as run:
        description = {
            "vae_hash": checkpoint.hash,
            "dtype": options.dtype,
            "content": options.content,
            "seed": options.seed if options.content == "sample" else None,
            "latent_dim": checkpoint.config["model"]["latent_dim"],
            "hop_length": checkpoint.config["hop_length"],
            "source": shard_hashes(index),
        }
        run.claim("plan.json", description, contents="latents", command="svae encode")
        options = replace(options, out=run.out)
        if run.world.is_main:
            _keep_vae(run.out, checkpoint)
        barrier(run.world)
        run.console.print(f"VAE {checkpoint.folder} ({checkpoint.hash[:12]}…) on {run.where}")
        run.make(partial(_encode_shard, options), finished=run.has_shard, label="Encoding")
        if run.world.is_main:
            _finish(run, description)
        barrier(run.world)
        return shown(run.out)


def vae_of_latents(index: ShardIndex, vae: Path | None) -> Checkpoint:
    """Return the VAE that made stored latents: the one given, or the copy that lies beside them.

    Raises:
        DataError: the folder does not hold latents.
        CheckpointError: the VAE is unusable, or not the one that made them.
    """
    if index.kind != "latents":
        raise DataError(
            f"{index.root}: holds {index.kind}; expected latent shards from `svae encode`"
        )
    stored = index.metadata["latents"]["vae_hash"]
    folder = index.files.folder("vae", version=stored) if vae is None else vae
    checkpoint = open_checkpoint(folder, kind="vae")
    if stored != checkpoint.hash:
        raise CheckpointError(
            f"{index.root}: latents of VAE {stored[:12]}…, but {checkpoint.folder} is VAE {checkpoint.hash[:12]}….\n"
            "Pass the VAE that made them, or run `svae encode` again."
        )
    return checkpoint


def _check_rate(index: ShardIndex, checkpoint: Checkpoint) -> None:
    rate = checkpoint.config["sample_rate"]
    if index.sample_rate != rate:
        raise DataError(
            f"{index.root}: audio at {index.sample_rate} Hz, but the VAE works at {rate} Hz.\n"
            f"Run `svae prepare … --sample-rate {rate}` into another folder."
        )


def _keep_vae(out: Path, checkpoint: Checkpoint) -> None:
    """Copy the VAE beside its latents, whole or not at all."""
    if (out / "vae").is_dir():
        return
    checkpoint.model_state()  # raises where the VAE is damaged: that must not get beside the latents
    with atomic_folder(out / "vae") as temporary:
        copy_weights(checkpoint.folder, temporary)


def _encode_shard(options: EncodeOptions, number: int, device: str, tick: Tick) -> None:
    vae, index = cached_vae(options.vae, device), cached_index(options.data)
    samples = index.samples_of(number)
    if device == "cpu" or options.batch_size == 1:
        latents = _encode(vae, index, [[sample] for sample in samples])
    else:
        latents = iter(_encode_by_length(vae, index, samples, options.batch_size))

    def items() -> Iterator[ShardItem]:
        for sample, mean, logvar in latents:
            yield array_item(index, sample, _stored(mean, logvar, sample, options))
            tick()

    write_shard(options.out, number, items())


def _encode_by_length(
    vae: SpeechVAE, index: ShardIndex, samples: Sequence[Sample], size: int
) -> list[tuple[Sample, Tensor, Tensor]]:
    """Encode in batches of similar length, what is long alone; return the results in the order of the samples."""
    by_length = sorted(samples, key=lambda sample: sample.num_samples)
    short = [s for s in by_length if s.num_samples <= streaming.CHUNK_SECONDS * vae.sample_rate]
    batches = [short[i : i + size] for i in range(0, len(short), size)]
    batches += [[sample] for sample in by_length[len(short) :]]
    place = {sample.key: number for number, sample in enumerate(samples)}
    return sorted(_encode(vae, index, batches), key=lambda row: place[row[0].key])


@torch.inference_mode()
def _encode(
    vae: SpeechVAE, index: ShardIndex, batches: list[list[Sample]]
) -> Iterator[tuple[Sample, Tensor, Tensor]]:
    """Yield (sample, mean, logvar), (D, T) each, on the CPU."""
    for batch in batches:
        lengths = torch.tensor([sample.num_samples for sample in batch])
        waveform = torch.zeros(len(batch), 1, int(lengths.max()))
        for row, sample in zip(waveform, batch, strict=True):
            row[:, : sample.num_samples] = read_waveform(index, sample)
        device = next(vae.parameters()).device
        if len(batch) == 1:
            posterior = streaming.encode(vae, waveform.to(device))
        else:
            posterior = vae.encode(waveform.to(device), lengths.to(device))
        mean, logvar = posterior.mean.cpu(), posterior.logvar.cpu()
        for row, (sample, frames) in enumerate(zip(batch, posterior.lengths.tolist(), strict=True)):
            yield sample, mean[row, :, :frames], logvar[row, :, :frames]


def _stored(mean: Tensor, logvar: Tensor, sample: Sample, options: EncodeOptions) -> np.ndarray:
    """Return the array of an utterance: (2, D, T), or (1, D, T) of a sample."""
    if options.content == "sample":
        # The same noise as `flow.posterior: sample` draws online from the same seed.
        array = posterior_latents(mean[None], logvar[None], [sample.key], "sample", options.seed)
    else:
        array = torch.stack([mean, logvar])
    return array.numpy().astype(options.dtype)


def _finish(run: ShardRun, description: dict[str, Any]) -> None:
    """Write index.json with the statistics; give them to the copied VAE where its training ended without any."""
    latents = run.write_index(kind="latents", extra={"latents": description})
    statistics = measure_statistics(
        load_vae(run.out / "vae"),
        latents,
        limit=STATISTICS_UTTERANCES,
        device=torch.device("cpu"),
        console=run.console,
    )
    run.write_index(kind="latents", extra={"latents": description | statistics})
    path = run.out / "vae" / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    if config["latent_mean"] is None:
        run.console.print(
            "The VAE carried no latent statistics: its copy here gets those of this data."
        )
        write_text(path, json.dumps(config | statistics, indent=2) + "\n")
    size = sum(shard["bytes"] for shard in latents.shards) / 1e6
    run.console.print(
        f"Latents in [bold]{shown(run.out)}[/]: {len(latents.samples)} utterances, {description['dtype']}, {size:.1f} MB"
    )
    run.console.print(
        f"Next: svae train-tts --data {shown(run.out)}, or svae inspect {shown(run.out)}",
        highlight=False,
        soft_wrap=True,
    )
