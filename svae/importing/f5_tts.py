"""`svae import f5-tts`: F5-TTS's DiT checkpoints as ours, every tensor accounted for.

A published checkpoint is flat safetensors, or a .pt with `ema_model_state_dict` (and `model_state_dict`); the network's
names follow `ema_model.transformer.` or `transformer.`. Sizes are read off the shapes. What shapes do not tell is taken
to be as in v1: `text_mask_padding` on and rotary positions on all heads. v0 checkpoints (F5TTS_Base, F5TTS_Small)
have the same shapes and other values of both, and speak nonsense here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from svae.checkpoint import Checkpoint, write_checkpoint
from svae.config import DiTConfig
from svae.errors import CheckpointError, ConfigError, DataError
from svae.importing.tensors import check_free, load_plain, same_constant
from svae.models.mel import HOP_LENGTH, N_FFT, SAMPLE_RATE, VOCOS, mel_filters
from svae.models.tts.dit import DiT
from svae.recipe import from_tree, to_tree
from svae.runtime.files import file_sha256, writable_folder
from svae.runtime.pretrained import first_line
from svae.runtime.text_files import read_utf8
from svae.text.pinyin import PinyinVocabulary, has_syllables
from svae.text.vocabulary import Vocabulary

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
_COUNTERS = frozenset({"initted", "step", "update"})
HEAD_DIM = 64
"""The channels of a head in every published configuration."""
MAX_SECONDS = 30.0
"""Longest utterance that F5-TTS is trained on."""


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
                sources[f"{ours_block}.attention.{part}_norm.weight"] = (
                    f"{theirs_block}.attn.{part}_norm.weight",
                )
    return sources


def dit_state_from_f5(official: Mapping[str, Tensor], cfg: DiTConfig) -> dict[str, Tensor]:
    """Rename and fuse the weights of F5-TTS's DiT (v1 options) into a complete state dict of `svae.models.tts.dit.DiT`.

    `official` is the transformer's, without the `ema_model.transformer.` prefix of published checkpoints.

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
        if not same_constant(official[_ROTARY], expected, tolerance=1e-8):
            raise CheckpointError(
                f"F5-TTS weights: {_ROTARY} is not base 10000 over {head_dim} dimensions a head; check dit.heads"
            )
    state = {ours: torch.cat([official[name] for name in names]) for ours, names in sources.items()}
    return {
        name: value.flatten() if ".response." in name else value for name, value in state.items()
    }


# ----------------------------------------------------------------------------------------------- the command


def import_f5_tts(
    source: str | Path,
    vocab: str | Path,
    out: str | Path,
    *,
    heads: int | None = None,
    ema: bool = True,
    average_upsampling: bool = False,
    vocoder: str = VOCOS,
) -> Checkpoint:
    """Write an F5-TTS checkpoint as a TTS checkpoint of svae that generates mel frames; see `svae import f5-tts --help`.

    `heads` None is dim / 64, or what the rotary frequencies say. `average_upsampling` is whether it was trained so, which
    its tensors do not tell. `vocoder` is that of `MelFrames`.

    Raises:
        ConfigError: `out` holds something.
        CheckpointError: a tensor is missing, left over, or not of the shape that the others imply.
        DataError: the vocabulary is unusable, or has not one symbol a row of the text embedding.
    """
    source, out = Path(source), Path(out)
    check_free(out)
    official, step = read_f5_state(source, ema=ema)
    cfg, mel_dim = f5_config(
        official, heads=heads, average_upsampling=average_upsampling, where=str(source)
    )
    symbols = read_f5_vocabulary(Path(vocab))
    rows = official["text_embed.text_embed.weight"].shape[0]
    if rows != len(symbols) + 1:
        raise DataError(
            f"{vocab}: {len(symbols)} symbols, but {source} has {rows} rows of text embedding, which is one a symbol "
            f"and the filler. Expected {rows - 1} lines; pass the vocabulary that it was trained with."
        )
    state = dit_state_from_f5(official, cfg)
    _check_shapes(state, cfg, len(symbols), mel_dim, source)
    writable_folder(out, option="--out")
    checkpoint = write_checkpoint(
        out,
        config={
            "kind": "tts",
            "step": step,
            "model": to_tree(cfg),
            "vocabulary": symbols.to_json(),
            "latent_dim": mel_dim,
            "sample_rate": SAMPLE_RATE,
            "hop_length": HOP_LENGTH,
            "max_seconds": MAX_SECONDS,
            "representation": "mel",
            "vae_hash": None,
            "vocoder": vocoder,
            "imported": {"format": "f5-tts", "file": str(source), "sha256": file_sha256(source)},
        },
        model_state={name: tensor.float() for name, tensor in state.items()},
    )
    count = sum(tensor.numel() for tensor in state.values())
    _report(out, cfg, symbols, mel_dim, count)
    return checkpoint


