"""Texts in sentences: markup, pauses, and what a text overrides."""

from __future__ import annotations

import pytest

from svae.errors import ConfigError, DataError
from svae.text.lexicon import Lexicon
from svae.text.markup import ITEM_SECONDS, PARAGRAPH_SECONDS, RULE_SECONDS, plain_paragraphs
from svae.text.phonemes import PhonemeVocabulary, without_phones
from svae.text.sentences import prepare_prompt_text, prepare_sentences
from svae.text.vocabulary import Vocabulary

PHONEMES = PhonemeVocabulary()


def spoken(text, language="en", **options):
    """Return each sentence with the pause after it."""
    sentences, _ = prepare_sentences(text, PHONEMES, language=language, **options)
    return [(str(sentence), sentence.pause_after) for sentence in sentences]


def test_a_line_break_joins_and_an_empty_line_separates_with_a_longer_pause():
    assert spoken("This goes\non here. Yes.\n\nNext one.") == [
        ("This goes on here.", 0.0),
        ("Yes.", PARAGRAPH_SECONDS),
        ("Next one.", 0.0),
    ]
    assert spoken("This goes\non here.\n\nNext one.", language=None) == [
        ("This goes on here.", PARAGRAPH_SECONDS),
        ("Next one.", 0.0),
    ]


@pytest.mark.parametrize("rule", ["---", "...", "…", "* * *", "***", "<hr>"])
def test_a_rule_alone_is_a_pause(rule):
    assert spoken(f"One.\n\n{rule}\n\nTwo.") == [("One.", RULE_SECONDS), ("Two.", 0.0)]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *((mark, RULE_SECONDS) for mark in ("---", "...", "…", "* * *", "-", " — ", '"..."', "…?")),
        ("[pause 0.7s]", 0.7),
        ("[pause 300 ms]\n\n[pause 1s]\n", 1.0),
        ("[pause]", PARAGRAPH_SECONDS),
    ],
)
@pytest.mark.parametrize("language", ["en", "zh", None])
def test_a_text_of_a_pause_alone_is_silence(text, seconds, language):
    assert spoken(text, language=language) == [("", seconds)]
    assert "silence" in prepare_sentences(text, PHONEMES, language=language)[1][0]


@pytest.mark.parametrize("text", ["*", "?!", "]", "[pause 0s]"])
def test_a_text_without_words_and_pauses_is_refused_at_once(text):
    with pytest.raises(DataError, match="nothing in it is spoken"):
        spoken(text)


def test_a_reference_of_silence_says_nothing():
    with pytest.raises(DataError, match="nothing in it is spoken"):
        prepare_prompt_text("...", PHONEMES, language="en")


def test_pauses_are_asked_for_in_the_text():
    assert spoken("Wait [pause 0.5s] here. [PAUSE 300ms] Now. [pause 2 seconds]") == [
        ("Wait", 0.5),
        ("here.", 0.3),
        ("Now.", 2.0),
    ]
    sentences, _ = prepare_sentences("[pause 1s] Hi.", PHONEMES, language="en")
    assert (sentences[0], sentences[0].pause_before) == ("Hi.", 1.0)
    with pytest.raises(DataError, match="at most 60 s"):
        spoken("A [pause 100s] b")


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Pens, etc. We left.", ["Pens, et cetera.", "We left."]),
        ("Pens, etc.", ["Pens, et cetera."]),
        ("At 5 p.m. Nobody came at 6 p.m.", ["At five P-M.", "Nobody came at six P-M."]),
        ("At 5 p.m. on May 2 we met.", ["At five P-M on May second we met."]),
        ("Vol. 2 is out. See p. 3 too.", ["Volume two is out.", "See page three too."]),
        (
            "The U.S. team won in the U.S. They left.",
            ["The U-S team won in the U-S.", "They left."],
        ),
        ("He ran - and fell — hard.", ["He ran, and fell, hard."]),
        ("Version 2.5.1 works.", ["Version two point five point one works."]),
        ("He met J. R. Smith. So did I. The end.", ["He met J R Smith.", "So did I.", "The end."]),
    ],
)
def test_stops_end_sentences_where_they_should(text, sentences):
    assert [sentence for sentence, _ in spoken(text)] == sentences


