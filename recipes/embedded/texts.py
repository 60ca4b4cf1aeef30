"""Sentences for the synthetic corpora: the project's own list, and more composed from templates with a seed.

Everything here is the standard library, deterministic, and free of digits. A sentence is held out of every training
corpus when its hash says so (`is_held_out`), whoever asks, so that two corpora can never disagree about it.
"""

from __future__ import annotations

import hashlib
import random
import re
from pathlib import Path

FOLDER = Path(__file__).parent
WORDNET = Path("/usr/share/wordnet")
"""Where Debian's wordnet-base puts WordNet 3.0, whose glosses hold 48,000 short example sentences."""
HELD_OUT_PERCENT = 8
"""Share of sentences that no training corpus may contain."""

_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_VOWEL_SOUND = re.compile(
    r"^(?:[aeio]|u(?!s|ni|r[aeiou])|hour|honest|heir|un[ui]?[su])", re.IGNORECASE
)

_QUESTION = re.compile(
    r"(?:what|who|why|when|where|how|do|does|did|is|are|can|could|will|would) (?:you|we|they|it|he|she|the|is|are|do|did)\b",
    re.IGNORECASE,
)


def number_words(value: int) -> str:
    """Spell a whole number from 0 to 9999 in English words, without hyphens."""
    if value < 20:
        return _ONES[value]
    if value < 100:
        tens, ones = divmod(value, 10)
        return _TENS[tens - 2] + (f" {_ONES[ones]}" if ones else "")
    unit, name = (100, "hundred") if value < 1000 else (1000, "thousand")
    head, rest = divmod(value, unit)
    return f"{number_words(head)} {name}" + (f" {number_words(rest)}" if rest else "")


def is_held_out(text: str) -> bool:
    """Tell whether this sentence belongs to the held-out part, from its letters alone (case and signs do not count)."""
    letters = re.sub(r"[^a-z]+", " ", text.lower()).strip()
    return int(hashlib.sha256(letters.encode()).hexdigest(), 16) % 100 < HELD_OUT_PERCENT


def own_sentences(part: str = "all") -> list[str]:
    """Return the sentences of sentences.txt in order; `part` is `train`, `held-out` or `all`."""
    return [text for text in lines("sentences.txt") if _belongs(text, part)]


def composed_sentences(count: int, *, seed: int, part: str = "all") -> list[str]:
    """Compose `count` distinct sentences from templates.txt and words.txt.

    Args:
        count: How many sentences.
        seed: Another seed gives other sentences.
        part: `train` leaves the held-out sentences out, `held-out` takes only those, `all` takes both.
    """
    templates, words = lines("templates.txt"), _word_lists()
    rng = random.Random(f"texts-{seed}")
    found: dict[str, None] = {}
    while len(found) < count:
        text = _compose(rng.choice(templates), words, rng)
        if _belongs(text, part):
            found[text] = None
    return list(found)


def wordnet_sentences(
    count: int, *, seed: int, part: str = "all", folder: Path = WORDNET
) -> list[str]:
    """Return `count` texts of one to three example sentences out of the installed WordNet.

    They are natural English with a wide vocabulary: most of its letter pairs and sounds in most contexts.

    Args:
        count: How many texts.
        seed: Another seed gives another order and other neighbours.
        part: As for `composed_sentences`; a held-out text has only held-out sentences.
        folder: Holds `data.noun`, `data.verb`, `data.adj` and `data.adv`.

    Raises:
        ValueError: WordNet is not there, or has fewer sentences than are needed.
    """
    files = [folder / f"data.{kind}" for kind in ("noun", "verb", "adj", "adv")]
    if absent := [path for path in files if not path.is_file()]:
        raise ValueError(f"{absent[0]}: no such file; try: apt-get install wordnet-base")
    examples: dict[str, None] = {}
    for path in files:
        for found in re.findall(r'"([^"]+)"', path.read_text(encoding="latin-1")):
            if (text := _as_sentence(found)) and _belongs(text, part):
                examples[text] = None
    rng = random.Random(f"wordnet-{seed}")
    sentences = list(examples)
    rng.shuffle(sentences)
    texts, used = [], 0
    while len(texts) < count:
        joined = min(rng.choice((1, 1, 2, 2, 3, 4)), len(sentences) - used)
        if joined == 0:
            raise ValueError(
                f"{folder}: {len(sentences)} sentences ({part}) give only {len(texts)} of {count} texts"
            )
        texts.append(" ".join(sentences[used : used + joined]))
        used += joined
    return texts


def _as_sentence(example: str) -> str | None:
    """Return a capital letter, words and an end mark; None for what is no plain sentence of 3 to 18 words."""
    text = " ".join(example.replace("`", "'").replace("--", ", ").split()).rstrip(".;,:!")
    if not re.fullmatch(r"[A-Za-z][A-Za-z',;? -]*[a-z?]", text) or not 3 <= len(text.split()) <= 18:
        return None
    if re.search(r"[A-Z]{2}|(?<!')\b[b-hj-z]\b", text):  # abbreviations and single letters
        return None
    return (
        text[0].upper()
        + text[1:]
        + ("" if text.endswith("?") else "?" if _QUESTION.match(text) else ".")
    )


def _compose(template: str, words: dict[str, list[str]], rng: random.Random) -> str:
    def fill(match: re.Match[str]) -> str:
        if match[1] == "number":
            return number_words(
                rng.choice((rng.randint(2, 20), rng.randint(2, 99), rng.randint(100, 9999)))
            )
        return rng.choice(words[match[1]])

    text = re.sub(r"\{(\w+)\}", fill, template)
    text = re.sub(
        r"\b([Aa]) (?=(\w+))", lambda m: f"{m[1]}n " if _VOWEL_SOUND.match(m[2]) else m[0], text
    )
    return text[0].upper() + text[1:]


def _belongs(text: str, part: str) -> bool:
    return part == "all" or is_held_out(text) == (part == "held-out")


def lines(name: str) -> list[str]:
    """Return the lines of a text file beside this script, without blank lines and comments."""
    text = (FOLDER / name).read_text(encoding="utf-8")
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def _word_lists() -> dict[str, list[str]]:
    slots = (line.split(":", 1) for line in lines("words.txt"))
    return {slot: [word.strip() for word in words.split(",")] for slot, words in slots}
