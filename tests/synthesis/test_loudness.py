"""Speech comes out at one loudness, whatever the level of its reference; it never clips; `keep` keeps the reference's."""

from __future__ import annotations

import json
from pathlib import Path

import pyloudnorm
import pytest
import soundfile
import torch
from tiny_tts import PROMPT_TEXT, RATE, TEXT, changed, speech
from torch import Tensor

from svae.audio import load_audio
from svae.errors import ConfigError
from svae.synthesis.batch import synthesize_batch
from svae.synthesis.command import SynthesizeOptions, synthesize_file
from svae.synthesis.long_text import ChunkReport, SpokenChunk, write_chunks
from svae.synthesis.loudness import Leveller, measure, parse_loudness


def loudness(path: Path) -> float:
    samples = load_audio(path)[0][0].double().numpy()
    return float(pyloudnorm.Meter(RATE).integrated_loudness(samples))


def reference(folder: Path, level: float) -> Path:
    path = folder / f"ref-{level}.wav"
    soundfile.write(path, speech(level=level)[0].numpy(), RATE, subtype="FLOAT")
    return path


@pytest.mark.parametrize("level", [0.5, 0.1, 0.01, 0.0005])
@pytest.mark.parametrize("stream", [False, True])
def test_speech_is_as_loud_whatever_the_reference(
    options: SynthesizeOptions, tmp_path: Path, level: float, stream: bool
) -> None:
    out = synthesize_file(changed(options, ref=reference(tmp_path, level), stream=stream))
    assert loudness(out) == pytest.approx(-23, abs=0.5)
    row = json.loads(out.with_suffix(".json").read_text())["loudness"]
    assert row["target_lufs"] == -23 and row["limited_chunks"] == 0
    assert row["reference_lufs"] == pytest.approx(measure(speech(level=level)[0], RATE), abs=0.1)


def test_another_loudness_can_be_asked_for_and_the_references_kept(
    options: SynthesizeOptions, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ref = reference(tmp_path, 0.01)
    assert loudness(synthesize_file(changed(options, ref=ref, loudness=-30.0))) == (
        pytest.approx(-30, abs=0.5)
    )
    assert "Loudness: -30 LUFS" in capsys.readouterr().out
    kept = synthesize_file(changed(options, ref=ref, loudness=None))
    from svae.synthesis.load import load_tts

    own = load_tts(options.model).synthesize(
        TEXT, load_audio(ref)[0], PROMPT_TEXT, num_steps=2, seed=5
    )
    assert loudness(kept) == pytest.approx(measure(own[0, 0], RATE), abs=0.1)
    assert json.loads(kept.with_suffix(".json").read_text())["loudness"]["target_lufs"] is None
    assert "as the reference" in capsys.readouterr().out


def test_rows_of_a_list_are_equally_loud(options: SynthesizeOptions, tmp_path: Path) -> None:
    rows = [
        {
            "text": TEXT,
            "ref": str(reference(tmp_path, level)),
            "ref_text": PROMPT_TEXT,
            "out": f"{level}.wav",
        }
        for level in (0.3, 0.003)
    ]
    (tmp_path / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    every = changed(options, ref=None, ref_text=None)
    assert synthesize_batch(tmp_path / "list.jsonl", every, tmp_path / "out") == 2
    for row in rows:
        assert loudness(tmp_path / "out" / row["out"]) == pytest.approx(-23, abs=0.5)
    # Another loudness is another file; the same one is kept.
    assert synthesize_batch(tmp_path / "list.jsonl", every, tmp_path / "out") == 0
    every = changed(every, loudness=None)
    assert synthesize_batch(tmp_path / "list.jsonl", every, tmp_path / "out") == 2


def test_a_saved_voice_is_as_loud(
    options: SynthesizeOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from svae.synthesis.voices import keep_voice

    monkeypatch.setenv("SVAE_VOICES", str(tmp_path / "voices"))
    ref = reference(tmp_path, 0.002)
    keep_voice("quiet", ref, PROMPT_TEXT, options.model, asr="pocketsphinx", device="cpu")
    out = synthesize_file(changed(options, ref=None, ref_text=None, voice="quiet"))
    assert loudness(out) == pytest.approx(-23, abs=0.5)


@pytest.mark.parametrize("text", ["loud", "", "nan", "3", "-200", "inf"])
def test_impossible_loudnesses_are_refused(options: SynthesizeOptions, text: str) -> None:
    with pytest.raises(ConfigError, match="--loudness"):
        parse_loudness(text)
    assert parse_loudness("keep") is None and parse_loudness("-16") == -16.0
    with pytest.raises(ConfigError, match="--loudness"):
        synthesize_file(changed(options, loudness=3.0))


# ------------------------------------------------------------------------------------------- chunks


def written(path: Path, chunks: list[Tensor], target: float | None = -23.0, ref: float = -26.0):
    spoken = [SpokenChunk(wave, ChunkReport("a", 0, 1.0, {})) for wave in chunks]
    leveller = Leveller(target, ref, RATE)
    return write_chunks(path, iter(spoken), RATE, stream=True, leveller=leveller)


def noise(seconds: float, level: float, seed: int = 0) -> Tensor:
    return level * torch.randn(int(seconds * RATE), generator=torch.Generator().manual_seed(seed))


def test_the_first_chunk_with_speech_decides_for_all(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    for first in (torch.zeros(RATE), noise(1.0, 1e-5)):
        written(path, [first, noise(1.0, 0.02), noise(1.0, 0.03, 1)])
        found = load_audio(path)[0][0][-2 * RATE + 2000 :]
        assert measure(found, RATE) == pytest.approx(-23, abs=1.0)
    short = noise(0.1, 0.02)
    written(path, [short, noise(2.0, 0.02)])
    assert loudness(path) == pytest.approx(-23, abs=1.5)


@pytest.mark.parametrize("where", [0, 1])
def test_a_chunk_with_peaks_is_less_loud_and_does_not_clip(tmp_path: Path, where: int) -> None:
    chunks = [noise(1.0, 0.001), noise(1.0, 0.001, 1)]
    chunks[where][8000] = 0.5
    done = written(tmp_path / "a.wav", chunks, target=-10.0, ref=-60.0)
    assert float(load_audio(tmp_path / "a.wav")[0].abs().max()) <= 0.991
    assert done.loudness["limited_chunks"] >= 1


def test_speech_of_any_level_and_length_is_measured() -> None:
    whole = noise(3.0, 0.1)
    expected = measure(whole, RATE)
    assert expected is not None
    assert measure(whole * 1e-4, RATE) == pytest.approx(expected - 80, abs=0.01)
    assert measure(whole[:1600], RATE) == pytest.approx(expected, abs=1.0)
    assert measure(torch.zeros(RATE), RATE) is None and measure(torch.zeros(0), RATE) is None
