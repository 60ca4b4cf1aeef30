"""The scripts that train and score the embedded speaker judge: who is left out, what a batch is, what the scores mean."""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

SCRIPTS = Path(__file__).parents[2] / "recipes" / "embedded"
sys.path.insert(0, str(SCRIPTS))
import speaker_data  # noqa: E402
import speaker_people as people  # noqa: E402
import speaker_scores  # noqa: E402
import train_speaker  # noqa: E402
from people import HELD_OUT_SPEAKERS  # noqa: E402
from speaker_data import Source, Utterance  # noqa: E402


@pytest.fixture
def recordings(tmp_path):
    """Rows of all corpora, and one recording that all of them name."""
    samples = (0.1 * np.sin(np.arange(16000 * 6) / 20)).astype(np.float32)
    soundfile.write(tmp_path / "a.flac", samples, 16000)
    kinds = {
        "librispeech-train-clean-100": 40,
        "librispeech-test-other": 3,
        "speechocean762-adult": 60,
        "speechocean762-child": 60,
    }
    rows = [
        {"audio": "a.flac", "speaker": f"{corpus}-{i}", "corpus": corpus, "duration": 6.0}
        for corpus, count in kinds.items()
        for i in range(count)
    ]
    unnamed = {"audio": "a.flac", "speaker": "", "corpus": "picovoice-wake-words", "duration": 6.0}
    rows += [unnamed] * 2
    (tmp_path / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def test_nobody_is_both_learned_from_and_judged(recordings):
    clips = people.people(recordings)
    of = {part: {c.speaker for c in clips if c.part == part} for part in {c.part for c in clips}}
    assert len(of["dev"]) == HELD_OUT_SPEAKERS and of["dev"] == of["dev-halves"]
    assert not of["train"] & (of["dev"] | of["held-out"] | of["judge"])
    assert all(name.startswith("librispeech-test-other") for name in of["judge"])
    assert 5 < len(of["held-out"]) < 40
    assert all(name.startswith("speechocean762") for name in of["held-out"])
    halves = [c for c in clips if c.part == "dev-halves"]
    assert [len(c.load()) for c in halves[:2]] == [48000, 48000]
    written = recordings / "list" / "list.jsonl"
    people.write_list(clips, written)
    names = [json.loads(line)["audio"] for line in written.read_text().splitlines()]
    assert len(names) == len(clips) and all(Path(name.split("#")[0]).is_file() for name in names)


def test_a_rate_other_than_16_khz_is_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(800), 8000)
    clip = people.Clip(audio=str(tmp_path / "a.wav"), speaker="x", corpus="y", part="train")
    with pytest.raises(ValueError, match="8000 Hz"):
        clip.load()


def voice(seconds: float = 1.0, ge2e: torch.Tensor | None = None) -> Utterance:
    return Utterance(torch.randint(-9000, 9000, (int(16000 * seconds),), dtype=torch.int16), ge2e)


def test_a_batch_has_classes_of_the_named_and_targets_where_ge2e_heard_the_same_sound():
    unit = torch.nn.functional.one_hot(torch.tensor(3), 256).float()
    named = Source({f"n{i}": [voice(0.2, unit)] for i in range(4)}, 3, crops=20, speeds=True)
    unnamed = Source({f"u{i}": [voice(2, unit)] for i in range(3)}, 2, named=False)
    synthetic = Source({f"s{i}": [voice(2)] for i in range(5)}, 4)
    sources = [named, unnamed, synthetic]
    assert [source.classes for source in sources] == [12, 0, 5]
    crops, classes, targets = speaker_data.draw_batch(sources, 8000, random.Random(0))
    assert crops.shape == (66, 8000) and crops.abs().amax(1).min() > 0  # the short one is repeated
    assert set(classes[:60].tolist()) <= set(range(12)) and len(set(classes[:60].tolist())) == 9
    assert classes[60:62].tolist() == [-1, -1]
    assert classes[62:].min() >= 12 and len(set(classes[62:].tolist())) == 4
    as_recorded = classes[:60] < 4
    assert 0 < as_recorded.sum() < 60
    assert torch.equal(targets[:60].any(1), as_recorded)
    assert targets[60:62].any(1).all() and not targets[62:].any()


def test_another_speed_moves_the_pitch():
    tone = (9000 * torch.sin(torch.arange(32000) * 2 * torch.pi * 500 / 16000)).to(torch.int16)
    for speed, factor in ((0, 1), (1, 10 / 9), (2, 10 / 11)):
        piece = speaker_data.crop(tone, 16000, speed, random.Random(0))
        assert abs(int(torch.fft.rfft(piece).abs().argmax()) - 500 * factor) <= 1


def test_disagreement_with_ge2e_leaves_scale_and_offset_free():
    generator = torch.Generator().manual_seed(0)
    targets = torch.nn.functional.normalize(torch.randn(12, 256, generator=generator), dim=1)
    shifted = torch.cat([targets, torch.full((12, 1), 0.7)], dim=1)  # every cosine is moved alike
    assert train_speaker.disagreement(3 * shifted, targets) == pytest.approx(0, abs=1e-5)
    other = torch.randn(12, 96, generator=generator)
    assert 0.5 < train_speaker.disagreement(other, targets) < 1.5
    half = targets * (torch.arange(12) < 6)[:, None]
    assert train_speaker.disagreement(torch.cat([shifted[:6], 9 * shifted[6:]]), half) < 1e-5
    for few in (0, 1, 2):
        known = targets * (torch.arange(12) < few)[:, None]
        assert train_speaker.disagreement(other, known) == 0


