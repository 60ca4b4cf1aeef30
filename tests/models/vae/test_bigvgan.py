"""The decoder: lengths, range, variants, width of its view."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from svae.config import BigVGANConfig
from svae.models.vae.bigvgan import AMPBlock, BigVGAN, InverseSTFT

SMALL = BigVGANConfig(
    upsample_rates=(5, 2),
    upsample_kernel_sizes=(9, 4),
    initial_channels=8,
    resblock_kernel_sizes=(3, 7),
    resblock_dilation_sizes=((1, 3), (1, 2)),
)


@pytest.mark.parametrize(
    "cfg",
    [
        SMALL,
        replace(SMALL, resblock="2"),
        replace(SMALL, activation="snake", snake_logscale=False),
        replace(SMALL, tanh_at_final=True, bias_at_final=True),
        replace(
            SMALL, upsample_rates=(5,), upsample_kernel_sizes=(9,), istft_hop=2, bias_at_final=True
        ),
    ],
)
@pytest.mark.parametrize("frames", [1, 6])
def test_every_variant_gives_hop_samples_a_frame_within_one(cfg, frames):
    torch.manual_seed(0)
    decoder = BigVGAN(cfg, 4)
    waveform = decoder(30 * torch.randn(2, 4, frames))
    assert waveform.shape == (2, 1, frames * 10)
    assert waveform.abs().max() <= 1
    assert (decoder.conv_post.bias is not None) == cfg.bias_at_final


def test_items_of_a_batch_do_not_touch():
    torch.manual_seed(0)
    decoder, latents = BigVGAN(SMALL, 4), torch.randn(3, 4, 7)
    alone = torch.cat([decoder(item[None]) for item in latents])
    torch.testing.assert_close(decoder(latents), alone, atol=1e-6, rtol=0)


def test_stages_average_their_blocks():
    torch.manual_seed(0)
    decoder, x = BigVGAN(SMALL, 4), torch.randn(1, 4, 5)
    seen = {}
    for stage, blocks in enumerate(decoder.stages):
        for kernel, block in enumerate(blocks):
            block.register_forward_hook(
                lambda _, args, out, key=(stage, kernel): seen.update({key: (args[0], out)})
            )
    decoder.activation_post.register_forward_hook(lambda _, args, out: seen.update(last=args[0]))
    decoder(x)
    torch.testing.assert_close(seen["last"], (seen[1, 0][1] + seen[1, 1][1]) / 2)
    assert torch.equal(seen[1, 0][0], seen[1, 1][0])  # both blocks see the same input


def test_amp_block_is_a_chain_of_residual_pairs():
    torch.manual_seed(0)
    block, x = AMPBlock(SMALL, 4, 3, (1, 3)), torch.randn(2, 4, 20)
    expected = x
    for i in range(2):
        y = block.dilated[i](block.activations[2 * i](expected))
        expected = expected + block.plain[i](block.activations[2 * i + 1](y))
    torch.testing.assert_close(block(x), expected)
    assert [conv.dilation[0] for conv in block.dilated] == [1, 3]
    assert [conv.dilation[0] for conv in block.plain] == [1, 1]


@pytest.mark.parametrize("hop", [2, 4, 16])
def test_inverse_stft_undoes_torch_stft_between_the_ends(hop):
    torch.manual_seed(0)
    signal = 0.3 * torch.randn(2, 40 * hop)
    padded = torch.nn.functional.pad(signal, (3 * hop // 2, 3 * hop // 2))
    window = torch.hann_window(4 * hop)
    spectrum = torch.stft(padded, 4 * hop, hop, window=window, center=False, return_complex=True)
    istft = InverseSTFT(hop)
    frames = torch.cat(
        [(spectrum.abs().clamp(min=1e-12) / istft.start_magnitude).log(), spectrum.angle()], dim=1
    )
    restored = istft(frames)[:, 0]
    assert restored.shape == signal.shape
    inside = slice(2 * hop, -2 * hop)  # at the ends fewer windows overlap
    torch.testing.assert_close(restored[:, inside], signal[:, inside], atol=1e-5, rtol=0)