def test_markup_is_never_spoken():
    found = plain_paragraphs(
        "# A *title*\n\nSee [this](http://x.y) & **that**.\n- one\n- two\n\n| a | b |\n|---|---|\n| c | d |\n<p>It&#39;s</p>"
    )
    assert [tuple(paragraph) for paragraph in found] == [
        ("A title", PARAGRAPH_SECONDS),
        ("See this & that.", ITEM_SECONDS),
        ("one", ITEM_SECONDS),
        ("two", PARAGRAPH_SECONDS),
        ("a, b", ITEM_SECONDS),
        ("c, d", ITEM_SECONDS),
        ("It's", PARAGRAPH_SECONDS),
    ]


def test_what_only_looks_like_markup_stays():
    for text in (
        "2 * 3 * 4",
        "snake_case_name",
        "a < b and c > d",
        "an <odd> word",
        "AT&T",
        "5 * x",
    ):
        assert [p.text for p in plain_paragraphs(text)] == [text]


def test_emoji_are_silent_but_for_a_text_of_nothing_else():
    assert spoken("Great 👍🏽!") == [("Great!", 0.0)]
    assert spoken("1️⃣ apple") == [("one apple", 0.0)]
    assert spoken("😀") == [("grinning face", 0.0)]


def test_what_became_of_a_text_is_shown():
    shown = []
    spoken("Plain words. More.\n\nI ate 3. You 4.", show=shown.append)
    assert shown == [
        "  Plain words.",
        "  More.",
        "  I ate 3. You 4.",
        "  → I ate three.",
        "  → You four.",
    ]
    with pytest.raises(ConfigError, match="en, zh, ja"):
        spoken("12", language="tlh")


def test_refused_characters_come_with_the_option_that_leaves_them_out():
    for vocabulary in (PHONEMES, Vocabulary.from_characters(["Hello there."])):
        with pytest.raises(DataError, match="--skip-unknown"):
            prepare_sentences("Hello ж there.", vocabulary, language="en")
        assert prepare_sentences("Hello ж there.", vocabulary, language="en", skip_unknown=True)[
            0
        ] == ["Hello there."]


def test_what_is_said_in_a_reference_is_spelled_out_too():
    assert prepare_prompt_text("In 1999 it rose.\nYes.", PHONEMES, language="en") == (
        "In nineteen ninety nine it rose. Yes."
    )


def test_the_other_case_is_folded_for_any_text_of_a_model():
    assert Vocabulary.from_characters(["hello"]).fit("  HELLO\nHello ") == "hello hello"


# ----------------------------------------------------------------------------------------------- pronunciations


def test_phones_in_braces_are_said_and_survive_everything_before():
    sentences, _ = prepare_sentences("The {B EY1 S} is 5.", PHONEMES, language="en")
    assert sentences == ["The {B EY1 S} is five."]
    assert " ".join(PHONEMES.read("The {B EY1 S} is")) == "DH AH   B EY S   IH Z"
    assert without_phones("the bass{B EY S} line") == "the bass line"
    with pytest.raises(DataError, match="no phone"):
        prepare_sentences("The {B QQ S} is.", PHONEMES, language="en")
    with pytest.raises(DataError, match="unknown"):
        prepare_sentences("a {B EY S}", Vocabulary.from_characters(["a BEYS"]), language="en")


