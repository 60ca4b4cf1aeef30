"""Word errors of one utterance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from svae.judges.normalizers import normalize_for_wer


@dataclass(frozen=True)
class WordErrors:
    """Word errors of one utterance."""

    substitutions: int
    deletions: int
    insertions: int
    words: int
    """In the reference."""

    @property
    def errors(self) -> int:
        """All three kinds together."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Errors per word of the reference; may exceed 1."""
        return self.errors / self.words


def word_errors(
    reference: str, hypothesis: str, normalize: Callable[[str], str] = normalize_for_wer
) -> WordErrors:
    """Align a hypothesis with a reference (jiwer, its default transforms), both after `normalize`.

    Raises:
        ValueError: the reference has no word.
    """
    import jiwer

    reference = normalize(reference)
    if not reference.strip():
        raise ValueError("the reference text has no word")
    found = jiwer.process_words(reference, normalize(hypothesis))
    words = found.hits + found.substitutions + found.deletions
    return WordErrors(found.substitutions, found.deletions, found.insertions, words)
