"""The scripts of recipes/tiny that make and score the embedded models: what of them can be tested without hours of work."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

TINY = Path(__file__).parents[1] / "recipes" / "tiny"
sys.path.insert(0, str(TINY))
import newcomer  # noqa: E402
import score  # noqa: E402
import teacher_data  # noqa: E402
import train_speaker  # noqa: E402

RATE = 16000


def tone(seconds: float, level: float = 0.1) -> np.ndarray:
    return level * np.sin(2 * np.pi * 200 * np.arange(round(seconds * RATE)) / RATE).astype(np.float32)


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * RATE), dtype=np.float32)


def row(samples: np.ndarray, *leaked: str) -> dict:
    return {"leaked": list(leaked), **vars(newcomer.shape_of(samples, RATE))}


def test_the_longest_silence_is_one_within_the_speech():
    shape = newcomer.shape_of(np.concatenate([silence(2), tone(1), silence(0.5), tone(1), silence(2)]), RATE)
    assert shape.longest_silence == pytest.approx(0.5, abs=0.02)
    assert (shape.seconds, shape.end) == (6.5, 0.0)


def test_each_kind_of_damage_is_named():
    whole = np.concatenate([tone(1), silence(0.9), tone(1), silence(0.1)])
    assert newcomer.spoilt(row(whole)) == []
    assert newcomer.spoilt(row(tone(1))) == ["ends at 100% of its greatest level"]
    assert newcomer.spoilt(row(np.concatenate([tone(1), silence(1.2), tone(1), silence(0.1)]))) == ["1.20 s of silence"]
    assert newcomer.spoilt(row(whole, "station")) == ["the prompt's 'station' was heard"]


def test_a_prompt_leaks_by_words_that_only_it_has():
    text, prompt = newcomer.plain("A well-known door."), newcomer.plain("I locked the door and walked to the station.")
    assert text == "a well known door"
    assert newcomer.leaked("the door to the station", text, prompt) == ["station"]
    assert newcomer.leaked("a well known door and", text, prompt) == []


def test_a_share_has_an_interval_even_where_all_hit():
    assert score.share([True] * 100) == {"value": 1.0, "interval": [0.963, 1.0], "of": 100}
    half = score.share([True, False] * 50)  # Wilson's interval of 50 in 100, as in Newcombe (1998)
    assert half["interval"] == pytest.approx([0.4038, 0.5962], abs=1e-4)


def test_equal_error_rate_has_an_interval_over_voices():
    apart = torch.eye(12).repeat_interleave(3, dim=0)  # voices that nobody could confuse
    numbers = torch.arange(12).repeat_interleave(3)
    perfect = train_speaker.equal_error_rate(apart, numbers, list("abcdefghijkl"))
    assert (perfect["eer"], perfect["eer_interval"]) == (0.0, [0.0, 0.0])
    assert (
        train_speaker.equal_error_rate(apart, numbers, list("aabbccddeeff"))["eer_interval"] is None
    )  # six families are too few
    assert "eer_interval" not in train_speaker.equal_error_rate(apart, numbers)

    generator = torch.Generator().manual_seed(0)
    noise = torch.nn.functional.normalize(torch.randn(60, 8, generator=generator), dim=1)
    numbers = torch.arange(20).repeat_interleave(3)
    low, high = (random := train_speaker.equal_error_rate(noise, numbers, list("abcdefghijklmnopqrst")))["eer_interval"]
    assert 0.3 < low < random["eer"] < high < 0.7


def test_flites_phones_are_laid_on_the_teachers_frames():
    frames = teacher_data.phone_frames([("pau", 0.03), ("aa", 0.1), ("pau", 0.2)])
    names = [teacher_data.PHONES[number] for number in frames]  # centres at 0.0125, 0.0325, …
    assert names == ["pau"] + ["aa"] * 4 + ["pau"] * 4
    assert len(teacher_data.phone_frames([])) == 0


def test_embedding_halves_the_weights_and_keeps_both_cards(toy_tts, tmp_path, monkeypatch):
    import embed

    from svae.tts import load_tts

    out = tmp_path / "tts"
    (out / "vae").mkdir(parents=True)
    for folder in (out, out / "vae"):
        (folder / "README.md").write_text(f"card of {folder.name}")
    embed.embed(toy_tts, None, out)
    assert [(folder / "README.md").read_text() for folder in (out, out / "vae")] == ["card of tts", "card of vae"]
    whole, half = load_tts(toy_tts), load_tts(out)
    assert half.identity["description"] == embed.DESCRIPTION
    for a, b in zip(whole.model.parameters(), half.model.parameters(), strict=True):
        torch.testing.assert_close(a.half().float(), b, rtol=0, atol=0)


@pytest.mark.skipif(shutil.which("flite") is None, reason="no flite: apt-get install flite")
def test_a_corpus_is_the_same_however_many_workers_make_it(tmp_path):
    from corpus import deal, make_corpus
    from voices import select_voices

    pairs = deal(select_voices("flite"), 6, texts="train", seed=3)
    for workers in (1, 2):
        make_corpus(tmp_path / str(workers), pairs, seed=3, workers=workers, suffix=".flac")
    made = [
        {
            path.relative_to(tmp_path / side): path.read_bytes()
            for path in (tmp_path / side).rglob("*")
            if path.is_file()
        }
        for side in ("1", "2")
    ]
    assert len(made[0]) == 8  # six recordings, their list, and what the texts cover
    assert made[0] == made[1]
