"""What train-tts generates: the latents of a frozen VAE, or mel frames; and the vocabulary of their texts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from svae.checkpoint import Checkpoint, open_checkpoint
from svae.config import TTSTrainConfig
from svae.data.index import ShardIndex, read_index
from svae.data.timings import Timings
from svae.errors import CheckpointError, ConfigError, DataError
from svae.models.mel import MelFrames
from svae.models.vae.vae import SpeechVAE, load_vae
from svae.precompute.latents import vae_of_latents
from svae.precompute.statistics import STATISTICS_UTTERANCES, measure_statistics
from svae.runtime.distributed import barrier
from svae.training.loop import Session


def open_data(config: TTSTrainConfig) -> tuple[ShardIndex, ShardIndex, Timings | None]:
    """Return the training index, the index validation reads, and the times of phones that the recipe names.

    With times of phones both hold only the utterances that have them.

    Raises:
        ConfigError: a folder holds another kind of shards; prompts for `trainer.synthesize_every` are nowhere.
        DataError: a folder is missing, damaged or has no texts.
    """
    index = read_index(config.data.root)
    validation = (
        index if config.data.validation_root is None else read_index(config.data.validation_root)
    )
    if index.kind == "features":
        raise ConfigError(
            f"{index.root}: holds teacher features; train-tts needs waveform or latent shards"
        )
    if not index.metadata["characters"]:
        raise DataError(f"{index.root}: no utterance has a text; train-tts needs transcripts")
    if validation.kind != index.kind:
        raise ConfigError(
            f"{validation.root}: holds {validation.kind}, but {index.root} holds {index.kind}"
        )
    if config.trainer.synthesize_every:
        waveform_root(config, index)
    if config.data.timings is None:
        return index, validation, None
    timings = Timings(config.data.timings)
    selected = timings.select(index)
    return selected, selected if validation is index else timings.select(validation), timings


def waveform_root(config: TTSTrainConfig, index: ShardIndex) -> Path:
    """Return the waveform shards that prompts are taken from.

    Raises:
        ConfigError: the run reads stored latents and the recipe does not name them.
    """
    if config.data.waveform_root is not None:
        return Path(config.data.waveform_root)
    if index.kind == "waveforms":
        return index.root
    raise ConfigError(
        f"trainer.synthesize_every: {index.root} holds {index.kind}, and prompts are recordings. Pass "
        "--set data.waveform_root=DIR (the shards that were encoded), or --set trainer.synthesize_every=0."
    )


def find_vae(
    config: TTSTrainConfig, index: ShardIndex, start: Checkpoint | None = None
) -> Checkpoint | None:
    """Return the VAE whose latents are learned, None for mel frames; check that it fits the data.

    It is the one named by `vae`, the copy that stored latents carry, or that of the start. With a start the returned
    one is always the start's copy, which has the statistics that its network was trained with.

    Raises:
        ConfigError: none is named, or its sample rate is not that of the shards.
        CheckpointError: unusable, not the VAE that made the stored latents, or not that of the start.
    """
    if start is not None and start.config.get("representation", "latents") != config.representation:
        raise CheckpointError(
            f"--init {start.folder}: generates {start.config.get('representation', 'latents')}, but the recipe says "
            f"representation: {config.representation}"
        )
    if config.representation == "mel":
        _check_mel(index)
        return None
    inherited = None if start is None else open_checkpoint(start.folder / "vae", kind="vae")
    if index.kind == "latents":
        found = _vae_of_latents(config, index)
    else:
        found = inherited if config.vae is None else open_checkpoint(config.vae, kind="vae")
        if found is None:
            raise ConfigError(
                "train-tts: no VAE given; pass --vae DIR (a run or checkpoint folder of `svae train-vae`)"
            )
        _check_rate(index, found.config["sample_rate"], "the VAE works")
    if inherited is None:
        return found
    if found.hash != inherited.hash:
        raise CheckpointError(
            f"--init {start.folder}: was trained on VAE {inherited.hash[:12]}…, but {found.folder} is "
            f"{found.hash[:12]}….\nLatents of another VAE mean something else; pass the VAE of the start."
        )
    return inherited


def _vae_of_latents(config: TTSTrainConfig, index: ShardIndex) -> Checkpoint:
    if index.latent_content == "sample" and config.flow.posterior != "sample":
        raise ConfigError(
            f"{index.root}: holds samples of the posterior, but flow.posterior is {config.flow.posterior}.\n"
            "Pass --set flow.posterior=sample, or run `svae encode` without --content sample."
        )
    return vae_of_latents(index, None if config.vae is None else Path(config.vae))


def _check_mel(index: ShardIndex) -> None:
    if index.kind != "waveforms":
        raise ConfigError(
            f"{index.root}: holds {index.kind}; representation: mel needs waveform shards"
        )
    _check_rate(index, MelFrames.sample_rate, "mel frames are made")


def _check_rate(index: ShardIndex, rate: int, what: str) -> None:
    if index.sample_rate != rate:
        raise ConfigError(
            f"{index.root}: audio at {index.sample_rate} Hz, but {what} at {rate} Hz.\n"
            f"Run `svae prepare … --sample-rate {rate}` into another folder."
        )


def frame_sizes(source: Checkpoint | None) -> tuple[int, int]:
    """Return the channels and the hop length, in samples, of a VAE's latents, or of mel frames for None."""
    if source is None:
        mel = MelFrames()
        return mel.latent_dim, mel.hop_length
    return source.config["model"]["latent_dim"], source.config["hop_length"]


def open_representation(
    session: Session, source: Checkpoint | None, index: ShardIndex, config: TTSTrainConfig
) -> SpeechVAE | MelFrames:
    """Return what encodes and decodes: mel frames, or the VAE, copied into the run, so that the run stays whole.

    A VAE whose training was cut short has its latents measured first.

    Raises:
        CheckpointError: the run already holds another VAE.
    """
    if source is None:
        return MelFrames(config.vocoder).to(session.world.device)
    folder = session.run / "vae"
    if session.world.is_main:
        if folder.is_dir():
            kept = open_checkpoint(folder, kind="vae")
            if kept.hash != source.hash:
                raise CheckpointError(
                    f"{session.run}: was trained on VAE {kept.hash[:12]}…, but {source.folder} is {source.hash[:12]}….\n"
                    "Choose another --out, or pass the VAE it started with."
                )
        else:
            temporary = session.run / ".vae.tmp"
            shutil.rmtree(temporary, ignore_errors=True)
            source.model_state()  # a damaged VAE must not get into the run
            shutil.copytree(source.folder, temporary, ignore=shutil.ignore_patterns("training"))
            if source.config["latent_mean"] is None:
                _measure_into(temporary, session, source, index)
            temporary.rename(folder)
    barrier(session.world)
    return load_vae(folder, session.world.device)


def _measure_into(folder: Path, session: Session, source: Checkpoint, index: ShardIndex) -> None:
    if index.kind != "waveforms":
        raise CheckpointError(
            f"{source.folder}: has no latent statistics; finish its training before `svae encode`"
        )
    session.console.print(
        "This VAE comes from an unfinished run: measuring its latents over the training set."
    )
    vae = load_vae(source.folder, session.world.device)
    limit, device = STATISTICS_UTTERANCES, session.world.device
    statistics = measure_statistics(vae, index, limit=limit, device=device, console=session.console)
    (folder / "config.json").write_text(
        json.dumps(source.config | statistics, indent=2) + "\n", encoding="utf-8"
    )
