"""Load a teacher or a judge from a local folder or from the Hugging Face hub, with an error that helps where there is no network."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from svae.errors import ConfigError
from svae.runtime.files import file_sha256

T = TypeVar("T")
MODEL_FILES = (".safetensors", ".bin", ".ckpt", ".json", ".txt", ".yaml", ".model")


def load_pretrained(
    load: Callable[[bool], T], source: str, *, option: str, offline: str, probe: str
) -> T:
    """Load a local folder, the hub's cache, or the hub, in this order.

    Args:
        load: called with `local_files_only`. A ConfigError it raises is passed on.
        source: folder or hub id.
        option: what the user typed, for the message.
        offline: what works without a network, for the message.
        probe: a file that every such repository has, asked for once before the download begins.

    Raises:
        ConfigError: the folder cannot be loaded, or there is no such folder and the hub cannot be reached.
    """
    if Path(source).exists() or source.count("/") != 1 or source.startswith((".", "/", "~")):
        if not Path(source).is_dir():
            raise ConfigError(
                f"{option}: {source} is neither a folder nor a hub id like owner/name. {offline}"
            )
        try:
            with quiet_transformers():
                return load(True)
        except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{option}: {source} cannot be loaded: {first_line(error)}. {offline}"
            ) from None
    try:
        with quiet_transformers():
            return load(True)
    except ConfigError:
        raise  # it is there, and is not what is needed
    except Exception:
        pass  # not, or not completely, in the cache; every library has its own class for it
    try:
        from huggingface_hub import get_session, hf_hub_url

        # One bare request first: without a network this fails once and soon, not after retries for every file.
        get_session().head(hf_hub_url(source, probe), timeout=5)
        return load(False)
    except ConfigError:
        raise
    except Exception as error:
        # The hub, the HTTP client and transformers each raise classes of their own.
        raise ConfigError(
            f"{option}: {source} is not in the local hub cache, and the download failed: {first_line(error)}\n{offline}"
        ) from None


def split_revision(source: str) -> tuple[str, str | None]:
    """Split `owner/name@REVISION`; a folder keeps its `@`."""
    name, _, pinned = source.rpartition("@")
    if name.count("/") == 1 and not Path(source).exists():
        return name, pinned
    return source, None


def revision(source: str, file: str = "config.json") -> str | None:
    """Return the commit of a hub repository in the local cache, where it was loaded from; None for a folder."""
    from huggingface_hub import try_to_load_from_cache

    if Path(source).is_dir():
        return None
    found = try_to_load_from_cache(source, file)  # …/snapshots/COMMIT/FILE
    return Path(found).parent.name if isinstance(found, str) else None


def weights_sha256(source: str | Path) -> str | None:
    """Return the sha256 over what a local folder's model is made of, in the order of names; None for a hub id.

    Weights, configuration and vocabulary: each may change an answer.
    """
    folder = Path(source)
    if not folder.is_dir():
        return None
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.iterdir() if p.suffix in MODEL_FILES):
        digest.update(f"{path.name} {file_sha256(path)}\n".encode())
    return digest.hexdigest()


def identity(source: str, pinned: str | None) -> dict[str, str | None]:
    """Return what results say of a pretrained model: its name, and its commit on the hub or the hash of its folder."""
    return {
        "model": source,
        "revision": pinned or revision(source),
        "sha256": weights_sha256(source),
    }


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its class."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers' notes and bars out of our output."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
