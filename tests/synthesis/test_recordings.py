"""Recordings as people have them: too long, with hum or an offset, too short, cut off; each is used, and what is done is said."""

from __future__ import annotations

import json
import math
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from scipy.signal import butter, sosfiltfilt
from tiny_tts import PROMPT_TEXT, RATE, changed, speech
from torch import Tensor

from svae.assets import asset_path
from svae.audio import load_audio
from svae.synthesis.clean import clean
from svae.synthesis.command import SynthesizeOptions, synthesize_file
from svae.synthesis.model import aligner
from svae.synthesis.reference import find_reference_cut, recording_warnings
from svae.synthesis.trim import find_cut, frame_levels, frame_size, trim_silence

LIMIT = 13.5


@lru_cache(maxsize=1)
def clips() -> list[tuple[Tensor, str]]:
    """The package's two synthetic clips, (S,), without silence at their ends, and their texts."""
    root = asset_path("references")
    rows = json.loads((root / "references.json").read_text())
    waves = [load_audio(root / row["audio"], sample_rate=RATE)[0][0] for row in rows]
    sections = butter(2, 30, "highpass", fs=RATE, output="sos")
    waves = [torch.from_numpy(sosfiltfilt(sections, wave).copy()).float() for wave in waves]
    loud = [(wave.abs() > 0.02).nonzero() for wave in waves]
    return [
        (wave[int(at[0]) : int(at[-1])] / wave.square().mean().sqrt() * 0.1, row["text"])
        for wave, at, row in zip(waves, loud, rows, strict=True)
    ]


@lru_cache(maxsize=2)
def word_ends(number: int) -> list[float]:
    """Return when each word of a clip ends, in seconds."""
    return [word[-1] for word in aligner().align(*clips()[number])]


def long_speech(count: int = 5) -> tuple[Tensor, str, list[float]]:
    """Return speech (1, S) with hardly a pause, its text, and where its clips end, in seconds."""
    chosen = [clips()[i % 2] for i in range(count)]
    ends = torch.tensor([len(wave) for wave, _ in chosen]).cumsum(0) / RATE
    return torch.cat([w for w, _ in chosen])[None], " ".join(t for _, t in chosen), ends.tolist()


def background(kind: str, size: int, rate: int = RATE) -> Tensor:
    """Return (1, size) of something that is under many voices, about 20 dB below one of RMS 0.1."""
    time = torch.arange(size) / rate
    noise = torch.randn(size, generator=torch.Generator().manual_seed(1))
    return {
        "nothing": torch.zeros(size),
        "noise": 0.01 * noise,
        "hum": 0.02 * (2 * math.pi * 50 * time).sin() + 0.01 * (2 * math.pi * 150 * time).sin(),
        "music": 0.01 * sum((2 * math.pi * f * time).sin() for f in (262, 330, 392)),
        "offset": torch.full((size,), 0.01),
    }[kind][None]


# ------------------------------------------------------------------------------------------- too long


@pytest.mark.parametrize("kind", ["nothing", "noise", "hum", "music", "offset"])
@pytest.mark.parametrize("limit", [6.3, 13.5])
def test_a_long_recording_is_cut_where_the_voice_is_quiet(kind: str, limit: float) -> None:
    voice = long_speech()[0]
    cut = find_cut(voice + background(kind, voice.shape[1]), RATE, limit)
    assert cut is not None and limit / 2 <= cut.seconds <= limit
    around = round((cut.seconds - 0.02) * RATE), round((cut.seconds + 0.02) * RATE)
    assert voice[0, slice(*around)].square().mean() < 0.1**2 / 100


@pytest.mark.parametrize("seconds", [13.5001, 14, 100])
@pytest.mark.parametrize("signal", ["tone", "noise", "clicks"])
def test_nothing_is_too_long_or_too_even_to_be_cut(seconds: float, signal: str) -> None:
    size = int(seconds * RATE)
    time = torch.arange(size) / RATE
    wave = {
        "tone": (2 * math.pi * 200 * time).sin(),
        "noise": torch.randn(size, generator=torch.Generator().manual_seed(0)),
        "clicks": (time % 0.1 < 0.001).float(),
    }[signal]
    cut = find_cut(0.1 * wave[None], RATE, LIMIT)
    assert cut is not None and LIMIT / 2 <= cut.seconds <= LIMIT and cut.place == "quietest place"
    assert cut.of_seconds == pytest.approx(seconds, abs=1e-3)


