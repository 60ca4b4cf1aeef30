"""Encode and decode long audio in chunks, in bounded memory, with the one-shot result to rounding; no gradients.

Convolutions see a limited neighbourhood (`svae.models.vae.receptive_field`): each chunk is computed together with that
many real frames on both sides, and only its own frames are kept. At the true beginning and end there is nothing to add,
so each layer pads there as in one shot. Chunks begin at whole frames, so strides stay in phase.

The encoder's causal attention sees all frames before. Their keys and values are kept: at the published width 4 KB and,
pooled to 64 channels a head before they are stored, 2 KB a frame, 0.9 GB an hour (figures:
docs/architecture.md); that and the quadratic number of products is what is left of its unbounded context.
Decoding needs no memory that grows; a decoder with a source of pulses hands their phase on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from svae.models.vae.encoder import CausalAttention
from svae.models.vae.receptive_field import decoder_reach, encoder_reach
from svae.models.vae.source_filter import SourceFilterDecoder, SourceState
from svae.models.vae.vae import Posterior, SpeechVAE

CHUNK_SECONDS = 20.0
"""At the published width a chunk of this length takes about 0.3 GiB on a CPU while it is computed."""
BLOCK_FRAMES = 512
"""Keys and queries that meet at a time: the scores of all heads then take 8 MB."""


@torch.no_grad()
def encode(vae: SpeechVAE, waveform: Tensor, *, chunk_seconds: float = CHUNK_SECONDS) -> Posterior:
    """Encode a waveform (B, 1, S) like `SpeechVAE.encode`, in one shot if it is no longer than a chunk.

    All items must have the length S; unequal lengths are for `SpeechVAE.encode`. The result is on the VAE's device.
    """
    if waveform.shape[-1] <= _chunk_frames(vae, chunk_seconds) * vae.hop_length:
        return vae.encode(waveform.to(vae.latent_mean.device))
    parts = list(iter_encode(vae, [waveform], chunk_seconds=chunk_seconds))
    return Posterior(
        torch.cat([part.mean for part in parts], dim=-1),
        torch.cat([part.logvar for part in parts], dim=-1),
        torch.stack([part.lengths for part in parts]).sum(dim=0),
    )


@torch.no_grad()
def decode(vae: SpeechVAE, latents: Tensor, *, chunk_seconds: float = CHUNK_SECONDS) -> Tensor:
    """Decode latents (B, D, T) like `SpeechVAE.decode`, in one shot if they are no longer than a chunk."""
    if latents.shape[-1] <= _chunk_frames(vae, chunk_seconds):
        return vae.decode(latents.to(vae.latent_mean.device))
    return torch.cat(list(iter_decode(vae, [latents], chunk_seconds=chunk_seconds)), dim=-1)


@torch.no_grad()
def iter_encode(
    vae: SpeechVAE, pieces: Iterable[Tensor], *, chunk_seconds: float = CHUNK_SECONDS
) -> Iterator[Posterior]:
    """Encode a waveform that arrives in pieces, of any and unequal lengths, and yield its posterior chunk by chunk.

    A chunk is yielded as soon as the samples it depends on are there. The end is padded with zeros to a whole frame.

    Pieces are (B, 1, n), on any device. The posteriors, on the VAE's, are of `chunk_seconds` (rounded to frames), but for
    the last.

    Raises:
        ValueError: a piece has another shape, or there are no samples.
    """
    left, right = encoder_reach(vae.encoder)
    past = KeyValueCache(vae.projection.attention)
    windows = _windows(
        _checked(pieces, 1, "waveform"),
        vae.hop_length,
        _chunk_frames(vae, chunk_seconds),
        left=left,
        right=right,
    )
    for window, skip, count in windows:
        window = window.to(vae.latent_mean.device)
        x = vae.encoder(window)[..., skip : skip + count].transpose(1, 2)
        normed = vae.projection.norm_attention(x)
        attended = torch.cat(
            [past.extend(block) for block in normed.split(BLOCK_FRAMES, dim=1)], dim=1
        )
        linear = None
        if vae.linear_path is not None:
            linear = vae.linear_mean(window)[..., skip : skip + count]
        mean, logvar = vae.parameters_of(vae.projection.finish(x, attended), linear)
        yield Posterior(mean, logvar, torch.full((mean.shape[0],), count, device=mean.device))


@torch.no_grad()
def iter_decode(
    vae: SpeechVAE, pieces: Iterable[Tensor], *, chunk_seconds: float = CHUNK_SECONDS
) -> Iterator[Tensor]:
    """Decode latents that arrive in pieces, of any and unequal lengths, and yield the waveform chunk by chunk.

    Pieces are (B, D, n), not normalised, on any device. The parts of the waveform (B, 1, n * hop), float32, on the VAE's,
    are of `chunk_seconds` (rounded to frames), but for the last.

    Raises:
        ValueError: a piece has another shape, or there are no frames.
    """
    left, right = decoder_reach(vae.decoder)
    pieces, hop = _checked(pieces, vae.latent_dim, "latents"), vae.hop_length
    phase: Tensor | float = 0.0
    done = 0
    for window, skip, count in _windows(
        pieces, 1, _chunk_frames(vae, chunk_seconds), left=left, right=right
    ):
        window, start, stop = window.to(vae.latent_mean.device), skip * hop, (skip + count) * hop
        if isinstance(vae.decoder, SourceFilterDecoder):
            # Its pulses go on where those of the last chunk ended.
            state = SourceState(position=done - start, origin=start, phase=phase)
            waveform, phase = vae.decoder.stretch(window, state, stop)
        else:
            waveform = vae.decode(window)
        yield waveform[..., start:stop].clone()
        done += stop - start


# ----------------------------------------------------------------------------------------------- attention


class KeyValueCache:
    """Keys and values of all frames so far, to which new frames attend.

    Softmax over blocks of keys with a running maximum and sum, so no more than a block of scores exists at a time.
    Source: arXiv 2112.05682.
    """

    def __init__(self, attention: CausalAttention) -> None:
        self.attention = attention
        self.blocks: list[tuple[Tensor, Tensor]] = []
        """Keys and values (B, heads, n, head width) of successive frames."""

    def extend(self, x: Tensor) -> Tensor:
        """Map the next frames (B, n, width) to (B, n, out_width) as `attention` does the whole, and keep them."""
        query, key, value = self.attention.project(x)
        if self.attention.narrow and self.attention.out_width < value.shape[-1]:
            # Averaging over channels commutes with the sum over frames; stored values are smaller after it.
            value = F.adaptive_avg_pool1d(value.flatten(0, 1), self.attention.out_width).unflatten(
                0, value.shape[:2]
            )
        query = query * query.shape[-1] ** -0.5
        future = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).triu(1)
        scores = (query @ key.mT).float().masked_fill(future, -torch.inf)
        highest = scores.amax(dim=-1, keepdim=True)  # finite: every frame sees itself
        weights = (scores - highest).exp_()
        total, y = weights.sum(dim=-1, keepdim=True), (weights.to(value.dtype) @ value).float()
        for past_key, past_value in self.blocks:
            scores = (query @ past_key.mT).float()
            previous, highest = highest, torch.maximum(highest, scores.amax(dim=-1, keepdim=True))
            weights, shrink = scores.sub_(highest).exp_(), (previous - highest).exp_()
            total = total * shrink + weights.sum(dim=-1, keepdim=True)
            y = y * shrink + (weights.to(value.dtype) @ past_value).float()
        self._keep(key, value)
        return self.attention.combine((y / total).to(x.dtype))

    def _keep(self, key: Tensor, value: Tensor) -> None:
        if self.blocks and self.blocks[-1][0].shape[2] + key.shape[2] <= BLOCK_FRAMES:
            last_key, last_value = self.blocks.pop()  # few large blocks instead of many small ones
            key, value = torch.cat([last_key, key], dim=2), torch.cat([last_value, value], dim=2)
        # A view would keep the queries alive.
        self.blocks.append((key.contiguous(), value.contiguous()))


# ----------------------------------------------------------------------------------------------- windows


def _chunk_frames(vae: SpeechVAE, chunk_seconds: float) -> int:
    if not chunk_seconds > 0:
        raise ValueError(f"chunk_seconds must be positive, got {chunk_seconds}")
    return max(1, round(chunk_seconds * vae.sample_rate / vae.hop_length))


def _checked(pieces: Iterable[Tensor], channels: int, what: str) -> Iterator[Tensor]:
    empty = True
    for piece in pieces:
        if piece.dim() != 3 or piece.shape[1] != channels:
            raise ValueError(
                f"{what} must come in pieces (B, {channels}, n), got {tuple(piece.shape)}"
            )
        empty = empty and piece.shape[-1] == 0
        yield piece
    if empty:
        raise ValueError(f"{what}: nothing to process, all pieces are empty")


def _windows(
    pieces: Iterable[Tensor], hop: int, chunk: int, *, left: int, right: int
) -> Iterator[tuple[Tensor, int, int]]:
    """Cut a stream of pieces (B, C, n) into chunks of `chunk` frames of `hop` samples, with their neighbours.

    Yields:
        The chunk with at most `left` frames before and `right` frames after it, zero-padded to whole frames at the end
        of the stream; how many frames of it come before the chunk; how many the chunk has.
    """
    held: list[Tensor] = []
    samples = skip = 0  # held in all; frames of it that were chunks already
    for piece in pieces:
        held.append(piece)
        samples += piece.shape[-1]
        while samples >= (skip + chunk + right) * hop:
            stream = held[0] if len(held) == 1 else torch.cat(held, dim=-1)
            yield stream[..., : (skip + chunk + right) * hop], skip, chunk
            drop = max(0, skip + chunk - left)
            held = [stream[..., drop * hop :]]
            samples -= drop * hop
            skip += chunk - drop
    if not samples:
        return
    stream = F.pad(torch.cat(held, dim=-1), (0, -samples % hop))
    frames = stream.shape[-1] // hop
    while skip < frames:
        count = min(chunk, frames - skip)
        window = stream[..., max(0, skip - left) * hop : (skip + count + right) * hop]
        yield window, min(skip, left), count
        skip += count
