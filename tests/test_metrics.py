"""Measures against cases computed by hand."""

from __future__ import annotations

import pytest
import torch

from svae.evaluation.metrics import (
    UndefinedScoreError,
    WordErrors,
    mean_or_none,
    mel_distance,
    normalize_for_wer,
    pesq_wide_band,
    reconstruction_scores,
    stoi,
    summarize_word_errors,
    word_errors,
)


@pytest.fixture
def speech() -> torch.Tensor:
    """Two seconds of a buzzing, gliding, pulsing tone: enough like speech for PESQ and STOI to take it for speech."""
    time = torch.arange(32000) / 16000
    envelope = 0.55 + 0.45 * torch.sin(2 * torch.pi * 4 * time)
    tone = sum(torch.sin(2 * torch.pi * k * (120 + 30 * time) * time) / k for k in range(1, 20))
    return 0.1 * envelope * tone


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("Hello,  World!", "hello world"),
        ("don't well-known", "dont wellknown"),
        ("“Curly” ‘quotes’", "curly quotes"),
        (" \t a \n b ", "a b"),
        ("...", ""),
    ],
)
def test_text_is_normalised_as_f5_does(text, normal):
    assert normalize_for_wer(text) == normal


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("the cat sat", "The cat sat.", (0, 0, 0, 3)),
        ("the cat sat", "the bat sat", (1, 0, 0, 3)),
        ("the cat sat", "the sat", (0, 1, 0, 3)),
        ("the cat sat", "the big cat sat", (0, 0, 1, 3)),
        ("the cat sat", "", (0, 3, 0, 3)),
        ("one", "one two three", (0, 0, 2, 1)),
    ],
)
def test_word_errors_by_hand(reference, hypothesis, expected):
    found = word_errors(reference, hypothesis)
    assert (found.substitutions, found.deletions, found.insertions, found.words) == expected


def test_a_reference_without_words_is_refused():
    with pytest.raises(ValueError, match="no word"):
        word_errors("?!", "hello")


def test_both_averages_by_hand():
    short, long = WordErrors(1, 0, 0, 2), WordErrors(0, 1, 0, 8)
    summary = summarize_word_errors([short, long])
    assert summary["wer"] == pytest.approx((1 / 2 + 1 / 8) / 2)
    assert summary["wer_corpus"] == pytest.approx(2 / 10)


def test_a_mean_leaves_out_what_is_undefined():
    assert mean_or_none([1.0, None, 3.0]) == 2.0
    assert mean_or_none([None]) is None


def test_a_copy_scores_best_and_noise_scores_worse(speech):
    noisy = speech + 0.05 * torch.randn(speech.shape, generator=torch.Generator().manual_seed(0))
    same, worse = (reconstruction_scores(speech, other, 16000) for other in (speech, noisy))
    assert same["mel_distance"] == 0 and same["stoi"] == pytest.approx(1, abs=1e-6) and same["pesq"] > 4.5
    assert worse["mel_distance"] > 0.1 and worse["stoi"] < same["stoi"] and worse["pesq"] < same["pesq"]


def test_mel_distance_of_a_gain_is_the_logarithm_of_the_gain(speech):
    loud = speech + 0.2 * torch.randn(speech.shape, generator=torch.Generator().manual_seed(0))  # far above the floor
    assert mel_distance(loud, 2 * loud, 16000) == pytest.approx(0.6931, abs=1e-3)


@pytest.mark.parametrize("measure", [stoi, pesq_wide_band])
def test_silence_and_clips_too_short_are_undefined_not_zero(speech, measure):
    silence = torch.zeros(16000)
    for reference, other in ((silence, speech[:16000]), (silence, silence), (speech[:800], speech[:800])):
        with pytest.raises(UndefinedScoreError):
            measure(reference, other, 16000)


def test_an_undefined_score_is_null_and_says_why(speech):
    scores = reconstruction_scores(speech[:800], speech[:800], 16000)
    assert scores["stoi"] is None and scores["pesq"] is None and scores["mel_distance"] == 0
    assert "1/4 of a second" in scores["undefined"]["pesq"] and "STOI" in scores["undefined"]["stoi"]
    assert reconstruction_scores(speech, speech, 16000)["undefined"] == {}


def test_scores_know_the_sample_rate(speech):
    from svae.audio import resample

    noisy = speech + 0.05 * torch.randn(speech.shape, generator=torch.Generator().manual_seed(0))
    up = [resample(clip[None], 16000, 32000)[0] for clip in (speech, noisy)]
    assert pesq_wide_band(*up, 32000) == pytest.approx(pesq_wide_band(speech, noisy, 16000), abs=0.1)
    assert stoi(*up, 32000) == pytest.approx(stoi(speech, noisy, 16000), abs=0.02)


def test_every_ascii_punctuation_character_is_deleted():
    import string

    assert normalize_for_wer("a" + string.punctuation + "b") == "ab"
