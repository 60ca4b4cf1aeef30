"""The texts of the synthetic corpora."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "recipes" / "embedded"))
import text_coverage  # noqa: E402
import texts  # noqa: E402


@pytest.fixture
def wordnet(tmp_path):
    """A WordNet of a few lines, in the format of its data files."""
    glosses = {
        "noun": '00001740 03 n 01 dog 0 000 | a pet; "the dog`s bark"; "NATO met"; "two words"',
        "verb": '00001740 29 v 01 go 0 000 | move; "go easy here--the road is slippery"; "do you go there often"',
        "adj": '00001740 00 a 01 red 0 000 | of a colour; "a red house with 3 doors"; "the RED house"; "the b flat key"',
        "adv": '00001740 02 r 01 now 0 000 | at once; "she is leaving right now!"; "she is leaving right now"',
    }
    for kind, line in glosses.items():
        (tmp_path / f"data.{kind}").write_text(line + "\n", encoding="latin-1")
    return tmp_path


def test_wordnets_examples_become_plain_sentences(wordnet):
    found = {
        s
        for seed in range(40)
        for s in re.split(
            r"(?<=[.?]) ", " ".join(texts.wordnet_sentences(1, seed=seed, folder=wordnet))
        )
    }
    assert found == {
        "The dog's bark.",
        "Go easy here, the road is slippery.",
        "Do you go there often?",
        "She is leaving right now.",
    }


def test_texts_from_wordnet_are_distinct_deterministic_and_keep_the_parts_apart(
    wordnet, monkeypatch
):
    assert texts.wordnet_sentences(1, seed=5, folder=wordnet) == texts.wordnet_sentences(
        1, seed=5, folder=wordnet
    )
    monkeypatch.setattr(texts, "is_held_out", lambda text: "dog" in text.lower())
    for part in ("train", "held-out"):
        found = " ".join(texts.wordnet_sentences(1, seed=0, part=part, folder=wordnet))
        assert ("dog" in found) == (part == "held-out")
    with pytest.raises(ValueError, match=r"4 sentences \(all\) give only"):
        texts.wordnet_sentences(9, seed=0, folder=wordnet)
    (wordnet / "data.adv").unlink()
    with pytest.raises(ValueError, match="apt-get install wordnet-base"):
        texts.wordnet_sentences(1, seed=0, folder=wordnet)


def test_coverage_counts_phonemes_and_pairs_within_words():
    found = text_coverage.coverage(["The cat's hat. The cat, xqzzk?"])
    assert (found["words"], found["known_words"]) == (6, 5)
    spoken = {phone: n for phone, n in found["phonemes"].items() if n}
    assert spoken == {"DH": 2, "AH": 2, "K": 2, "AE": 3, "T": 3, "S": 1, "HH": 1}
    assert found["phoneme_pairs"]["found"] == len({"DH-AH", "K-AE", "AE-T", "T-S", "HH-AE"})
    letters = {"".join(pair) for pair in text_coverage.pairs(["the", "cat's", "hat"])}
    assert letters == {"th", "he", "ca", "at", "ha"}  # the apostrophe parts t and s
    assert text_coverage.describe(found).startswith("7 of 39 phonemes")


def test_the_whole_dictionary_covers_itself_and_nothing_covers_nothing():
    from svae.text.phonemes import dictionary

    words = text_coverage.coverage([" ".join(word for word in dictionary() if word.isalpha())])
    assert words["phoneme_pairs"]["share"] > 0.99
    assert words["letter_pairs"]["share"] > 0.99
    assert all(count > 0 for count in words["phonemes"].values())
    nothing = text_coverage.coverage([])
    assert (
        nothing["phoneme_pairs"]["found"]
        == nothing["letter_pairs"]["found"]
        == sum(nothing["phonemes"].values())
        == 0
    )
