"""Where recordings are cut, on known stretches, and by the real silero-vad on a person's voice."""

from __future__ import annotations

import pytest
import torch

from svae.assets import asset_path
from svae.audio import load_audio
from svae.recordings.speech import SileroVAD, Stretch, group, shortened, with_margins


def stretches(*times: tuple[float, float]) -> list[Stretch]:
    return [Stretch(start, end) for start, end in times]


def test_a_long_pause_separates_and_a_short_one_joins():
    found = group(stretches((0, 2), (2.5, 4), (5.5, 6)), 20)
    assert [(each[0].start, each[-1].end) for each in found] == [(0, 4), (5.5, 6)]


def test_what_is_too_long_is_cut_in_its_longest_pauses():
    found = group(stretches((0, 6), (6.2, 9), (9.9, 14), (14.3, 20)), 10)
    assert [(each[0].start, each[-1].end) for each in found] == [(0, 9), (9.9, 14), (14.3, 20)]
    assert [len(each) for each in found] == [2, 1, 1]
    # All pauses alike: in the middle.
    alike = stretches(*((float(n), n + 0.9) for n in range(12)))
    assert [len(each) for each in group(alike, 8)] == [6, 6]


def test_margins_share_the_pause_between_two_segments():
    groups = [stretches((0.05, 1.0)), stretches((1.1, 2.0)), stretches((5.0, 6.0))]
    assert with_margins(groups, 6.02) == [
        pytest.approx((0.0, 1.05)),
        pytest.approx((1.05, 2.15)),
        pytest.approx((4.85, 6.02)),
    ]


def test_speech_without_a_pause_is_cut_where_it_is_quietest():
    samples = torch.randn(1, 30 * 1000, generator=torch.Generator().manual_seed(0))
    samples[:, 8200:8400] *= 0.05
    samples[:, 15500:15700] *= 0.05
    found = shortened(stretches((0, 22), (24, 25)), samples, 1000, 10)
    assert [each.end for each in found[:2]] == [
        pytest.approx(8.3, abs=0.15),
        pytest.approx(15.6, abs=0.15),
    ]
    assert found[-2].end == 22 and found[-1].start == 24
    assert all(each.seconds <= 10 for each in found)
    assert all(a.end == b.start for a, b in zip(found, found[1:-1], strict=False))


def test_silero_finds_a_voice_and_passes_over_music_and_noise():
    voice, rate = load_audio(asset_path("references", "libri-6415.flac"), sample_rate=16000)
    voice = voice[0, : 3 * rate]
    time = torch.arange(2 * rate) / rate
    chord = sum(0.1 * torch.sin(2 * torch.pi * hertz * time) for hertz in (220, 277, 330, 440))
    noise = 0.02 * torch.randn(2 * rate, generator=torch.Generator().manual_seed(0))
    threads = torch.get_num_threads()
    detector = SileroVAD()
    assert torch.get_num_threads() == threads and detector.description["version"]
    found = detector.stretches(torch.cat([chord, noise, voice, noise, torch.zeros(rate)]))
    assert found and found[0].start > 3.9 and found[-1].end < 7.3
    assert sum(each.seconds for each in found) > 1.5
    # It remembers nothing of what it heard before.
    assert detector.stretches(torch.zeros(rate)) == []
