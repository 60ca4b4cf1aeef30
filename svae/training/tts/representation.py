"""The representation that train-tts learns: found, checked against the data, and kept in the run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from svae.checkpoint import Checkpoint, copy_weights, open_checkpoint
from svae.config import TTSTrainConfig
from svae.data.index import ShardIndex
from svae.errors import CheckpointError, ConfigError
from svae.models.representation import KINDS, Representation, kind_of
from svae.models.vae.vae import load_vae
from svae.precompute.latents import vae_of_latents
from svae.precompute.statistics import STATISTICS_UTTERANCES, measure_statistics
from svae.runtime.distributed import barrier, from_first_rank
from svae.runtime.files import atomic_folder, write_text
from svae.training.session import Session


def find_representation(
    config: TTSTrainConfig,
    index: ShardIndex,
    start: Checkpoint | None = None,
    kept: Checkpoint | None = None,
) -> Representation:
    """Return what the recipe asks for, not loaded yet; check that it fits the data and the checkpoint of `init`.

    A resumed run has kept its VAE (`kept_vae`), and does not need what the recipe names.

    Raises:
        ConfigError: no VAE is named, or the shards are of another kind or sample rate.
        CheckpointError: the VAE is unusable, not the one that made the stored latents, or not that of the start.
    """
    if start is not None and kind_of(start) != config.representation:
        raise CheckpointError(
            f"--init {start.folder}: generates {kind_of(start)}, but the recipe says "
            f"representation: {config.representation}"
        )
    kind = KINDS[config.representation]
    if index.kind == "latents" and not kind.in_shards:
        raise ConfigError(
            f"{index.root}: holds latents; representation: {config.representation} needs waveform shards"
        )
    found = kind.make(_find_vae(config, index, start, kept), config.vocoder)
    if index.sample_rate != found.sample_rate:
        raise ConfigError(
            f"{index.root}: audio at {index.sample_rate} Hz, but {found.plural} are made at {found.sample_rate} Hz.\n"
            f"Run `svae prepare … --sample-rate {found.sample_rate}` into another folder."
        )
    return found


def kept_vae(run: Path, resumed: Checkpoint) -> Checkpoint | None:
    """Return the VAE that a run, or the checkpoint that it is resumed from, holds; None for a run on mel frames."""
    for folder in (run / "vae", resumed.folder / "vae"):
        if folder.is_dir():
            return open_checkpoint(folder, kind="vae")
    return None


def _find_vae(
    config: TTSTrainConfig,
    index: ShardIndex,
    start: Checkpoint | None,
    kept: Checkpoint | None,
) -> Checkpoint | None:
    """Return the VAE of the stored latents, of the recipe, of the start or of the run; None where there is none."""
    given = None
    if index.kind == "latents":
        if index.latent_content == "sample" and config.flow.posterior != "sample":
            raise ConfigError(
                f"{index.root}: holds samples of the posterior, but flow.posterior is {config.flow.posterior}.\n"
                "Pass --set flow.posterior=sample, or run `svae encode` without --content sample."
            )
        named = None if config.vae is None else Path(config.vae)
        given = vae_of_latents(index, named if kept is None else kept.folder)
    elif kept is not None:
        given = _named_or_kept(config, kept)
    elif config.vae is not None:
        given = open_checkpoint(config.vae, kind="vae")
    if start is None or start.config.get("vae_hash") is None:
        return given
    inherited = open_checkpoint(start.folder / "vae", kind="vae")
    if given is not None and given.hash != inherited.hash:
        raise CheckpointError(
            f"--init {start.folder}: was trained on VAE {inherited.hash[:12]}…, but {given.folder} is "
            f"{given.hash[:12]}….\nLatents of another VAE mean something else; pass the VAE of the start."
        )
    # The same weights, and the statistics that the start was trained with: another copy may have others.
    return inherited


def _named_or_kept(config: TTSTrainConfig, kept: Checkpoint) -> Checkpoint:
    """Return the VAE that the recipe of a resumed run names, where it is still there: it may be the wrong one."""
    if config.vae is None:
        return kept
    try:
        return open_checkpoint(config.vae, kind="vae")
    except CheckpointError:
        return kept


def keep_in_run(
    session: Session, found: Representation, index: ShardIndex, config: TTSTrainConfig
) -> Representation:
    """Copy the VAE of a representation into the run, so that the run stays whole, and load it from there.

    Raises:
        CheckpointError: the run already holds another VAE, or the VAE is damaged.
    """
    vae, world = found.checkpoint, session.world
    if vae is None:
        return found.load(world.device)
    folder = session.run / "vae"
    if world.is_main:
        _keep(session, vae, folder, index)
    barrier(world)
    # The copy may have statistics that the original lacks. Another node may see it late, or not at all, and has the
    # original.
    own = open_checkpoint(folder, kind="vae") if world.is_main else vae
    own = replace(own, config=from_first_rank(own.config, world))
    return type(found).make(own, config.vocoder).load(world.device)


def check_kept(run: Path, vae: Checkpoint) -> bool:
    """Return whether a run already holds a VAE.

    Raises:
        CheckpointError: it is another one.
    """
    folder = run / "vae"
    if not folder.is_dir():
        return False
    kept = open_checkpoint(folder, kind="vae")
    if kept.hash != vae.hash:
        raise CheckpointError(
            f"{run}: was trained on VAE {kept.hash[:12]}…, but {vae.folder} is {vae.hash[:12]}….\n"
            "Choose another --out, or pass the VAE it started with."
        )
    return True


def _keep(session: Session, vae: Checkpoint, folder: Path, index: ShardIndex) -> None:
    """Have the folder hold a VAE, with the statistics that the run has learned with or will learn with."""
    there = check_kept(session.run, vae)
    resumed = session.checkpoint
    if resumed is not None and check_kept(resumed.folder, vae):
        # The original may lack the statistics, or have others by now; so may what an earlier attempt left here.
        vae = open_checkpoint(resumed.folder / "vae", kind="vae")
        there = there and open_checkpoint(folder, kind="vae").config == vae.config
    if not there:
        _copy_vae(vae, folder)
    if resumed is None and vae.config["latent_mean"] is None:
        # Also where an attempt that left no checkpoint has measured them: perhaps on other data.
        _measure(session, vae, folder, index)


def _copy_vae(vae: Checkpoint, folder: Path) -> None:
    vae.model_state()  # raises where it is damaged: that must not get into the run
    with atomic_folder(folder) as temporary:
        copy_weights(vae.folder, temporary)


def _measure(session: Session, vae: Checkpoint, folder: Path, index: ShardIndex) -> None:
    """Give the copy of a VAE the statistics that it lacks, as its training was cut short."""
    session.console.print(
        "This VAE comes from an unfinished run: measuring its latents over the training set."
    )
    device, console = session.world.device, session.console
    own = load_vae(vae.folder, device)
    statistics = measure_statistics(
        own, index, limit=STATISTICS_UTTERANCES, device=device, console=console
    )
    write_text(folder / "config.json", json.dumps(vae.config | statistics, indent=2) + "\n")
