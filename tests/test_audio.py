"""Audio files come back as they were written, and every unusable one is refused by name."""

from __future__ import annotations

import io
import os

import numpy as np
import pytest
import soundfile
import torch
import torchaudio

from svae import audio
from svae.audio import encode_flac, load_audio, log_mel, pcm16, resample, save_audio
from svae.errors import DataError


def tone(frequency: float, rate: int, seconds: float = 0.5, amplitude: float = 0.5) -> torch.Tensor:
    time = torch.arange(int(rate * seconds), dtype=torch.float64) / rate
    return (amplitude * torch.sin(2 * torch.pi * frequency * time)).float()[None]


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_sixteen_bit_samples_survive_writing_and_reading_exactly(tmp_path, suffix):
    pcm = torch.randint(-32768, 32768, (1, 5000), generator=torch.Generator().manual_seed(0))
    waveform = pcm.float() / 32768
    save_audio(tmp_path / f"a{suffix}", waveform, 16000)
    back, rate = load_audio(tmp_path / f"a{suffix}")
    assert rate == 16000 and back.dtype == torch.float32
    assert torch.equal(back, waveform)


def test_encode_flac_is_lossless_and_deterministic():
    waveform = (
        torch.randn(3000, generator=torch.Generator().manual_seed(1)) * 3000
    ).round() / 32768
    data = encode_flac(waveform, 16000)
    assert data == encode_flac(waveform[None, None], 16000)
    decoded, rate = soundfile.read(io.BytesIO(data), dtype="float32")
    assert rate == 16000 and np.array_equal(decoded, waveform.numpy())


def test_loud_samples_are_clipped_and_do_not_wrap_around(tmp_path):
    save_audio(tmp_path / "a.wav", torch.tensor([[2.0, -2.0, 1.0, 0.0]]), 8000)
    back, _ = load_audio(tmp_path / "a.wav")
    assert torch.allclose(back, torch.tensor([[1.0, -1.0, 1.0, 0.0]]), atol=1e-4)


def test_stereo_is_averaged(tmp_path):
    stereo = np.stack([np.full(100, 0.5), np.full(100, -0.25)], axis=1)
    soundfile.write(tmp_path / "s.wav", stereo, 16000, subtype="FLOAT")
    waveform, _ = load_audio(tmp_path / "s.wav")
    assert waveform.shape == (1, 100)
    assert torch.allclose(waveform, torch.full((1, 100), 0.125))


def test_silent_channels_are_silence(tmp_path):
    soundfile.write(tmp_path / "b.wav", torch.zeros(800, 2).numpy(), 16000, "FLOAT")
    assert not load_audio(tmp_path / "b.wav")[0].any()


def test_open_files_are_read_like_paths(tmp_path):
    save_audio(tmp_path / "a.flac", tone(440, 16000), 16000)
    with open(tmp_path / "a.flac", "rb") as file:
        from_file, _ = load_audio(file)
    assert torch.equal(from_file, load_audio(str(tmp_path / "a.flac"))[0])


