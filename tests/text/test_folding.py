"""Letters that a model knows in the other case only are spoken in that case, and the user is told."""

from __future__ import annotations

import pytest

from svae.errors import DataError
from svae.text.sentences import prepare_sentences
from svae.text.vocabulary import Vocabulary

VOCABULARY = Vocabulary.from_characters(["abcdefghijklmnopqrstuvwxyz."])


def test_capitals_are_spoken_in_lower_case_with_a_note():
    sentences, notes = prepare_sentences("Hello There.", VOCABULARY, language="en")
    assert sentences == ["hello there."]
    assert len(notes) == 1 and "'H', 'T'" in notes[0]


def test_nothing_is_noted_where_nothing_changes():
    assert prepare_sentences("hello there.", VOCABULARY, language="en") == (["hello there."], [])


def test_other_unknown_characters_stay_an_error_unless_skipped():
    with pytest.raises(DataError, match="ж"):
        prepare_sentences("Hello ж there.", VOCABULARY, language="en")
    sentences, notes = prepare_sentences(
        "Hello ж there.", VOCABULARY, language="en", skip_unknown=True
    )
    assert sentences == ["hello there."]
    assert "Left out: 'ж'" in notes[1]