def test_an_early_pause_is_not_preferred_to_most_of_the_voice() -> None:
    voice = long_speech()[0]
    voice[:, int(2.5 * RATE) : int(3.0 * RATE)] = 0.0
    cut = find_cut(voice, RATE, LIMIT)
    assert cut is not None and cut.seconds > LIMIT / 2


@pytest.mark.parametrize(
    ("kind", "limit"), [("nothing", 5.3), ("nothing", 9.0), ("noise", 9.0), ("hum", 5.3)]
)
def test_a_given_text_is_cut_with_the_sound(kind: str, limit: float) -> None:
    voice, text, ends = long_speech(3)
    recording = clean(voice + background(kind, voice.shape[1]), RATE)[0]
    cut = find_reference_cut(recording, RATE, limit, text, "en")
    assert cut is not None and cut.aligned and cut.text and limit / 2 <= cut.seconds <= limit
    said = 0
    for start, number in zip([0.0, *ends], (0, 1, 0), strict=False):
        said += sum(start + end <= cut.seconds + 0.1 for end in word_ends(number))
    assert abs(len(cut.text.split()) - said) <= (0 if kind == "nothing" else 1)
    assert text.startswith(cut.text)


def test_a_text_that_is_not_found_is_cut_in_proportion_and_that_is_said() -> None:
    voice, text, _ = long_speech()
    noise = torch.randn(voice.shape, generator=torch.Generator().manual_seed(0))
    for wave, said, language in ((voice, "春眠不觉晓处处闻啼鸟" * 8, "zh"), (noise, text, "tlh")):
        cut = find_reference_cut(wave, RATE, LIMIT, said, language)
        assert cut is not None and not cut.aligned and cut.text and said.startswith(cut.text)
        share = len(cut.text) / len(said)
        assert share == pytest.approx(cut.seconds / cut.of_seconds, abs=0.1)


@pytest.mark.parametrize("language", ["en-US", "EN", "English", None])
def test_english_by_another_name_is_cut_as_english(language: str | None) -> None:
    voice, text, _ = long_speech(3)
    cut = find_reference_cut(voice, RATE, 5.0, text, language)
    assert cut is not None and cut.aligned
    assert cut == find_reference_cut(voice, RATE, 5.0, text, "en")


def test_of_a_chapter_with_its_text_only_the_beginning_is_aligned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    voice, text, _ = long_speech(12)
    heard: list[int] = []
    monkeypatch.setattr(
        "svae.synthesis.reference.aligner",
        lambda: type(
            "A", (), {"align": lambda _, w, t: heard.append(len(w)) or aligner().align(w, t)}
        )(),
    )
    cut = find_reference_cut(voice, RATE, 5.0, text, "en")
    assert cut is not None and cut.aligned and 2.5 <= cut.seconds <= 5.0
    assert heard[0] <= 15 * RATE and cut.of_seconds > 45
    said = sum(end <= cut.seconds + 0.1 for end in word_ends(0))
    assert len(cut.text.split()) == pytest.approx(said, abs=1)


def test_dashes_and_phones_in_braces_stay_with_their_words() -> None:
    voice, text, _ = long_speech(2)
    marked = text.replace("softly", "{S AO F T L IY}").replace(", and", " - and")
    cut = find_reference_cut(voice, RATE, 5.0, marked, "en")
    plain = find_reference_cut(voice, RATE, 5.0, text, "en")
    assert cut is not None and plain is not None and marked.startswith(cut.text)
    assert cut.seconds == pytest.approx(plain.seconds, abs=0.05)


