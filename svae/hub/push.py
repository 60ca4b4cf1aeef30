"""`svae push` and `svae pull`: a checkpoint with its card to a repository of the hub, and back, byte for byte."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from svae.audio import AUDIO_SUFFIXES
from svae.checkpoint import EMBEDDED, Checkpoint, copy_weights, open_checkpoint
from svae.errors import CheckpointError, ConfigError
from svae.hub.card import CardSources, card
from svae.runtime.files import atomic_folder, file_sha256, write_text
from svae.runtime.hub import CHECKPOINT_FILES, fetch, hub_model
from svae.runtime.pretrained import first_line
from svae.runtime.text_files import read_utf8
from svae.synthesis.adapter import PROMPT_FILE
from svae.synthesis.voices import kept_voice

MAX_SAMPLES = 4
_REPO = re.compile(r"[\w.-]+/[\w.-]+")
_LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]*")


@dataclass(frozen=True, kw_only=True)
class PushOptions:
    """Options of `svae push`."""

    run: Path
    """Run or checkpoint folder."""
    repo: str
    """user/name on the hub."""
    licence: str
    """Identifier of the hub."""
    licence_file: Path | None = None
    """Text of the licence, which becomes LICENSE."""
    results: Sequence[Path] = ()
    """Folders of `svae evaluate`."""
    samples: Sequence[Path] = ()
    """Audio; none: the newest that the run has said."""
    notes: Path | None = None
    """Text for the card."""
    private: bool = False
    dry_run: bool = False
    """Show files and card, and send nothing."""


def push(options: PushOptions, console: Console | None = None) -> str | None:
    """Send a checkpoint to the hub; return the commit, None for a dry run.

    Raises:
        ConfigError: a name or licence that the hub does not take, or a sample that is no audio.
        CheckpointError: the checkpoint is unusable or needs what others do not have; the hub refused.
        DataError: results or notes that cannot be read.
    """
    console = console or Console()
    _check(options)
    checkpoint = open_any(options.run)
    run = _run_of(options.run, checkpoint)
    with tempfile.TemporaryDirectory(prefix="svae-push-") as temporary:
        folder = Path(temporary)
        stage(folder, checkpoint, run, options)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        if (folder / PROMPT_FILE).is_file():
            console.print(
                f"{PROMPT_FILE} holds a recording of the person whose voice it is; it is sent with the rest.",
                highlight=False,
            )
        for path in files:
            console.print(
                f"  {path.relative_to(folder)}  {path.stat().st_size / 1e6:.2f} MB", highlight=False
            )
        if options.dry_run:
            console.print("\n[bold]README.md[/]\n")
            console.print(
                (folder / "README.md").read_text(encoding="utf-8"), markup=False, highlight=False
            )
            console.print(f"Nothing was sent. Without --dry-run this goes to {options.repo}.")
            return None
        commit = _send(folder, options)
    visible = "private" if options.private else "public"
    console.print(
        f"{len(files)} files in [bold]{escape(options.repo)}[/] ({visible} if it is new), commit {commit[:12]}…\n"
        f"Next: svae pull {options.repo}@{commit} --out FOLDER, or --model {options.repo}",
        highlight=False,
        soft_wrap=True,
    )
    return commit


def _check(options: PushOptions) -> None:
    if not _REPO.fullmatch(options.repo):
        raise ConfigError(f"{options.repo!r}: expected user/name, the repository on the hub")
    if not _LICENCE.fullmatch(options.licence):
        raise ConfigError(
            f"--license {options.licence!r}: expected an identifier of the hub, such as mit, cc-by-4.0, cc-by-nc-4.0 or other"
        )
    for path in options.samples:
        if path.suffix.lower() not in AUDIO_SUFFIXES or not path.is_file():
            raise ConfigError(f"--sample {path}: no audio file there")
    for option, file in (("--license-file", options.licence_file), ("--notes", options.notes)):
        if file is not None and not file.is_file():
            raise ConfigError(f"{option} {file}: no such file")


def open_any(path: Path) -> Checkpoint:
    """Open a checkpoint of any kind. Raises CheckpointError."""
    try:
        return open_checkpoint(path, kind="tts", or_adapter=True)
    except CheckpointError as error:
        if "this is a vae checkpoint" not in str(error):
            raise
    return open_checkpoint(path, kind="vae")


def _run_of(path: Path, checkpoint: Checkpoint) -> Path | None:
    """Return the run that a checkpoint lies in; None where it is by itself."""
    # The last is that of `merged/`, which `svae adapt --merge` writes beside the checkpoints.
    for folder in (path, checkpoint.folder.parent.parent, checkpoint.folder.parent):
        if (folder / "recipe.yaml").is_file() and (folder / "checkpoints").is_dir():
            return folder
    return None


def stage(folder: Path, checkpoint: Checkpoint, run: Path | None, options: PushOptions) -> None:
    """Lay out in a folder what the repository will hold.

    Raises:
        CheckpointError: a damaged file, or an adapter whose base is a folder of this machine.
        DataError: results or notes that cannot be read.
    """
    if checkpoint.kind == "adapter":
        _check_base(checkpoint)
    verify(checkpoint)
    copy_weights(checkpoint.folder, folder)
    if run is not None:
        shutil.copyfile(run / "recipe.yaml", folder / "recipe.yaml")
    if options.licence_file is not None:
        shutil.copyfile(options.licence_file, folder / "LICENSE")
    found = options.samples or ([] if run is None else run_samples(run))
    names = []
    for path in found:
        (folder / "samples").mkdir(exist_ok=True)
        name = f"samples/{path.name}"
        if (folder / name).exists():
            raise ConfigError(f"--sample {path}: two samples are called {path.name}")
        shutil.copyfile(path, folder / name)
        names.append(name)
    weights = sorted(folder.rglob("*.safetensors"))
    sources = CardSources(
        repo=options.repo,
        checkpoint=checkpoint,
        run=run,
        licence=options.licence,
        results=options.results,
        samples=names,
        notes="" if options.notes is None else read_utf8(options.notes),
        files={str(path.relative_to(folder)): file_sha256(path) for path in weights},
        own_voice=kept_voice(prompt) if (prompt := folder / PROMPT_FILE).is_file() else None,
    )
    write_text(folder / "README.md", card(sources))


def _check_base(adapter: Checkpoint) -> None:
    """Raise CheckpointError where others cannot have what an adapter is added to."""
    base = str(adapter.config["base"]["model"])
    if base != EMBEDDED and hub_model(base) is None:
        raise CheckpointError(
            f"{adapter.folder}: its base is {base} on this machine, which nobody else has. Make a whole model of it first: the same "
            "`svae adapt` command with --merge writes merged/, which can be pushed. Or push the base, and adapt it by its name on "
            "the hub (--model user/repo)"
        )


def run_samples(run: Path) -> list[Path]:
    """Return what a run said last, a few files."""
    hello = [run / "hello.wav"] if (run / "hello.wav").is_file() else []
    steps = sorted(run.glob("samples/step-*"))
    said = sorted(steps[-1].glob("*.wav")) if steps else []
    return [*hello, *said][:MAX_SAMPLES]


def verify(checkpoint: Checkpoint) -> None:
    """Raise CheckpointError where a file of a checkpoint, or of the VAE in it, is not the one that its config.json lists."""
    folders = [checkpoint.folder]
    if (checkpoint.folder / "vae" / "config.json").is_file():
        folders.append(checkpoint.folder / "vae")
    for folder in folders:
        listed = json.loads((folder / "config.json").read_text(encoding="utf-8"))["files"]
        for name, expected in listed.items():
            path = folder / name
            if not path.is_file() or file_sha256(path) != expected:
                raise CheckpointError(
                    f"{path}: missing or damaged: config.json lists it with sha256 {expected[:12]}…; copy or pull it again"
                )


def _send(folder: Path, options: PushOptions) -> str:
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        api.create_repo(options.repo, private=options.private, exist_ok=True, repo_type="model")
        done = api.upload_folder(
            repo_id=options.repo,
            folder_path=folder,
            repo_type="model",
            commit_message="svae push",
        )
    except Exception as error:  # the hub's client raises many classes
        raise CheckpointError(
            f"svae push {options.repo}: the hub did not take it ({first_line(error)}). Is there a network, and are you logged in "
            "(`hf auth login`) with the right to write there? Nothing on this machine changed."
        ) from None
    return str(done.oid)


def pull(name: str, out: Path, console: Console | None = None) -> Path:
    """Make a folder of a model on the hub: a checkpoint of svae, whole and checked, or nothing.

    Raises:
        ConfigError: not a name of the hub, or `out` holds something.
        CheckpointError: it cannot be had, is no checkpoint of svae, or does not have the hashes that it lists.
    """
    console = console or Console()
    model = hub_model(name) or hub_model(f"hf://{name}")
    if model is None:
        raise ConfigError(f"svae pull {name!r}: expected user/repo or user/repo@revision")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"--out {out}: holds something; choose another, or empty it")
    source, commit = fetch(
        model,
        option="svae pull",
        files=(*CHECKPOINT_FILES, "README.md", "LICENSE", "recipe.yaml", "samples/*"),
    )
    if not (source / "config.json").is_file():
        raise CheckpointError(
            f"svae pull {model}: has no config.json, so it is no checkpoint of svae; `svae import` turns some others into one"
        )
    verify(open_any(source))
    with atomic_folder(out) as temporary:
        # The cache has links to files that are shared with other revisions.
        shutil.copytree(source, temporary, symlinks=False, dirs_exist_ok=True)
    console.print(
        f"{escape(str(model))}, commit {commit[:12]}…, in [bold]{escape(str(out))}[/], all hashes right",
        highlight=False,
    )
    return out
