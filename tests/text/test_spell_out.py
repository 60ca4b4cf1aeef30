"""Written text as it is spoken; sentences."""

from __future__ import annotations

import pytest

from svae.errors import ConfigError
from svae.text.sentences import split_sentences
from svae.text.spell_out import spoken_form
from svae.text.vocabulary import normalize_text

CASES = {
    "Dr. Smith paid $12.50.": "Doctor Smith paid twelve dollars and fifty cents.",
    "It cost $1,200.": "It cost one thousand two hundred dollars.",
    "$1.01 or £3.05": "one dollar and one cent or three pounds and five pence",
    "$2.5 million": "two point five million dollars",
    "20% off": "twenty percent off",
    "in the 1980s": "in the nineteen eighties",
    "born in 1984": "born in nineteen eighty four",
    "1000 m": "one thousand meters",
    "1.85m tall": "one point eight five meters tall",
    "at 5:30 p.m., i.e. late": "at five thirty P-M, that is late",
    "the 21st": "the twenty first",
    "25°C": "twenty five degrees Celsius",
    "No. 7 & #1": "number seven and number one",
    "No.": "No.",
    "No. I won't, no. 12 times no.": "No. I won't, no. twelve times no.",
    '"No." was all she said.': '"No." was all she said.',
    "Room No. 12": "Room number twelve",
    "H2O": "H two O",
    'He said: "I\'m 20."': 'He said: "I\'m twenty."',
    "a \\ b": "a \\ b",
    "$1000 or £1100": "one thousand dollars or one thousand one hundred pounds",
    "£1m, $5m or €2.5bn": "one million pounds, five million dollars or two point five billion euros",
    "$3k": "three thousand dollars",
    "1000kg": "one thousand kilograms",
    "1000-2000 people": "one thousand to two thousand people",
    "10^3": "ten to the power of three",
    "Call 555-1234.": "Call five five five, one two three four.",
    "World War II.": "World War two.",
    "He is from the Co. Ltd.": "He is from the Company Limited.",
    "5m tall": "five meters tall",
}


@pytest.mark.parametrize(("written", "spoken"), CASES.items())
def test_numbers_money_and_symbols_are_spelled_out(written, spoken):
    assert spoken_form(written, "en") == spoken


@pytest.mark.parametrize(
    "plain",
    [
        "Plain words stay, don't they?",
        'She said "no" (twice), well-known; yes: fine!',
        "Ünï çödé",
        "the U.S. team",
    ],
)
def test_what_is_read_as_it_stands_is_left_alone(plain):
    kept = spoken_form(plain, "en")
    assert kept == plain.replace("U.S.", "U-S")
    assert spoken_form(kept, "en") == kept


@pytest.mark.parametrize(
    "odd", ["#", "###", "%", "5 % 3", "…", "§ 7", "x^2", "1.2.3", "--", "$", "😀", "\ue000"]
)
def test_odd_input_neither_crashes_nor_vanishes(odd):
    assert spoken_form(odd, "en")
    assert spoken_form(odd, None) == normalize_text(odd)


def test_other_languages_and_none():
    assert spoken_form("12 apples", None) == "12 apples"
    assert spoken_form("共12个", "zh") == "共十二个"
    with pytest.raises(ConfigError, match="en, zh, ja"):
        spoken_form("12", "tlh")


def test_sentences_keep_every_word_in_order():
    text = "Dr. Smith went home. He paid $3.50! Did he?\nChapter 1\n\nYes... “Sure.” I said. The U.S. is big"
    sentences = split_sentences(text, "en")
    assert sentences[:4] == ["Dr. Smith went home.", "He paid $3.50!", "Did he?", "Chapter 1"]
    assert " ".join(sentences) == normalize_text(text)
    assert split_sentences(" \n ", "en") == []
