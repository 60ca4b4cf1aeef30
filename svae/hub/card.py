"""The card of a model: what it is, what it was trained on and how, how well it does, and how to use it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

import svae
from svae.analysis.compare_runs import read_run
from svae.checkpoint import Checkpoint
from svae.data.shard_source import read_text
from svae.errors import DataError, SvaeError
from svae.recipe import HISTORY
from svae.synthesis.adapter import PROMPT_FILE
from svae.synthesis.voices import KeptVoice
from svae.text.languages import language_code

KINDS = {"vae": "VAE", "tts": "text-to-speech model", "adapter": "voice adapter"}
PIPELINES = {"vae": "audio-to-audio", "tts": "text-to-speech", "adapter": "text-to-speech"}


@dataclass(frozen=True)
class CardSources:
    """What a card is made from."""

    repo: str
    checkpoint: Checkpoint
    run: Path | None
    """The run that it is of; None: nothing is known of its training but what the checkpoint says."""
    licence: str
    """Identifier of the hub, such as `mit` or `cc-by-4.0`."""
    results: Sequence[Path] = ()
    """Folders of `svae evaluate`."""
    samples: Sequence[str] = ()
    """Audio files in the repository."""
    notes: str = ""
    """In the words of who publishes it."""
    files: dict[str, str] = field(default_factory=dict)
    """Path in the repository → sha256."""
    own_voice: KeptVoice | None = None
    """The voice that it speaks in where no other is given."""


def card(sources: CardSources) -> str:
    """Return README.md.

    Raises:
        DataError: results that cannot be read.
    """
    about = training(sources.run)
    sections = [
        _header(sources, about),
        f"# {sources.repo.partition('/')[2]}\n",
        _what(sources),
        sources.notes.strip() and f"{sources.notes.strip()}\n",
        _use(sources),
        _voice(sources.own_voice),
        _trained(sources, about),
        _scores(sources.results),
        _samples(sources.samples),
        _rest(sources),
    ]
    return "\n".join(section for section in sections if section)


def training(run: Path | None) -> dict[str, Any]:
    """Return what a run says of its training; what it does not say is missing."""
    found: dict[str, Any] = {}
    if run is None:
        return found
    recipe = _yaml(run / "recipe.yaml")
    indexes = [
        about for root in _roots(recipe.get("data")) if (about := _json(root / "index.json"))
    ]
    if indexes:
        found["data"] = indexes
    try:
        curves = read_run(run)
        found |= {"steps": curves.steps, "hours": curves.hours}
    except SvaeError:
        pass  # a run without rows
    machine = _json(run / "environment.json")
    if machine:
        world = machine.get("world_size", 1)
        found["hardware"] = f"{world} × {machine.get('gpu') or machine.get('device', 'unknown')}"
        found["svae"] = machine.get("svae")
        found["revision"] = machine.get("revision")
    found["recipe"] = {name: value for name, value in recipe.items() if name != HISTORY}
    return found


def _roots(data: Any) -> list[Path]:
    """Return the folders that a recipe reads: one, or those of its sources."""
    if not isinstance(data, dict):
        return []
    rows = data.get("sources") or [data]
    return [Path(row["root"]) for row in rows if isinstance(row, dict) and row.get("root")]


def _json(path: Path) -> dict[str, Any]:
    try:
        tree = json.loads(read_text(path))
    except (OSError, ValueError, SvaeError):
        return {}
    return tree if isinstance(tree, dict) else {}


def _yaml(path: Path) -> dict[str, Any]:
    try:
        tree = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except (
        Exception
    ):  # ruamel has many classes; a recipe that cannot be read is one that is not there
        return {}
    return tree if isinstance(tree, dict) else {}


def _header(sources: CardSources, about: dict[str, Any]) -> str:
    codes = (
        language_code(name)
        for index in about.get("data", [])
        for name in index.get("languages") or {}
    )
    languages = {code for code in codes if code is not None}
    lines = [
        "---",
        f"license: {json.dumps(sources.licence)}",
        "library_name: svae",
        f"pipeline_tag: {PIPELINES[sources.checkpoint.kind]}",
        "tags: [svae, speech]",
    ]
    if languages:
        # Quoted, since YAML takes Norwegian for `false`.
        lines.append(f"language: {json.dumps(sorted(languages))}")
    return "\n".join([*lines, "---", ""])


def _what(sources: CardSources) -> str:
    config = sources.checkpoint.config
    words = [f"A {KINDS[sources.checkpoint.kind]} of svae {svae.__version__}"]
    if sources.checkpoint.kind == "adapter":
        base = config["base"]
        words.append(f"beside the weights of `{base['model']}` ({str(base['hash'])[:12]}…)")
    else:
        words.append(f"{config['sample_rate']} Hz")
    if sources.checkpoint.kind == "tts":
        words.append(f"which generates {config.get('representation', 'latents')}")
    lines = [", ".join(words) + f", step {sources.checkpoint.step}.\n"]
    if config.get("description"):
        lines.append(f"{config['description']}\n")
    if config.get("imported"):
        lines.append(f"Imported from {config['imported'].get('format')}.\n")
    return "\n".join(lines)


def _use(sources: CardSources) -> str:
    repo = sources.repo
    if sources.checkpoint.kind == "vae":
        shell = f"svae evaluate --reconstruction --model {repo}\nsvae train-tts libritts/tts-small-semantic64 --vae {repo}"
        python = f'vae = svae.load_vae("{repo}")\nlatents = vae.encode(waveform).mean   # (B, 1, S) -> (B, D, T)'
    elif sources.own_voice is not None:
        shell = f'svae synthesize --model {repo} --text "Good morning."'
        python = (
            "from rich.console import Console\nfrom svae.synthesis.types import Sampling\n"
            "from svae.synthesis.voices import own_voice\n\n"
            f'tts = svae.load_tts("{repo}")\nprompt = own_voice(tts, Console()).prompt\n'
            'waveform = tts.speak(["Good morning."], [prompt], Sampling())[0].waveform'
        )
    else:
        shell = f'svae synthesize --model {repo} --ref voice.wav --text "Good morning."'
        python = f'tts = svae.load_tts("{repo}")\nwaveform = tts.synthesize("Good morning.", prompt_waveform, prompt_text)'
    return f"## Use\n\n```\n{shell}\n```\n\n```python\nimport svae\n{python}\n```\n"


def _voice(voice: KeptVoice | None) -> str:
    if voice is None:
        return ""
    consent = (
        "No note of consent is kept with it."
        if voice.consent is None
        else f"Consent, as kept with it and in every file made with it: {voice.consent}"
    )
    return (
        f"## The voice\n\nWithout `--ref` and `--voice` it speaks as the person in `{PROMPT_FILE}`, a recording of "
        f"{voice.seconds:.1f} s. {consent}\n"
    )


def _trained(sources: CardSources, about: dict[str, Any]) -> str:
    rows = []
    for index in about.get("data", []):
        rows.append(
            f"| data | {index['corpus']}: {index['utterances']} utterances, {index['seconds'] / 3600:.1f} h, "
            f"{_count(index['speakers'])} speakers |"
        )
    if not rows:
        rows.append("| data | not known where this card was made |")
    rows.append(f"| steps | {sources.checkpoint.step} |")
    if "hours" in about:
        rows.append(f"| hours of running | {about['hours']:.1f} (to step {about['steps']}) |")
    if "hardware" in about:
        rows.append(f"| hardware | {about['hardware']} |")
    if about.get("revision"):
        rows.append(f"| code | svae {about['svae']}, {about['revision'][:12]} |")
    table = "\n".join(["## Training\n", "| | |", "|---|---|", *rows, ""])
    recipe = about.get("recipe")
    return table + ("\nThe whole recipe is in `recipe.yaml`.\n" if recipe else "")


def _count(value: Any) -> Any:
    return len(value) if isinstance(value, list | dict) else value


def _scores(results: Sequence[Path]) -> str:
    if not results:
        return "## Scores\n\nNone were given with this card.\n"
    parts = ["## Scores\n"]
    for folder in results:
        table, metrics = folder / "table.md", _json(folder / "metrics.json")
        if not table.is_file() or not metrics:
            raise DataError(
                f"--results {folder}: no results there; expected a folder of `svae evaluate`, with table.md and metrics.json"
            )
        name = metrics.get("protocol", {}).get("label") or metrics.get("protocol", {}).get("name")
        parts.append(f"### {name}\n\n{table.read_text(encoding='utf-8').strip()}\n")
    return "\n".join(parts)


def _samples(samples: Sequence[str]) -> str:
    if not samples:
        return ""
    players = "\n\n".join(f'<audio controls src="{name}"></audio> `{name}`' for name in samples)
    return f"## Samples\n\n{players}\n"


def _rest(sources: CardSources) -> str:
    files = "\n".join(f"| `{name}` | `{digest}` |" for name, digest in sources.files.items())
    return (
        "## Before you use it\n\n"
        "Clone only voices whose owners agreed to it (`svae voice save --consent` and `svae adapt --consent` keep a note of that). Every file that svae "
        "speaks into says that it is synthetic, and with which weights it was made (`svae doctor FILE`).\n\n"
        f"Licence: {sources.licence}. svae itself is MIT.\n\n"
        f"| file | sha256 |\n|---|---|\n{files}\n"
    )
