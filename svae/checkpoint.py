"""Checkpoint folders: written whole or not at all, checked when read.

Layout (docs/checkpoint.md):

    step-00010000/
      config.json          kind, model section, step, sha256 of the files, what else the kind needs
      model.safetensors    EMA weights: what synthesis and evaluation load
      training/state.pt    raw weights, discriminator, optimizers: only for resuming, may be deleted
      vae/                 (kind `tts`) the VAE checkpoint whose latents were learned
      prompt.safetensors   (where the model has a voice of its own) the recording it speaks like

An `adapter` holds in model.safetensors only what is added to the weights of a `tts` checkpoint, which it names as `base`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from svae.assets import asset_path
from svae.errors import CheckpointError
from svae.recipe import from_tree
from svae.runtime.files import atomic_folder, file_sha256, remove_leftovers, write_text
from svae.runtime.hub import fetch, hub_model

FORMAT = 1
REQUIRED = {
    "vae": ("teacher_dim", "sample_rate", "hop_length", "latent_mean"),
    "tts": ("vocabulary", "latent_dim", "sample_rate", "hop_length"),
    "adapter": ("base", "scale"),
}
"""Fields of config.json, by kind, beside those that every checkpoint has."""
Kind = Literal["vae", "tts", "adapter"]
OPTIONS = {"vae": "--vae", "tts": "--model", "adapter": "--model"}
"""The option that takes a checkpoint, by kind."""
EMBEDDED = "embedded"
"""In place of a path: the small model that travels in the package."""


@dataclass(frozen=True)
class Checkpoint:
    """An existing checkpoint whose config.json has been read and whose files are all there."""

    folder: Path
    config: dict[str, Any]

    @property
    def kind(self) -> str:
        """`vae`, `tts` or `adapter`."""
        return self.config["kind"]

    @property
    def step(self) -> int:
        """Optimizer steps that made these weights."""
        return self.config["step"]

    @property
    def hash(self) -> str:
        """sha256 of the weights: the identity that latents and TTS runs record."""
        return self.config["files"]["model.safetensors"]

    def section(self, cls: type, name: str = "model") -> Any:
        """Return a section of config.json as the dataclass of its settings; those that it lacks have their defaults.

        Raises:
            CheckpointError: it is not there, or a value is not one that `cls` takes.
        """
        return from_tree(cls, self.config.get(name), where=self.folder / "config.json")

    def model_state(self) -> dict[str, Tensor]:
        """Return the EMA weights.

        Raises:
            CheckpointError: the file does not have the recorded sha256, or is not safetensors.
        """
        return self.state("model.safetensors")

    def state(self, name: str) -> dict[str, Tensor]:
        """Return the tensors of one of the checkpoint's safetensors files; raises as `model_state`."""
        path, expected = self.folder / name, self.config["files"][name]
        if not path.is_file():
            raise CheckpointError(
                f"{path}: missing, but config.json lists it; copy the checkpoint again"
            )
        found = file_sha256(path)
        if found != expected:
            raise CheckpointError(
                f"{path}: damaged: sha256 {found[:12]}… differs from {expected[:12]}… in config.json.\n"
                "Copy the checkpoint again, or use another step of the run."
            )
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path}: not readable as safetensors: {error}") from None

    def training_state(self) -> dict[str, Any]:
        """Return what is needed to resume, on the CPU.

        Raises:
            CheckpointError: it was deleted or is damaged.
        """
        path = self.folder / "training" / "state.pt"
        if not path.is_file():
            raise CheckpointError(
                f"{path}: missing, so this checkpoint cannot be resumed (its training/ folder was deleted).\n"
                "Use a checkpoint that has one, or start anew with --resume never and another --out."
            )
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises a different class for each kind of damage
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise CheckpointError(
                f"{path}: damaged, cannot resume from it ({reason}).\n"
                "Use an earlier checkpoint with --resume PATH, or start anew with another --out."
            ) from None


