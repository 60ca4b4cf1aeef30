"""The scripts of recipes/embedded that make and score the embedded models: what of them can be tested without hours of work."""

from __future__ import annotations

import json
import random
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import save_file

from svae.runtime.files import file_sha256
from svae.synthesis.adapter import STUDENT_FILE
from svae.synthesis.load import load_tts
from svae.synthesis.types import Sampling

SCRIPTS = Path(__file__).parents[2] / "recipes" / "embedded"
sys.path.insert(0, str(SCRIPTS))
import corpus  # noqa: E402
import newcomer  # noqa: E402
import people  # noqa: E402
import recording  # noqa: E402
import score  # noqa: E402
import teacher_data  # noqa: E402
import voices  # noqa: E402

RATE = 16000


def tone(seconds: float, level: float = 0.1) -> np.ndarray:
    return level * np.sin(2 * np.pi * 200 * np.arange(round(seconds * RATE)) / RATE).astype(
        np.float32
    )


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * RATE), dtype=np.float32)


def row(samples: np.ndarray, *leaked: str) -> dict:
    return {"leaked": list(leaked), **vars(newcomer.shape_of(samples, RATE))}


def test_the_longest_silence_is_one_within_the_speech():
    shape = newcomer.shape_of(
        np.concatenate([silence(2), tone(1), silence(0.5), tone(1), silence(2)]), RATE
    )
    assert shape.longest_silence == pytest.approx(0.5, abs=0.02)
    assert (shape.seconds, shape.end) == (6.5, 0.0)


def test_each_kind_of_damage_is_named():
    whole = np.concatenate([tone(1), silence(0.9), tone(1), silence(0.1)])
    assert newcomer.spoilt(row(whole)) == []
    assert newcomer.spoilt(row(tone(1))) == ["ends at 100% of its greatest level"]
    assert newcomer.spoilt(row(np.concatenate([tone(1), silence(1.2), tone(1), silence(0.1)]))) == [
        "1.20 s of silence"
    ]
    assert newcomer.spoilt(row(whole, "station")) == ["the prompt's 'station' was heard"]


def test_a_prompt_leaks_by_words_that_only_it_has():
    text, prompt = (
        newcomer.plain("A well-known door."),
        newcomer.plain("I locked the door and walked to the station."),
    )
    assert text == "a well known door"
    assert newcomer.leaked("the door to the station", text, prompt) == ["station"]
    assert newcomer.leaked("a well known door and", text, prompt) == []


def test_a_share_has_an_interval_even_where_all_hit():
    assert score.share([True] * 100) == {"value": 1.0, "interval": [0.963, 1.0], "of": 100}
    half = score.share([True, False] * 50)  # Wilson's interval of 50 in 100, as in Newcombe (1998)
    assert half["interval"] == pytest.approx([0.4038, 0.5962], abs=1e-4)


def test_flites_phones_are_laid_on_the_teachers_frames():
    frames = teacher_data.phone_frames([("pau", 0.03), ("aa", 0.1), ("pau", 0.2)])
    names = [teacher_data.PHONES[number] for number in frames]  # centres at 0.0125, 0.0325, …
    assert names == ["pau"] + ["aa"] * 4 + ["pau"] * 4
    assert len(teacher_data.phone_frames([])) == 0


def test_embedding_halves_the_weights_and_keeps_both_cards(toy_tts, tmp_path, monkeypatch):
    import embed
    from svae.synthesis.load import load_tts

    out = tmp_path / "tts"
    (out / "vae").mkdir(parents=True)
    for folder in (out, out / "vae"):
        (folder / "README.md").write_text(f"card of {folder.name}")
    embed.embed(toy_tts, None, out)
    assert [(folder / "README.md").read_text() for folder in (out, out / "vae")] == [
        "card of tts",
        "card of vae",
    ]
    whole, half = load_tts(toy_tts), load_tts(out)
    own = {"description": embed.DESCRIPTION, **embed.OWN}
    assert own.items() <= half.identity.items() and not own.items() <= whole.identity.items()
    for a, b in zip(whole.model.parameters(), half.model.parameters(), strict=True):
        torch.testing.assert_close(a.half().float(), b, rtol=0, atol=0)


def test_an_embedded_student_keeps_its_own_steps_and_guidance(toy_tts, tmp_path):
    import embed
    from svae.checkpoint import latest_checkpoint

    model = shutil.copytree(latest_checkpoint(toy_tts), tmp_path / "student")
    config = json.loads((model / "config.json").read_text())
    facts = {"guidance": 2.0, "prompt_guidance": 0.3, "teacher_steps": 8, "scale": 0.1}
    own = {"student": facts | {"steps": 4}, "num_steps": 4}
    width = config["model"]["dim"]
    added = {
        "output.lora_A.weight": torch.randn(2, width),
        "output.lora_B.weight": torch.randn(config["latent_dim"], 2),
    }
    save_file(added, model / STUDENT_FILE)
    config["files"][STUDENT_FILE] = file_sha256(model / STUDENT_FILE)
    (model / "config.json").write_text(json.dumps(config | own))
    embed.embed(model, None, tmp_path / "tts")
    embedded = json.loads((tmp_path / "tts" / "config.json").read_text())
    assert own.items() <= embedded.items() and "prompt_guidance" not in embedded
    said, stored = load_tts(model), load_tts(tmp_path / "tts")
    assert stored.resolve(Sampling()).num_steps == 4
    for a, b in zip(said.model.parameters(), stored.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=2e-3, atol=2e-3)  # float16


