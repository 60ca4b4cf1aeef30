"""Measures of a signal against known answers."""

from __future__ import annotations

import math

import pytest
import torch

from svae.evaluation.signals import (
    UndefinedScoreError,
    f0_errors,
    mel_cepstral_distortion,
    mel_distance,
    pesq,
    pitch,
    signal_scores,
    stft_distance,
    stoi,
)


def wide_band(reference, degraded, sample_rate):
    return pesq(reference, degraded, sample_rate, "wb")


def buzz(hz, seconds=1.0, rate=16000):
    time = torch.arange(int(seconds * rate)) / rate
    return 0.1 * sum(torch.sin(2 * torch.pi * k * hz * time) / k for k in range(1, 8))


@pytest.fixture
def speech() -> torch.Tensor:
    """Two seconds of a buzzing, gliding, pulsing tone: enough like speech for PESQ and STOI to take it for speech."""
    time = torch.arange(32000) / 16000
    envelope = 0.55 + 0.45 * torch.sin(2 * torch.pi * 4 * time)
    tone = sum(torch.sin(2 * torch.pi * k * (120 + 30 * time) * time) / k for k in range(1, 20))
    return 0.1 * envelope * tone


def test_a_copy_scores_best_and_noise_scores_worse(speech):
    noisy = speech + 0.05 * torch.randn(speech.shape, generator=torch.Generator().manual_seed(0))
    same, worse = (signal_scores(speech, other, 16000).scores for other in (speech, noisy))
    assert (
        same["mel_distance"] == 0
        and same["stoi"] == pytest.approx(1, abs=1e-6)
        and same["pesq_wb"] > 4.5
    )
    assert (
        worse["mel_distance"] > 0.1
        and worse["stoi"] < same["stoi"]
        and worse["pesq_wb"] < same["pesq_wb"]
    )


def test_mel_distance_of_a_gain_is_the_logarithm_of_the_gain(speech):
    loud = speech + 0.2 * torch.randn(
        speech.shape, generator=torch.Generator().manual_seed(0)
    )  # far above the floor
    assert mel_distance(loud, 2 * loud, 16000) == pytest.approx(0.6931, abs=1e-3)


@pytest.mark.parametrize("measure", [stoi, wide_band])
def test_silence_and_clips_too_short_are_undefined_not_zero(speech, measure):
    silence = torch.zeros(16000)
    for reference, other in (
        (silence, speech[:16000]),
        (silence, silence),
        (speech[:800], speech[:800]),
    ):
        with pytest.raises(UndefinedScoreError):
            measure(reference, other, 16000)


def test_an_undefined_score_is_null_and_says_why(speech):
    found = signal_scores(speech[:800], speech[:800], 16000)
    scores = found.scores
    assert scores["stoi"] is None and scores["pesq_wb"] is None and scores["mel_distance"] == 0
    assert "1/4 of a second" in found.undefined["pesq_wb"] and "STOI" in found.undefined["stoi"]
    assert signal_scores(speech, speech, 16000).undefined == {}


def test_scores_know_the_sample_rate(speech):
    from svae.audio import resample

    noisy = speech + 0.05 * torch.randn(speech.shape, generator=torch.Generator().manual_seed(0))
    up = [resample(clip[None], 16000, 32000)[0] for clip in (speech, noisy)]
    assert wide_band(*up, 32000) == pytest.approx(wide_band(speech, noisy, 16000), abs=0.1)
    assert stoi(*up, 32000) == pytest.approx(stoi(speech, noisy, 16000), abs=0.02)


@pytest.mark.parametrize("hz", [75.0, 90.3, 133.3, 200.0, 310.7, 440.0])
@pytest.mark.parametrize("rate", [16000, 24000])
def test_the_pitch_of_a_buzz_is_its_rate_without_octave_errors(hz, rate):
    found, voiced = pitch(buzz(hz, rate=rate), rate)
    inside = slice(5, 90)
    assert voiced[inside].all()
    assert (found[inside] - hz).abs().max() < 0.005 * hz


def test_a_glide_is_followed():
    time = torch.arange(16000) / 16000
    phase = 2 * torch.pi * (120 * time + 40 * time**2)
    found, voiced = pitch(sum(torch.sin(k * phase) / k for k in range(1, 6)), 16000)
    frames = torch.arange(10, 90)
    assert voiced[frames].all()
    assert (found[frames] - (120 + 80 * frames * 0.01)).abs().max() < 3