def test_the_command_uses_and_tells_what_was_cut(
    options: SynthesizeOptions, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    voice, text, _ = long_speech(3)
    soundfile.write(tmp_path / "long.wav", voice[0].numpy(), RATE)
    spoken = "".join(c for c in text.lower() if c in "abcdefghijklmnopqrstuvwxyz,. ")
    row = json.loads(
        synthesize_file(changed(options, ref=tmp_path / "long.wav", ref_text=spoken))
        .with_suffix(".json")
        .read_text()
    )
    cut = row["reference_cut"]
    assert row["reference_seconds"] == pytest.approx(voice.shape[1] / RATE)
    assert row["prompt_seconds"] == pytest.approx(cut["seconds"], abs=1e-3) and cut["aligned"]
    assert spoken.startswith(row["prompt_text"].rstrip(".")) and cut["text"] in row["prompt_text"]
    printed = " ".join(capsys.readouterr().out.split())
    assert "Reference cut" in printed and cut["text"] in printed


def test_librispeech_clips_of_any_length_are_taken(shared: Path) -> None:
    root = shared / "data" / "real-speech"
    rows = [json.loads(line) for line in (root / "metadata.jsonl").read_text().splitlines()]
    long = [r for r in rows if "libri" in r["corpus"] and r["duration"] > LIMIT][:24]
    assert len(long) >= 20
    for number, row in enumerate(long):
        loaded, rate = load_audio(root / row["audio"])
        waveform = trim_silence(clean(loaded, rate)[0], rate)
        noisy = waveform + background(
            ("nothing", "noise", "hum", "music")[number % 4], waveform.shape[1], rate
        )
        cut = find_cut(noisy, rate, LIMIT)
        assert (cut is None) == (waveform.shape[1] <= LIMIT * rate)
        assert cut is None or LIMIT / 2 <= cut.seconds <= LIMIT


def test_a_librispeech_clip_is_cut_with_its_text(shared: Path) -> None:
    root = shared / "data" / "real-speech"
    rows = [json.loads(line) for line in (root / "metadata.jsonl").read_text().splitlines()]
    row = next(r for r in rows if r["audio"].endswith("8838-298545-0000.flac"))
    loaded, rate = load_audio(root / row["audio"])
    cut = find_reference_cut(trim_silence(loaded, rate), rate, LIMIT, row["text"], "en")
    assert cut is not None and cut.aligned and row["text"].startswith(cut.text)
    assert len(cut.text) / len(row["text"]) == pytest.approx(cut.seconds / cut.of_seconds, abs=0.1)


# ------------------------------------------------------------------------------------------- offset and hum


def in_silence(voice: Tensor, seconds: float = 1.0) -> Tensor:
    silence = torch.zeros(1, int(seconds * RATE))
    return torch.cat([silence, voice, silence], dim=1)


def hum(size: int, hertz: float, amplitude: float, harmonics: int = 1) -> Tensor:
    time = torch.arange(size).double() / RATE
    lines = [(2 * math.pi * n * hertz * time + n).sin() / n for n in range(1, harmonics + 1)]
    return (amplitude * sum(lines)).float()[None]


@pytest.mark.parametrize("level", [0.1, 0.01])
@pytest.mark.parametrize(
    "what",
    [
        "offset",
        "minus",
        "50",
        "60",
        "49.9",
        "50 with harmonics",
        "60.1 with harmonics",
        "both",
        "drift",
    ],
)
def test_offset_and_hum_are_removed_and_silence_is_trimmed(what: str, level: float) -> None:
    voice = in_silence(clips()[0][0][None] * level / 0.1)
    size = voice.shape[1]
    added = {
        "offset": torch.full((1, size), 0.05),
        "minus": torch.full((1, size), -0.05),
        "50": hum(size, 50, 0.05),
        "60": hum(size, 60, 0.05),
        "49.9": hum(size, 49.9, 0.05),
        "50 with harmonics": hum(size, 50, 0.05, 9),
        "60.1 with harmonics": hum(size, 60.1, 0.05, 5),
        "both": hum(size, 50, 0.03) + 0.05,
        "drift": torch.linspace(-0.05, 0.08, size)[None],
    }[what] * (level / 0.1)
    cleaned, removed = clean(voice + added, RATE)
    assert removed and str(removed)
    assert trim_silence(cleaned, RATE).shape[1] == pytest.approx(
        trim_silence(voice, RATE).shape[1], abs=0.06 * RATE
    )
    error = (cleaned - voice).square().mean().sqrt() / voice.square().mean().sqrt()
    assert error < 0.06  # -24 dB, most of it what the voice itself has there


def test_half_a_percent_of_offset_is_removed_from_a_normal_recording() -> None:
    voice = in_silence(clips()[1][0][None])
    cleaned, removed = clean(voice + 0.005, RATE)
    assert removed.offset == pytest.approx(0.005, abs=1e-4) and not removed.hum_hz
    assert float(cleaned.mean().abs()) < 1e-5
    assert trim_silence(cleaned, RATE).shape == trim_silence(voice, RATE).shape


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000])
def test_what_is_clean_stays_as_it_is_at_any_rate(rate: int) -> None:
    from svae.audio import resample

    for wave, _ in clips():
        voice = resample(in_silence(wave[None]), RATE, rate)
        cleaned, removed = clean(voice, rate)
        assert not removed and cleaned is voice
    for nothing in (torch.zeros(1, 100), torch.full((1, 5), 0.5), torch.zeros(1, 1)):
        assert clean(nothing, rate)[0] is nothing