def test_equal_error_rate_has_an_interval_over_voices():
    apart = torch.eye(12).repeat_interleave(3, dim=0)  # voices that nobody could confuse
    numbers = torch.arange(12).repeat_interleave(3)
    perfect = speaker_scores.equal_error_rate(apart, numbers, list("abcdefghijkl"))
    assert (perfect["eer"], perfect["eer_interval"]) == (0.0, [0.0, 0.0])
    assert (
        speaker_scores.equal_error_rate(apart, numbers, list("aabbccddeeff"))["eer_interval"]
        is None
    )  # six families are too few
    assert "eer_interval" not in speaker_scores.equal_error_rate(apart, numbers)

    generator = torch.Generator().manual_seed(0)
    noise = torch.nn.functional.normalize(torch.randn(60, 8, generator=generator), dim=1)
    numbers = torch.arange(20).repeat_interleave(3)
    low, high = (
        random := speaker_scores.equal_error_rate(noise, numbers, list("abcdefghijklmnopqrst"))
    )["eer_interval"]
    assert 0.3 < low < random["eer"] < high < 0.7


def test_rank_correlation_counts_pairs_of_strangers_or_all():
    generator = torch.Generator().manual_seed(0)
    numbers = torch.arange(12).repeat_interleave(2)
    targets = torch.randn(24, 16, generator=generator)
    targets = torch.nn.functional.normalize(targets, dim=1)
    ours = speaker_scores.rank_correlation(targets, numbers, targets, strangers=True)
    assert ours["spearman"] == 1 and ours["interval"] == [1, 1] and ours["voices"] == 12
    # One that knows who speaks and nothing else agrees about strangers by chance, about all pairs a little more.
    alike = torch.nn.functional.normalize(torch.randn(12, 16, generator=generator), dim=1)
    knows = alike[numbers]
    taught = torch.nn.functional.normalize(targets + 3 * targets[::2][numbers], dim=1)
    strangers, everyone = (
        speaker_scores.rank_correlation(knows, numbers, taught, strangers=each)["spearman"]
        for each in (True, False)
    )
    assert strangers + 0.05 < everyone < 1
    few = speaker_scores.rank_correlation(targets[:8], numbers[:8], targets[:8], strangers=True)
    assert few["interval"] is None


def test_a_training_that_was_stopped_goes_on_as_it_would_have(tmp_path, monkeypatch):
    small = train_speaker.MODEL | {"channels": [8, 8, 8, 8, 24], "attention_channels": 4}
    small |= {"res2net_scale": 2, "se_channels": 4, "lin_neurons": 8}
    monkeypatch.setattr(train_speaker, "MODEL", small)
    monkeypatch.setattr(train_speaker, "SAVE_EVERY", 2)
    torch.manual_seed(0)
    unit = torch.nn.functional.normalize(torch.rand(256), dim=0)
    sources = [Source({f"n{i}": [voice(1, unit.roll(i))] for i in range(6)}, 4, speeds=True)]

    def run(state: Path, batches: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(1)
        model = train_speaker.ECAPA_TDNN(**small)
        asked = argparse.Namespace(
            learning_rate=1e-3, state=state, steps=100, seed=0, warmup=2, crop_seconds=0.2,
            teacher_weight=1.0, check_every=10**6,
        )  # fmt: skip

        left = iter(range(batches))

        def draw(*arguments):
            if next(left, None) is None:
                raise KeyboardInterrupt
            return speaker_data.draw_batch(*arguments)

        monkeypatch.setattr(train_speaker, "draw_batch", draw)
        with pytest.raises(KeyboardInterrupt):
            train_speaker.train(model, sources, lambda model: None, asked)
        return model.state_dict()

    whole = run(tmp_path / "whole.pt", 6)
    run(tmp_path / "parts.pt", 3)  # the third step is lost
    parts = run(tmp_path / "parts.pt", 4)
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_the_last_layer_keeps_what_tells_voices_apart_and_drops_what_tells_recordings_apart():
    generator = torch.Generator().manual_seed(0)
    classes = torch.arange(40).repeat_interleave(10)
    voices = torch.randn(40, 4, generator=generator)[classes]
    recordings = torch.randn(400, 12, generator=generator)
    vectors = torch.cat([recordings, voices], dim=1) + 3
    weight, bias = train_speaker.discriminants(vectors, classes, 4)
    assert weight.shape == (4, 16) and bias.shape == (4,)
    size = weight.norm(dim=0)
    assert size[:12].max() < 0.25 * size[12:].min()
    found = torch.nn.functional.normalize(vectors @ weight.T + bias, dim=1)
    assert speaker_scores.equal_error_rate(found, classes)["eer"] < 0.1
    raw = torch.nn.functional.normalize(vectors - vectors.mean(0), dim=1)
    assert speaker_scores.equal_error_rate(raw, classes)["eer"] > 0.25


def test_what_the_last_layer_is_given_is_kept_and_the_network_has_it_from_there():
    small = train_speaker.MODEL | {"channels": [8, 8, 8, 8, 48], "attention_channels": 4}
    small |= {"res2net_scale": 2, "se_channels": 4}
    model = train_speaker.ECAPA_TDNN(**small)
    named = Source({f"n{i}": [voice(0.5)] for i in range(6)}, 4, crops=2)
    sources = [named, Source({"u": [voice(0.5)]}, 1, named=False)]
    asked = argparse.Namespace(last_layer=3, seed=0, crop_seconds=0.3)
    vectors, classes = train_speaker.hear(model, sources, asked)
    assert vectors.shape == (27, 96) and (classes == -1).sum() == 3
    train_speaker.replace_last_layer(model, vectors, classes)
    weight, bias = train_speaker.discriminants(vectors, classes, 96)
    assert torch.equal(model.fc.conv.weight[..., 0], weight) and torch.equal(
        model.fc.conv.bias, bias
    )