@pytest.mark.parametrize(("from_rate", "to_rate"), [(22050, 16000), (8000, 16000), (48000, 16000)])
def test_resampling_keeps_a_tone(tmp_path, from_rate, to_rate):
    soundfile.write(
        tmp_path / "a.wav", tone(1000, from_rate)[0].numpy(), from_rate, subtype="FLOAT"
    )
    got, rate = load_audio(tmp_path / "a.wav", sample_rate=to_rate)
    expected = tone(1000, to_rate)
    assert rate == to_rate and got.shape == expected.shape
    middle = slice(to_rate // 10, -to_rate // 10)
    assert (got[0, middle] - expected[0, middle]).abs().max() < 1e-3


def test_resampling_removes_what_the_new_rate_cannot_hold():
    assert resample(tone(10000, 24000), 24000, 16000)[0, 1000:-1000].abs().max() < 1e-3


ODD_RATES = (7999, 11111, 22254, 22255, 37799, 44099, 44101, 47999, 95999, 191999, 1_000_003)


@pytest.mark.parametrize("rate", ODD_RATES)
def test_any_rate_is_resampled_with_a_small_filter(rate, monkeypatch):
    # The filter that grows with the rates would take gigabytes: it must not even be begun.
    monkeypatch.setattr(audio, "_resampler", None)
    for wanted in (16000, 24000):
        source = tone(1000, rate)
        got, expected = resample(source, rate, wanted), tone(1000, wanted)
        assert got.dtype == torch.float32
        assert got.shape == (1, -(-source.shape[1] * wanted // rate))
        middle = slice(wanted // 10, -wanted // 10 - 10)
        assert (got[:, : expected.shape[1]] - expected[:, : got.shape[1]])[
            0, middle
        ].abs().max() < 1e-3


@pytest.mark.parametrize("rate", [rate for rate in ODD_RATES if rate > 20000])
@pytest.mark.parametrize("hertz", [8400, 9000, 10000])
def test_no_rate_lets_through_what_the_new_one_cannot_hold(rate, hertz):
    assert resample(tone(hertz, rate), rate, 16000)[0, 1000:-1000].abs().max() < 1e-3


@pytest.mark.parametrize("samples", [1, 2, 3, 100, 101])
@pytest.mark.parametrize("rate", [7, 997, 44099, 44100])
def test_lengths_round_up_and_the_other_dimensions_stay(rate, samples):
    got = resample(torch.rand(2, 3, samples), rate, 16000)
    assert got.shape == (2, 3, -(-samples * 16000 // rate))


USUAL_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 88200, 96000, 176400, 192000)  # fmt: skip


def test_usual_rates_keep_the_filter_they_had(monkeypatch):
    monkeypatch.setattr(audio, "_resample_any", None)
    for before in USUAL_RATES:
        for after in (16000, 24000):
            if before != after:
                waveform = torch.randn(1, 400, generator=torch.Generator().manual_seed(before))
                expected = torchaudio.functional.resample(
                    waveform, before, after, lowpass_filter_width=64, rolloff=0.9475937167399596,
                    resampling_method="sinc_interp_kaiser", beta=14.769656459379492,
                )  # fmt: skip
                assert torch.equal(resample(waveform, before, after), expected)


def test_the_filter_goes_where_the_waveform_is():
    waveform = torch.empty(1, 2400, device="meta")  # any device but the CPU
    assert resample(waveform, 24000, 16000).device == waveform.device


def test_a_filter_made_without_gradients_lets_them_pass_later():
    audio._resampler.cache_clear()
    with torch.inference_mode():
        resample(tone(440, 24000), 24000, 16000)
    waveform = tone(440, 24000).requires_grad_()
    resample(waveform, 24000, 16000).square().sum().backward()
    assert waveform.grad.abs().sum() > 0


def test_resampling_to_the_same_rate_returns_the_input():
    waveform = tone(100, 16000)
    assert resample(waveform, 16000, 16000) is waveform
    with pytest.raises(DataError, match="0 Hz"):
        resample(waveform, 16000, 0)


def test_log_mel_agrees_with_torchaudio():
    waveform = torch.randn(2, 3, 4000, generator=torch.Generator().manual_seed(2)) * 0.1
    reference = torchaudio.transforms.MelSpectrogram(
        16000,
        n_fft=512,
        hop_length=128,
        n_mels=40,
        power=1.0,
        norm="slaney",
        mel_scale="slaney",
        pad_mode="constant",
    )(waveform)
    got = log_mel(waveform, sample_rate=16000, n_fft=512, hop_length=128, n_mels=40)
    assert got.shape == (2, 3, 40, 4000 // 128 + 1)
    assert torch.allclose(got, reference.clamp_min(1e-5).log(), atol=1e-4)


def test_log_mel_of_a_tone_peaks_at_its_band_and_takes_any_length():
    mel = log_mel(tone(1000, 16000)[0], sample_rate=16000)
    # Slaney's scale is linear up to 1 kHz: 15 mel there, 45.2 at 8 kHz, 82 points for 80 bands.
    assert abs(int(mel.mean(-1).argmax()) - round(15 / 45.2 * 81 - 1)) <= 1
    assert log_mel(torch.zeros(1, 1, 5), sample_rate=16000).shape == (1, 1, 80, 1)


def make_bad(kind: str, folder):
    path = folder / "bad.wav"
    if kind == "text":
        path.write_text("this is not audio\n" * 50)
    elif kind == "zero bytes":
        path.write_bytes(b"")
    elif kind == "no samples":
        soundfile.write(path, np.zeros(0), 16000)
    elif kind == "nan":
        soundfile.write(path, np.array([0.1, np.nan, np.inf]), 16000, subtype="FLOAT")
    elif kind == "folder":
        path.mkdir()
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "no such file"),
        ("folder", "is a folder"),
        ("text", "cannot be read as audio"),
        ("zero bytes", "cannot be read as audio"),
        ("no samples", "zero samples"),
        ("nan", "2 of 3 samples are NaN or infinite"),
    ],
)
def test_unusable_files_are_data_errors_that_name_the_file(tmp_path, kind, message):
    path = make_bad(kind, tmp_path)
    with pytest.raises(DataError, match=message) as caught:
        load_audio(path)
    assert str(path) in str(caught.value)
    with pytest.raises(DataError, match="^the reference: "):
        load_audio(path, name="the reference")


def test_unusable_outputs_are_refused_and_leave_nothing_behind(tmp_path):
    good = torch.zeros(1, 10)
    with pytest.raises(DataError, match=r"use \.wav or \.flac"):
        save_audio(tmp_path / "a.mp3", good, 16000)
    for bad in (torch.zeros(2, 10), torch.zeros(1, 0), torch.tensor([[float("nan")]])):
        with pytest.raises(DataError):
            save_audio(tmp_path / "a.wav", bad, 16000)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        save_audio(tmp_path / "file" / "a.wav", good, 16000)
    assert os.listdir(tmp_path) == ["file"]


def test_whole_numbers_of_16_bits_come_back_and_others_are_rounded_or_cut():
    whole = torch.arange(-32768, 32768)
    assert torch.equal(pcm16(whole / 32768).long(), whole)
    waveform = torch.tensor([-2.0, -1.0, -0.7 / 32767, 0.7 / 32767, 1.0, 2.0])
    assert pcm16(waveform).tolist() == [-32768, -32768, -1, 1, 32767, 32767]
    assert pcm16(waveform, full_scale=32767).tolist() == [-32767, -32767, -1, 1, 32767, 32767]
    cut = pcm16(waveform, full_scale=32767, truncate=True)
    assert cut.tolist() == [-32767, -32767, 0, 0, 32767, 32767]
