"""English as it is read aloud: every row of the table, and cases that were written apart from it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from svae.text.numbers_en import cardinal, decade, ordinal, quantity, roman, year
from svae.text.phonemes import PhonemeVocabulary
from svae.text.rules_en import RULES
from svae.text.sentences import prepare_sentences
from svae.text.spell_out import spoken_form

CASES = Path(__file__).parent / "cases"


def fold(text: str) -> str:
    return " ".join(re.sub(r"[^a-z']+", " ", text.lower().replace("’", "'")).split())


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.kind}: {rule.example}")
def test_each_rule_reads_its_example(rule):
    assert spoken_form(rule.example, "en") == rule.spoken


@pytest.mark.parametrize(
    "name", ["spoken_en", "spoken_en_held_back", "spoken_en_more", "spoken_en_review"]
)
def test_cases_are_read_as_a_careful_reader_reads_them(name):
    wrong, count = [], 0
    for line in (CASES / f"{name}.jsonl").read_text(encoding="utf-8").splitlines():
        case = json.loads(line)
        count += 1
        found = fold(
            " ".join(prepare_sentences(case["text"], PhonemeVocabulary(), language="en")[0])
        )
        if found not in map(fold, case["accept"]):
            wrong.append((case["text"], found))
    assert len(wrong) <= 0.02 * count, wrong


@pytest.mark.parametrize(
    "text",
    [
        "The morning train was late, so we drank our coffee on the platform.",
        '"Why not?" she asked; he didn\'t answer.',
        "It was a well-known, half-forgotten song (an old one).",
        "I am sure that no one in the house saw it. May we go?",
        "O Captain! My Captain! our fearful trip is done",
        "Chapter I read yesterday, and the part I want is gone. I AM sure.",
        "A class C licence; the cat sat. Will May come?",
        "Mark and Will went to the drive on Saint John's street.",
    ],
)
def test_plain_prose_stays(text):
    assert spoken_form(text, "en") == text


@pytest.mark.parametrize(
    "text",
    [
        "Go to bbc.co.uk/news.",
        "See example.com, then leave.",
        "Ask nobody.example.org/a?b=1&c=2.",
        "A strange token a.b.c/d, and more words.",
        "Odd {curly} words <angle> stay 5.",
    ],
)
def test_no_word_is_lost(text):
    found = fold(spoken_form(text, "en")).split()
    for word in re.findall(r"(?<![\w.])[A-Za-z]{2,}(?![\w.])", text):
        assert word.lower() in found


def test_numbers_are_words():
    assert cardinal(3604119) == (
        "three million six hundred and four thousand one hundred and nineteen"
    )
    assert [ordinal(n) for n in (1, 12, 20, 21, 100)] == [
        "first", "twelfth", "twentieth", "twenty first", "one hundredth",
    ]  # fmt: skip
    assert [year(n) for n in (1805, 1900, 2000, 2005, 2024)] == [
        "eighteen oh five", "nineteen hundred", "two thousand", "two thousand and five", "twenty twenty four",
    ]  # fmt: skip
    assert (decade(1990), decade(90), quantity("-12.50")) == (
        "nineteen nineties", "nineties", "minus twelve point five zero",
    )  # fmt: skip
    assert [roman(text) for text in ("IV", "LVIII", "MCMXC", "IIII", "MIX", "")] == [
        4,
        58,
        1990,
        None,
        1009,
        None,
    ]


def test_a_long_text_without_stops_loses_nothing():
    spoken = spoken_form("word " * 5000 + "5.", "en")
    assert spoken.endswith("word five.") and spoken.count("word") == 5000


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("Set `x = y + 2` first.", "set x equals y plus two first"),
        ("Call `foo_bar(x, y)` or `getName()` now.", "call foo bar x y or get name now"),
        ("Use `arr[0]` and `a->b`.", "use arr zero and a arrow b"),
        ("Run `git commit -m \"fix\"`.", "run git commit dash m fix"),
        ("Pass `--verbose` or `-v`.", "pass dash dash verbose or dash v"),
        ("`a != b && c || !d`", "a is not equal to b and c or not d"),
        ("`a * b` is `2 ** 3`", "a times b is two to the power of three"),
        ("`<div class=\"x\">` opens", "div class equals x opens"),
        ("`C++` and `C#`", "c plus plus and c sharp"),
        ("```py\nx += 1;  \n}\n```\nDone.", "x plus equals one done"),
        ("E = mc² and a² + b² = c².", "e equals m c squared and a squared plus b squared equals c squared"),
        ("Here f(x) = x^2 + 3x - 5.", "here f of x equals x squared plus three x minus five"),
        ("So $\\frac{a}{b}$ and $\\sqrt{2}$ differ.", "so a over b and the square root of two differ"),
        ("$$\\sum_{i=1}^{n} x_i \\leq 5$$", "the sum from i equals one to n of x sub i is less than or equal to five"),
        ("It runs in O(n log n).", "it runs in o of n log n"),
        ("3.0 × 10^8 m/s", "three point zero times ten to the power of eight meters per second"),
        ("It costs $5 and $6 each.", "it costs five dollars and six dollars each"),
        ("∀x ∈ A", "for all x in a"),
        ("Name | Age\n--- | ---:\nBo | 7\nAl\\|x | \n\nEnd.", "name age bo seven al x end"),
        ("Use \\*stars\\* and a * b * c.", "use stars and a times b times c"),
        ("[1]: https://example.com \"Title\"\nRead on.[^1]\n\n[^1]: A note.", "read on a note"),
    ],
)  # fmt: skip
def test_code_formulas_and_tables_are_read(text, spoken):
    assert fold(" ".join(prepare_sentences(text, PhonemeVocabulary(), language="en")[0])) == spoken


def test_long_texts_are_read_in_pieces_of_bounded_length():
    from svae.text.spell_out import _LONGEST, _stretches

    assert spoken_form("7" * 3000, "en") == " ".join(["seven"] * 3000)
    for text in ("12,345-" * 900, "Yes it was so. Then 5 came. " * 200, "A" * 5000, "12 " * 2000):
        pieces = list(_stretches(text))
        assert "".join(pieces) == text and max(map(len, pieces)) <= _LONGEST
    prose = "We all saw it. Then Dr. Who came at 5 p.m. No one else did. " * 100
    assert spoken_form(prose, "en") == " ".join([spoken_form(prose[:60], "en")] * 100)