@pytest.mark.parametrize(
    ("text", "heard", "compared"),
    [
        ("The {B EY1 S} is loud.", "the base is loud", "The base is loud."),
        ("The bass{B EY S} is loud.", "the base is loud", "The base is loud."),
        ("The bass{B EY S} is loud.", "the fish is loud", "The bass is loud."),
        ("The {B EY1 S} is loud.", "the fish is loud", "The base is loud."),
        ("See {R AA G UW N AA TH AH N} now.", "see rah goo nothin now", "See rah goo nothin now."),
        ("A {B EY S} note", "a bay note", "A base note"),
        ("No braces here.", "", "No braces here."),
    ],
)  # fmt: skip
def test_phones_in_braces_are_compared_with_what_sounds_like_them(text, heard, compared):
    from svae.text.phonemes import as_heard

    assert as_heard(text, heard) == compared


@pytest.mark.parametrize("given", ["{b ey1 s}", "{ B  EY1 S }", "{B EY1 S}", "{b ey s}"])
def test_phones_are_given_in_either_case(given):
    vocabulary = PhonemeVocabulary()
    expected = [vocabulary.encode("The {B EY S} is loud.")]
    found = prepare_sentences(f"The {given} is loud.", vocabulary, language="en")[0]
    assert list(map(vocabulary.encode, found)) == expected


@pytest.mark.parametrize(
    ("given", "wrong"), [("{B EY9}", "EY9"), ("{B XX S}", "XX"), ("{k q1 t}", "Q1")]
)
def test_what_is_no_phone_among_phones_is_named(given, wrong):
    with pytest.raises(DataError, match=f"'{wrong}': no phone"):
        prepare_sentences(f"The {given} is loud.", PhonemeVocabulary(), language="en")


@pytest.mark.parametrize("written", ["the set {x}", "x_{i j} here", "use {name} here"])
def test_other_braces_are_no_phones(written):
    assert "{" not in prepare_sentences(written, PhonemeVocabulary(), language="en")[0][0]


def test_the_letter_a_is_no_article():
    def phones(text):
        return [symbol for symbol in PHONEMES.read(text) if symbol != " "]

    assert phones("A-I") == ["EY", "AY"]
    assert phones("vitamin A is")[-3:] == ["EY", "IH", "Z"]
    assert phones("A man")[0] == phones("THIS IS A MAN")[5] == "AH"


def test_a_lexicon_overrides(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text(
        "# names\nRaghunathan\tR AA1 G UW0 N AA1 T AH0 N\nbass  B EY1 S\nNguyen = nwin\n\nNew York  noo york\n"
    )
    lexicon = Lexicon.read(path)
    assert len(lexicon) == 4
    text = "The Bass of Nguyen, Raghunathan's, and basses."
    sentences, _ = prepare_sentences(text, PHONEMES, language="en", lexicon=lexicon)
    assert without_phones(sentences[0]) == "The Bass of nwin, Raghunathan's, and basses."
    symbols = " ".join(symbol for symbol in PHONEMES.read(sentences[0]) if symbol != " ")
    assert "B EY S" in symbols and "R AA G UW N AA T AH N Z" in symbols and "B AE S IH Z" in symbols
    characters = Vocabulary.from_characters([text + "wi"])
    assert prepare_sentences("of Nguyen.", characters, language="en", lexicon=lexicon)[0] == [
        "of nwin."
    ]
    with pytest.raises(DataError, match="give a respelling"):
        prepare_sentences("The bass.", characters, language="en", lexicon=lexicon)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("word", "line 2: expected a word"),
        ("word\tB QQ S", "'QQ': no phone"),
        ("w{d\tB EY S", "no word"),
        ("word\t12", "neither phones nor a respelling"),
        ("A\tEY", "earlier line"),
    ],
)
def test_wrong_lines_of_a_lexicon_are_named(tmp_path, line, message):
    path = tmp_path / "names.txt"
    path.write_text(f"a\tEY\n{line}\n")
    with pytest.raises(DataError, match=message):
        Lexicon.read(path)
    with pytest.raises(DataError, match="No such file"):
        Lexicon.read(tmp_path / "none.txt")
