"""Every item said by a program or a server: several at a time, resumable, with failures that count."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from svae.audio import AudioError, load_audio, save_audio
from svae.errors import DataError
from svae.evaluation.external.system import Request, SpeechFailed, System
from svae.evaluation.items import Item, refuse_items
from svae.evaluation.make import wav_of
from svae.evaluation.recordings import Recording, recording_from_file, recording_that_failed
from svae.evaluation.sidecar import is_made, read_sidecar, write_sidecar
from svae.runtime.distributed import World
from svae.runtime.files import writable_folder, write_text
from svae.text.phonemes import without_phones

GIVE_UP = 10
"""So many failures without a single recording: then nothing is right, and the rest is not tried."""


@dataclass(frozen=True)
class Spoken:
    """What a system said, and how fast."""

    recordings: dict[str, dict[str, Recording]]
    """`seed N` → item id → recording."""
    real_time_factors: list[float]
    """Seconds of a call for each second of speech, of what was said."""
    first_audio: list[float]
    """Seconds from a call to its first audio."""


def speak_items(
    system: System,
    items: Sequence[Item],
    seeds: Sequence[int],
    *,
    language: str,
    jobs: int,
    folder: Path,
    world: World,
    console: Console,
) -> None:
    """Have this rank's share of items and seeds said into FOLDER/wavs/seed-N/ID.wav; what an earlier run made alike is kept.

    Each rank has `jobs` calls under way at a time. A failure is tried again by the next run.

    Raises:
        DataError: items lack a prompt that the system is given; it says nothing at all, with the first reason.
    """
    _check_prompts(system, items)
    prompts = {
        item.id: _prompt_file(item, folder / "prompts")
        for item in items
        if system.names & {"ref", "ref_data"}
    }
    stamp = system.stamp
    todo: list[tuple[Request, dict[str, Any]]] = []
    own = [(seed, item) for seed in seeds for item in items][world.rank :: world.world_size]
    for seed, item in own:
        wav = wav_of(item, seed, folder / "wavs")
        writable_folder(wav.parent, option="--out")
        request = Request(
            id=item.id,
            text=without_phones(item.text),
            seed=seed,
            language=language,
            prompt=prompts.get(item.id),
            prompt_text=item.prompt_text,
            out=wav.resolve(),
        )
        made_with = stamp | {
            "text": request.text,
            "seed": seed,
            "language": language,
            "prompt_sha256": item.prompt.sha256() if item.prompt and request.prompt else None,
            "prompt_text": item.prompt_text,
        }
        if not is_made(wav, made_with):
            todo.append((request, made_with))
    _speak_all(system, todo, jobs, console, hopeful=len(todo) < len(own))


def _check_prompts(system: System, items: Sequence[Item]) -> None:
    problems = []
    for item in items:
        if system.names & {"ref", "ref_data"} and item.prompt is None:
            problems.append(f"{item.id}: no `ref`")
        elif "ref_text" in system.names and not item.prompt_text:
            problems.append(f"{item.id}: no `ref_text`")
    refuse_items(problems, items, f"lack what {system.title} is to be given")


def _prompt_file(item: Item, folder: Path) -> Path:
    """Return a prompt as a file of its own: where it lies, or out of its shard into a folder."""
    assert item.prompt is not None
    if item.prompt.name == str(item.prompt.path):
        return item.prompt.path.resolve()
    path = folder / f"{item.prompt.sha256()[:32]}.wav"
    if not path.is_file():
        save_audio(path, *item.prompt.load_native())
    return path.resolve()


def _speak_all(
    system: System,
    todo: Sequence[tuple[Request, dict[str, Any]]],
    jobs: int,
    console: Console,
    *,
    hopeful: bool,
) -> None:
    """Say what is missing. Not `hopeful`: raise DataError where nothing comes of the first tries."""
    stop = threading.Event()
    failures: list[str] = []
    progress = Progress(console=console, transient=True, disable=not console.is_terminal)
    with progress, ThreadPoolExecutor(jobs) as pool:
        task = progress.add_task(f"Speaking: {escape(system.title)}", total=len(todo))
        futures = [pool.submit(_speak, system, *each, stop) for each in todo]
        try:
            for future in as_completed(futures):
                reason = future.result()
                if reason is None:
                    hopeful = True
                else:
                    failures.append(reason)
                if not hopeful and len(failures) >= GIVE_UP:
                    raise _nothing_said(system, failures[0], len(failures))
                progress.advance(task)
        except BaseException:
            stop.set()  # programs that run are ended, and nothing more begins
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _nothing_said(system: System, reason: str, tries: int) -> DataError:
    return DataError(
        f"{system.title} said none of {tries} utterances, so there is nothing to judge. The first: {reason}"
    )


def _speak(
    system: System, request: Request, made_with: dict[str, Any], stop: threading.Event
) -> str | None:
    """Have one utterance said and write beside it how; return why it was not, where it was not."""
    wav = request.out
    part = wav.with_name(f"part-{wav.name}")  # half a recording has another name than a whole one
    for path in (part, wav):
        path.unlink(missing_ok=True)
    try:
        timing = system.speak(replace(request, out=part), stop)
        waveform, rate = load_audio(part)
    except (SpeechFailed, AudioError) as error:
        part.unlink(missing_ok=True)
        reason = str(error).replace(str(part), f"what {system.title} wrote")
        note = {"made_with": made_with, "failed": reason}
        write_text(wav.with_suffix(".json"), json.dumps(note) + "\n")
        return f"{request.id}: {reason}"
    part.replace(wav)
    write_sidecar(wav, made_with, audio_seconds=waveform.shape[-1] / rate, **asdict(timing))
    return None


def spoken_items(
    system: System, items: Sequence[Item], seeds: Sequence[int], folder: Path, console: Console
) -> Spoken:
    """Return what all ranks had said, with the reasons of what was not; raise DataError where that is nothing."""
    recordings: dict[str, dict[str, Recording]] = {}
    factors: list[float] = []
    first_audio: list[float] = []
    failed: list[str] = []
    for seed in seeds:
        found = recordings.setdefault(f"seed {seed}", {})
        for item in items:
            wav = wav_of(item, seed, folder / "wavs")
            row = read_sidecar(wav)
            if "failed" in row:
                failed.append(f"{item.id}: {row['failed']}")
                found[item.id] = recording_that_failed(wav, row["failed"])
                continue
            found[item.id] = recording_from_file(wav)
            factors.append(row["seconds"] / row["audio_seconds"])
            first_audio.append(row["first_audio_seconds"])
    if not factors:
        raise _nothing_said(system, failed[0], len(failed))
    if failed:
        total = len(failed) + len(factors)
        console.print(
            f"[yellow]{escape(system.title)} failed at {len(failed)} of {total} recordings, which count as wholly wrong; "
            f"the same command again tries only them. The first: {escape(failed[0])}[/]",
            soft_wrap=True,
        )
    return Spoken(recordings, factors, first_audio)
