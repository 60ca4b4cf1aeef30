"""Speech corpora as lists of utterances: which files, who speaks, what is said. No audio is read here.

A file here reads one layout and lists its corpora in `CORPORA`; its name in `_LAYOUTS` makes `svae prepare` know them.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from svae.data.corpora.corpus import Corpus, Utterance
from svae.errors import DataError
from svae.runtime.files import file_stem
from svae.runtime.text_files import check_characters

_LAYOUTS = ("sample", "libri", "ljspeech", "vctk", "jsonl", "lhotse")

CORPORA: dict[str, Corpus] = {
    corpus.name: corpus
    for layout in _LAYOUTS
    for corpus in import_module(f"{__name__}.{layout}").CORPORA
}
"""Name → corpus, in the order in which they are listed to a person."""


def find_corpus(name: str) -> Corpus:
    """Return a corpus by its name.

    Raises:
        DataError: there is none of this name.
    """
    if name not in CORPORA:
        raise DataError(f"corpus {name!r}: unknown. Expected one of {', '.join(CORPORA)}.")
    return CORPORA[name]


def list_utterances(name: str, root: Path, subsets: Sequence[str] = ()) -> list[Utterance]:
    """List the utterances of a corpus, sorted by key.

    Args:
        name: one of `CORPORA`.
        root: the corpus' folder or the one it lies in; for jsonl the file, or a folder with one .jsonl file.
        subsets: for LibriTTS and LibriSpeech, which to take. None given: the train-* subsets that are there, so that
            test speakers do not get into training unasked; all that are there where none begins with train-.

    Raises:
        DataError: nothing is found (says how to get the corpus), an unknown subset, a malformed list, or a file
            that is listed twice, or whose name is not Unicode.
    """
    corpus, root = find_corpus(name), Path(root)
    if subsets and not corpus.has_subsets:
        raise DataError(
            f"--subset {' '.join(subsets)}: {name} has no subsets. Leave the option out."
        )
    found = corpus.utterances(root, subsets)
    if not found:
        raise corpus.missing(root, "no utterance was found there")
    for utterance in found:
        for name in (utterance.source, utterance.speaker):
            check_characters(name, f"{utterance.place or root}: the name of a file or folder")
    # Files are named after keys where shards are unpacked or decoded.
    named = [replace(u, key=file_stem(u.key)) for u in _unique(found, root)]
    return sorted(named, key=lambda utterance: utterance.key)


def _unique(utterances: list[Utterance], root: Path) -> list[Utterance]:
    """Refuse what is listed twice; add a hash of the path to the keys of different files that would have the same."""
    first: dict[str, Utterance] = {}
    twice = [u for u in utterances if first.setdefault(u.identity, u) is not u]
    if twice:
        before = first[twice[0].identity]
        places = f" in {before.place} and {twice[0].place}" if before.place else ""
        raise DataError(
            f"{root}: {twice[0].segment} is listed more than once{places} ({len(twice)} such rows). "
            "Every recording, or part of one, must occur once; delete the other row."
        )
    counts = Counter(utterance.key for utterance in utterances)
    return [
        u
        if counts[u.key] == 1
        else replace(u, key=f"{u.key}-{hashlib.sha256(u.identity.encode()).hexdigest()[:10]}")
        for u in utterances
    ]
