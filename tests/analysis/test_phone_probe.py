"""The linear probe of phones: against frames whose phones are known, and in `svae inspect`."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from svae.analysis.inspect_latents import InspectOptions, inspect
from svae.analysis.phone_probe import PAUSE, phones_of_frames, probe_phones
from svae.data.index import read_index
from svae.data.timings import DESCRIPTION, Timings, timings_name
from svae.errors import DataError

PHONES = ["AA", "B", "S", PAUSE]


def speech(count: int, noise: float, seed: int = 0) -> list[tuple[torch.Tensor, list[str]]]:
    """Frames of 6 channels that are their phone's direction and noise."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(len(PHONES), 6, generator=generator)
    made = []
    for _ in range(count):
        which = torch.randint(len(PHONES), (40,), generator=generator)
        frames = directions[which] + noise * torch.randn(40, 6, generator=generator)
        made.append((100 * frames.T + 7, [PHONES[i] for i in which]))
    return made


def test_clear_frames_are_named_and_noise_is_not():
    clear, noisy = probe_phones(speech(30, 0.01)), probe_phones(speech(30, 1e3))
    assert clear.accuracy == 1.0 and clear.phones == 4 and clear.frames == 400
    assert 0.15 < noisy.accuracy < 0.35 and noisy.accuracy < 2 * noisy.commonest


def test_scale_offset_and_dead_channels_do_not_matter():
    made = speech(12, 0.7)
    scaled = [(1e-3 * x - 5, said) for x, said in made]
    dead = [(torch.cat([x, torch.full((1, 40), 3.0)]), said) for x, said in made]
    accuracy = probe_phones(made).accuracy
    assert 0.5 < accuracy < 1
    assert probe_phones(scaled).accuracy == pytest.approx(accuracy)
    assert probe_phones(dead).accuracy == pytest.approx(accuracy)


def test_a_phone_that_was_never_fitted_on_counts_as_wrong():
    made = speech(6, 0.01)
    made[0] = (made[0][0], ["ZH"] * 40)  # of the tested third
    assert probe_phones(made).accuracy == pytest.approx(0.5)


def test_too_few_utterances_are_refused():
    with pytest.raises(DataError, match="needs at least 3"):
        probe_phones(speech(2, 0.1))


@pytest.fixture
def tone_timings(tone_shards, tmp_path):
    """Times of phones of the tones' texts, every word as long as the others."""
    index = read_index(tone_shards)
    from svae.text.phonemes import FramePhonemes, Word, pieces

    for number in range(len(index.shards)):
        lines = []
        for sample in index.samples_of(number):
            words = [piece for piece in pieces(sample.text) if isinstance(piece, Word)]
            seconds = sample.num_samples / index.sample_rate
            size = seconds / (len(words) + 1)
            rows = []
            for i, word in enumerate(words):
                count = len(FramePhonemes().spell(word, sample.text))
                rows.append([i * size, *((i + (j + 1) / count) * size for j in range(count))])
            lines.append(json.dumps({"key": sample.key, "words": rows}) + "\n")
        (tmp_path / timings_name(number)).write_text("".join(lines))
    source = [shard["sha256"] for shard in index.shards]
    (tmp_path / DESCRIPTION).write_text(json.dumps({"source": source}))
    return tmp_path


def test_inspect_probes_where_times_are_given(toy_tts, tone_shards, tone_timings, tmp_path):
    index, timings = read_index(tone_shards), Timings(tone_timings)
    sample = index.train[0]
    said = phones_of_frames(timings, sample, 10, index.sample_rate, 400)
    assert len(said) == 10 and all(name == PAUSE or name.isalpha() for name in said)
    options = InspectOptions(
        toy_tts.parent / "vae", data=tone_shards, out=tmp_path / "out", device="cpu"
    )
    assert inspect(options).phone_probe is None
    found = inspect(replace(options, timings=tone_timings)).phone_probe
    assert found is not None and 0 <= found.accuracy <= 1
    written = json.loads((tmp_path / "out" / "inspection.json").read_text())
    assert written["phone_probe"]["accuracy"] == found.accuracy
