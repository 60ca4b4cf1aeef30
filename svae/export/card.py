"""The README.md of an exported voice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PARTS = {
    "text.onnx": "text tower: symbols to what the transformer hears of the text",
    "step.onnx": "transformer: one evaluation of the velocity",
    "encoder.onnx": "VAE encoder: waveform to normalised latents",
    "decoder.onnx": "VAE decoder: normalised latents to waveform",
    "durations.onnx": "how long phones or texts last",
    "voice.npz": "the voice that it speaks in where no other is given",
    "pronunciations.txt": "CMU Pronouncing Dictionary (Carnegie Mellon University, BSD 2-clause), as pocketsphinx carries it",
    "guess.npz": "phones of words that it lacks: g2p-en (Kyubyong Park, Jongseok Kim, Apache-2.0)",
}


def card(description: Mapping[str, Any], name: str) -> str:
    """Return the card of what voice.json describes."""
    own = description["own"]
    student = own.get("student")
    sampling = (
        f"{student['steps']} steps of one pass, with guidance {student['guidance']:g} (prompt {student['prompt_guidance']:g}) inside"
        if student
        else ", ".join(f"{key} {value:g}" for key, value in own.items() if key != "description")
        or "32 steps, guidance 2"
    )
    rows = [
        ("model", f"`{description['model_hash']}`, step {description['step']}"),
        ("VAE", f"`{description['vae_hash']}`"),
        ("made by", f"svae {description['svae']}, `svae export`"),
        ("speech", f"{description['sample_rate']} Hz, {description['hop_length']} samples a frame"),
        ("samples with", sampling),
        ("durations", f"rule `{description['durations']}`"),
        ("licence", description["licence"] or "none stated: ask whoever trained it"),
    ]
    has_voice = "voice.npz" in description["files"]
    reference = "" if has_voice else ' --ref a.wav --ref-text "What is said in it."'
    if has_voice:
        rows.append(("consent of its voice", description["consent"] or "no note is kept"))
    about = own.get("description", "a text-to-speech model of svae")
    lines = [
        f"# {name}: a voice without torch",
        "",
        f"{about[:1].upper()}{about[1:]}. Speech is synthetic; clone voices only of people who agreed to it.",
        "",
        "```bash",
        "pip install ./runtime       # in a checkout of svae",
        f'svae-speak {name}{reference} --text "What to say." --out x.wav',
        "```",
        "",
        "| | |",
        "|---|---|",
        *(f"| {key} | {value} |" for key, value in rows),
        "",
        "Greatest differences from torch on a CPU, measured while exporting, at lengths the exporter had not seen (of a decoder with a "
        "source the root mean square):",
        "",
        "| file | difference | in 8 bits |" if description["int8"] else "| file | difference |",
        "|---|---|---|" if description["int8"] else "|---|---|",
    ]
    for part, found in description["parity"].items():
        low = found.get("int8_difference")
        extra = f" {'-' if low is None else format(low, '.1e')} |" if description["int8"] else ""
        lines.append(f"| {part}.onnx | {found['difference']:.1e} |{extra}")
    lines += ["", "| file | what | sha256 |", "|---|---|---|"]
    lines += [
        f"| {file} | {PARTS.get(file, '')} | `{digest}` |"
        for file, digest in description["files"].items()
    ]
    return "\n".join(lines) + "\n"
