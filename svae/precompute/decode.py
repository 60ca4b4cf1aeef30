"""`svae decode`: latent shards into waveforms."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from svae.audio import save_audio
from svae.data.batches import read_latents
from svae.data.index import read_index
from svae.data.samples import Sample
from svae.models.vae import streaming
from svae.precompute.driver import cached_index, cached_vae, open_run, shard_hashes
from svae.precompute.latents import vae_of_latents
from svae.runtime.files import file_stem
from svae.runtime.jobs import Tick


@dataclass(frozen=True)
class DecodeOptions:
    """Options of `svae decode`."""

    latents: Path
    out: Path
    vae: Path | None = None
    """None: the copy beside the latents."""
    format: Literal["wav", "flac"] = "wav"
    workers: int | None = None
    """Processes on the CPU; None: one per core."""
    device: str = "auto"

    def path(self, sample: Sample) -> Path:
        """Return where the waveform of an utterance goes."""
        return self.out / f"{file_stem(sample.key)}.{self.format}"


def decode_shards(options: DecodeOptions) -> Path:
    """Write the waveform of every utterance in latent shards as OUT/KEY.wav, as long as the original was.

    Keys that are too long for a file's name are shortened (`file_stem`).

    Stored means are decoded as they are, and so are stored samples. Files that are there already are kept.

    Raises:
        DataError: the folder does not hold latents, one of them is damaged, or `out` holds other waveforms.
        CheckpointError: the VAE is unusable, or not the one that made the latents.
    """
    index = read_index(options.latents)
    checkpoint = vae_of_latents(index, options.vae)
    # A folder of checkpoints would be looked up again in every process, and may have a newer one by then.
    options = replace(options, vae=checkpoint.folder)
    # Not the format: waveforms of both can lie side by side.
    description = {"vae_hash": checkpoint.hash, "source": shard_hashes(index)}
    with open_run(index, options.out, device=options.device, workers=options.workers) as run:
        run.claim(
            "plan.json",
            description,
            contents="waveforms",
            command="svae decode",
            files=("index.json", f"*.{options.format}"),
            always_described=False,
        )
        run.console.print(f"VAE {checkpoint.folder} ({checkpoint.hash[:12]}…) on {run.where}")

        def finished(number: int) -> bool:
            return all(options.path(sample).is_file() for sample in index.samples_of(number))

        run.make(partial(_decode_shard, options), finished=finished, label="Decoding")
        run.console.print(
            f"{len(index.samples)} waveforms ({index.latent_content}) in [bold]{run.out}[/]"
        )
        run.console.print(f"Next: svae evaluate --wavs {run.out} --list LIST", highlight=False)
        return run.out


@torch.inference_mode()
def _decode_shard(options: DecodeOptions, number: int, device: str, tick: Tick) -> None:
    assert options.vae is not None
    vae, index = cached_vae(options.vae, device), cached_index(options.latents)
    for sample in index.samples_of(number):
        path = options.path(sample)
        if not path.is_file():
            mean, _ = read_latents(index, sample, vae.hop_length)
            waveform = streaming.decode(vae, mean[None].to(device))
            save_audio(path, waveform[0, :, : sample.num_samples].cpu(), index.sample_rate)
        tick()
