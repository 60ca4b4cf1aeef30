"""The recordings that are to be judged: synthesised, decoded from latents, or found in a folder."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.markup import escape

from svae.audio import AUDIO_SUFFIXES, save_audio
from svae.checkpoint import Checkpoint, latest_checkpoint, open_checkpoint
from svae.errors import CheckpointError, DataError
from svae.evaluation.ask import own_share
from svae.evaluation.items import Item, refuse_items
from svae.evaluation.recordings import Recording, recording_from_file
from svae.evaluation.sidecar import is_made, read_sidecar, write_sidecar
from svae.models.vae import streaming
from svae.models.vae.vae import SpeechVAE
from svae.runtime.distributed import World
from svae.runtime.files import file_stem, writable_folder
from svae.runtime.jobs import Tick
from svae.synthesis.marks import save_speech, tags
from svae.synthesis.model import TTS
from svae.synthesis.types import WEIGHTS, Sampling, Utterance

SEED_FOLDER = "seed-"


def existing_wavs(
    items: Sequence[Item], folder: Path, *, option: str = "--wavs"
) -> dict[str, Recording]:
    """Return the recordings ID.wav (or another of `AUDIO_SUFFIXES`) of a folder; a missing one is in it and fails when it is read.

    Raises:
        DataError: no such folder, or nothing of the list is in it.
    """
    if not folder.is_dir():
        raise DataError(f"{option} {folder}: no such folder")
    found: dict[str, Recording] = {}
    for item in items:
        stem = file_stem(item.id)
        candidates = [folder / f"{stem}{suffix}" for suffix in AUDIO_SUFFIXES]
        found[item.id] = recording_from_file(
            next((p for p in candidates if p.is_file()), candidates[0])
        )
    if not any(recording.path.is_file() for recording in found.values()):
        raise DataError(
            f"{option} {folder}: none of the {len(items)} recordings is here, e.g. {file_stem(items[0].id)}.wav"
        )
    return found


def existing_seeds(items: Sequence[Item], folder: Path) -> dict[str, dict[str, Recording]]:
    """Return `wavs`, the recordings of a folder; or one entry for each of its subfolders seed-N."""
    folders = sorted(
        (
            p
            for p in folder.glob(f"{SEED_FOLDER}*")
            if p.is_dir() and p.name.removeprefix(SEED_FOLDER).isdigit()
        ),
        key=lambda p: int(p.name.removeprefix(SEED_FOLDER)),
    )
    if not folders:
        return {"wavs": existing_wavs(items, folder)}
    return {p.name.replace("-", " "): existing_wavs(items, p) for p in folders}


def synthesize_items(
    tts: TTS,
    items: Sequence[Item],
    seeds: Sequence[int],
    *,
    sampling: Sampling,
    folder: Path,
    world: World,
    console: Console,
    tick: Tick | None = None,
) -> None:
    """Synthesise this rank's share of items and seeds into FOLDER/seed-N/ID.wav; what an earlier run made alike is kept.

    `sampling` comes from `tts.resolve`; the seed in it is not used.

    Raises:
        DataError: an item has no prompt, or text that the model does not know; all such items are counted first.
    """
    check_items(tts, items)
    waiting: list[_Ready] = []
    jobs = [(seed, item) for seed in seeds for item in items]
    for seed, item in own_share(jobs, "Synthesising", world, console, tick):
        assert item.prompt is not None and item.prompt_text is not None
        prompt = item.prompt.load(tts.sample_rate)
        made_with = {
            "weights": {name: tts.identity.get(name) for name in WEIGHTS},
            "seed": seed,
            **described(sampling),
            "text": item.text,
            "prompt_sha256": hashlib.sha256(prompt.numpy().tobytes()).hexdigest(),
            "prompt_text": item.prompt_text,
            "device": tts.device.type,
        }
        if tts.vocabulary.language is not None:  # wavs of other models do not depend on it
            made_with["language"] = tts.vocabulary.language
        wav = wav_of(item, seed, folder)
        writable_folder(wav.parent, option="--out")
        if is_made(wav, made_with):
            continue
        try:
            started = time.perf_counter()
            encoded = tts.encode_prompt(prompt, item.prompt_text)
            encode_seconds = time.perf_counter() - started
            utterance = tts.prepare(item.text, encoded, replace(sampling, seed=seed))
        except DataError as error:
            raise DataError(f"item {item.id!r}: {error}") from None
        waiting.append(_Ready(utterance, encode_seconds, wav, made_with))
        if sum(ready.utterance.frames for ready in waiting) >= tts.batch_frames:
            _speak(tts, waiting)
            waiting = []
    _speak(tts, waiting)


def synthesized_items(
    items: Sequence[Item], seeds: Sequence[int], folder: Path
) -> tuple[dict[str, dict[str, Recording]], list[float]]:
    """Return what the ranks synthesised, by `seed N` and id, and the real-time factor of each, measured when it was made."""
    made = {
        f"seed {seed}": {item.id: recording_from_file(wav_of(item, seed, folder)) for item in items}
        for seed in seeds
    }
    everything = [wav_of(item, seed, folder) for seed in seeds for item in items]
    return made, [read_sidecar(wav)["real_time_factors"]["total"] for wav in everything]


def wav_of(item: Item, seed: int, folder: Path) -> Path:
    """Return where an item is said with a seed, below a folder as `existing_seeds` reads it."""
    return folder / f"{SEED_FOLDER}{seed}" / f"{file_stem(item.id)}.wav"


class _Ready(NamedTuple):
    """An item that is to be spoken."""

    utterance: Utterance
    encode_seconds: float
    """What encoding its prompt took."""
    wav: Path
    made_with: dict[str, Any]


def _speak(tts: TTS, waiting: Sequence[_Ready]) -> None:
    """Speak items together and write their wavs, each with what made it."""
    spoken = tts.speak_prepared([ready.utterance for ready in waiting])
    for ready, speech in zip(waiting, spoken, strict=True):
        made_by = tags(tts.identity, speech.sampling.seed)
        save_speech(ready.wav, speech.waveform, speech.sample_rate, made_by)
        timings = {"encode": ready.encode_seconds} | speech.timings
        factors = replace(speech, timings=timings).real_time_factors
        write_sidecar(ready.wav, ready.made_with, real_time_factors=factors)


def described(sampling: Sampling) -> dict[str, Any]:
    """Return what a recording depends on besides model, seed, text and prompt, as it is stored."""
    return {
        "steps": sampling.num_steps,
        "guidance": sampling.guidance_scale,
        "prompt_guidance": sampling.prompt_guidance,
        "temperature": sampling.temperature,
        "duration_rule": sampling.duration_rule,
    }


def check_items(tts: TTS, items: Sequence[Item]) -> None:
    """Raise one DataError that counts the items this model cannot synthesise, with an example."""
    problems = []
    for item in items:
        if item.prompt is None or not item.prompt_text:
            problems.append(f"{item.id}: needs `ref` and `ref_text`")
            continue
        unknown = tts.vocabulary.unknown(tts.vocabulary.fit(f"{item.prompt_text} {item.text}"))
        if unknown:
            problems.append(f"{item.id}: unknown characters {', '.join(map(repr, unknown))}")
    refuse_items(problems, items, f"cannot be synthesised by {tts.identity['path']}")


def find_vae(path: Path) -> Checkpoint:
    """Return a VAE checkpoint: the one given, a run's latest, or the copy inside a TTS checkpoint.

    Raises:
        CheckpointError: there is none.
    """
    for folder in (path, latest_checkpoint(path)):
        if folder is not None and all(
            (folder / name).is_file() for name in ("config.json", "vae/config.json")
        ):
            return open_checkpoint(folder / "vae", kind="vae")
    try:
        return open_checkpoint(path, kind="vae")
    except CheckpointError as error:
        raise CheckpointError(f"evaluate --reconstruction: {error}") from None


def reconstruct_items(
    vae: SpeechVAE,
    identity: str,
    items: Sequence[Item],
    *,
    folder: Path,
    world: World,
    console: Console,
    tick: Tick | None = None,
) -> None:
    """Encode and decode this rank's share of originals with the posterior's mean into FOLDER/ID.wav, at the VAE's rate."""
    writable_folder(folder, option="--out")
    for item in own_share(items, "Reconstructing", world, console, tick):
        assert item.target is not None
        wav = folder / f"{file_stem(item.id)}.wav"
        try:
            original = item.target.sha256()
            made_with = {"model": identity, "original": original, "device": world.device.type}
            if is_made(wav, made_with):
                continue
            _reconstruct(vae, item.target, wav, world)
            write_sidecar(wav, made_with)
        except DataError as error:  # it is missing then, and counts
            console.print(
                f"[yellow]{escape(item.id)} is not reconstructed: {escape(str(error))}[/]",
                soft_wrap=True,
            )
            wav.unlink(missing_ok=True)


def reconstructed_items(items: Sequence[Item], folder: Path) -> dict[str, Recording]:
    """Return what the ranks reconstructed, by id."""
    return {item.id: recording_from_file(folder / f"{file_stem(item.id)}.wav") for item in items}


@torch.inference_mode()
def _reconstruct(vae: SpeechVAE, original: Recording, wav: Path, world: World) -> None:
    waveform = original.load(vae.sample_rate)
    latents = streaming.encode(vae, waveform[None, None].to(world.device)).mean
    decoded = streaming.decode(vae, latents)[0, 0, : waveform.shape[0]]
    save_audio(wav, decoded[None].cpu(), vae.sample_rate)
