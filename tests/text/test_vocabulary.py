"""Text normalisation and the vocabulary."""

from __future__ import annotations

import json

import pytest

from svae.errors import DataError
from svae.text.vocabulary import Vocabulary, normalize_text


@pytest.mark.parametrize(
    ("raw", "plain"),
    [
        ("  a\t b\n\nc\u00a0d ", "a b c d"),
        ("“Don’t” – she said…", '"Don\'t" - she said...'),
        ("cafe\u0301", "caf\u00e9"),
        ("cafe\u200b\u0301", "caf\u00e9"),
        ("\ufeffzero\u200bwidth", "zerowidth"),
        ("MiXed, case; stays!", "MiXed, case; stays!"),
        ("\u3000 \n", ""),
    ],
)
def test_normalisation_gives_one_spelling_and_is_idempotent(raw: str, plain: str) -> None:
    assert normalize_text(raw) == plain
    assert normalize_text(plain) == plain


def test_vocabulary_puts_the_space_first_and_does_not_depend_on_the_order_of_the_corpus() -> None:
    vocabulary = Vocabulary.from_characters(["hello world", "zebra!"])
    assert vocabulary.symbols[0] == " "
    assert list(vocabulary.symbols[1:]) == sorted(set("helloworldzebra!"))
    assert vocabulary == Vocabulary.from_characters("!arbez dlrow olleh")
    assert len(vocabulary) == len(set("hello world zebra!"))
    assert Vocabulary.from_characters([]).symbols == (" ",)


def test_encode_and_decode_are_inverse_and_padding_is_left_out() -> None:
    vocabulary = Vocabulary.from_characters("hello world")
    ids = vocabulary.encode("hello world")
    assert vocabulary.decode(ids) == "hello world"
    assert vocabulary.decode([*ids, -1, -1]) == "hello world"
    assert ids[5] == 0


def test_every_unknown_character_is_named_once_with_its_code_point() -> None:
    vocabulary = Vocabulary.from_characters("abc")
    assert vocabulary.unknown("aβb\x07β") == ["β", "\x07"]
    with pytest.raises(DataError) as caught:
        vocabulary.encode("aβb\x07β")
    message = str(caught.value)
    assert "'β' (U+03B2 GREEK SMALL LETTER BETA)" in message and "'\\x07' (U+0007" in message
    assert message.count("U+03B2") == 1


def test_vocabulary_survives_json() -> None:
    vocabulary = Vocabulary.from_characters("naïve café")
    assert Vocabulary.from_json(json.loads(json.dumps(vocabulary.to_json()))) == vocabulary


@pytest.mark.parametrize("symbols", [[], ["a", " "], [" ", "a", "a"], [" ", ""]])
def test_invalid_symbol_lists_are_refused(symbols: list[str]) -> None:
    with pytest.raises(DataError, match="vocabulary"):
        Vocabulary(symbols)


@pytest.mark.parametrize("value", [None, {" ": 0}, [" ", 1], " ab"])
def test_json_of_another_type_is_refused(value: object) -> None:
    with pytest.raises(DataError, match="list of strings"):
        Vocabulary.from_json(value)


def test_letters_known_in_the_other_case_only_are_folded_and_others_kept():
    vocabulary = Vocabulary.from_characters(["abcXYß"])
    assert vocabulary.fold("A bx y! aXß") == "a bX Y! aXß"
