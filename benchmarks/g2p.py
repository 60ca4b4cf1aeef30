"""How well libraries pronounce words that they are only shown: phone error rates on words of the CMU dictionary.

    python benchmarks/g2p.py --words 2000 gruut g2p-en espeak

Runs where pocketsphinx (for the dictionary) and the libraries are; each is given every word alone. Phones are compared
without stress, with the nearest of the dictionary's pronunciations. The libraries' own dictionaries are not asked, only
their models; those were trained on words of the same dictionary, so the figures are optimistic for both alike.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

IPA = {
    "t͡ʃ": "CH", "tʃ": "CH", "d͡ʒ": "JH", "dʒ": "JH", "aɪ": "AY", "aʊ": "AW", "ɔɪ": "OY", "eɪ": "EY", "oʊ": "OW", "əʊ": "OW",
    "ɜː": "ER", "ɜ": "ER", "ɚ": "ER", "ɝ": "ER", "əl": "AH L", "əɹ": "ER", "aɪə": "AY AH", "ɑː": "AA", "ɔː": "AO", "iː": "IY", "uː": "UW", "i": "IY", "u": "UW",
    "ɪ": "IH", "ʊ": "UH", "ɛ": "EH", "e": "EH", "æ": "AE", "ʌ": "AH", "ə": "AH", "ɐ": "AH", "ɑ": "AA", "ɒ": "AA", "ɔ": "AO", "o": "AO", "a": "AE",
    "ᵻ": "IH", "p": "P", "b": "B", "t": "T", "d": "D", "k": "K", "g": "G", "ɡ": "G", "f": "F", "v": "V", "θ": "TH", "ð": "DH",
    "s": "S", "z": "Z", "ʃ": "SH", "ʒ": "ZH", "h": "HH", "m": "M", "n": "N", "ŋ": "NG", "l": "L", "ɫ": "L", "ɹ": "R", "r": "R",
    "j": "Y", "w": "W", "ɾ": "T", "ʔ": "T", "x": "K", "n̩": "AH N", "l̩": "AH L", "ɡ̊": "G",
}  # fmt: skip
_IPA = re.compile("|".join(sorted(map(re.escape, IPA), key=len, reverse=True)))


def from_ipa(text: str) -> list[str]:
    return " ".join(IPA[symbol] for symbol in _IPA.findall(text)).split()


def gruut() -> Callable[[str], list[str]]:
    from gruut.g2p import GraphemesToPhonemes

    model = GraphemesToPhonemes(
        Path(find_spec("gruut_lang_en").origin).parent / "g2p" / "model.crf"
    )
    return lambda word: from_ipa("".join(model(word)))


def g2p_en() -> Callable[[str], list[str]]:
    import nltk

    nltk.download = lambda *_: False  # the network alone is asked, which needs none of nltk's files
    import nltk.corpus

    nltk.corpus.cmudict = type("Empty", (), {"dict": staticmethod(dict)})
    from g2p_en import G2p

    model = G2p()
    return lambda word: [phone.rstrip("012") for phone in model.predict(word)]


def espeak() -> Callable[[str], list[str]]:
    import espeakng_loader
    from phonemizer.backend import EspeakBackend
    from phonemizer.backend.espeak.wrapper import EspeakWrapper

    EspeakWrapper.set_library(espeakng_loader.get_library_path())
    EspeakWrapper.set_data_path(espeakng_loader.get_data_path())
    backend = EspeakBackend("en-us")
    return lambda word: from_ipa(backend.phonemize([word], strip=True)[0])


LIBRARIES = {"gruut": gruut, "g2p-en": g2p_en, "espeak": espeak}


def distance(a: list[str], b: list[str]) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        previous, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (x != y))
    return row[-1]


def words(count: int) -> dict[str, list[list[str]]]:
    """Return random words of at least four letters, with all their pronunciations."""
    import pocketsphinx

    path = Path(pocketsphinx.get_model_path()) / "en-us" / "cmudict-en-us.dict"
    entries: dict[str, list[list[str]]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        word, *phones = line.split()
        entries.setdefault(word.split("(")[0], []).append(phones)
    long = sorted(word for word in entries if len(word) > 3 and word.isascii() and word.isalpha())
    return {word: entries[word] for word in random.Random(0).sample(long, count)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("libraries", nargs="+", choices=[*LIBRARIES])
    parser.add_argument("--words", type=int, default=2000)
    arguments = parser.parse_args()
    chosen = words(arguments.words)
    for name in arguments.libraries:
        guess = LIBRARIES[name]()
        started = time.perf_counter()
        errors = phones = wrong = 0
        for word, known in chosen.items():
            found = guess(word)
            best = min(known, key=lambda one: distance(found, one))
            errors += distance(found, best)
            phones += len(best)
            wrong += found not in known
        each = (time.perf_counter() - started) / len(chosen) * 1000
        print(
            f"{name}: phone errors {errors / phones:.1%}, words wrong {wrong / len(chosen):.1%}, {each:.1f} ms a word",
            flush=True,
        )


if __name__ == "__main__":
    main()