def write_checkpoint(
    folder: Path,
    *,
    config: dict[str, Any],
    model_state: dict[str, Tensor],
    training_state: dict[str, Any] | None = None,
    vae_folder: Path | None = None,
    more: dict[str, dict[str, Tensor]] | None = None,
    copied: Sequence[Path] = (),
) -> Checkpoint:
    """Write a checkpoint, whole or not at all.

    Args:
        folder: final path; replaced if it exists.
        config: everything for config.json but `format` and `files`.
        model_state: the weights to publish; stored in float32 unless they come in half precision.
        training_state: tensors and plain values for resuming.
        vae_folder: a VAE checkpoint to copy in (without its training state).
        more: file name → tensors of further safetensors files.
        copied: further files that it gets a copy of.

    Raises:
        CheckpointError: it cannot be written, as on a full disk. What was written of it is removed.
    """
    try:
        states = {"model.safetensors": model_state} | (more or {})
        return _write_checkpoint(folder, config, states, training_state, vae_folder, copied)
    except (OSError, SafetensorError, RuntimeError) as error:
        # safetensors and torch tell a full disk in classes and words of their own.
        if isinstance(error, RuntimeError) and not _is_write_error(error):
            raise
        free = shutil.disk_usage(_existing(folder)).free / 2**30
        raise CheckpointError(
            f"{folder}: the checkpoint cannot be written ({(str(error).splitlines() or [''])[0]}); {free:.1f} GiB are "
            "free there.\nEarlier checkpoints are untouched, and nothing of this one is left. Make room, or lower "
            "trainer.keep_checkpoints; the same command continues from the latest checkpoint."
        ) from None


def _is_write_error(error: RuntimeError) -> bool:
    """Return whether torch failed to write a file, which it tells in words only."""
    return any(
        sign in str(error) for sign in ("PytorchStreamWriter", "inline_container", "enforce")
    )


def _existing(path: Path) -> Path:
    """Return the nearest folder above a path, or itself, that exists."""
    return next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())


def _write_checkpoint(
    folder: Path,
    config: dict[str, Any],
    states: dict[str, dict[str, Tensor]],
    training_state: dict[str, Any] | None,
    vae_folder: Path | None,
    copied: Sequence[Path],
) -> Checkpoint:
    with atomic_folder(folder) as temporary:
        for name, state in states.items():
            tensors = {k: v.detach().cpu().contiguous() for k, v in state.items()}
            save_file(tensors, temporary / name)
        if training_state is not None:
            (temporary / "training").mkdir()
            torch.save(training_state, temporary / "training" / "state.pt")
        if vae_folder is not None:
            copy_weights(vae_folder, temporary / "vae")
        for path in copied:
            shutil.copyfile(path, temporary / path.name)
        names = (*states, *(path.name for path in copied))
        files = {name: file_sha256(temporary / name) for name in names}
        config = {"format": FORMAT, **config, "files": files}
        write_text(temporary / "config.json", json.dumps(config, indent=2) + "\n")
    return Checkpoint(folder, config)


def copy_weights(checkpoint: Path, folder: Path) -> None:
    """Copy what a checkpoint is made of: config.json, the files that it lists, and the same of the VAE in it.

    What else lies in its folder stays there: what only resuming needs, and whatever somebody put beside it. `folder` may exist.

    Raises:
        CheckpointError: config.json lists something in another folder.
    """
    listed = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))["files"]
    if outside := [name for name in listed if Path(name).name != name]:
        raise CheckpointError(
            f"{checkpoint}/config.json: lists {outside[0]!r}, which is not in its folder; expected names of files beside it"
        )
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", *listed):
        shutil.copyfile(checkpoint / name, folder / name)
    if (checkpoint / "vae" / "config.json").is_file():
        copy_weights(checkpoint / "vae", folder / "vae")


def open_checkpoint(
    path: str | Path, *, kind: Kind, or_adapter: bool = False, option: str | None = None
) -> Checkpoint:
    """Open a checkpoint folder, the best or latest checkpoint of a run folder, or the small model in the package (`embedded`).

    Args:
        path: the folder; or a model on the hub, `user/repo` or `user/repo@revision`, which is brought into the hub's cache.
        kind: what is expected there.
        or_adapter: whether an adapter, which needs its base, will do too.
        option: what the user typed the path behind; None: the usual one of its kind.

    Raises:
        CheckpointError: nothing there, another kind, another format, or files missing.
    """
    folder = Path(path)
    if str(path) == EMBEDDED:
        folder = asset_path("tts", "vae") if kind == "vae" else asset_path("tts")
    elif (model := hub_model(path)) is not None:
        folder, _ = fetch(model, option=option or OPTIONS[kind])
        if not (folder / "config.json").is_file():
            raise CheckpointError(
                f"{option or OPTIONS[kind]} {model}: has no config.json, so it is no checkpoint of svae. `svae import` turns those of "
                "Semantic-VAE and F5-TTS into some"
            )
    if not (folder / "config.json").is_file():
        latest = best_checkpoint(folder) or latest_checkpoint(folder)
        if latest is None:
            raise CheckpointError(
                f"{folder}: no {kind} checkpoint here: expected a folder with config.json and model.safetensors, or a "
                f"run folder with checkpoints/latest.\nTrain one with `svae train-{kind}`."
            )
        folder = latest
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        found, version = config["kind"], config["format"]
        _ = config["files"]["model.safetensors"], config["model"], config["step"]
        missing = (
            [name for name in REQUIRED[found] if name not in config] if version == FORMAT else []
        )
        if missing:
            raise KeyError(*missing)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{folder}/config.json: damaged or not a svae checkpoint: {error!r}"
        ) from None
    if version != FORMAT:
        raise CheckpointError(
            f"{folder}: checkpoint format {version}, but this svae reads format {FORMAT}"
        )
    if found != kind and not (or_adapter and found == "adapter"):
        whole = "; `svae adapt … --merge` makes a whole model of it" if found == "adapter" else ""
        raise CheckpointError(
            f"{folder}: this is a {found} checkpoint ({OPTIONS[found]}), but a {kind} checkpoint is needed here{whole}"
        )
    if not (folder / "model.safetensors").is_file():
        raise CheckpointError(f"{folder}: model.safetensors is missing; copy the checkpoint again")
    return Checkpoint(folder, config)


