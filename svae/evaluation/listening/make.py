"""listen.html, which listeners open, and key.json, which says what they heard and stays with whoever runs the test."""

from __future__ import annotations

import base64
import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup
from rich.console import Console
from torch import Tensor

from svae.audio import encode_flac, load_audio
from svae.errors import ConfigError, DataError
from svae.evaluation.listening.design import KINDS, PREFERENCE, SIMILARITY, Trial, design
from svae.evaluation.listening.key import FORMAT, read_object
from svae.evaluation.listening.material import Material, find_material
from svae.runtime.files import writable_folder, write_text
from svae.synthesis.loudness import CEILING, TARGET_LUFS, measure

FILES = Path(__file__).parent / "page_files"
LARGE_MEGABYTES = 100
NOISE_DB = 0.0
"""Speech over noise in an attention check: nobody prefers it."""


@dataclass(frozen=True, kw_only=True)
class ListenOptions:
    """Options of `svae listen`."""

    systems: tuple[str, ...]
    """DIR or NAME=DIR each."""
    out: Path = Path("out/listen")
    kinds: tuple[str, ...] = KINDS[:2]
    listeners: int = 10
    questions: int | None = 20
    """Of each kind and listener; None: all."""
    seed: int = 0
    loudness: float | None = TARGET_LUFS
    """LUFS of every recording; None: as they are."""


def make_test(options: ListenOptions) -> Path:
    """Write OUT/listen.html and OUT/key.json; return the page.

    Raises:
        ConfigError: kinds or numbers that make no sense. DataError: recordings that are missing or unreadable.
    """
    problems = [f"--kind {kind}: expected one of {', '.join(KINDS)}" for kind in options.kinds if kind not in KINDS]  # fmt: skip
    if len(set(options.kinds)) != len(options.kinds) or not options.kinds:
        problems.append("--kind: each kind once, and at least one")
    if PREFERENCE in options.kinds and len(options.systems) < 2:
        problems.append(
            "listen: a preference needs two systems; name another, or choose --kind mos"
        )
    if options.listeners < 1 or (options.questions is not None and options.questions < 1):
        problems.append("--listeners, --questions: must be at least 1")
    if not 0 <= options.seed < 2**63:
        problems.append(f"--seed {options.seed}: expected a whole number from 0 to 2^63 - 1")
    if problems:
        raise ConfigError("\n".join(problems))
    material = find_material(options.systems)
    without = [item for item in material.items if item not in material.references]
    if SIMILARITY in options.kinds and without:
        raise ConfigError(
            f"--kind similarity: {len(without)} of {len(material.items)} items have no reference that is a file, e.g. "
            f"{without[0]}. Use results of `svae evaluate --list` whose rows have `ref`."
        )
    sheets = design(
        list(material.recordings), material.items, kinds=options.kinds, listeners=options.listeners,
        questions=options.questions, seed=options.seed,
    )  # fmt: skip
    writable_folder(options.out, option="--out")
    console = Console()
    sounds = Sounds(material, options.loudness, options.seed)
    shown, kept = [], []
    for number, sheet in enumerate(sheets, 1):
        trials = [sounds.shown(trial) for trial in sheet]
        shown.append([{"trial": f"{number}-{i}"} | trial for i, trial in enumerate(trials, 1)])
        kept += [{"trial": f"{number}-{i}", "sheet": number} | asdict(trial) for i, trial in enumerate(sheet, 1)]  # fmt: skip
    test = {"sheets": shown, "kinds": list(options.kinds)}
    # What is heard and whose it is: answers to other recordings, or under other names, are to another test.
    content = json.dumps([test, kept, sorted(sounds.clips.items())], ensure_ascii=False)
    identity = hashlib.sha256(content.encode()).hexdigest()[:16]
    _keep_answers_scorable(options.out, identity)
    key = {
        "format": FORMAT,
        "test": identity,
        "systems": {name: str(folder.resolve()) for name, folder in material.folders.items()},
        "kinds": list(options.kinds),
        "loudness": options.loudness,
        "seed": options.seed,
        "trials": kept,
    }
    write_text(options.out / "key.json", json.dumps(key, indent=1, ensure_ascii=False) + "\n")
    page = options.out / "listen.html"
    _write_page(page, {"test": identity, **test}, sounds.clips)
    megabytes = page.stat().st_size / 1e6
    left_out = f"; {material.left_out} left out, which not all have" if material.left_out else ""
    console.print(
        f"{len(material.recordings)} systems, {len(material.items)} items{left_out}; {options.listeners} sheets of "
        f"{len(sheets[0])} questions, checks included\n[bold]{page}[/] ({megabytes:.1f} MB) is for the listeners, "
        f"[bold]key.json[/] is not: it says whose recordings they hear",
        highlight=False,
        soft_wrap=True,
    )
    if megabytes > LARGE_MEGABYTES:
        console.print(
            "[yellow]The page is large; fewer --listeners or --questions, or --serve, make it lighter to open[/]"
        )
    return page