@pytest.mark.parametrize("pitch", [65, 70, 80, 100, 120])
def test_low_voices_are_not_thinned(pitch: int) -> None:
    time = torch.arange(4 * RATE).double() / RATE
    gliding = pitch * (1 + 0.05 * (2 * math.pi * 0.7 * time).sin())
    phase = 2 * math.pi * gliding.cumsum(0) / RATE
    syllables = (2 * math.pi * 3 * time).sin().clamp_min(0)
    voice = (0.1 * syllables * sum((n * phase).sin() / n for n in range(1, 9))).float()[None]
    cleaned, _ = clean(voice + 0.01, RATE)
    band = torch.stft(
        torch.cat([voice, cleaned]), 4096, window=torch.hann_window(4096), return_complex=True
    )
    around = slice(int(0.8 * pitch * 4096 / RATE), int(1.2 * pitch * 4096 / RATE) + 2)
    before, after = band[:, around].abs().square().sum(dim=(1, 2))
    assert 10 * float((after / before).log10()) > -0.5


@pytest.mark.parametrize("seconds", [0.3, 0.7, 1.2])
@pytest.mark.parametrize("pitch", [100, 120, 60.4])
def test_a_sound_held_for_a_moment_is_no_hum(seconds: float, pitch: float) -> None:
    time = torch.arange(int(seconds * RATE)) / RATE
    vowel = sum(torch.sin(2 * torch.pi * k * pitch * time + k) / k for k in range(1, 12))
    assert isinstance(vowel, Tensor)
    assert not clean(0.1 * vowel[None], RATE)[1].hum_hz


