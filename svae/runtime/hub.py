"""Models on the Hugging Face hub, by `user/repo` or `user/repo@revision`: brought into the hub's cache and opened there.

A commit never changes, so one that is named by its hash is taken from the cache without asking. Of a branch or tag, or where
nothing is named, the hub is asked which commit it is now; where it cannot be reached, the commit that was fetched last is
taken, and that is printed.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from svae.errors import CheckpointError
from svae.runtime.pretrained import first_line

_ID = re.compile(r"(?:hf:/{1,2})?(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
CHECKPOINT_FILES = ("*.json", "*.safetensors")
"""What of a repository a checkpoint is made of, in folders too; its card and audio are not fetched."""
TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True)
class HubModel:
    """A model on the hub."""

    repo: str
    revision: str | None = None
    """Branch, tag or commit; None: the main branch."""

    def __str__(self) -> str:
        return self.repo if self.revision is None else f"{self.repo}@{self.revision}"


def hub_model(name: str | Path) -> HubModel | None:
    """Return what on the hub a user means by a name; None for a path.

    A path is what exists, what begins like one, and what would lie in a folder that exists (`runs/mistyped`). With `hf://`
    before it, a name is never a path.
    """
    text = str(name)
    match = _ID.fullmatch(text)
    if match is None:
        return None
    if not text.startswith("hf:"):
        first = text.partition("/")[0]
        if Path(text).exists() or first in ("", ".", "..", "~") or Path(first).exists():
            return None
    return HubModel(match["repo"], match["revision"])


def fetch(
    model: HubModel, *, option: str, files: Sequence[str] = CHECKPOINT_FILES
) -> tuple[Path, str]:
    """Bring files of a model into the cache, where they are not; return their folder and the commit.

    Args:
        model: which.
        option: what the user typed it behind, for messages.
        files: patterns of the files that are wanted.

    Raises:
        CheckpointError: there is no such model or revision, it may not be read, or it is neither in the cache nor to be had.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import (
        GatedRepoError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    wanted = model.revision
    if wanted is not None and _COMMIT.fullmatch(wanted):
        found = _cached(model, wanted, files)
        # Other programs fetch single files, and then the cache cannot tell what is missing.
        if found is not None and all(any(found.glob(pattern)) for pattern in files):
            return found, wanted
    trouble = "HF_HUB_OFFLINE is set"
    if not constants.HF_HUB_OFFLINE:
        try:
            info = HfApi().model_info(model.repo, revision=wanted, timeout=TIMEOUT_SECONDS)
            return _download(model, str(info.sha), wanted, files), str(info.sha)
        except GatedRepoError as error:
            raise CheckpointError(
                f"{option} {model}: its owner asks for an agreement first ({first_line(error)}). Log in with `hf auth login`, and "
                f"accept it on the page of {model.repo}"
            ) from None
        except RevisionNotFoundError:
            raise CheckpointError(
                f"{option} {model}: {model.repo} has no branch, tag or commit {wanted!r}"
            ) from None
        except RepositoryNotFoundError:
            raise CheckpointError(
                f"{option} {model}: no such folder here (looked from {Path.cwd()}), and no such model on the hub that you may read"
            ) from None
        except (
            Exception
        ) as error:  # the HTTP client, the hub and the disk each raise classes of their own
            trouble = first_line(error)
    found = _cached(model, wanted, files)
    if found is None:
        raise CheckpointError(
            f"{option} {model}: no such folder here (looked from {Path.cwd()}), not in the hub's cache, and the hub cannot be "
            f"reached ({trouble}).\nIn the cache: {', '.join(cached_models()) or 'no models'}. `svae pull {model} --out FOLDER` where "
            "there is a network makes a folder that can be copied."
        )
    print(
        f"{option} {model}: the hub cannot be reached ({trouble}); taken from the cache: commit {found.name[:12]}…",
        file=sys.stderr,
    )
    return found, found.name


def _download(model: HubModel, commit: str, revision: str | None, files: Sequence[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils.tqdm import disable_progress_bars, enable_progress_bars

    quiet = _cached(model, commit, files) is not None
    if quiet:
        disable_progress_bars()
    try:
        # By its name, so that the cache remembers which commit that was.
        name = revision or "main"
        folder = snapshot_download(model.repo, revision=name, allow_patterns=list(files))
        if Path(folder).name != commit and revision != commit:
            folder = snapshot_download(model.repo, revision=commit, allow_patterns=list(files))
    finally:
        if quiet:
            enable_progress_bars()
    return Path(folder)


def _cached(model: HubModel, revision: str | None, files: Sequence[str]) -> Path | None:
    """Return the folder of a revision in the cache; None where it is not there."""
    from huggingface_hub import snapshot_download

    try:
        found = snapshot_download(
            model.repo, revision=revision, local_files_only=True, allow_patterns=list(files)
        )
    except Exception:  # LocalEntryNotFoundError, or what a damaged cache gives
        return None
    return Path(found)


def cached_models() -> list[str]:
    """Return the models in the hub's cache, sorted: `user/repo` where the main branch is known, else with what is known."""
    from huggingface_hub import constants

    found = []
    for folder in Path(constants.HF_HUB_CACHE).glob("models--*--*"):
        repo = folder.name.removeprefix("models--").replace("--", "/", 1)
        refs = [path for path in folder.glob("refs/**/*") if path.is_file()]
        refs.sort(key=lambda path: path.name == "main")  # its name wins
        names = {ref.read_text("utf-8").strip(): ref.relative_to(folder / "refs") for ref in refs}
        for commit in (path.name for path in folder.glob("snapshots/*")):
            name = str(names.get(commit, commit))
            found.append(repo if name == "main" else f"{repo}@{name}")
    return sorted(found)


def repository_files(model: HubModel, *, option: str) -> tuple[list[str], str]:
    """Return the paths of all files of a model, and the commit.

    Raises:
        CheckpointError: as `fetch`.
    """
    folder, commit = fetch(model, option=option, files=("README.md",))
    try:
        from huggingface_hub import HfApi

        info: Any = HfApi().model_info(model.repo, revision=commit, timeout=TIMEOUT_SECONDS)
        return sorted(each.rfilename for each in info.siblings or []), commit
    except Exception:
        there = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
        return sorted(there), commit
