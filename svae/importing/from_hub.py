"""Official checkpoints by their hub ids: which files of a repository are one, and bringing them into the hub's cache."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from svae.errors import CheckpointError
from svae.runtime.hub import HubModel, fetch, repository_files

F5_FOLDER = "F5TTS_v1_Base"
"""Where SWivid/F5-TTS has its v1 model; of the others there svae reads none (v0 and E2)."""
_WEIGHTS = (".safetensors", ".pt")
_SEMANTIC_VAE = ("metainfo.json", "dac/ema_state_dict.pth", "dac/weights.pth")


def semantic_vae_folder(model: HubModel, file: str | None) -> Path:
    """Return the folder of a Semantic-VAE in a repository: the one with metainfo.json.

    Args:
        model: on the hub.
        file: that folder, where there are several.

    Raises:
        CheckpointError: there is none, or several; as `fetch`.
    """
    paths, commit = repository_files(model, option="svae import")
    found = [
        str(PurePosixPath(p).parent) for p in paths if PurePosixPath(p).name == "metainfo.json"
    ]
    folder = _choose(model, found, file, "folder with metainfo.json", paths)
    prefix = "" if folder == "." else f"{folder}/"
    wanted = [prefix + name for name in _SEMANTIC_VAE]
    cache, _ = fetch(HubModel(model.repo, commit), option="svae import", files=wanted)
    return cache / folder


def f5_files(model: HubModel, file: str | None) -> tuple[Path, Path | None]:
    """Return the weights of an F5-TTS in a repository, and the vocabulary beside them where there is one.

    Args:
        model: on the hub.
        file: the weights' path there, where there are several.

    Raises:
        CheckpointError: there are none, or several; as `fetch`.
    """
    paths, commit = repository_files(model, option="svae import")
    found = [path for path in paths if path.endswith(_WEIGHTS)]
    official = [path for path in found if PurePosixPath(path).parts[0] == F5_FOLDER]
    if file is None and official:
        # Of several states of training the last; of one state the file that holds no pickle.
        found = sorted(official, key=lambda path: (_step(path), path.endswith(".safetensors")))[-1:]
    weights = _choose(model, found, file, "weights (.safetensors or .pt)", paths)
    beside = str(PurePosixPath(weights).parent / "vocab.txt")
    vocabularies = [path for path in paths if PurePosixPath(path).name == "vocab.txt"]
    vocab = beside if beside in vocabularies else None
    if vocab is None and len(vocabularies) == 1:
        vocab = vocabularies[0]
    wanted = [weights, *([vocab] if vocab else [])]
    cache, _ = fetch(HubModel(model.repo, commit), option="svae import", files=wanted)
    return cache / weights, None if vocab is None else cache / vocab


def _step(path: str) -> int:
    digits = "".join(filter(str.isdigit, PurePosixPath(path).stem))
    return int(digits or 0)


def _choose(
    model: HubModel, found: list[str], asked: str | None, what: str, there: list[str]
) -> str:
    if asked is not None:
        plain = asked.strip("/") or "."
        if plain in found or plain in there:
            return plain
        raise CheckpointError(
            f"svae import {model} --file {asked}: not there. Found: {', '.join(found) or 'none'}"
        )
    if len(found) == 1:
        return found[0]
    if found:
        raise CheckpointError(
            f"svae import {model}: several things could be meant: {', '.join(found)}. Say which with --file"
        )
    raise CheckpointError(
        f"svae import {model}: no {what} there, only {', '.join(there[:20]) or 'nothing'}"
    )
