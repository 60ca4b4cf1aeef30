"""`svae export`: one folder from which a program without torch speaks; `runtime/` holds such a program."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape

import svae
from svae.checkpoint import EMBEDDED
from svae.errors import ConfigError
from svae.export.card import card
from svae.export.networks import TOLERANCE, Network, networks, parity, write
from svae.runtime.files import atomic_folder, check_writable, file_sha256, write_text
from svae.synthesis.load import load_tts
from svae.synthesis.model import PROMPT_RMS, TTS
from svae.synthesis.types import OWN, STUDENT
from svae.synthesis.voices import own_voice
from svae.text.phonemes import dictionary_file
from svae.text.unknown_words import weights_file

FORMAT = 1
"""Of the folder; a runtime refuses what it does not know."""
DESCRIPTION = "voice.json"
INT8 = ("text", "step")
"""Networks whose matrices `--int8` stores in 8 bits: those of the transformer, most of the weights and of the time. The VAE's
and the durations' are small, and what they round away is heard."""


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Options of `svae export`."""

    run: Path
    """Run or checkpoint folder of a TTS, adapters and students too."""
    folder: Path
    """Where it goes; it must not exist, or be empty."""
    int8: bool = False
    """Matrices of the transformer in 8 bits."""
    licence: str | None = None
    """Of the weights; None: that of the embedded model where it is that one, else the card says that none is stated."""


def export(options: ExportOptions) -> Path:
    """Write a model as ONNX with all that a runtime needs to speak; return the folder, which is whole or absent.

    Raises:
        ConfigError: the folder is in use, a network cannot be exported, or its graph does not do what torch does.
        CheckpointError: as `load_tts`.
    """
    console = Console()
    target = options.folder
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(
            f"--onnx {target}: is there already and not empty; choose a folder that does not exist"
        )
    check_writable(target, option="--onnx")
    tts = load_tts(options.run)
    parts = networks(tts)
    console.print(
        f"Model [bold]{escape(tts.identity['path'])}[/] ({tts.short_description}): {len(parts)} networks to ONNX"
    )
    with atomic_folder(target) as work:
        measured = {part.name: _write_network(part, work, options, console) for part in parts}
        _write_text_data(tts, work)
        consent = _write_own_voice(tts, work, console)
        description = _describe(tts, options, measured) | {"consent": consent}
        description["files"] = {path.name: file_sha256(path) for path in sorted(work.iterdir())}
        write_text(work / DESCRIPTION, json.dumps(description, indent=1, ensure_ascii=False))
        write_text(work / "README.md", card(description, target.name))
    size = sum(path.stat().st_size for path in target.iterdir()) / 1e6
    reference = "" if tts.prompt_file is not None else " --ref a.wav --ref-text …"
    console.print(
        f"Written: {escape(str(target))} ({size:.0f} MB). Next: svae-speak {escape(str(target))}{reference} --text …",
        highlight=False,
        soft_wrap=True,
    )
    return target


def _write_network(
    part: Network, work: Path, options: ExportOptions, console: Console
) -> dict[str, Any]:
    """Write one graph, and return how far it is from torch."""
    graph = write(part)
    differences = parity(part, graph)
    worst = max(differences.values())
    if not worst <= TOLERANCE:
        raise ConfigError(
            f"{options.run}: the graph of `{part.name}` is not what torch computes: differences by frames {differences}, at most "
            f"{TOLERANCE:g} expected. Nothing was written; please report it with the recipe of the run"
        )
    path = work / f"{part.name}.onnx"
    path.write_bytes(graph)
    measured: dict[str, Any] = {"difference": worst}
    if options.int8 and part.name in INT8:
        _quantize(path)
        measured["int8_difference"] = max(parity(part, path.read_bytes()).values())
    more = f", in 8 bits {measured['int8_difference']:.1e}" if len(measured) > 1 else ""
    console.print(
        f"  {part.name}: differs from torch by at most {worst:.1e}{more}", highlight=False
    )
    return measured


def _quantize(path: Path) -> None:
    """Store the matrices of a graph in 8 bits; what is multiplied with them is rounded while it runs."""
    import logging

    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    logging.getLogger().setLevel(logging.ERROR)  # it recommends steps that are taken below
    prepared = path.with_suffix(".prepared")
    quant_pre_process(path, prepared, skip_symbolic_shape=True)
    quantize_dynamic(
        prepared,
        path,
        op_types_to_quantize=["MatMul", "Gemm"],
        weight_type=QuantType.QInt8,
        per_channel=True,
    )
    prepared.unlink()


def _write_text_data(tts: TTS, work: Path) -> None:
    """Write what is needed to read words: the dictionary, which tells initialisms from words too, and a guesser of phones."""
    shutil.copyfile(dictionary_file(), work / "pronunciations.txt")
    if tts.vocabulary.reads_phones and (weights := weights_file()) is not None:
        shutil.copyfile(weights, work / "guess.npz")


def _write_own_voice(tts: TTS, work: Path, console: Console) -> str | None:
    """Write the voice that a model speaks in by itself, where it has one; return its note of consent."""
    if tts.prompt_file is None:
        return None
    opened = own_voice(tts, console)
    prompt = opened.prompt
    words = np.array(json.dumps(prompt.words))
    np.savez(
        work / "voice.npz",
        latents=prompt.latents.cpu().numpy(),
        text=np.array(prompt.text),
        gain=np.array(prompt.gain),
        seconds=np.array(prompt.seconds),
        words=words,
    )
    consent = opened.description.get("consent")
    return None if consent is None else str(consent)


def _describe(tts: TTS, options: ExportOptions, measured: dict[str, Any]) -> dict[str, Any]:
    """Return what voice.json holds, but for the files."""
    identity = tts.identity
    licence = options.licence
    if licence is None and str(options.run) == EMBEDDED:
        licence = "mit"
    own = {name: identity[name] for name in (*OWN, STUDENT, "description") if name in identity}
    return {
        "format": FORMAT,
        "svae": svae.__version__,
        "model_hash": identity["hash"],
        "vae_hash": identity["vae_hash"],
        "step": identity["step"],
        "licence": licence,
        "int8": options.int8,
        "sample_rate": tts.sample_rate,
        "hop_length": tts.hop_length,
        "latent_dim": tts.representation.latent_dim,
        "decoder_context": tts.representation.decoder_context,
        "prompt_rms": PROMPT_RMS,
        "prompt_limit": tts.prompt_limit,
        "max_seconds": identity.get("max_seconds"),
        "vocabulary": tts.vocabulary.to_json(),
        "durations": tts.planner.own.name,
        "own": own,
        "parity": measured,
    }
