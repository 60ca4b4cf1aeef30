"""TODO."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from svae.errors import ConfigError, DataError
from svae.text.spell_out import spoken_form
from svae.text.vocabulary import Vocabulary, normalize_text


def split_sentences(text: str, language: str | None) -> list[str]:
    """Return the sentences of a text, in order, each stripped; joined with spaces they are `normalize_text(text)`.

    Line breaks end a sentence too: a heading is not read into the paragraph after it.
    """
    from sentencex import segment

    found = []
    for line in text.splitlines():
        for sentence in segment(language or "en", normalize_text(line)):
            if sentence.strip():
                found.append(sentence.strip())
    return found


def read_text(text: str | None, file: Path | None) -> str:
    """Return a text given as such, or the content of a UTF-8 file (`-`: of standard input).

    Raises:
        ConfigError: none or two of them were given.
        DataError: it is empty, or the file cannot be read as UTF-8.
    """
    if (text is None) == (file is None):
        raise ConfigError("pass either --text or --text-file FILE (- for standard input)")
    name = "--text"
    if file is not None:
        name = "standard input" if str(file) == "-" else str(file)
        try:
            data = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
            text = data.decode("utf-8-sig")
        except OSError as error:
            raise DataError(f"{name}: {error.strerror}. Expected a UTF-8 text file.") from None
        except UnicodeDecodeError as error:
            raise DataError(
                f"{name}: not UTF-8 at byte {error.start}; convert it to UTF-8."
            ) from None
    assert text is not None
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise DataError(f"{name}: not valid Unicode (half a character); write it in UTF-8.")
    if not normalize_text(text):
        raise DataError(f"{name}: empty. Expected at least one character that is not white space.")
    return text


def prepare_sentences(
    text: str,
    vocabulary: Vocabulary,
    *,
    language: str | None,
    skip_unknown: bool = False,
    show: Callable[[str], object] | None = None,
) -> tuple[list[str], list[str]]:
    """Split a text into sentences as they are spoken, in characters a model knows.

    Args:
        text: any length.
        vocabulary: of the model.
        language: see `spoken_form`.
        skip_unknown: leave unknown characters out instead of refusing.
        show: called with a line for each sentence: what became of it.

    Returns:
        The sentences, and a note for each way in which unknown characters changed them: letters the model knows in
        the other case only are spoken in that case, and with `skip_unknown` others are left out.

    Raises:
        DataError: unknown characters that are not to be skipped, or nothing else is left.
    """
    written = split_sentences(text, language)
    spoken = [spoken_form(sentence, language) for sentence in written]
    for before, after in zip(written, spoken, strict=True) if show is not None else ():
        show(f"  {before}" if after == before else f"  {before}\n  → {after}")
    notes = []
    folded = [vocabulary.fold(sentence) for sentence in spoken]
    if folded != spoken:
        changed = sorted(
            {
                a
                for before, after in zip(spoken, folded, strict=True)
                for a in set(before) - set(after)
            }
        )
        notes.append(
            f"In the other case, since the model knows only that: {', '.join(map(repr, changed))}"
        )
    unknown = vocabulary.unknown(" ".join(folded))
    if unknown and skip_unknown:
        gone = str.maketrans(dict.fromkeys(unknown, " "))
        folded = [
            plain for sentence in folded if (plain := normalize_text(sentence.translate(gone)))
        ]
        if not folded:
            raise DataError(
                "text: nothing is left of it without the characters that the model does not know"
            )
        notes.append(f"Left out: {', '.join(map(repr, unknown))} (the model does not know them)")
    vocabulary.encode(" ".join(folded))  # names unknown characters before anything slow happens
    return folded, notes
