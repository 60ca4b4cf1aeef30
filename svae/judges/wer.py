"""Word error rates: what happens to both texts before their words are compared, and the counting.

A word error rate without its normaliser means little: deleting an apostrophe merges words, replacing it splits them.
Each normaliser gives the same string, character for character, as the code it is named after.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable
from dataclasses import dataclass

HANZI_PUNCTUATION = (
    "＂＃＄％＆＇（）＊＋，－．／：；＜＝＞＠［＼］＾＿｀｛｜｝～｟｠"  # full-width forms
    "｢｣､"  # half-width CJK
    "\u3000、〃〈〉《》「」『』【】〔〕〖〗〘〙〚〛〜〝〞〟〰〾〿"  # CJK symbols; the first is the ideographic space
    "–—‘’‛“”„‟…‧"  # general punctuation: of the apostrophes U+2018, U+2019 and U+201B
    "﹏﹑﹔·"
    "！？｡。"  # stops
)
"""`zhon.hanzi.punctuation`. Source: zhon 2.1.1 (tests compare it where zhon is installed); 1.x lacks U+FF0E, `．`."""
_SVAE = str.maketrans("", "", string.punctuation + "“”‘’…–—")
_ALL = str.maketrans("", "", HANZI_PUNCTUATION + string.punctuation)
_ALL_BUT_APOSTROPHE = str.maketrans(
    "", "", (HANZI_PUNCTUATION + string.punctuation).replace("'", "")
)


def normalize_for_wer(text: str) -> str:
    """Lower the case, delete punctuation (apostrophes and hyphens too, without a space), collapse white space.

    This project's own, of the `offline` protocol; on English text its words are those of `f5_english`.
    """
    return " ".join(text.translate(_SVAE).lower().split())


def f5_english(text: str) -> str:
    """Delete all punctuation, replace double spaces in one pass, lower the case.

    Three spaces become two; no white space is stripped (jiwer does that when it splits).
    Source: F5-TTS `eval/utils_eval.py`, `run_asr_wer`.
    """
    return text.translate(_ALL).replace("  ", " ").lower()


def f5_chinese(text: str) -> str:
    """Delete all punctuation, replace double spaces in one pass, set a space between characters: WER becomes CER.

    Source: F5-TTS `eval/utils_eval.py`, `run_asr_wer`.
    """
    return " ".join(text.translate(_ALL).replace("  ", " "))


def seed_tts_english(text: str) -> str:
    """Do as `f5_english`, but the ASCII apostrophe stays (the curly ones go). Source: seed-tts-eval `run_wer.py`."""
    return text.translate(_ALL_BUT_APOSTROPHE).replace("  ", " ").lower()


def seed_tts_chinese(text: str) -> str:
    """Do as `f5_chinese`, but the ASCII apostrophe stays. Source: seed-tts-eval `run_wer.py`."""
    return " ".join(text.translate(_ALL_BUT_APOSTROPHE).replace("  ", " "))


def zipvoice_english(text: str) -> str:
    """Straighten single quotes, lower the case, turn all but a-z, 0-9 and ' into spaces, collapse them.

    A hyphen splits a word here; an accented letter too. Source: ZipVoice `eval/wer/hubert.py`, `post_process`.
    """
    straight = text.replace("‘", "'").replace("’", "'")
    return re.sub(r"\s+", " ", re.sub(r"[^a-zA-Z0-9']", " ", straight.lower())).strip()


NORMALIZERS: dict[str, Callable[[str], str]] = {
    "svae": normalize_for_wer,
    "f5-en": f5_english,
    "f5-zh": f5_chinese,
    "seed-tts-en": seed_tts_english,
    "seed-tts-zh": seed_tts_chinese,
    "zipvoice-en": zipvoice_english,
}


@dataclass(frozen=True)
class WordErrors:
    """Word errors of one utterance."""

    substitutions: int
    deletions: int
    insertions: int
    words: int
    """How many the reference has."""

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