def test_a_recording_is_in_time_and_has_a_floor_of_noise():
    speech = np.concatenate(
        [
            silence(0.5),
            np.random.default_rng(5).normal(0, 0.1, RATE).astype(np.float32),
            silence(0.5),
        ]
    )
    floors, tails = [], []
    for seed in range(40):
        heard = recording.record(speech, RATE, np.random.default_rng(seed))
        assert (heard.dtype, heard.shape) == (np.float32, speech.shape)
        spectra = np.fft.rfft(speech), np.fft.rfft(heard)
        assert (
            np.abs(np.fft.irfft(spectra[0].conj() * spectra[1], n=len(speech))).argmax() == 0
        )  # no delay
        level = np.sqrt(np.square(heard[RATE // 2 : -RATE // 2]).mean())
        before, after = (
            np.sqrt(np.square(part).mean()) for part in (heard[: RATE // 4], heard[-7200:-5600])
        )
        floors.append(20 * np.log10(before / level))
        tails.append(after / before)
    assert (
        -80 < min(floors) < -45 < -35 < max(floors) < -20
    )  # 30 to 60 dB, and the microphone's colour on both
    assert (
        0.3 < np.mean(np.array(tails) > 1.5) < 0.8
    )  # about half have an echo, some of them under the noise
    again = [recording.record(speech, RATE, np.random.default_rng(seed)) for seed in (7, 7, 8)]
    assert np.array_equal(again[0], again[1])
    assert not np.array_equal(again[0], again[2])


def test_a_microphones_colour_is_smooth_and_as_strong_as_told():
    gains = np.array([recording._gains(RATE, np.random.default_rng(seed)) for seed in range(400)])
    expected = recording.COLOUR_DB * np.sqrt(recording.COLOUR_TERMS / 2)
    assert np.sqrt(np.square(gains).mean()) == pytest.approx(expected, rel=0.25)
    response = 20 * np.log10(np.abs(np.fft.rfft(recording._filter(gains[0]).numpy(), n=1 << 14)))
    wanted = np.interp(
        np.linspace(0, 1, len(response)), np.linspace(0, 1, gains.shape[1]), gains[0]
    )
    assert np.abs(response - wanted)[200:-200].max() < 0.5  # decibels, above 100 Hz


def test_relatives_keep_the_family_and_its_half_of_the_voices():
    for voice in voices.select_voices("flite-rms,flite-slt-x90,espeak-f2"):
        drawn = [
            voices.varied(voice, random.Random(seed), name=f"relative-{seed}") for seed in range(50)
        ]
        assert {(v.family, v.voice, v.held_out) for v in drawn} == {
            (voice.family, voice.voice, voice.held_out)
        }
        low, high = voices.VARIED_WARPS
        assert low <= min(v.warp for v in drawn) < 0.9 < 1.1 < max(v.warp for v in drawn) <= high
        assert len({(v.shift, v.pitch) for v in drawn}) > 30


def test_scores_tell_named_voices_apart_and_not_their_relatives(tmp_path):
    (tmp_path / "audio").mkdir()
    rows = []
    for name, varied in (("a", False), ("b", False), ("a-0007", True)):
        soundfile.write(tmp_path / "audio" / f"{name}.wav", tone(1), RATE)
        rows.append(
            {"audio": f"audio/{name}.wav", "speaker": name} | ({"varied": True} if varied else {})
        )
    (tmp_path / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    class Judge:
        def embed(self, clips, rate):
            return torch.ones(len(clips), 4)

    names, means = score.centroids(Judge(), tmp_path)
    assert (names, means.shape) == (["a", "b"], (2, 4))


@pytest.mark.skipif(shutil.which("flite") is None, reason="no flite: apt-get install flite")
def test_a_corpus_is_the_same_however_many_workers_make_it(tmp_path):
    pairs = corpus.deal(voices.select_voices("flite"), 6, texts="train", seed=3)
    for name, workers, vary in (("1", 1, 0.5), ("2", 2, 0.5), ("plain", 2, 0.0)):
        corpus.make_corpus(
            tmp_path / name, pairs, seed=3, workers=workers, suffix=".flac", vary=vary
        )
    one, two, plain = (
        {
            str(path.relative_to(side)): path.read_bytes()
            for path in side.rglob("*")
            if path.is_file()
        }
        for side in (tmp_path / "1", tmp_path / "2", tmp_path / "plain")
    )
    assert len(one) == 8  # six recordings, their list, and what the texts cover
    assert one == two

    rows, plain_rows = (score.rows_of(tmp_path / side) for side in ("1", "plain"))
    assert {row.get("varied", False) for row in rows} == {True, False}
    for row, plain_row in zip(rows, plain_rows, strict=True):
        varied = row.get("varied", False)
        assert (one[row["audio"]] != plain[row["audio"]]) == (row != plain_row) == varied
        assert (
            row["speaker"] == Path(row["audio"]).stem
        ) == varied  # a relative is a speaker of its own


# ----------------------------------------------------------------------------------------------- people


PERSON = {
    "text": "a text",
    "corpus": "librispeech-train-clean-100",
    "licence": "CC-BY-4.0",
    "snr_db": 30.0,
}


def made_up_people(root: Path) -> None:
    """Write 24 readers with one clip each of 5 s, and recordings that no list may hold."""
    rows = [
        PERSON | {"audio": f"{n}.wav", "speaker": f"reader-{n}", "duration": 5.0} for n in range(24)
    ]
    rows += [
        rows[0] | {"audio": "noisy.wav", "speaker": "new-1", "snr_db": 5.0, "duration": 3.0},
        rows[0] | {"audio": "clipped.wav", "speaker": "new-2", "duration": 3.0},
        rows[0] | {"audio": "test.wav", "speaker": "new-3", "corpus": "librispeech-test-other"},
        rows[0] | {"audio": "prompt.wav", "speaker": "new-4", "corpus": "speechocean762-adult", "snr_db": 50.0, "check": 0},
    ]  # fmt: skip
    for each in rows:
        level = 1.0 if each["audio"] == "clipped.wav" else 0.1
        soundfile.write(root / each["audio"], tone(0.2, level), RATE)
    text = "".join(json.dumps(each) + "\n" for each in rows)
    (root / "metadata.jsonl").write_text(text, encoding="utf-8")


def test_people_are_held_out_whole_and_bad_recordings_are_in_no_list(tmp_path, capsys):
    made_up_people(tmp_path)
    people.choose(tmp_path, tmp_path / "out")
    lists = {
        name: [json.loads(line) for line in (tmp_path / "out" / f"{name}.jsonl").open()]
        for name in ("dev", "vae", "tts")
    }
    speakers = {name: {each["speaker"] for each in rows} for name, rows in lists.items()}
    assert len(speakers["dev"]) == people.HELD_OUT_SPEAKERS
    assert not speakers["dev"] & (speakers["vae"] | speakers["tts"])
    originals = {speaker for speaker in speakers["tts"] if "-x" not in speaker}
    assert originals == {f"reader-{n}" for n in range(24)} - speakers["dev"]
    # A prompt that was perhaps not read has a voice, but no text.
    assert speakers["vae"] == originals | {"new-4"}
    assert all(Path(each["audio"]).is_file() for each in lists["vae"] + lists["tts"])
    assert "1 of librispeech-train-clean-100, clipped" in capsys.readouterr().out


def test_a_corpus_that_weighs_more_has_more_rows_under_names_of_their_own(tmp_path):
    made_up_people(tmp_path)
    people.choose(tmp_path, tmp_path / "out")
    audio = [json.loads(line)["audio"] for line in (tmp_path / "out" / "tts.jsonl").open()]
    corpus = people.CORPORA["librispeech-train-clean-100"]
    rows = corpus.tts_repeats + len(corpus.relatives)
    assert len(audio) == len(set(audio)) == 4 * rows


def test_relatives_are_faster_and_higher_or_slower_and_lower_and_people_of_their_own(tmp_path):
    made_up_people(tmp_path)
    people.choose(tmp_path, tmp_path / "out")
    rows = [json.loads(line) for line in (tmp_path / "out" / "tts.jsonl").open()]
    relatives = [each for each in rows if "-x" in each["speaker"]]
    assert len({each["speaker"] for each in relatives}) == len(relatives)
    for each in relatives:
        factor = float(each["speaker"].partition("-x")[2])
        samples, rate = soundfile.read(each["audio"])
        assert len(samples) / rate == pytest.approx(0.2 / factor, abs=2 / RATE)
        spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), 2 * RATE))
        assert np.argmax(spectrum) / 2 == pytest.approx(200 * factor, abs=2)


def test_rows_of_another_corpus_are_added_for_the_tts_with_their_own_paths(tmp_path):
    made_up_people(tmp_path)
    other = tmp_path / "other" / "metadata.jsonl"
    other.parent.mkdir()
    other.write_text(json.dumps({"audio": "audio/a.flac", "text": "a", "speaker": "flite-slt"}))
    people.choose(tmp_path, tmp_path / "out", [other])
    rows = [json.loads(line) for line in (tmp_path / "out" / "tts.jsonl").open()]
    assert rows[-1]["audio"] == str(tmp_path / "other" / "audio" / "a.flac")
    vae = (tmp_path / "out" / "vae.jsonl").read_text(encoding="utf-8")
    assert "flite" not in vae


def test_licences_name_every_corpus_that_is_learned_from(tmp_path):
    made_up_people(tmp_path)
    people.choose(tmp_path, tmp_path / "out")
    licences = (tmp_path / "out" / "LICENCES.md").read_text(encoding="utf-8")
    assert all(name in licences for name in people.CORPORA)
    assert "CC-BY-4.0" in licences