def test_a_reference_with_hum_gives_what_it_gives_without(
    options: SynthesizeOptions, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    voice = in_silence(clips()[0][0][None] * 0.2)
    rows = {}
    for name, added in (("plain", 0 * voice), ("hum", hum(voice.shape[1], 50, 0.01, 3) + 0.005)):
        soundfile.write(tmp_path / f"{name}.wav", (voice + added)[0].numpy(), RATE, "FLOAT")
        out = synthesize_file(
            changed(options, ref=tmp_path / f"{name}.wav", out=tmp_path / f"out-{name}.wav")
        )
        rows[name] = json.loads(out.with_suffix(".json").read_text()) | {
            "level": float(load_audio(out)[0].square().mean().sqrt())
        }
    assert rows["hum"]["prompt_seconds"] == pytest.approx(rows["plain"]["prompt_seconds"], abs=0.05)
    assert rows["hum"]["level"] == pytest.approx(rows["plain"]["level"], rel=0.1)
    assert rows["plain"]["reference_removed"] is None
    assert rows["hum"]["reference_removed"]["offset"] == pytest.approx(0.005, rel=0.05)
    assert 50 in [round(line) for line in rows["hum"]["reference_removed"]["hum_hz"]]
    assert "hum at 50" in capsys.readouterr().out


# ------------------------------------------------------------------------------------------- warnings


def warned(recording: Tensor, *, was_cut: bool = False) -> str:
    cleaned = clean(recording, RATE)[0]
    return "; ".join(
        recording_warnings(cleaned, trim_silence(cleaned, RATE), RATE, was_cut=was_cut)
    )


def test_recordings_without_fault_are_not_warned_of() -> None:
    for wave, _ in clips():
        assert warned(in_silence(wave[None], 0.3)) == ""
        assert warned(in_silence(wave[None], 0.3) + background("noise", len(wave) + 9600) / 3) == ""


def test_short_recordings_are_warned_of() -> None:
    voice = clips()[0][0][None]
    assert "Record 3 to 12 s" in warned(in_silence(voice[:, : int(0.6 * RATE)]))
    assert "Record 3 to 12 s" not in warned(in_silence(voice[:, : int(1.5 * RATE)]))


@pytest.mark.parametrize("kind", ["nothing", "noise", "hum"])
def test_recordings_that_were_cut_off_are_warned_of(kind: str) -> None:
    voice = clips()[0][0][None]
    levels = frame_levels(voice[0], RATE)
    loud = int((levels[len(levels) // 2 :].argmax() + len(levels) // 2) * frame_size(RATE))
    silence = torch.zeros(1, RATE // 3)
    noise = background(kind, voice.shape[1] + RATE)
    ended = torch.cat([silence, voice[:, :loud]], 1)
    assert "ends in the middle" in warned(ended + noise[:, : ended.shape[1]])
    assert "ends in the middle" not in warned(ended + noise[:, : ended.shape[1]], was_cut=True)
    begun = torch.cat([voice[:, loud:], silence], 1)
    assert "begins in the middle" in warned(begun + noise[:, : begun.shape[1]])


@pytest.mark.parametrize("kind", ["noise", "music"])
def test_noise_as_loud_as_the_voice_is_warned_of(kind: str) -> None:
    voice = in_silence(clips()[0][0][None], 0.3)
    assert "Record again in a quiet room" in warned(voice + 8 * background(kind, voice.shape[1]))


def test_warnings_are_printed_and_kept(
    options: SynthesizeOptions, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    soundfile.write(tmp_path / "short.wav", speech(0.5)[0].numpy(), RATE)
    out = synthesize_file(changed(options, ref=tmp_path / "short.wav", ref_text=PROMPT_TEXT[:9]))
    row = json.loads(out.with_suffix(".json").read_text())
    assert any("Record 3 to 12 s" in warning for warning in row["reference_warnings"])
    assert "Record 3 to 12 s" in " ".join(capsys.readouterr().out.split())


def test_a_channel_that_was_turned_is_told_and_loses_nothing(
    options: SynthesizeOptions, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    voice = clips()[0][0].numpy()
    rows = {}
    for sign in (1, -1):
        path = tmp_path / f"{sign}.wav"
        soundfile.write(path, np.stack([voice, sign * voice], 1), RATE, "FLOAT")
        out = synthesize_file(changed(options, ref=path, out=tmp_path / f"out{sign}.wav"))
        rows[sign] = json.loads(out.with_suffix(".json").read_text())
    assert rows[-1]["prompt_seconds"] == rows[1]["prompt_seconds"]
    assert any("opposite phase" in warning for warning in rows[-1]["reference_warnings"])
    assert not any("opposite phase" in warning for warning in rows[1]["reference_warnings"])
    assert "opposite phase" in " ".join(capsys.readouterr().out.split())


def test_a_saved_voice_remembers_what_was_done_and_its_own_level(
    options: SynthesizeOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rich.console import Console

    from svae.synthesis.load import load_tts
    from svae.synthesis.voices import keep_voice, load_voice

    monkeypatch.setenv("SVAE_VOICES", str(tmp_path / "voices"))
    voice = in_silence(clips()[0][0][None]) * 2e-3
    soundfile.write(tmp_path / "a.wav", (voice + 2e-4)[0].numpy(), RATE, "FLOAT")
    keep_voice(
        "a", tmp_path / "a.wav", PROMPT_TEXT, options.model, asr="pocketsphinx", device="cpu"
    )
    opened = load_voice("a", load_tts(options.model), Console())
    assert opened.description["reference_removed"]["offset"] == pytest.approx(2e-4, rel=0.05)
    expected = trim_silence(clean(voice + 2e-4, RATE)[0], RATE)
    error = (opened.waveform.reshape(1, -1) - expected).square().mean().sqrt()
    assert error < 1e-3 * expected.square().mean().sqrt()


def test_a_reference_that_does_not_fit_its_text_is_warned_of_with_what_to_do(
    options: SynthesizeOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    from svae.synthesis.model import TTS

    monkeypatch.setattr(TTS, "align_prompt", lambda *_: (None, "reference not aligned"))
    row = json.loads(synthesize_file(options).with_suffix(".json").read_text())
    (warning,) = [w for w in row["reference_warnings"] if "not aligned" in w]
    assert "Check that --ref-text is what is said" in warning and "less noise" in warning
