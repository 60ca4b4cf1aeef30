"""Texts in sentences as they are spoken, with the pauses between them."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from svae.errors import ConfigError, DataError
from svae.runtime.text_files import check_characters, decode_utf8, read_utf8
from svae.text.languages import base_language
from svae.text.lexicon import Lexicon, with_given_phones
from svae.text.markup import (
    PARAGRAPH_SECONDS,
    RULE_SECONDS,
    Paragraph,
    paragraphs,
    plain_paragraphs,
    without_marks,
)
from svae.text.spell_out import SPOKEN_LANGUAGES, check_language, spoken_form
from svae.text.vocabulary import Vocabulary, normalize_text

PAUSE = re.compile(
    r"\[\s*pause(?:\s*[:=\s]\s*(\d+(?:[.,]\d*)?|\.\d+)\s*(ms|milliseconds?|s|sec|seconds?)?)?\s*\]",
    re.IGNORECASE,
)
"""A pause that is asked for in a text: `[pause]`, `[pause 0.5s]`, `[pause 300 ms]`."""
MAX_PAUSE_SECONDS = 60.0
_SILENT = re.compile(r"[\s\"'()\[\],;:]*(?:-|\.{2,})[\s\"'()\[\],;:.?!-]*")
"""Dots or dashes, in quotes perhaps: what somebody says who says nothing."""
_NEXT = r"\s+(?=[\"'(\[]*[A-Z0-9])"
_MARKED_END = re.compile(rf"(?<=[.!?])(?<!\b[A-Z]\.){_NEXT}|(?<=[.!?][\"']){_NEXT}|(?<=[。！？])")
_EXPECTED = "expected at least one word, number or pause (`[pause 0.5s]`)"


class Sentence(str):
    """A sentence as it is spoken, with the silence around it that its text asks for.

    It is a string in every respect; an empty one is a text that is a pause and nothing else. Whoever joins sentences into audio must end a chunk after one whose
    `pause_after` is not 0, and put so much silence there.
    """

    pause_before: float
    """Seconds of silence before it; only the first sentence of a text has any."""
    pause_after: float
    """Seconds of silence after it, beside what any end of a sentence has: 0 within a paragraph."""

    def __new__(cls, text: str, pause_after: float = 0.0, pause_before: float = 0.0) -> Sentence:
        """Make a sentence."""
        made = super().__new__(cls, text)
        made.pause_after = pause_after
        made.pause_before = pause_before
        return made


def split_sentences(text: str, language: str | None) -> list[str]:
    """Return the sentences of a text, in order, each stripped; joined with spaces they are `normalize_text(text)`.

    A single line break joins, an empty line ends a sentence: a heading is not read into the paragraph after it.
    """
    segment = _segmenter()
    found = []
    for paragraph in re.split(r"\n\s*\n", text.replace("\r\n", "\n")):
        for sentence in segment(language or "en", normalize_text(paragraph)):
            if sentence.strip():
                found.append(sentence.strip())
    return found


@lru_cache(maxsize=1)
def _segmenter() -> Callable[[str, str], list[str]]:
    """Return what divides a paragraph into sentences."""
    try:
        from sentencex import segment
    except ModuleNotFoundError:
        # In the runtime package, whose only packages are those of its networks.
        return _after_marks
    return segment


def _after_marks(_language: str, text: str) -> list[str]:
    """Divide behind a full stop, question or exclamation mark, where a space and a capital or a digit follow."""
    return _MARKED_END.split(text)


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
        text = decode_utf8(sys.stdin.buffer.read(), name) if str(file) == "-" else read_utf8(file)
    assert text is not None
    check_characters(text, name)
    if not normalize_text(text):
        raise DataError(f"{name}: empty. Expected at least one character that is not white space.")
    return text


def check_readable(language: str | None, vocabulary: Vocabulary) -> None:
    """Raise ConfigError where a language has no rules, and the vocabulary does not read languages by itself."""
    if not vocabulary.reads_languages:
        check_language(language)


def prepare_sentences(
    text: str,
    vocabulary: Vocabulary,
    *,
    language: str | None,
    skip_unknown: bool = False,
    show: Callable[[str], object] | None = None,
    lexicon: Lexicon | None = None,
) -> tuple[list[Sentence], list[str]]:
    """Split a text into sentences as they are spoken, in characters a model knows.

    Args:
        text: any length. With a language, HTML and Markdown are taken for what they mean.
        vocabulary: of the model.
        language: see `spoken_form`. A vocabulary that reads languages takes others too; their numbers are its own matter.
        skip_unknown: leave unknown characters out instead of refusing.
        show: called with a line for each sentence: what became of it.
        lexicon: pronunciations that override all others.

    Returns:
        The sentences, each of which says how long a pause follows; and a note for each way in which unknown
        characters changed them: letters the model knows in the other case only are spoken in that case, and with
        `skip_unknown` others are left out. A text that is a pause alone is one empty sentence, which a note names.

    Raises:
        DataError: unknown characters that are not to be skipped, or nothing else is left; phones for a model of
            characters, or what is none among them.
    """
    check_readable(language, vocabulary)
    language = base_language(language)
    if vocabulary.reads_phones:
        text = with_given_phones(text)
    spoken = _spoken_sentences(text, vocabulary, language, show, lexicon)
    notes = []
    folded = [_like(vocabulary.fold(sentence), sentence) for sentence in spoken]
    if folded != spoken:
        changed = {
            char
            for sentence, plain in zip(spoken, folded, strict=True)
            for char in set(sentence) - set(plain)
        }
        names = ", ".join(map(repr, sorted(changed)))
        notes.append(f"In the other case, since the model knows only that: {names}")
    if not any(folded):
        notes.append(f"The text is a pause alone: {folded[0].pause_after:g} s of silence")
    unknown = vocabulary.unknown(" ".join(folded))
    if unknown and skip_unknown:
        gone = str.maketrans(dict.fromkeys(unknown, " "))
        left = [_like(normalize_text(sentence.translate(gone)), sentence) for sentence in folded]
        folded = _without_empty(left)
        if not folded:
            raise DataError(
                "text: nothing is left of it without the characters that the model does not know"
            )
        notes.append(f"Left out: {', '.join(map(repr, unknown))} (the model does not know them)")
    vocabulary.encode(" ".join(folded))  # names unknown characters before anything slow happens
    return folded, notes


def prepare_prompt_text(
    text: str, vocabulary: Vocabulary, *, language: str | None, lexicon: Lexicon | None = None
) -> str:
    """Return what is said in a reference as a model reads it: spelled out as the text that is to be spoken is.

    Raises:
        DataError: as `prepare_sentences`; or nothing is said.
    """
    said = " ".join(prepare_sentences(text, vocabulary, language=language, lexicon=lexicon)[0])
    if not said:
        raise DataError(f"text {text.strip()[:80]!r}: nothing in it is spoken; {_EXPECTED}")
    return said


def _spoken_sentences(
    text: str,
    vocabulary: Vocabulary,
    language: str | None,
    show: Callable[[str], object] | None,
    lexicon: Lexicon | None,
) -> list[Sentence]:
    found: list[Sentence] = []
    rules = language if language in SPOKEN_LANGUAGES else None
    for written, pause_seconds in _parts(text, language):
        said = written if lexicon is None else lexicon.apply(written, vocabulary)
        if language == "en":
            sentences = split_sentences(spoken_form(said, rules), language)
        else:
            sentences = [spoken_form(part, rules) for part in split_sentences(said, language)]
        written = without_marks(written)
        if show is not None and written:
            shown = sentences if " ".join(sentences) == normalize_text(written) else [written]
            for line in shown:
                show(f"  {line}")
            for line in sentences if shown is not sentences else ():
                show(f"  → {line}")
        found += [Sentence(sentence) for sentence in sentences[:-1]]
        found.append(Sentence(sentences[-1] if sentences else "", pause_seconds))
    found = _without_empty(found)
    if not found:
        return [_silence(text, language)]
    if re.search(PAUSE.pattern + r"\s*$", text, re.IGNORECASE) is None:
        found[-1].pause_after = 0.0  # the end of a text needs no silence that nobody asked for
    return found


def _silence(text: str, language: str | None) -> Sentence:
    """Return the pause that a text is which says nothing.

    Raises:
        DataError: nor is there a pause in it.
    """
    rules = [part.pause_seconds for part in _parts(text, language) if not part.text]
    seconds = max([*rules, *map(_seconds, PAUSE.finditer(text))], default=0.0)
    if not seconds and _SILENT.fullmatch(normalize_text(text)):
        seconds = RULE_SECONDS
    if not seconds:
        raise DataError(f"text {text.strip()[:80]!r}: nothing in it is spoken; {_EXPECTED}")
    return Sentence("", seconds)


def _parts(text: str, language: str | None) -> list[Paragraph]:
    """Return the pieces of a text between pauses, and how long each pause is."""
    found = []
    plain = paragraphs(text, markdown=False) if language is None else plain_paragraphs(text)
    for paragraph in plain:
        start = 0
        for pause in PAUSE.finditer(paragraph.text):
            found.append(Paragraph(paragraph.text[start : pause.start()].strip(), _seconds(pause)))
            start = pause.end()
        rest = paragraph.text[start:].strip()
        if rest or not start:
            found.append(Paragraph(rest, paragraph.pause_seconds))
    return found


def _seconds(pause: re.Match[str]) -> float:
    if pause[1] is None:
        return PARAGRAPH_SECONDS
    seconds = float(pause[1].replace(",", ".")) / (
        1000 if (pause[2] or "s").lower().startswith("m") else 1
    )
    if seconds > MAX_PAUSE_SECONDS:
        raise DataError(
            f"text: {pause[0]} asks for {seconds:g} s of silence; at most {MAX_PAUSE_SECONDS:g} s are possible"
        )
    return seconds


def _without_empty(sentences: list[Sentence]) -> list[Sentence]:
    """Return the sentences that say something; pauses of the others go to their neighbours."""
    found: list[Sentence] = []
    waiting = 0.0
    for sentence in sentences:
        if any(map(str.isalnum, sentence)):
            found.append(Sentence(sentence, sentence.pause_after, sentence.pause_before + waiting))
            waiting = 0.0
        elif found:
            found[-1].pause_after = max(found[-1].pause_after, sentence.pause_after)
        else:
            waiting = max(waiting, sentence.pause_before, sentence.pause_after)
    return found


def _like(text: str, sentence: Sentence) -> Sentence:
    return Sentence(text, sentence.pause_after, sentence.pause_before)
