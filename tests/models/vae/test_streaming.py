"""Long audio in chunks: the result of one shot, from a bounded part of the input at a time."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from svae.config import BigVGANConfig, VAEConfig
from svae.models.vae import streaming
from svae.models.vae.encoder import CausalAttention
from svae.models.vae.layers import fold_weight_norm
from svae.models.vae.receptive_field import decoder_reach, encoder_reach
from svae.models.vae.vae import SpeechVAE

SMALL = VAEConfig(
    latent_dim=6,
    encoder_channels=2,
    encoder_strides=(3, 4, 2),
    attention_heads=2,
    decoder=BigVGANConfig(
        upsample_rates=(4, 6),
        upsample_kernel_sizes=(8, 6),
        initial_channels=16,
        resblock="2",
        resblock_kernel_sizes=(3, 5),
        resblock_dilation_sizes=((1, 2), (3,)),
        activation="snake",
        tanh_at_final=True,
    ),
)
"""Strides even and odd, a transposed convolution without overlap, the other form of everything that has two."""


def build(cfg: VAEConfig) -> SpeechVAE:
    """Return a VAE whose biases, alphas and attention all count."""
    torch.manual_seed(0)
    vae = SpeechVAE(cfg).requires_grad_(False).eval()
    for parameter in vae.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    vae.projection.attention.qkv.weight.mul_(3)
    fold_weight_norm(vae, packed=True)  # as `load_vae` does
    last = vae.decoder.conv_post.weight
    if cfg.decoder.istft_hop == 0:
        last.sub_(last.mean(dim=-1, keepdim=True))  # no offset, which would be clamped to one value
    return vae


def one_posterior(parts):  # noqa: ANN001, ANN202
    parts = list(parts)
    return torch.cat([torch.cat([p.mean, p.logvar], dim=1) for p in parts], dim=-1), parts


def assert_same(got: torch.Tensor, expected: torch.Tensor) -> None:
    assert got.shape == expected.shape
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


# ----------------------------------------------------------------------------------------------- 60 s


@pytest.mark.parametrize("chunk_seconds", [7.03, 20.0])
@torch.no_grad()
def test_a_minute_in_chunks_equals_one_shot(tiny_vae_config, chunk_seconds):
    vae, waveform = build(tiny_vae_config), 0.3 * torch.randn(1, 1, 60 * 16000 - 123)
    posterior = vae.encode(waveform)
    got = streaming.encode(vae, waveform, chunk_seconds=chunk_seconds)
    assert_same(got.mean, posterior.mean)
    assert_same(got.logvar, posterior.logvar)
    assert got.lengths.tolist() == posterior.lengths.tolist() == [2400]
    assert got.lengths.dtype == posterior.lengths.dtype
    latents = torch.randn(1, 8, 2400)
    expected = vae.decode(latents)
    assert expected.std() > 0.02
    assert (expected.abs() == 1).float().mean() < 0.1  # clamped
    assert_same(streaming.decode(vae, latents, chunk_seconds=chunk_seconds), expected)


# ----------------------------------------------------------------------------------------------- all sizes


@pytest.mark.parametrize("out_width", [4, 6, 8, 16, 32])
@torch.no_grad()
def test_every_chunk_size_and_length_encodes_as_in_one_shot(out_width):
    vae = build(dataclasses.replace(SMALL, latent_dim=out_width))
    for samples in (1, 23, 24, 25, 24 * 60 + 7):
        waveform = torch.randn(2, 1, samples)
        expected = vae.encode(waveform)
        for frames in (1, 2, 13, 40, 59, 60, 61, 1000):
            got = streaming.encode(vae, waveform, chunk_seconds=frames * 24 / 16000)
            assert_same(got.mean, expected.mean)
            assert_same(got.logvar, expected.logvar)
            assert got.lengths.tolist() == expected.lengths.tolist()


@pytest.mark.parametrize("resblock", ["1", "2"])
@torch.no_grad()
def test_every_chunk_size_and_length_decodes_as_in_one_shot(resblock):
    vae = build(
        dataclasses.replace(SMALL, decoder=dataclasses.replace(SMALL.decoder, resblock=resblock))
    )
    for frames in (1, 2, 47):
        latents = torch.randn(2, 6, frames)
        expected = vae.decode(latents)
        for chunk in (1, 2, 13, 46, 47, 48, 1000):
            assert_same(streaming.decode(vae, latents, chunk_seconds=chunk * 24 / 16000), expected)


def test_up_to_one_chunk_is_the_one_shot_path_bit_for_bit(monkeypatch):
    vae, waveform = build(SMALL), torch.randn(1, 1, 240)
    with torch.no_grad():
        expected = vae.encode(waveform).mean
        decoded = vae.decode(expected)
    monkeypatch.setattr(streaming, "iter_encode", None)
    monkeypatch.setattr(streaming, "iter_decode", None)
    assert torch.equal(streaming.encode(vae, waveform, chunk_seconds=240 / 16000).mean, expected)
    assert torch.equal(streaming.decode(vae, expected, chunk_seconds=240 / 16000), decoded)


@torch.no_grad()
def test_pieces_may_be_cut_anywhere():
    vae, waveform = build(SMALL), torch.randn(1, 1, 24 * 90 + 5)
    posterior = vae.encode(waveform)
    expected = torch.cat([posterior.mean, posterior.logvar], dim=1)
    sizes = [1, 0, 700, 23, 24, 25, 3, 900, 2, 487]
    assert sum(sizes) == waveform.shape[-1]
    got, parts = one_posterior(
        streaming.iter_encode(vae, waveform.split(sizes, dim=-1), chunk_seconds=20 * 24 / 16000)
    )
    assert_same(got, expected)
    assert (
        [p.mean.shape[-1] for p in parts] == [int(p.lengths) for p in parts] == [20, 20, 20, 20, 11]
    )
    pieces = posterior.mean.split([1, 0, 60, 2, 28], dim=-1)
    decoded = list(streaming.iter_decode(vae, pieces, chunk_seconds=20 * 24 / 16000))
    assert_same(torch.cat(decoded, dim=-1), vae.decode(posterior.mean))
    assert [d.shape[-1] // 24 for d in decoded] == [20, 20, 20, 20, 11]


def test_many_frames_meet_their_past_in_blocks(monkeypatch):
    monkeypatch.setattr(streaming, "BLOCK_FRAMES", 16)
    torch.manual_seed(0)
    attention, x = CausalAttention(32, 8, heads=2), 3 * torch.randn(1, 200, 32)
    attention.requires_grad_(False).value_bias.normal_()
    cache = streaming.KeyValueCache(attention)
    sizes = [1, 1, 16, 15, 2, 60, 5, 100]
    got = torch.cat([cache.extend(part) for part in x.split(sizes, dim=1)], dim=1)
    assert_same(got, attention(x))
    assert sum(key.shape[2] for key, _ in cache.blocks) == 200
    assert all(value.shape[-1] == 8 for _, value in cache.blocks), (
        "values are stored after pooling (16 -> 8)"
    )
    stored = sum(part.untyped_storage().nbytes() for block in cache.blocks for part in block)
    assert stored == 200 * 2 * (16 + 8) * 4


def test_scores_beyond_the_range_of_exp_do_no_harm():
    torch.manual_seed(0)
    attention, x = (
        CausalAttention(32, 8, heads=2).requires_grad_(False),
        200 * torch.randn(1, 60, 32),
    )
    cache = streaming.KeyValueCache(attention)
    got = torch.cat([cache.extend(part) for part in x.split(7, dim=1)], dim=1)
    assert got.isfinite().all()
    torch.testing.assert_close(got, attention(x), atol=1e-3, rtol=1e-4)


# ----------------------------------------------------------------------------------------------- bounds


def test_no_network_sees_more_than_a_chunk_and_its_neighbours_and_chunks_come_when_they_can():
    vae = build(SMALL)
    left, right = encoder_reach(vae.encoder)
    seen: list[int] = []
    vae.encoder.register_forward_pre_hook(lambda module, args: seen.append(args[0].shape[-1] // 24))
    given = 0

    def pieces():  # noqa: ANN202
        nonlocal given
        for _ in range(300):
            given += 1
            yield torch.randn(1, 1, 24)

    parts = streaming.iter_encode(vae, pieces(), chunk_seconds=10 * 24 / 16000)
    for done, part in enumerate(parts, start=1):
        assert part.mean.shape[-1] == 10
        assert given == min(300, 10 * done + right)
    assert len(seen) == 30 and max(seen) == left + 10 + right
    left, right = decoder_reach(vae.decoder)
    seen.clear()
    vae.decoder.register_forward_pre_hook(lambda module, args: seen.append(args[0].shape[-1]))
    list(streaming.iter_decode(vae, [torch.randn(1, 6, 300)], chunk_seconds=10 * 24 / 16000))
    assert len(seen) == 30 and max(seen) == left + 10 + right


def reach_by_gradient(
    output: torch.Tensor, inputs: torch.Tensor, hop: int, frame: int
) -> tuple[int, int]:
    """Return how many frames to either side of `frame` the output has a gradient; `hop` inputs to a frame."""
    output.mul(torch.randn_like(output)).sum().backward()
    assert inputs.grad is not None
    positions = inputs.grad.abs().sum(dim=(0, 1)).nonzero()[:, 0] // hop
    return frame - int(positions.min()), int(positions.max()) - frame


@pytest.mark.parametrize("mel_hop", [0, 6])
@pytest.mark.parametrize("strides", [(3, 4, 2), (5, 2), (2, 2, 3), (7,), (4, 5)])
def test_reach_of_the_encoder_is_exactly_where_gradients_come_from(strides, mel_hop):
    cfg = dataclasses.replace(
        SMALL,
        encoder_strides=strides,
        encoder_mel_hop=mel_hop,
        encoder_mel_bands=4,
        latent_dim=4,
        decoder=dataclasses.replace(
            SMALL.decoder, upsample_rates=strides, upsample_kernel_sizes=strides, initial_channels=8
        ),
    )
    encoder, hop = build(cfg).encoder.double(), cfg.hop_length
    reach = encoder_reach(encoder)
    waveform = torch.randn(
        1, 1, (2 * max(reach) + 5) * hop, dtype=torch.float64, requires_grad=True
    )
    frame = max(reach) + 2
    assert reach_by_gradient(encoder(waveform)[..., frame], waveform, hop, frame) == reach


@pytest.mark.parametrize(
    ("rates", "kernels", "resblock", "activation", "istft_hop", "anti_aliasing"),
    [
        ((4, 6), (8, 6), "2", "snake", 0, True),
        ((4, 6), (8, 6), "1", "snakebeta", 0, True),
        ((5, 3), (9, 11), "1", "snake", 0, True),
        ((2, 2, 2), (4, 2, 6), "2", "snakebeta", 0, True),
        ((5,), (9,), "1", "snake", 2, True),
        ((2,), (2,), "2", "snakebeta", 4, True),
        ((3, 2), (3, 2), "2", "snake", 6, True),
        ((5,), (9,), "1", "snakebeta", 2, False),
        ((3, 2), (3, 2), "2", "snake", 6, False),
    ],
)
def test_reach_of_the_decoder_is_exactly_where_gradients_come_from(
    rates, kernels, resblock, activation, istft_hop, anti_aliasing
):
    hop = int(torch.tensor(rates).prod()) * (istft_hop or 1)
    decoder = dataclasses.replace(
        SMALL.decoder,
        upsample_rates=rates,
        upsample_kernel_sizes=kernels,
        initial_channels=8,
        resblock=resblock,
        activation=activation,
        istft_hop=istft_hop,
        anti_aliasing=anti_aliasing,
    )
    cfg = dataclasses.replace(SMALL, encoder_strides=(hop,), decoder=decoder)
    network = build(cfg).decoder.double()
    reach = decoder_reach(network)
    latents = torch.randn(1, 6, 2 * max(reach) + 5, dtype=torch.float64, requires_grad=True)
    frame = max(reach) + 2
    output = network(latents)[..., frame * hop : (frame + 1) * hop]
    assert reach_by_gradient(output, latents, 1, frame) == reach


# ----------------------------------------------------------------------------------------------- wrong input


def test_wrong_input_is_named():
    vae = build(SMALL)
    with pytest.raises(ValueError, match=r"waveform must come in pieces \(B, 1, n\)"):
        list(streaming.iter_encode(vae, [torch.randn(1, 2, 100)]))
    with pytest.raises(ValueError, match=r"latents must come in pieces \(B, 6, n\)"):
        list(streaming.iter_decode(vae, [torch.randn(1, 5, 3)]))
    for pieces in ([], [torch.zeros(1, 1, 0)]):
        with pytest.raises(ValueError, match="nothing to process"):
            list(streaming.iter_encode(vae, pieces))
    with pytest.raises(ValueError, match="chunk_seconds must be positive"):
        streaming.encode(vae, torch.randn(1, 1, 100), chunk_seconds=0)
