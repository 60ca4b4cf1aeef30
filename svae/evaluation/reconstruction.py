"""`svae evaluate --reconstruction`: what the VAE alone loses, posterior mean to waveform, beside the originals."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track

from svae.audio import resample, save_audio
from svae.checkpoint import Checkpoint, latest_checkpoint, open_checkpoint, writable_folder
from svae.distributed import describe_device, select_device
from svae.errors import CheckpointError, ConfigError, DataError
from svae.evaluation.asr import load_asr
from svae.evaluation.lists import Recording, recording_from_file
from svae.evaluation.metrics import cosine, mean_or_none, reconstruction_scores
from svae.evaluation.report import print_results, write_results
from svae.evaluation.run import JUDGE_RATE, EvaluateOptions, Judges, judge, notes_on, open_list, summarize
from svae.evaluation.speaker import load_speaker_model
from svae.models import streaming
from svae.models.vae import SpeechVAE, load_vae
from svae.tracking import environment

SCORES = ("similarity_to_original", "mel_distance", "stoi", "pesq")


def evaluate_reconstruction(options: EvaluateOptions) -> dict[str, Any]:
    """Encode and decode the list's original recordings and score what comes out.

    `similarity` is that of a recording to the prompt where the list has one (another utterance of the speaker), so
    that the originals have a row to compare with; `similarity_to_original` is what is common for codecs.

    Raises:
        ConfigError, DataError, CheckpointError: before anything is computed, wherever possible.
    """
    if options.model is None:
        raise ConfigError("evaluate --reconstruction: pass --model DIR, a run or checkpoint of train-vae or train-tts")
    console = Console()
    checkpoint = find_vae(options.model)
    items = open_list(options)
    if any(item.target is None for item in items.items):
        raise DataError("evaluate --reconstruction: every row of the list needs a `target` recording")
    out = writable_folder(options.out, option="--out")
    wavs = writable_folder(out / "wavs", option="--out")
    device = select_device(options.device)
    judges = Judges(load_asr(options.asr, device), load_speaker_model(options.speaker, device))
    vae = load_vae(checkpoint.folder, device)
    console.print(f"VAE {checkpoint.folder} ({checkpoint.hash[:12]}…) and judges on {describe_device(device)}")
    rows = []
    for item in track(items.items, "Reconstructing", console=console):
        assert item.target is not None
        decoded, scores = reconstruct(vae, item.target, wavs / f"{item.id}.wav")
        pair = judges.speaker.embed([decoded.load(JUDGE_RATE), item.target.load(JUDGE_RATE)])
        scores["similarity_to_original"] = cosine(pair[0], pair[1])
        prompt = None if item.prompt is None else judges.speaker.embed([item.prompt.load(JUDGE_RATE)])[0]
        row = {"id": item.id, "speaker": item.speaker, "text": item.text}
        row["system"] = judge(decoded, item.text, prompt, judges) | scores
        row["original"] = judge(item.target, item.text, prompt, judges)
        rows.append(row)
    averages = {name: mean_or_none([row["system"][name] for row in rows]) for name in SCORES}
    metrics = {
        "format": 1,
        "task": "reconstruction",
        "system_name": "reconstruction",
        "settings": {"model": {"path": str(checkpoint.folder), "hash": checkpoint.hash, "step": checkpoint.step}},
        "judges": judges.description,
        "list": items.description,
        "system": (summarize(rows, "system") or {}) | averages,
        "originals": summarize(rows, "original"),
        "notes": notes_on(items.items, rows) + undefined_notes(rows),
        "environment": environment(device),
    }
    write_results(out, metrics, rows)
    print_results(console, metrics, out)
    return metrics


def undefined_notes(rows: list[dict[str, Any]]) -> list[str]:
    """Say of how many utterances a score does not exist, and why."""
    notes = []
    for name in SCORES:
        reasons = Counter(r for row in rows if (r := row["system"]["undefined"].get(name)) is not None)
        if reasons:
            why = "; ".join(f"{reason} ({n})" for reason, n in reasons.most_common(3))
            notes.append(f"{name} is undefined for {reasons.total()} of {len(rows)} utterances: {why}")
    return notes


def find_vae(path: Path) -> Checkpoint:
    """Return a VAE checkpoint: the one given, a run's latest, or the copy inside a TTS checkpoint.

    Raises:
        CheckpointError: there is none.
    """
    for folder in (path, latest_checkpoint(path)):
        if folder is not None and all((folder / name).is_file() for name in ("config.json", "vae/config.json")):
            return open_checkpoint(folder / "vae", kind="vae")
    try:
        return open_checkpoint(path, kind="vae")
    except CheckpointError as error:
        raise CheckpointError(f"evaluate --reconstruction: {error}") from None


@torch.inference_mode()
def reconstruct(vae: SpeechVAE, original: Recording, path: Path) -> tuple[Recording, dict[str, Any]]:
    """Encode and decode one recording with the posterior's mean; write it; return it and its scores at 16 kHz."""
    waveform = original.load(vae.sample_rate)
    latents = streaming.encode(vae, waveform[None, None].to(vae.latent_mean.device)).mean
    decoded = streaming.decode(vae, latents)[0, 0, : waveform.shape[0]].cpu()
    save_audio(path, decoded[None], vae.sample_rate)
    clips = [resample(clip[None], vae.sample_rate, JUDGE_RATE)[0] for clip in (waveform, decoded)]
    return recording_from_file(path), reconstruction_scores(clips[0], clips[1], JUDGE_RATE)
