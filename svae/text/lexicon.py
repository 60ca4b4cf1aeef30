"""A reader's own pronunciations: a file of words, each with its phones or with a respelling."""

from __future__ import annotations

import re
from pathlib import Path

from svae.errors import DataError
from svae.runtime.text_files import read_utf8
from svae.text.phonemes import PHONES, with_s
from svae.text.vocabulary import Vocabulary, normalize_text


class Lexicon:
    """Words and how they are said; matched as whole words, whatever their case.

    Args:
        entries: word → phones in braces (`{B EY S}`), or another spelling (`rag-oo-nathan`).
    """

    def __init__(self, entries: dict[str, str]) -> None:
        self.entries = {word.casefold(): said for word, said in entries.items()}
        names = sorted(map(re.escape, self.entries), key=len, reverse=True)
        self._pattern = re.compile(
            rf"(?<![\w{{])({'|'.join(names) or '(?!)'})('s)?(?![\w}}])", re.IGNORECASE
        )

    @classmethod
    def read(cls, path: Path) -> Lexicon:
        """Read a UTF-8 file; see `parse`. Raises DataError where it cannot be read, and as `parse`."""
        return cls.parse(read_utf8(path), str(path))

    @classmethod
    def parse(cls, text: str, name: str) -> Lexicon:
        """Read a text: a word (or several), a tab or two spaces or `=`, and phones or a respelling a line.

        Phones are ARPABET, with or without stress: `bass  B EY1 S`. Lines that begin with `#` and empty ones are skipped.

        Raises:
            DataError: lines are wrong; the message begins with `name` and names each of them.
        """
        entries: dict[str, str] = {}
        problems: list[str] = []
        for number, line in enumerate(text.split("\n"), 1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            try:
                word, said = _entry(line)
            except ValueError as error:
                problems.append(f"  line {number}: {error}")
                continue
            if word.casefold() in entries:
                problems.append(f"  line {number}: {word!r} is in an earlier line too")
            entries[word.casefold()] = said
        if problems:
            more = [f"  … and {len(problems) - 10} more"] if len(problems) > 10 else []
            raise DataError(
                "\n".join([f"{name}: {len(problems)} wrong line(s)", *problems[:10], *more])
            )
        if not entries:
            raise DataError(
                f"{name}: no entries; expected lines like 'Raghunathan<tab>R AA G UW N AA T AH N'"
            )
        return cls(entries)

    def apply(self, text: str, vocabulary: Vocabulary) -> str:
        """Return a text with its words respelled, or with their phones behind them: `bass{B EY S}`.

        Raises:
            DataError: an entry that is needed has phones, and the model reads characters.
        """

        def say(match: re.Match[str]) -> str:
            word, ending = match[1], match[2] or ""
            said = self.entries[word.casefold()]
            if not said.startswith("{"):
                return said + ending
            if not vocabulary.reads_phones:
                raise DataError(
                    f"lexicon: {word!r} has phones, and this model reads characters; give a respelling instead"
                )
            if ending:
                said = "{" + " ".join(with_s(tuple(said.strip("{}").split()))) + "}"
            return word.replace(" ", "-") + ending + said

        return self._pattern.sub(say, normalize_text(text) if "’" in text else text)

    def __len__(self) -> int:
        return len(self.entries)


_IN_BRACES = re.compile(r"\{\s*([A-Za-z]{1,2}\d?(?:\s+[A-Za-z]{1,2}\d?)*)\s*\}")


def with_given_phones(text: str) -> str:
    """Return a text whose phones in braces are in capitals: `{b ey1 s}` is meant for phones as well.

    What only looks like them, as `{x}` or `{i j}` in a formula, stays.

    Raises:
        DataError: among phones stands something else; it is named.
    """

    def read(match: re.Match[str]) -> str:
        phones = match[1].upper().split()
        if match[1].islower() and not any(len(phone) > 1 for phone in phones):
            return match[0]
        wrong = [phone for phone in phones if phone.rstrip("012") not in PHONES]
        if not wrong and (len(phones) > 1 or match[1].isupper()):
            return "{" + " ".join(phones) + "}"
        if wrong and 2 * len(wrong) <= len(phones):
            raise DataError(
                f"text: {match[0]}: {', '.join(map(repr, wrong))}: no phone(s) of ARPABET ({' '.join(PHONES)}), "
                "with 0, 1 or 2 after a vowel for its stress"
            )
        return match[0]

    return _IN_BRACES.sub(read, text)


def _entry(line: str) -> tuple[str, str]:
    """Return the word of a line and how it is said.

    Raises:
        ValueError: why the line is wrong.
    """
    parts = [part.strip() for part in re.split(r"\t+|\s*=\s*|\s{2,}", line.strip(), maxsplit=1)]
    if len(parts) == 1:
        parts = line.split(maxsplit=1)
    if len(parts) != 2 or not parts[1]:
        raise ValueError(
            f"expected a word, a tab, and phones or a respelling; got {line.strip()[:60]!r}"
        )
    word, said = normalize_text(parts[0]), normalize_text(parts[1]).strip("{} ")
    if not re.fullmatch(r"[^\W_](?:[\w'. -]*\w)?", word):
        raise ValueError(f"{word[:40]!r} is no word")
    pieces = said.split()
    if all(re.fullmatch(r"[A-Z]{1,2}[0-2]?", piece) for piece in pieces) and (
        len(pieces) > 1 or pieces[0].rstrip("012") in PHONES
    ):
        wrong = [piece for piece in pieces if piece.rstrip("012") not in PHONES]
        if wrong:
            raise ValueError(
                f"{', '.join(map(repr, wrong))}: no phone(s) of ARPABET ({' '.join(PHONES)})"
            )
        return word, "{" + " ".join(piece.rstrip("012") for piece in pieces) + "}"
    if not re.search(r"[^\W\d_]", said) or re.search(r"[{}\[\]]", said):
        raise ValueError(f"{said[:40]!r} is neither phones nor a respelling")
    return word, said