def _keep_answers_scorable(folder: Path, identity: str) -> None:
    """Raise DataError where FOLDER/answers holds answers to another test than this one: they need the key that would go."""
    for path in sorted((folder / "answers").glob("*.json")):
        test = read_object(path, "answers of a listening test").get("test")
        if test != identity:
            raise DataError(
                f"{path}: answers to another test, {test!r}, than the one that these systems and options make, "
                f"{identity!r}; its key.json would be lost and the answers with it. Choose another folder with --out, or move "
                f"{folder} away."
            )


class Sounds:
    """The sounds of a test, each once, under names that say nothing about them."""

    def __init__(self, material: Material, loudness: float | None, seed: int) -> None:
        self.clips: dict[str, str] = {}
        """Name → FLAC in base64."""
        self._material = material
        self._loudness = loudness
        self._seed = seed
        self._names: dict[tuple[str, bool], str] = {}
        self._random = random.Random(f"names {seed}")

    def shown(self, trial: Trial) -> dict[str, Any]:
        """Return what the page knows of a question."""
        paths = [self._material.recordings[name][trial.item] for name in trial.systems]
        reference = self._material.references.get(trial.item)
        noisy = {"first": (False, True), "second": (True, False), "noise": (True,)}
        shown: dict[str, Any] = {"kind": trial.kind}
        if trial.kind == SIMILARITY:
            assert reference is not None
            shown["reference"] = self._name(reference, noisy=False)
            if trial.check == "same":
                paths = [reference]
        flags = noisy.get(trial.check or "", (False,) * len(paths))
        # `first` says that the first is the better one: the other is noisy.
        shown["clips"] = [self._name(p, noisy=flag) for p, flag in zip(paths, flags, strict=True)]
        return shown

    def _name(self, path: Path, *, noisy: bool) -> str:
        place = (str(path), noisy)
        if place not in self._names:
            name = f"{self._random.getrandbits(48):012x}"
            self._names[place] = name
            waveform, rate = load_audio(path)
            samples = waveform[0]
            if noisy:
                samples = self._with_noise(samples)
            if self._loudness is not None:
                samples = _levelled(samples, rate, self._loudness)
            self.clips[name] = base64.b64encode(encode_flac(samples, rate)).decode()
        return self._names[place]

    def _with_noise(self, samples: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(self._seed)
        noise = torch.randn(samples.shape, generator=generator)
        mixed = samples + noise * samples.square().mean().sqrt() * 10 ** (-NOISE_DB / 20)
        return mixed / mixed.abs().max().clamp(min=1.0)


def _levelled(samples: Tensor, rate: int, target: float) -> Tensor:
    """Bring speech (S,) to a loudness, or as near as its peak allows."""
    found = measure(samples, rate)
    if found is None:
        return samples
    peak = float(samples.abs().max())
    return samples * min(10 ** ((target - found) / 20), max(CEILING / max(peak, 1e-9), 1e-9))


def _write_page(path: Path, test: dict[str, Any], clips: dict[str, str]) -> None:
    environment = Environment(
        loader=FileSystemLoader(FILES), autoescape=True, undefined=StrictUndefined
    )
    names: Sequence[str] = sorted(clips)  # not the order in which they were found
    page = environment.get_template("listen.html").render(
        css=Markup((FILES / "listen.css").read_text(encoding="utf-8")),
        js=Markup((FILES / "listen.js").read_text(encoding="utf-8")),
        data=htmlsafe_json_dumps(test, ensure_ascii=False, separators=(",", ":")),
        clips=[(name, clips[name]) for name in names],
    )
    write_text(path, page)
