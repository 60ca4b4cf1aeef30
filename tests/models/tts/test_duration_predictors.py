"""The duration predictor: it learns what characters cost and what a prompt's rate says, from texts and durations."""

from __future__ import annotations

import math
import random

import pytest
import torch

from svae.data.samples import Sample
from svae.models.tts.durations import DurationPredictor
from svae.synthesis.durations import TextRule, predict_frames
from svae.synthesis.types import Prompt
from svae.text.vocabulary import Vocabulary
from svae.training.tts.fit_durations import fit_duration, fit_predictor

COSTS = {"a": 6, "b": 2, " ": 1}
VOCABULARY = Vocabulary.from_characters("ab ")


def make_samples(count: int = 200, speakers: int = 8) -> list[Sample]:
    """Utterances whose duration is (12 + the characters' costs) times the speaker's rate, in frames of 400 samples."""
    rng, samples = random.Random(0), []
    for number in range(count):
        speaker = number % speakers
        text = " ".join(
            "".join(rng.choices("ab", k=rng.randint(1, 6))) for _ in range(rng.randint(1, 12))
        )
        frames = (12 + sum(COSTS[char] for char in text)) * (0.7 + 0.08 * speaker)
        samples.append(
            Sample(
                f"u{number}", 0, frames / 40, round(frames * 400), f"s{speaker}", "en", text, {}, {}
            )
        )
    return samples


def total_frames(
    predictor: DurationPredictor,
    prompt_frames: int,
    prompt_text: str,
    text: str,
    speed: float = 1.0,
) -> int:
    prompt = Prompt(torch.zeros(1, 1, prompt_frames), prompt_text, 1.0, prompt_frames / 40)
    return TextRule(VOCABULARY, 40.0, predictor).total_frames(prompt, text, speed)


@pytest.fixture(scope="module")
def predictor() -> DurationPredictor:
    return fit_duration(make_samples(), VOCABULARY, hop_length=400, steps=250)


def test_durations_of_new_texts_and_rates_are_predicted(predictor):
    rng, errors, byte_errors = random.Random(1), [], []
    for _ in range(100):
        text, prompt = ("".join(rng.choices("ab", k=rng.randint(5, 40))) for _ in range(2))
        rate = rng.uniform(0.7, 1.3)
        true, prompt_frames = ((12 + sum(COSTS[c] for c in t)) * rate for t in (text, prompt))
        total = total_frames(predictor, round(prompt_frames), prompt, text)
        found = total - round(prompt_frames)
        errors.append(abs(math.log(found / true)))
        by_bytes = predict_frames(round(prompt_frames), prompt, text) - round(prompt_frames)
        byte_errors.append(abs(math.log(by_bytes / true)))
    assert sum(errors) / 100 < 0.1 and sum(errors) < 0.5 * sum(byte_errors)


def test_short_texts_get_the_silence_at_their_ends(predictor):
    found = total_frames(predictor, 200, "ab ab ab ab ab ab ab ab", "a") - 200
    assert 0.7 * 18 < found < 1.5 * 40


def test_speed_divides_and_no_text_is_longer_than_its_frames(predictor):
    normal, fast = (
        total_frames(predictor, 100, "ab ab ab", "a" * 30, speed) - 100 for speed in (1.0, 2.0)
    )
    assert fast == pytest.approx(normal / 2, abs=1)
    assert total_frames(predictor, 10, "ab ab ab", "b" * 50, 1e6) == 59


def test_padding_does_not_change_a_prediction(predictor):
    tokens = torch.tensor([[1, 2, 1, -1, -1, -1], [1, 2, 1, 2, 0, 1]])
    both = predictor.nominal_frames(tokens)
    torch.testing.assert_close(both[:1], predictor.nominal_frames(tokens[:1, :3]))
    prompt = torch.tensor([[1, 2]])
    longer = predictor(tokens[1:], prompt, torch.tensor([60]))
    assert longer > predictor(tokens[1:], prompt, torch.tensor([30]))


def test_fitting_is_a_function_of_its_arguments_and_leaves_the_global_generator_alone():
    samples = make_samples(40)
    before = torch.random.get_rng_state()
    fit = {"hop_length": 400, "steps": 3}
    first = fit_predictor(samples, VOCABULARY, **fit)
    again = fit_duration(samples, VOCABULARY, **fit).state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert fit_duration(samples[:15], VOCABULARY, **fit) is None
