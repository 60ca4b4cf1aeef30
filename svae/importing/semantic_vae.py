"""Official Semantic-VAE checkpoints as ours: every key accounted for, in both directions.

An official checkpoint is a folder with `metainfo.json` (constructor arguments and the decoder's JSON),
`dac/weights.pth` (a bare state dict) and `dac/ema_state_dict.pth` (the same keys after `ema_model.`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from svae.checkpoint import Checkpoint, write_checkpoint
from svae.config import VAEConfig, VAETrainConfig
from svae.errors import CheckpointError, ConfigError
from svae.importing.tensors import check_free, load_plain, same_constant
from svae.models.vae.layers import AntiAliasedActivation, kaiser_sinc_taps
from svae.models.vae.vae import SpeechVAE
from svae.recipe import build, to_tree
from svae.runtime.files import file_sha256, writable_folder

EMA_PREFIX = "ema_model."
EMA_COUNTERS = frozenset({"initted", "step"})


@dataclass(frozen=True)
class ImportedVAE:
    """An official checkpoint in our terms: what `SpeechVAE(config, teacher_dim).load_state_dict(state)` takes."""

    config: VAEConfig
    teacher_dim: int
    state: dict[str, Tensor]
    step: int
    """Training steps as the average counted them; 0 where the file does not say."""
    weights: Path


def import_semantic_vae(source: str | Path, out: str | Path, *, ema: bool = True) -> Checkpoint:
    """Write an official Semantic-VAE checkpoint as a checkpoint of svae; see `svae import semantic-vae --help`.

    Raises:
        ConfigError: `out` holds something.
        CheckpointError: see `read_semantic_vae`.
    """
    out = Path(out)
    check_free(out)
    imported = read_semantic_vae(source, ema=ema)
    writable_folder(out, option="--out")
    config = imported.config
    checkpoint = write_checkpoint(
        out,
        config={
            "kind": "vae",
            "step": imported.step,
            "model": to_tree(config),
            "teacher_dim": imported.teacher_dim,
            "teacher": None,  # metainfo.json does not say whose features they were
            "sample_rate": config.sample_rate,
            "hop_length": config.hop_length,
            "latent_mean": None,
            "latent_std": None,
            "imported": {
                "format": "semantic-vae",
                "file": str(imported.weights),
                "sha256": file_sha256(imported.weights),
            },
        },
        model_state=imported.state,
    )
    console = Console()
    count = sum(tensor.numel() for tensor in imported.state.values())
    console.print(
        f"Semantic-VAE in [bold]{out}[/]: {config.latent_dim} dimensions at "
        f"{config.sample_rate / checkpoint.config['hop_length']:g} Hz, {count / 1e6:.1f} M parameters, "
        f"{'averaged (EMA)' if ema else 'raw'} weights of {imported.weights}",
        highlight=False,
    )
    console.print(
        "Its latents have no statistics yet: `svae encode` and `svae train-tts` measure them on your data."
    )
    console.print(
        f"Next: svae encode DATA --vae {out} --out LATENTS, or svae evaluate --reconstruction --model {out}"
    )
    return checkpoint


def read_semantic_vae(folder: str | Path, *, ema: bool = True) -> ImportedVAE:
    """Read an official checkpoint folder: metainfo.json, and dac/ema_state_dict.pth or (without `ema`) dac/weights.pth.

    Raises:
        CheckpointError: a file is missing, damaged, or its keys or shapes are not those that metainfo.json implies.
    """
    folder = Path(folder)
    path = folder / "metainfo.json"
    try:
        metainfo = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(
            f"{path}: {error.strerror}. Expected an official Semantic-VAE checkpoint: metainfo.json, dac/weights.pth "
            "and dac/ema_state_dict.pth"
        ) from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path}: not valid JSON: {error}") from None
    config, teacher_dim = semantic_vae_config(metainfo, where=str(path))
    weights = folder / "dac" / ("ema_state_dict.pth" if ema else "weights.pth")
    official, step = _read_state(weights, ema=ema), 0
    if ema:
        step = int(official.get("step", torch.zeros(())).sum())
        official = _strip_ema(official, weights)
    state = convert_semantic_vae(official, config, teacher_dim, where=str(weights))
    return ImportedVAE(config, teacher_dim, state, step, weights)


def semantic_vae_config(metainfo: Any, *, where: str = "metainfo.json") -> tuple[VAEConfig, int]:
    """Translate the content of an official metainfo.json into our VAEConfig and the teacher's width.

    Raises:
        CheckpointError: a key is missing, has an impossible value, or asks for a variant that svae does not have.
    """
    try:
        dac, decoder = metainfo["DAC"], metainfo["Decoder"]
        vae = {
            "sample_rate": dac["sample_rate"],
            "latent_dim": dac["vae_dim"],
            "encoder_channels": dac["encoder_dim"],
            "encoder_strides": dac["encoder_rates"],
            # Only the length of the list means anything there.
            "regulator_layers": len(dac["sampling_ratios"]),
            "decoder": {
                "upsample_rates": decoder["upsample_rates"],
                "upsample_kernel_sizes": decoder["upsample_kernel_sizes"],
                "initial_channels": decoder["upsample_initial_channel"],
                "resblock": decoder["resblock"],
                "resblock_kernel_sizes": decoder["resblock_kernel_sizes"],
                "resblock_dilation_sizes": decoder["resblock_dilation_sizes"],
                "activation": decoder["activation"],
                "snake_logscale": decoder["snake_logscale"],
                # BigVGAN's defaults where absent.
                "tanh_at_final": decoder.get("use_tanh_at_final", True),
                "bias_at_final": decoder.get("use_bias_at_final", True),
            },
        }
        teacher_dim = dac["distill_hidden_dim"]
        unsupported = list(_unsupported(dac, decoder))
    except KeyError as error:
        raise CheckpointError(
            f"{where}: the key {error} is missing; is this a Semantic-VAE checkpoint?"
        ) from None
    except (TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{where}: not the structure of a Semantic-VAE checkpoint: {error}"
        ) from None
    if unsupported:
        raise CheckpointError(f"{where}: not supported: {'; '.join(unsupported)}")
    try:
        recipe = {"data": {"root": "."}, "trainer": {"steps": 1}, "vae": vae}
        return build(VAETrainConfig, recipe, where=where).vae, teacher_dim
    except ConfigError as error:
        raise CheckpointError(str(error)) from None


def _unsupported(dac: dict[str, Any], decoder: dict[str, Any]) -> Iterator[str]:
    """Yield the options of a metainfo.json that svae does not have."""
    width = dac["encoder_dim"] * 2 ** len(dac["encoder_rates"])
    teacher_dim = dac["distill_hidden_dim"]
    if decoder["num_mels"] != dac["vae_dim"]:
        yield f"Decoder.num_mels {decoder['num_mels']} is not vae_dim"
    if dac["latent_dim"] not in (None, width):
        yield f"DAC.latent_dim {dac['latent_dim']} (only null or {width})"
    if decoder.get("attn_proj"):
        yield "Decoder.attn_proj (it cannot run in the official code either)"
    if dac["post_vae_block"]:
        yield "DAC.post_vae_block"
    if type(teacher_dim) is not int or teacher_dim < 1:
        yield f"DAC.distill_hidden_dim {teacher_dim!r}"


def convert_semantic_vae(
    official: dict[str, Tensor], cfg: VAEConfig, teacher_dim: int, *, where: str = "state dict"
) -> dict[str, Tensor]:
    """Rename the tensors of an official generator to our keys, in float32.

    The official state dict also holds constants that ours computes (the anti-aliasing filters, the zero key bias):
    they must be there and have the expected values.

    Raises:
        CheckpointError: naming missing and unexpected keys, wrong shapes, or non-finite values.
    """
    with torch.device("meta"):
        model = SpeechVAE(cfg, teacher_dim)
    wanted = {key: _official_key(key, cfg) for key in model.state_dict()}
    constants = _constants(model, cfg)
    _check_keys(set(wanted.values()) | constants.keys(), official.keys(), where)
    problems, state = [], {}
    for key, own in model.state_dict().items():
        tensor = official[wanted[key]].float()
        if ".alpha" in key and key.startswith("encoder."):
            tensor = tensor.flatten()  # (1, C, 1) there
        if tensor.shape != own.shape:
            problems.append(
                f"{wanted[key]}: {tuple(official[wanted[key]].shape)}, expected {tuple(own.shape)}"
            )
        elif not torch.isfinite(tensor).all():
            problems.append(f"{wanted[key]}: NaN or infinite values")
        state[key] = tensor
    for key, expected in constants.items():
        if not same_constant(official[key], expected, tolerance=1e-5):
            problems.append(f"{key}: not the filter or constant that svae computes")
    if problems:
        raise CheckpointError(
            f"{where}: {len(problems)} tensors do not fit metainfo.json: {'; '.join(problems[:5])}"
        )
    return state


def _check_keys(expected: set[str], found: Any, where: str) -> None:
    missing, unexpected = sorted(expected - set(found)), sorted(set(found) - expected)
    if not missing and not unexpected:
        return
    lines = [f"{where}: the keys are not those of the Semantic-VAE that metainfo.json describes"]
    for label, keys in (("missing", missing), ("unexpected", unexpected)):
        if keys:
            lines.append(
                f"  {label} ({len(keys)}): {', '.join(keys[:4])}{' …' if len(keys) > 4 else ''}"
            )
    raise CheckpointError("\n".join(lines))


RENAMES = (
    (r"^encoder\.conv_pre\.", "encoder.block.0."),
    (r"^projection\.norm_attention\.", "pre_block.norm1."),
    (r"^projection\.norm_mlp\.", "pre_block.norm2."),
    (r"^projection\.norm_shortcut\.", "pre_block.norm3."),
    (r"^projection\.shortcut\.", "pre_block.proj."),
    (r"^projection\.attention\.query_bias$", "pre_block.attn.q_bias"),
    (r"^projection\.attention\.value_bias$", "pre_block.attn.v_bias"),
    (r"^projection\.attention\.qkv\.", "pre_block.attn.qkv."),
    (r"^projection\.attention\.out\.", "pre_block.attn.proj."),
    (r"^projection\.mlp\.norm\.", "pre_block.mlp.norm."),
    (r"^projection\.mlp\.gate\.", "pre_block.mlp.w0."),
    (r"^projection\.mlp\.up\.", "pre_block.mlp.w1."),
    (r"^projection\.mlp\.down\.", "pre_block.mlp.w2."),
    (r"^mean\.", "fc_mu."),
    (r"^logvar\.", "fc_var."),
    (r"^decoder\.upsamplers\.(\d+)\.", r"decoder.ups.\1.0."),
    (r"^decoder\.activation_post\.activation\.", "decoder.activation_post.act."),
)
"""Our names to the official ones, where no index has to be computed."""


def _official_key(key: str, cfg: VAEConfig) -> str:
    """Return the official name of one of our state-dict keys."""
    blocks, kernels = len(cfg.encoder_strides), len(cfg.decoder.resblock_kernel_sizes)
    first = "convs1" if cfg.decoder.resblock == "1" else "convs"
    computed = (
        (r"^encoder\.snake\.", lambda m: f"encoder.block.{blocks + 1}."),
        (r"^encoder\.conv_post\.", lambda m: f"encoder.block.{blocks + 2}."),
        (r"^encoder\.blocks\.(\d+)\.", lambda m: f"encoder.block.{int(m[1]) + 1}.block."),
        (
            r"^(encoder\.block\.\d+\.block\.)residuals\.(\d+)\.layers\.",
            lambda m: f"{m[1]}{m[2]}.block.",
        ),
        (r"^(encoder\.block\.\d+\.block\.)snake\.", lambda m: f"{m[1]}3."),
        (r"^(encoder\.block\.\d+\.block\.)downsample\.", lambda m: f"{m[1]}4."),
        (
            r"^decoder\.stages\.(\d+)\.(\d+)\.",
            lambda m: f"decoder.resblocks.{int(m[1]) * kernels + int(m[2])}.",
        ),
        (r"^(decoder\.resblocks\.\d+\.)dilated\.", lambda m: f"{m[1]}{first}."),
        (r"^(decoder\.resblocks\.\d+\.)plain\.", lambda m: f"{m[1]}convs2."),
        (r"^(decoder\.resblocks\.\d+\.activations\.\d+\.)activation\.", lambda m: f"{m[1]}act."),
        (r"^regulator\.convs\.(\d+)\.", lambda m: f"projectors.model.{3 * int(m[1])}."),
        (r"^regulator\.norms\.(\d+)\.", lambda m: f"projectors.model.{3 * int(m[1]) + 1}."),
        (r"^regulator\.out\.", lambda m: f"projectors.model.{3 * cfg.regulator_layers}."),
    )
    for pattern, replacement in (*RENAMES, *computed):
        key = re.sub(pattern, replacement, key)
    return key


def _constants(model: SpeechVAE, cfg: VAEConfig) -> dict[str, Tensor]:
    """Return the official buffers that ours computes, by official key."""
    taps = kaiser_sinc_taps().view(1, 1, -1)
    bias = torch.zeros(model.projection.attention.query_bias.shape)
    constants = {"pre_block.attn.zero_k_bias": bias}
    for name, module in model.named_modules():
        if isinstance(module, AntiAliasedActivation):
            prefix = _official_key(f"{name}.", cfg)
            constants |= dict.fromkeys(
                (f"{prefix}upsample.filter", f"{prefix}downsample.lowpass.filter"), taps
            )
    return constants


def _read_state(path: Path, *, ema: bool) -> dict[str, Tensor]:
    if not path.is_file():
        raise CheckpointError(
            f"{path}: missing; an official checkpoint has dac/weights.pth and dac/ema_state_dict.pth. "
            f"{'--no-ema reads the former' if ema else '--ema reads the latter'}."
        )
    state = load_plain(path)
    if not isinstance(state, dict) or not all(
        isinstance(value, Tensor) for value in state.values()
    ):
        raise CheckpointError(f"{path}: expected a bare state dict of tensors")
    return state


def _strip_ema(state: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Return the averaged weights without their prefix."""
    foreign = sorted(
        key for key in state if not key.startswith(EMA_PREFIX) and key not in EMA_COUNTERS
    )
    if foreign:
        raise CheckpointError(
            f"{path}: expected keys starting with {EMA_PREFIX!r}, found {', '.join(foreign[:4])}"
        )
    return {
        key.removeprefix(EMA_PREFIX): value
        for key, value in state.items()
        if key not in EMA_COUNTERS
    }
