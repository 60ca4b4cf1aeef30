"""`svae evaluate`: synthesise a list or take existing recordings, judge them, and judge the originals beside them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from torch import Tensor

from svae.audio import save_audio
from svae.checkpoint import file_sha256, writable_folder
from svae.distributed import describe_device, select_device
from svae.errors import ConfigError, DataError
from svae.evaluation.asr import Recognizer, load_asr
from svae.evaluation.lists import (
    Item,
    ItemList,
    Recording,
    check_recordings,
    held_out_list,
    read_list,
    recording_from_file,
)
from svae.evaluation.metrics import (
    WordErrors,
    cosine,
    mean_or_none,
    normalize_for_wer,
    summarize_word_errors,
    word_errors,
)
from svae.evaluation.report import print_results, write_results
from svae.evaluation.speaker import SpeakerModel, load_speaker_model
from svae.text import normalize_text
from svae.tracking import environment
from svae.tts import TTS, load_tts

JUDGE_RATE = 16000
COUNTS = ("substitutions", "deletions", "insertions", "words")


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """Options of `svae evaluate`."""

    model: Path | None = None
    """TTS run or checkpoint to synthesise with; with `reconstruction` also a VAE."""
    list_file: Path | None = None
    """JSONL or the six-column LibriSpeech-PC list; None: the utterances held out in `data`."""
    wavs: Path | None = None
    """Score DIR/ID.wav instead of synthesising."""
    audio_root: Path | None = None
    """Where the recordings named by a six-column list lie."""
    data: Path = Path("data/shards/sample")
    asr: str = "pocketsphinx"
    speaker: str = "embedded"
    reconstruction: bool = False
    """Score the VAE alone."""
    out: Path = Path("out/evaluation")
    limit: int | None = None
    """Only the first so many items."""
    seed: int = 0
    steps: int = 32
    guidance: float = 2.0
    device: str = "auto"


@dataclass
class Judges:
    """The recogniser and the speaker model behind every number of an evaluation."""

    asr: Recognizer
    speaker: SpeakerModel

    @property
    def description(self) -> dict[str, dict[str, Any]]:
        """Return what is stored with the results."""
        return {"asr": self.asr.description, "speaker": self.speaker.description}


def evaluate(options: EvaluateOptions) -> dict[str, Any]:
    """Run an evaluation; write metrics.json and utterances.jsonl; print a table with the originals beside the system.

    Returns:
        What metrics.json holds.

    Raises:
        ConfigError, DataError, CheckpointError: before anything is computed, wherever possible.
    """
    if options.reconstruction and options.wavs is not None:
        raise ConfigError("evaluate: --wavs and --reconstruction exclude each other")
    if options.reconstruction:
        from svae.evaluation.reconstruction import evaluate_reconstruction

        return evaluate_reconstruction(options)
    if (options.model is None) == (options.wavs is None):
        raise ConfigError("evaluate: pass either --model DIR (synthesise) or --wavs DIR (score what is there)")
    console = Console()
    items = open_list(options)
    out = writable_folder(options.out, option="--out")
    device = select_device(options.device)
    judges = Judges(load_asr(options.asr, device), load_speaker_model(options.speaker, device))
    console.print(f"Judges on {describe_device(device)}")
    if options.wavs is not None:
        made = existing_wavs(items.items, options.wavs)
        system: dict[str, Any] = {"wavs": str(options.wavs)}
        name, factors = f"{options.wavs.resolve().name}/", []
    else:
        tts = load_tts(options.model, device)
        console.print(f"Model [bold]{tts.identity['path']}[/] ({tts.identity['hash'][:12]}…)", soft_wrap=True)
        made, factors = synthesize_items(tts, items.items, options, out, console)
        system = {"model": tts.identity, "seeds": [options.seed], "steps": options.steps, "guidance": options.guidance}
        name = f"synthesised, seed {options.seed}"
    rows = score(items.items, made, judges, console)
    metrics = {
        "format": 1,
        "task": "wavs" if options.wavs is not None else "synthesis",
        "system_name": name,
        "settings": system,
        "judges": judges.description,
        "list": items.description,
        "system": summarize(rows, "system") | ({"real_time_factor": mean_or_none([*factors])} if factors else {}),
        "originals": summarize(rows, "original"),
        "notes": notes_on(items.items, rows) + list_notes(items),
        "environment": environment(device),
    }
    write_results(out, metrics, rows)
    print_results(console, metrics, out)
    return metrics


def open_list(options: EvaluateOptions) -> ItemList:
    """Return the items that the options name; every recording that they name exists.

    Raises:
        ConfigError: `limit` is below 1.
        DataError: from reading the list, or recordings are missing.
    """
    if options.limit is not None and options.limit < 1:
        raise ConfigError(f"--limit {options.limit}: must be at least 1")
    if options.list_file is not None:
        items = read_list(options.list_file, options.audio_root)
    else:
        items = held_out_list(options.data, need_prompts=not options.reconstruction)
    if options.limit is not None and options.limit < len(items.items):
        kept = items.items[: options.limit]
        items = ItemList(kept, items.description | {"utterances": len(kept), "limited_to_first": options.limit})
    named_by = f"--data {options.data}" if options.list_file is None else f"--list {options.list_file}"
    check_recordings(items.items, option=named_by)
    return items


def existing_wavs(items: Sequence[Item], folder: Path) -> dict[str, Recording]:
    """Return the recordings ID.wav (or ID.flac) of a folder.

    Raises:
        DataError: one is missing; a score over the rest would not be comparable.
    """
    if not folder.is_dir():
        raise DataError(f"--wavs {folder}: no such folder")
    found: dict[str, Recording] = {}
    missing = []
    for item in items:
        path = next((p for s in (".wav", ".flac") if (p := folder / f"{item.id}{s}").is_file()), None)
        if path is None:
            missing.append(f"{item.id}.wav")
        else:
            found[item.id] = recording_from_file(path)
    if missing:
        some = ", ".join(missing[:5]) + (" …" if len(missing) > 5 else "")
        raise DataError(f"--wavs {folder}: {len(missing)} of {len(items)} recordings are missing: {some}")
    return found


def synthesize_items(
    tts: TTS, items: Sequence[Item], options: EvaluateOptions, out: Path, console: Console
) -> tuple[dict[str, Recording], list[float]]:
    """Synthesise every item into OUT/wavs/ID.wav; those an earlier run made in the same way are kept.

    What made a wav, and the wav's sha256, stand in ID.json beside it, written after it: a wav that is half written,
    replaced by another, or made with another model, seed, prompt or setting is made again.

    Returns:
        The recordings by id, and the real-time factor of each, measured when it was made.

    Raises:
        DataError: an item has no prompt, or text that the model does not know; all such items are counted first.
    """
    check_items(tts, items)
    folder = writable_folder(out / "wavs", option="--out")
    factors = []
    for item in track(items, "Synthesising", console=console):
        wav, sidecar = folder / f"{item.id}.wav", folder / f"{item.id}.json"
        assert item.prompt is not None and item.prompt_text is not None
        prompt = item.prompt.load(tts.sample_rate)
        made_with = {
            "model": tts.identity["hash"],
            "seed": options.seed,
            "steps": options.steps,
            "guidance": options.guidance,
            "text": item.text,
            "prompt_sha256": hashlib.sha256(prompt.numpy().tobytes()).hexdigest(),
            "prompt_text": item.prompt_text,
            "device": tts.device.type,
        }
        row = _read_json(sidecar)
        if row.get("made_with") != made_with or not wav.is_file() or row.get("sha256") != file_sha256(wav):
            sidecar.unlink(missing_ok=True)  # a wav of another setting must not be taken for this one's
            factors_of = _synthesize(tts, item, prompt, options, wav)
            row = {"made_with": made_with, "sha256": file_sha256(wav), "real_time_factors": factors_of}
            sidecar.write_text(json.dumps(row) + "\n", encoding="utf-8")
        factors.append(row["real_time_factors"]["total"])
    return {item.id: recording_from_file(folder / f"{item.id}.wav") for item in items}, factors


def _synthesize(tts: TTS, item: Item, prompt: Tensor, options: EvaluateOptions, wav: Path) -> dict[str, float]:
    """Speak one item into a file; return the real-time factors."""
    try:
        result = tts.generate(
            item.text,
            prompt,
            item.prompt_text or "",
            seed=options.seed,
            num_steps=options.steps,
            guidance_scale=options.guidance,
        )
    except DataError as error:
        raise DataError(f"item {item.id!r}: {error}") from None
    save_audio(wav, result.waveform, result.sample_rate)
    return result.real_time_factors


def check_items(tts: TTS, items: Sequence[Item]) -> None:
    """Raise one DataError that counts the items this model cannot synthesise, with an example."""
    problems = []
    for item in items:
        if item.prompt is None or not item.prompt_text:
            problems.append(f"{item.id}: needs `ref` and `ref_text`")
            continue
        unknown = tts.vocabulary.unknown(normalize_text(f"{item.prompt_text} {item.text}"))
        if unknown:
            problems.append(f"{item.id}: unknown characters {', '.join(map(repr, unknown))}")
    if problems:
        some = "\n".join(f"  {problem}" for problem in problems[:5])
        raise DataError(
            f"{len(problems)} of {len(items)} items cannot be synthesised by {tts.identity['path']}:\n{some}"
        )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def score(items: Sequence[Item], made: dict[str, Recording], judges: Judges, console: Console) -> list[dict[str, Any]]:
    """Return one row for each item: hypothesis, WER and similarity of the system and, where there is one, the original.

    The system's similarity is that of its speech to the prompt; the original's, of the human recording to the prompt.
    """
    rows = []
    prompts: dict[str, Tensor] = {}
    for item in track(items, "Judging", console=console):
        row: dict[str, Any] = {"id": item.id, "speaker": item.speaker, "text": item.text}
        prompt = None
        if item.prompt is not None:
            row["prompt"], row["prompt_text"] = item.prompt.name, item.prompt_text
            if item.prompt.name not in prompts:
                prompts[item.prompt.name] = judges.speaker.embed([item.prompt.load(JUDGE_RATE)])[0]
            prompt = prompts[item.prompt.name]
        for which, recording in (("system", made[item.id]), ("original", item.target)):
            row[which] = None if recording is None else judge(recording, item.text, prompt, judges)
        rows.append(row)
    return rows


def judge(recording: Recording, text: str, prompt: Tensor | None, judges: Judges) -> dict[str, Any]:
    """Return what the judges say of one recording; `prompt` is an embedding (E,). Text without words: no WER."""
    waveform = recording.load(JUDGE_RATE)
    row: dict[str, Any] = {"audio": recording.name, "seconds": waveform.shape[0] / JUDGE_RATE}
    row["similarity"] = None if prompt is None else cosine(judges.speaker.embed([waveform])[0], prompt)
    row["hypothesis"] = judges.asr.transcribe([waveform])[0]
    if not normalize_for_wer(text):
        return row | {"wer": None}
    errors = word_errors(text, row["hypothesis"])
    return row | {"wer": errors.rate} | {name: getattr(errors, name) for name in COUNTS}


def summarize(rows: Sequence[dict[str, Any]], which: str) -> dict[str, Any] | None:
    """Return the averages over the rows that have this recording, or None if there is none."""
    judged = [row[which] for row in rows if row[which] is not None]
    if not judged:
        return None
    with_words = [WordErrors(**{name: row[name] for name in COUNTS}) for row in judged if row["wer"] is not None]
    return {
        **(summarize_word_errors(with_words) if with_words else {"wer": None, "wer_corpus": None}),
        "similarity": mean_or_none([row["similarity"] for row in judged]),
        "utterances": len(judged),
        "seconds": sum(row["seconds"] for row in judged),
    }


def list_notes(items: ItemList) -> list[str]:
    """Return what the list itself left out."""
    count = items.description.get("left_out_without_prompt")
    return [f"{count} held-out utterances are left out: no words, or no other one by the speaker"] if count else []


def notes_on(items: Sequence[Item], rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return what a reader of the table has to know."""
    notes = []
    without = sum(row["original"] is None for row in rows)
    if without == len(rows):
        notes.append("no item names an original recording (`target`), so there is nothing to compare with")
    elif without:
        notes.append(f"{without} of {len(rows)} items name no original recording (`target`); its row is over the rest")
    alone = sum(item.prompt is None for item in items)
    if alone:
        notes.append(f"{alone} of {len(rows)} items have no prompt, so no similarity to it")
    wordless = sum(row["system"]["wer"] is None for row in rows)
    if wordless:
        notes.append(f"{wordless} of {len(rows)} items have no text, so no WER")
    return notes