def test_noise_and_silence_have_no_pitch():
    noise = 0.1 * torch.randn(16000, generator=torch.Generator().manual_seed(0))
    assert not pitch(noise, 16000)[1].any() and not pitch(torch.zeros(16000), 16000)[1].any()
    quiet_end = torch.cat([buzz(150), 0.01 * buzz(150)])
    assert pitch(quiet_end, 16000)[1][:90].all() and not pitch(quiet_end, 16000)[1][110:190].any()


def test_f0_rmse_and_voicing_error_of_a_known_change():
    """Ten hertz higher throughout; the second half unvoiced in one of them."""
    assert f0_errors(buzz(150), buzz(160), 16000)[0] == pytest.approx(10, abs=0.5)
    assert f0_errors(buzz(150), buzz(150), 16000) == (0.0, 0.0)
    half = torch.cat([buzz(150, 0.5), torch.zeros(8000)])
    assert f0_errors(buzz(150), half, 16000)[1] == pytest.approx(0.5, abs=0.04)
    rmse, share = f0_errors(buzz(150), torch.zeros(16000), 16000)
    assert rmse is None and share > 0.9  # the worst there is, not undefined


def test_a_silent_clip_has_the_worst_scores_and_not_none(speech):
    found = signal_scores(speech, torch.zeros_like(speech), 16000)
    scores = found.scores
    assert (scores["pesq_wb"], scores["pesq_nb"], scores["stoi"]) == (1.0, 1.0, 0.0)
    noisy = signal_scores(
        speech,
        speech + 0.001 * torch.randn(speech.shape, generator=torch.Generator().manual_seed(0)),
        16000,
    ).scores
    for worse in ("mel_distance", "stft_distance", "mcd", "voicing_error"):
        assert scores[worse] > noisy[worse]
    assert found.undefined == {"f0_rmse": "no frame is voiced in both"}


def test_stft_distance_of_a_gain_by_hand(speech):
    """Twice as loud: spectral convergence 1 plus log 2, where everything is above the floor."""
    loud = speech + 0.2 * torch.randn(speech.shape, generator=torch.Generator().manual_seed(0))
    assert stft_distance(loud, 2 * loud) == pytest.approx(1 + math.log(2), abs=2e-3)
    assert stft_distance(loud, loud) == 0


def test_mel_cepstral_distortion_ignores_a_gain_and_grows_with_noise(speech):
    generator = torch.Generator().manual_seed(0)
    loud = speech + 0.2 * torch.randn(speech.shape, generator=generator)
    assert mel_cepstral_distortion(loud, 2 * loud, 16000) == pytest.approx(0, abs=1e-3)
    noise = torch.randn(speech.shape, generator=generator)
    found = [
        mel_cepstral_distortion(loud, loud + level * noise, 16000) for level in (0.0, 0.02, 0.2)
    ]
    assert found[0] == 0 < found[1] < found[2]


def test_mel_cepstral_distortion_of_one_cosine_across_the_bands_by_hand(monkeypatch):
    """Log mels that differ by A cos(pi k (2n + 1) / 160) in band n differ in cepstrum k alone, by A sqrt(40)."""
    import svae.evaluation.signals as signals

    n = torch.arange(80)[:, None]
    tilt = 0.1 * torch.cos(math.pi * 3 * (2 * n + 1) / 160).expand(80, 5)
    mels = iter([torch.zeros(80, 5), tilt])
    monkeypatch.setattr(signals, "log_mel", lambda clip, sample_rate: next(mels))
    expected = 10 / math.log(10) * math.sqrt(2) * 0.1 * math.sqrt(40)
    assert mel_cepstral_distortion(torch.zeros(1), torch.zeros(1), 16000) == pytest.approx(
        expected, rel=1e-6
    )


def test_narrow_band_pesq_does_not_hear_what_wide_band_does(speech):
    from svae.audio import resample

    telephone = resample(resample(speech[None], 16000, 8000), 8000, 16000)[0]
    scores = signal_scores(speech, telephone, 16000).scores
    assert scores["pesq_nb"] > scores["pesq_wb"]
