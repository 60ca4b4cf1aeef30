"""`svae encode`: waveform shards into latent shards of a frozen VAE (`svae.precompute.decode` says what they hold)."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from svae.checkpoint import Checkpoint, open_checkpoint
from svae.data.batches import read_waveform
from svae.data.index import Sample, ShardIndex, read_index, write_index
from svae.data.shard_writer import ShardItem, describe_shard, shard_name, write_shard
from svae.errors import DataError
from svae.models.tts.flow import posterior_latents
from svae.models.vae import streaming
from svae.models.vae.vae import SpeechVAE, load_vae
from svae.precompute.driver import cached_index, cached_vae, for_shards
from svae.precompute.statistics import STATISTICS_UTTERANCES, measure_statistics
from svae.runtime.distributed import barrier, describe_device, open_world
from svae.runtime.files import writable_folder, write_text
from svae.runtime.jobs import Tick


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
    """Of the samples; each utterance's noise is a function of (seed, key) alone."""
    batch_size: int = 16
    """Utterances that a GPU encodes at once. On the CPU each goes alone."""
    workers: int | None = None
    """Processes on the CPU; None: one per core. GPUs take one process each, by torchrun."""
    device: str = "auto"


def encode_shards(options: EncodeOptions) -> Path:
    """Write latent shards beside the text: the same shards, utterances and held-out set as the waveform shards.

    On the CPU the bytes depend on data, VAE, dtype, content and seed alone: every utterance is encoded by itself with
    one thread. Finished shards are kept when the command is run again after an interruption. Under torchrun the
    shards are dealt to the ranks.

    Raises:
        DataError: the data are not waveform shards, or the folder holds latents made otherwise.
        CheckpointError: the VAE is unusable.
    """
    index, checkpoint = read_index(options.data), open_checkpoint(options.vae, kind="vae")
    _check_waveforms(index, checkpoint)
    with open_world(options.device) as world:
        console = Console(quiet=not world.is_main)
        out = writable_folder(options.out, option="--out")
        description = {
            "vae_hash": checkpoint.hash,
            "dtype": options.dtype,
            "content": options.content,
            "seed": options.seed if options.content == "sample" else None,
            "latent_dim": checkpoint.config["model"]["latent_dim"],
            "hop_length": checkpoint.config["hop_length"],
            "source": [shard["sha256"] for shard in index.shards],
        }
        if world.is_main:
            _check_same_encoding(out, description)
            _keep_vae(out, checkpoint)
        barrier(world)
        console.print(
            f"VAE {checkpoint.folder} ({checkpoint.hash[:12]}…) on {describe_device(world.device)}"
        )
        for_shards(
            _encode_shard,
            (index.root, checkpoint.folder, out, options),
            index,
            finished=lambda number: (out / shard_name(number)).is_file(),
            world=world,
            workers=options.workers,
            description="Encoding",
            console=console,
        )
        if world.is_main:
            _finish(out, index, description, console)
        barrier(world)
    return out


def _check_waveforms(index: ShardIndex, checkpoint: Checkpoint) -> None:
    if index.kind != "waveforms":
        raise DataError(
            f"{index.root}: holds {index.kind}; `svae encode` needs waveform shards from `svae prepare`"
        )
    rate = checkpoint.config["sample_rate"]
    if index.sample_rate != rate:
        raise DataError(
            f"{index.root}: audio at {index.sample_rate} Hz, but the VAE works at {rate} Hz.\n"
            f"Run `svae prepare … --sample-rate {rate}` into another folder."
        )


def _keep_vae(out: Path, checkpoint: Checkpoint) -> None:
    """Copy the VAE beside its latents, whole or not at all."""
    temporary = out / ".vae.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    if not (out / "vae").is_dir():
        checkpoint.model_state()  # a damaged VAE must not get beside the latents
        shutil.copytree(checkpoint.folder, temporary, ignore=shutil.ignore_patterns("training"))
        temporary.rename(out / "vae")


def _check_same_encoding(out: Path, description: dict[str, object]) -> None:
    plan = out / "plan.json"
    if plan.is_file():
        before = json.loads(plan.read_text(encoding="utf-8"))
        changed = [key for key in description if before.get(key) != description[key]]
        if changed:
            raise DataError(
                f"{out}: holds latents made otherwise ({', '.join(changed)} differ); choose another --out"
            )
    elif (out / "index.json").exists() or any(out.glob("shard-*")):
        raise DataError(
            f"{out}: holds shards that `svae encode` did not begin; choose another --out"
        )
    write_text(plan, json.dumps(description, indent=2) + "\n")


def _encode_shard(
    data: Path,
    vae_folder: Path,
    out: Path,
    options: EncodeOptions,
    number: int,
    device: str,
    tick: Tick,
) -> None:
    vae, index = cached_vae(vae_folder, device), cached_index(data)
    samples = [sample for sample in index.samples if sample.shard == number]
    size = 1 if device == "cpu" else options.batch_size
    latents = (
        _encode_by_length(vae, index, samples, size)
        if size > 1
        else _encode(vae, index, [[s] for s in samples])
    )

    def items() -> Iterator[ShardItem]:
        for sample, mean, logvar in latents:
            yield _item(sample, index, _stored(mean, logvar, sample, options))
            tick()

    write_shard(out, number, items())


def _encode_by_length(
    vae: SpeechVAE, index: ShardIndex, samples: list[Sample], size: int
) -> list[tuple[Sample, Tensor, Tensor]]:
    """Encode in batches of similar length, what is long alone; return the results in the order of the samples."""
    by_length = sorted(samples, key=lambda sample: sample.num_samples)
    short = [s for s in by_length if s.num_samples <= streaming.CHUNK_SECONDS * vae.sample_rate]
    batches = [short[i : i + size] for i in range(0, len(short), size)] + [
        [s] for s in by_length[len(short) :]
    ]
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
        device = vae.latent_mean.device
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


def _item(sample: Sample, index: ShardIndex, array: np.ndarray) -> ShardItem:
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


def _finish(out: Path, index: ShardIndex, description: dict[str, object], console: Console) -> None:
    """Write index.json with the statistics; give them to the copied VAE where its training ended without any."""

    def write(extra: dict[str, object]) -> ShardIndex:
        return write_index(
            out,
            kind="latents",
            corpus=index.metadata["corpus"],
            sample_rate=index.sample_rate,
            shards=[describe_shard(out, number) for number in range(len(index.shards))],
            validation=index.metadata["validation"],
            rejected=index.metadata["rejected"],
            extra={"latents": description | extra},
        )

    latents = write({})
    vae = load_vae(out / "vae")
    statistics = measure_statistics(
        vae, latents, limit=STATISTICS_UTTERANCES, device=torch.device("cpu"), console=console
    )
    write(statistics)
    config = json.loads((out / "vae" / "config.json").read_text(encoding="utf-8"))
    if config["latent_mean"] is None:
        console.print(
            "The VAE carried no latent statistics: its copy here gets those of this data."
        )
        text = json.dumps(config | statistics, indent=2) + "\n"
        write_text(out / "vae" / "config.json", text)
    size = sum(shard["bytes"] for shard in latents.shards) / 1e6
    console.print(
        f"Latents in [bold]{out}[/]: {len(latents.samples)} utterances, {description['dtype']}, {size:.1f} MB"
    )
    console.print(
        f"Next: svae train-tts --data {out}, or svae inspect {out}", highlight=False, soft_wrap=True
    )
