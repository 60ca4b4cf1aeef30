"""How well sentences cover English: its phonemes, and its pairs of phonemes and of letters within words.

The measure is the CMU dictionary, as svae carries it: the pairs that occur in its words, and how often they occur there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import pairwise

from svae.text.phonemes import LETTERS, PHONES, Word, dictionary, pieces


def coverage(sentences: Iterable[str]) -> dict:
    """Return what sentences cover.

    Args:
        sentences: English, numbers spelled out.

    Returns:
        `words`, and how many of them the dictionary pronounces (`known_words`); `phonemes`: how often each is spoken;
        `phoneme_pairs` and `letter_pairs`: how many of the dictionary's different pairs occur (`found`, `of`), and how
        much of all the dictionary they make up (`share`: of the pairs in its words, each word counted once).
    """
    words = [
        piece for sentence in sentences for piece in pieces(sentence) if isinstance(piece, Word)
    ]
    spoken = [word.phones for word in words if word.phones is not None]
    phonemes = Counter(phone for phones in spoken for phone in phones)
    phoneme_pairs, letter_pairs = pairs_of_the_dictionary()
    return {
        "words": len(words),
        "known_words": len(spoken),
        "phonemes": {phone: phonemes[phone] for phone in PHONES},
        "phoneme_pairs": _covered(pairs(spoken), phoneme_pairs),
        "letter_pairs": _covered(pairs(word.letters for word in words), letter_pairs),
    }


def describe(found: dict) -> str:
    """Return a coverage in one line."""
    counts = found["phonemes"]
    rarest = min(counts, key=counts.__getitem__)
    parts = [
        f"{sum(n > 0 for n in counts.values())} of {len(counts)} phonemes (rarest {rarest}: {counts[rarest]:,})"
    ]
    for name in ("phoneme_pairs", "letter_pairs"):
        pair = found[name]
        parts.append(
            f"{pair['found']:,} of the dictionary's {pair['of']:,} {name.replace('_', ' ')} ({pair['share']:.1%} by use)"
        )
    return f"{', '.join(parts)}; {found['known_words']:,} of {found['words']:,} words are in the dictionary"


def pairs(words: Iterable[Sequence[str]]) -> Counter[tuple[str, str]]:
    """Count the neighbours within words, of phonemes or of letters; apostrophes separate letters."""
    known = {*LETTERS, *PHONES}
    return Counter(pair for word in words for pair in pairwise(word) if known.issuperset(pair))


@lru_cache(maxsize=1)
def pairs_of_the_dictionary() -> tuple[Counter[tuple[str, str]], Counter[tuple[str, str]]]:
    """Count the pairs of phonemes and of letters in the dictionary's words."""
    return pairs(dictionary().values()), pairs(dictionary())


def _covered(here: Counter[tuple[str, str]], all_pairs: Counter[tuple[str, str]]) -> dict:
    found = [pair for pair in all_pairs if pair in here]
    share = sum(all_pairs[pair] for pair in found) / all_pairs.total()
    return {"found": len(found), "of": len(all_pairs), "share": round(share, 4)}