def _report(out: Path, cfg: DiTConfig, symbols: Vocabulary, mel_dim: int, parameters: int) -> None:
    console = Console()
    console.print(
        f"F5-TTS in [bold]{out}[/]: width {cfg.dim}, {cfg.depth} blocks, {cfg.heads} heads, {len(symbols)} symbols ({symbols.tokens}), "
        f"{mel_dim} mel bins, {parameters / 1e6:.1f} M parameters",
        highlight=False,
    )
    console.print(
        "Taken to be v1 (text padding masked, rotary positions on all heads); no tensor tells it from v0.",
        style="yellow",
    )
    if symbols.tokens == PinyinVocabulary.tokens:
        console.print(
            "It speaks Chinese (--language zh) and English; pip install 'svae[chinese]' reads its texts."
        )
    console.print(f'Next: svae synthesize --model {out} --ref REF.wav --text "…"', highlight=False)


def read_f5_state(path: Path, *, ema: bool = True) -> tuple[dict[str, Tensor], int]:
    """Read the transformer's tensors, by their names after `transformer.`, and the number of updates (0: not said).

    Raises:
        CheckpointError: missing, damaged, something else, or with the mel filters of other frames.
    """
    tree = _read_tensors(path)
    step = next(
        (int(value) for name in ("update", "step") if (value := tree.get(name)) is not None), 0
    )
    section = "ema_model_state_dict" if ema else "model_state_dict"
    if "ema_model_state_dict" in tree or "model_state_dict" in tree:
        if section not in tree:
            raise CheckpointError(
                f"{path}: has no {section}; {'--no-ema' if ema else '--ema'} reads the weights that it has"
            )
        tree = tree[section]
    elif not ema:
        raise CheckpointError(
            f"{path}: holds one set of weights, so there are none to choose from; leave out --no-ema"
        )
    state, foreign = {}, []
    for name, value in tree.items():
        plain = name.removeprefix("ema_model.")
        if plain.startswith("mel_spec."):
            _check_mel_constant(plain, value, path)
        elif plain.startswith("transformer.") and isinstance(value, Tensor):
            state[plain.removeprefix("transformer.")] = value
        elif name not in _COUNTERS:
            foreign.append(name)
    if foreign or not state:
        shown = ", ".join(foreign[:4]) or "nothing"
        raise CheckpointError(
            f"{path}: expected names after ema_model.transformer. or transformer., as in F5-TTS; found {shown}"
        )
    return state, step


def _read_tensors(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; expected a .safetensors or .pt of F5-TTS")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"{path}: not readable as safetensors: {first_line(error)}"
            ) from None
    tree = load_plain(path)
    if not isinstance(tree, dict):
        raise CheckpointError(
            f"{path}: expected a dictionary of tensors, got {type(tree).__name__}"
        )
    return tree


def _check_mel_constant(name: str, value: Tensor, path: Path) -> None:
    """Compare the mel filters and window that older checkpoints carry with ours."""
    bins = value.shape[-1]
    expected = mel_filters(bins) if name.endswith(".fb") else torch.hann_window(N_FFT)
    if not same_constant(value, expected, tolerance=1e-4):
        raise CheckpointError(
            f"{path}: {name} is not that of mel frames at 24 kHz with window {N_FFT}"
        )