def latest_checkpoint(run: Path) -> Path | None:
    """Return the folder that `checkpoints/latest` of a run names, or None where there is no such file.

    Raises:
        CheckpointError: it names no checkpoint. Taken for none, the run would be begun anew, over what is there.
    """
    return _named_checkpoint(run, "latest")


def best_checkpoint(run: Path) -> Path | None:
    """Return the folder that `checkpoints/best` of a run names, or None where there is no such file; raises as above."""
    return _named_checkpoint(run, "best")


def _named_checkpoint(run: Path, name_of: str) -> Path | None:
    pointer = run / "checkpoints" / name_of
    if not pointer.is_file():
        return None
    name = pointer.read_bytes().decode("utf-8", errors="replace").strip()
    folder = run / "checkpoints" / name
    if not name or not (folder / "config.json").is_file():
        whole = (
            ", ".join(
                path.parent.name for path in sorted(run.glob("checkpoints/step-*/config.json"))
            )
            or "none"
        )
        raise CheckpointError(
            f"{pointer}: names {name!r}, which is no checkpoint (whole ones there: {whole}).\n"
            "Write the name of one of these into it, pass its path, or choose another --out."
        )
    return folder


def checkpoint_folder(run: Path, step: int) -> Path:
    """Return where the checkpoint of a step belongs."""
    return run / "checkpoints" / f"step-{step:08d}"


def mark_best(run: Path, step: int) -> None:
    """Point `checkpoints/best` at a step: who opens the run gets that checkpoint, and `publish` keeps it."""
    write_text(run / "checkpoints" / "best", checkpoint_folder(run, step).name + "\n")


def publish(run: Path, step: int, *, keep: int) -> None:
    """Point `checkpoints/latest` at a step and delete all but the newest `keep` checkpoints and the best one."""
    checkpoints = run / "checkpoints"
    write_text(checkpoints / "latest", checkpoint_folder(run, step).name + "\n")
    kept = checkpoint_folder(run, step), best_checkpoint(run)
    for old in sorted(checkpoints.glob("step-*"))[: -max(keep, 1)]:
        if old not in kept:
            shutil.rmtree(old)
    remove_leftovers(checkpoints)
    for leftover in checkpoints.glob(".step-*.tmp"):  # of a killed write, as named until 2026-11
        shutil.rmtree(leftover)


def load_strict(module: torch.nn.Module, state: dict[str, Tensor], where: Path) -> None:
    """Load a state dict whose keys and shapes must match exactly; a module on the meta device is only compared.

    Raises:
        CheckpointError: naming what is missing, unexpected or of another shape.
    """
    own = module.state_dict()
    missing, unexpected = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    shapes = [
        f"{k}: {tuple(state[k].shape)} instead of {tuple(own[k].shape)}"
        for k in own.keys() & state.keys()
        if own[k].shape != state[k].shape
    ]
    if missing or unexpected or shapes:
        lines = [f"{where}: the weights do not fit the model that config.json describes"]
        for label, names in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("shape", sorted(shapes)),
        ):
            if names:
                lines.append(
                    f"  {label} ({len(names)}): {', '.join(names[:3])}{' …' if len(names) > 3 else ''}"
                )
        raise CheckpointError("\n".join(lines))
    if not any(tensor.is_meta for tensor in own.values()):
        module.load_state_dict(state)
