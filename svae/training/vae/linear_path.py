"""Where the linear paths of a small VAE start: the principal components of the training data, before step 0."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from svae.data.batches import read_waveform
from svae.data.index import ShardIndex
from svae.errors import DataError
from svae.models.vae.source_filter import SourceFilterDecoder
from svae.models.vae.vae import SpeechVAE
from svae.precompute.statistics import spread
from svae.runtime.distributed import World, copy_from_first_rank

UTTERANCES = 400
"""How many are read, spread over the training set; the components of half an hour of speech hardly change with more."""
FLOOR = 1e-3
"""Least magnitude of a bin, 100 dB below a full-scale sine."""


@torch.no_grad()
def start_linear_path(vae: SpeechVAE, index: ShardIndex, world: World, console: Console) -> None:
    """Set the linear paths to principal components of log-mel frames, and to the regression of magnitudes on them.

    A latent frame's log-mels (n frames of all bands) are projected on the first D components and scaled to unit deviation.

    Args:
        vae: Changed in place; without linear paths, nothing happens.
        index: Waveform shards.
        world: Rank 0 computes, the others get its result: the signs of components may differ between machines.
        console: Where the bar is drawn.

    Raises:
        DataError: no utterance can be read.
    """
    if vae.linear_path is None or vae.decoder.linear_path is None:
        return
    if world.is_main:
        kept, share = _find_components(vae, index, console)
        console.print(
            f"Linear path: {kept} principal components keep {share:.1%} of the log-mels' variance"
        )
    for tensor in (*vae.linear_path.parameters(), *vae.decoder.linear_path.parameters()):
        copy_from_first_rank(tensor, world)


def _find_components(vae: SpeechVAE, index: ShardIndex, console: Console) -> tuple[int, float]:
    """Set the linear paths; return how many components there are and the share of variance that they keep."""
    encoder, decoder = vae.linear_path, vae.decoder.linear_path
    assert encoder is not None and encoder.bias is not None
    assert decoder is not None and decoder.bias is not None
    inputs = encoder.weight[0].numel()
    bins, size = decoder.weight.shape[1:]
    width = inputs + bins * size
    count = 0
    total = torch.zeros(width, dtype=torch.float64)
    products = torch.zeros(width, width, dtype=torch.float64)
    for waveform in _waveforms(vae, index, console):
        patches = [mel_patches(vae, waveform), magnitude_patches(vae, waveform)]
        rows = torch.cat(patches, dim=1).double()
        count += len(rows)
        total += rows.sum(dim=0)
        products += rows.T @ rows
    if count == 0:
        raise DataError(
            f"{index.root}: no training utterance could be read, so its components cannot be found"
        )
    mean = total / count
    covariance = products / count - mean.outer(mean)
    values, vectors = torch.linalg.eigh(covariance[:inputs, :inputs])
    values = values.flip(0)  # eigh sorts upwards
    vectors = vectors.flip(1)
    # Directions that do not vary would be scaled up to noise: these latents start with the network's mean alone.
    kept = min(
        vae.cfg.encoder_linear_latents or vae.latent_dim, int((values > 1e-6 * values[0]).sum())
    )
    project = torch.zeros(vae.latent_dim, inputs, dtype=torch.float64)
    project[:kept] = (vectors[:, :kept] / values[:kept].sqrt()).T
    encoder.weight.copy_(project.reshape(encoder.weight.shape))
    encoder.bias.copy_(-project @ mean[:inputs])
    decoder.weight.copy_((project @ covariance[:inputs, inputs:]).reshape(decoder.weight.shape))
    decoder.bias.copy_(mean[inputs:].reshape(bins, size).mean(dim=1))
    return kept, float(values[:kept].sum() / values.sum())


def _waveforms(vae: SpeechVAE, index: ShardIndex, console: Console) -> Iterator[Tensor]:
    """Read utterances, cut to whole frames: (1, 1, T * hop)."""
    for sample in track(
        spread(index.train, UTTERANCES), "Principal components", console=console, transient=True
    ):
        try:
            waveform = read_waveform(index, sample)
        except DataError as error:
            console.print(f"[yellow]Skipped: {error}[/]")
            continue
        if whole := waveform.shape[-1] // vae.hop_length * vae.hop_length:
            yield waveform[None, :, :whole]


def mel_patches(vae: SpeechVAE, waveform: Tensor) -> Tensor:
    """Return a waveform's log-mels as the encoder's linear path reads them, (T, bands * n), of (1, 1, T * hop)."""
    assert vae.encoder.log_mel is not None and vae.linear_path is not None
    frames = vae.encoder.log_mel(waveform.to(vae.latent_mean.device))
    return _patches(frames, vae.linear_path.kernel_size[0])


def magnitude_patches(vae: SpeechVAE, waveform: Tensor) -> Tensor:
    """Return what the decoder's linear path should add up to, (T, bins * n), of a waveform (1, 1, T * hop)."""
    decoder = vae.decoder
    linear = decoder.linear_path
    part = decoder if isinstance(decoder, SourceFilterDecoder) else decoder.istft
    assert part is not None and linear is not None
    hop = decoder.cfg.hop if isinstance(decoder, SourceFilterDecoder) else decoder.cfg.istft_hop
    size = 4 * hop
    padding = 3 * hop // 2
    padded = torch.nn.functional.pad(waveform[0].to(vae.latent_mean.device), (padding, padding))
    window = torch.hann_window(size, device=padded.device)
    spectrum = torch.stft(padded, size, hop, window=window, center=False, return_complex=True)
    magnitude = spectrum.abs().clamp_min(FLOOR * size / 4)  # a full-scale sine has size / 4
    return _patches((magnitude / part.start_magnitude).log(), linear.kernel_size[0])


def _patches(frames: Tensor, size: int) -> Tensor:
    """Cut frames (1, C, n T) into (T, C * n)."""
    return frames[0].unflatten(-1, (-1, size)).transpose(0, 1).flatten(1).cpu()
