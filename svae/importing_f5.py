"""Names of F5-TTS's DiT weights in ours."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from svae.config import DiTConfig
from svae.errors import CheckpointError

_PLAIN = {
    "text_tower.embedding.weight": "text_embed.text_embed.weight",
    **{f"{ours}.{kind}": f"{theirs}.{kind}" for kind in ("weight", "bias") for ours, theirs in (
        ("input", "input_embed.proj"),
        ("conv_position.convs.0", "input_embed.conv_pos_embed.conv1d.0"),
        ("conv_position.convs.1", "input_embed.conv_pos_embed.conv1d.2"),
        ("time.hidden", "time_embed.time_mlp.0"),
        ("time.output", "time_embed.time_mlp.2"),
        ("output_modulation", "norm_out.linear"),
        ("output", "proj_out"),
    )},
}  # fmt: skip

_TEXT_BLOCK = {"depthwise": "dwconv", "norm": "norm", "expand": "pwconv1", "contract": "pwconv2"}

_BLOCK = {
    "modulation": "attn_norm.linear",
    "attention.output": "attn.to_out.0",
    "expand": "ff.ff.0.0",
    "contract": "ff.ff.2",
}

_ROTARY = "rotary_embed.inv_freq"


def _sources(cfg: DiTConfig) -> dict[str, tuple[str, ...]]:
    """Map each of our names to the official names it is made of (several: concatenated along dimension 0)."""
    sources: dict[str, tuple[str, ...]] = {ours: (theirs,) for ours, theirs in _PLAIN.items()}
    for i in range(cfg.text_conv_layers):
        ours_block, theirs_block = f"text_tower.blocks.{i}", f"text_embed.text_blocks.{i}"
        for ours, theirs in _TEXT_BLOCK.items():
            for kind in ("weight", "bias"):
                sources[f"{ours_block}.{ours}.{kind}"] = (f"{theirs_block}.{theirs}.{kind}",)
        for kind in ("gamma", "beta"):
            sources[f"{ours_block}.response.{kind}"] = (f"{theirs_block}.grn.{kind}",)
    for i in range(cfg.depth):
        ours_block, theirs_block = f"blocks.{i}", f"transformer_blocks.{i}"
        for kind in ("weight", "bias"):
            for ours, theirs in _BLOCK.items():
                sources[f"{ours_block}.{ours}.{kind}"] = (f"{theirs_block}.{theirs}.{kind}",)
            parts = tuple(f"{theirs_block}.attn.to_{part}.{kind}" for part in "qkv")
            sources[f"{ours_block}.attention.qkv.{kind}"] = parts
        if cfg.qk_norm:
            for part in "qk":
                sources[f"{ours_block}.attention.{part}_norm.weight"] = (f"{theirs_block}.attn.{part}_norm.weight",)
    return sources


def dit_state_from_f5(official: Mapping[str, Tensor], cfg: DiTConfig) -> dict[str, Tensor]:
    """Rename and fuse the weights of F5-TTS's DiT (v1 options) for `svae.models.dit.DiT`.

    Args:
        official: the transformer's state dict, without the `ema_model.transformer.` prefix of published checkpoints.
        cfg: the sizes it was trained with.

    Returns:
        A complete state dict for our DiT.

    Raises:
        CheckpointError: tensors are missing or left over, or the rotary frequencies are not ours.
    """
    sources = _sources(cfg)
    wanted = {name for names in sources.values() for name in names}
    missing, extra = sorted(wanted - official.keys()), sorted(official.keys() - wanted - {_ROTARY})
    if missing or extra:
        raise CheckpointError(
            f"F5-TTS weights do not fit a DiT of depth {cfg.depth} with {cfg.text_conv_layers} text blocks and "
            f"qk_norm {cfg.qk_norm}:\n       missing {missing or 'none'}\n       not expected {extra or 'none'}\n"
            "       Check dit.depth, dit.text_conv_layers and dit.qk_norm against the checkpoint's own configuration."
        )
    if _ROTARY in official:
        head_dim = cfg.dim // cfg.heads
        expected = 10000.0 ** (-torch.arange(0, head_dim, 2).float() / head_dim)
        if official[_ROTARY].shape != expected.shape or not torch.allclose(official[_ROTARY].float(), expected):
            raise CheckpointError(
                f"F5-TTS weights: {_ROTARY} is not base 10000 over {head_dim} dimensions a head; check dit.heads"
            )
    state = {ours: torch.cat([official[name] for name in names]) for ours, names in sources.items()}
    return {name: value.flatten() if ".response." in name else value for name, value in state.items()}