def f5_config(
    official: Mapping[str, Tensor],
    *,
    heads: int | None = None,
    average_upsampling: bool = False,
    where: str = "F5-TTS weights",
) -> tuple[DiTConfig, int]:
    """Read the configuration and the number of mel bins off the shapes of the transformer's tensors.

    Raises:
        CheckpointError: it is not the DiT of F5-TTS, or has an impossible number of heads.
    """

    def count(pattern: str) -> int:
        found = [int(match[1]) for name in official if (match := re.match(pattern, name))]
        return max(found, default=-1) + 1

    try:
        mel_dim, dim = official["proj_out.weight"].shape
        depth = count(r"transformer_blocks\.(\d+)\.")
        blocks = count(r"text_embed\.text_blocks\.(\d+)\.")
        text_dim = official["text_embed.text_embed.weight"].shape[1]
        position = official["input_embed.conv_pos_embed.conv1d.0.weight"].shape
        sizes = {
            "dim": dim,
            "depth": depth,
            "ff_mult": official["transformer_blocks.0.ff.ff.0.0.weight"].shape[0] // dim,
            "text_dim": text_dim,
            "text_conv_layers": blocks,
            "conv_pos_kernel": position[2],
            "conv_pos_groups": dim // position[1],
            "qk_norm": "transformer_blocks.0.attn.q_norm.weight" in official,
        }
        if blocks:
            sizes["text_conv_mult"] = (
                official["text_embed.text_blocks.0.pwconv1.weight"].shape[0] // text_dim
            )
    except (KeyError, ValueError, IndexError) as error:
        raise CheckpointError(
            f"{where}: not the DiT of F5-TTS: {error} is missing or of another rank (E2-TTS's UNetT and MMDiT are others)"
        ) from None
    head_dim = HEAD_DIM
    if _ROTARY in official:
        head_dim = 2 * official[_ROTARY].numel()
    elif sizes["qk_norm"]:
        head_dim = official["transformer_blocks.0.attn.q_norm.weight"].numel()
    heads = dim // head_dim if heads is None else heads
    if heads < 1 or dim % heads:
        raise CheckpointError(f"{where}: {heads} heads do not divide width {dim}; pass --heads")
    sizes |= {"heads": heads, "average_upsampling": average_upsampling}
    return from_tree(DiTConfig, sizes, where=where), mel_dim


def _check_shapes(
    state: Mapping[str, Tensor], cfg: DiTConfig, symbols: int, mel_dim: int, source: Path
) -> None:
    try:
        with torch.device("meta"):
            expected = DiT(cfg, symbols, mel_dim).state_dict()
    except ConfigError as error:
        raise CheckpointError(f"{source}: {error}") from None
    wrong = [
        f"{name}: {tuple(tensor.shape)}, expected {tuple(expected[name].shape)}"
        for name, tensor in state.items()
        if tensor.shape != expected[name].shape
    ]
    broken = [
        f"{name}: NaN or infinite values"
        for name, tensor in state.items()
        if not torch.isfinite(tensor).all()
    ]
    if wrong or broken:
        raise CheckpointError(
            f"{source}: {len(wrong + broken)} tensors do not fit: {'; '.join((wrong + broken)[:5])}"
        )


def read_f5_vocabulary(path: Path) -> Vocabulary:
    """Read one symbol a line, LF or CRLF; where syllables of Chinese are among them, as in the published one, it reads pinyin.

    Raises:
        DataError: no such file, not UTF-8, a symbol twice, or not the space first.
    """
    text = read_utf8(path, f"--vocab {path}", as_is=True)
    lines = text.removesuffix("\n").split("\n")  # not splitlines(), which cuts at more characters
    try:
        symbols = [line.removesuffix("\r") for line in lines]
        return PinyinVocabulary(symbols) if has_syllables(symbols) else Vocabulary(symbols)
    except DataError as error:
        raise DataError(f"--vocab {path}: {error}") from None
