"""Texts of an evaluation: case that a model lacks, and pronunciations that no recogniser writes."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from svae.errors import DataError
from svae.evaluation import rows
from svae.evaluation.items import Item
from svae.evaluation.make import check_items
from svae.judges.wer import normalize_for_wer
from svae.text.vocabulary import Vocabulary
from svae.training.tts.fit_durations import _tokens


class Model:
    vocabulary = Vocabulary.from_characters("abcdefghijklmnopqrstuvwxyz'")
    identity = {"path": "runs/lower"}


def item(text: str, prompt_text: str = "Said Before") -> Item:
    return Item("a", text, SimpleNamespace(name="a.wav"), prompt_text, None)


def test_a_model_of_lower_case_is_evaluated_on_texts_with_upper_case():
    check_items(Model, [item("Hello There"), item("It’s MINE")])
    with pytest.raises(DataError, match="1 of 2 items .*(?s:.)*unknown characters '!'"):
        check_items(Model, [item("Hello There"), item("Hello!")])


def test_durations_are_fitted_on_texts_with_upper_case():
    rows = [SimpleNamespace(text=text, language="en") for text in ("Hello There", "hello there")]
    tokens = _tokens(rows, Model.vocabulary)
    assert torch.equal(tokens[0], tokens[1])


def test_a_pronunciation_in_braces_is_no_word_that_must_be_heard(monkeypatch):
    heard = {"a.wav": rows.Heard("the bass line", 1.0)}
    monkeypatch.setattr(rows, "transcribe_all", lambda *_: heard)
    judges = SimpleNamespace(speakers={}, asr=None, quality={})
    recording = SimpleNamespace(name="a.wav")
    asked = Item("a", "the bass{B EY1 S} line", None, None, None)
    row = rows.score([asked], {"seed 0": {"a": recording}}, judges, None, normalize_for_wer)[0]
    assert row.text == "the bass line"
    assert row.recordings["seed 0"].word_errors.errors == 0
