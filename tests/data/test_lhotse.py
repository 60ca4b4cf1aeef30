"""`svae prepare lhotse`: manifests that lhotse itself wrote; recordings cut to the sample, one channel where one is meant."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
import soundfile
from fake_corpora import run as prepare_corpus
from fake_corpora import speech

from svae.audio import AudioError, load_audio
from svae.data.batches import read_waveform
from svae.data.corpora import list_utterances
from svae.data.index import read_index, read_member
from svae.errors import ConfigError, DataError

lhotse = pytest.importorskip("lhotse")

RATE = 16000


@pytest.fixture
def recording(tmp_path):
    """Ten seconds of two channels."""
    data = np.stack([speech(1, 10), speech(2, 10)], axis=1)
    soundfile.write(tmp_path / "talk.wav", data, RATE)
    return lhotse.Recording.from_file(tmp_path / "talk.wav")


def supervision(name: str, start: float, duration: float, **fields):
    fields = {"text": f"Text of {name}.", "speaker": "anna", "language": "en"} | fields
    return lhotse.SupervisionSegment(
        id=name, recording_id="talk", start=start, duration=duration, **fields
    )


def cut(name: str, recording, start: float, duration: float, *supervisions, channel=0):
    return lhotse.MonoCut(
        id=name,
        start=start,
        duration=duration,
        channel=channel,
        recording=recording,
        supervisions=list(supervisions),
    )


def write(tmp_path, *cuts, name: str = "cuts.jsonl.gz"):
    lhotse.CutSet.from_cuts(cuts).to_file(tmp_path / name)
    return tmp_path / name


@pytest.mark.parametrize("name", ["cuts.jsonl.gz", "cuts.jsonl", "cuts.json"])
def test_cuts_are_taken_to_the_sample_and_of_their_channel(tmp_path, recording, name):
    cuts = (
        cut("talk-0", recording, 1.25, 2.0, supervision("a", 0, 2.0)),
        cut("talk/1", recording, 1.25, 2.0, supervision("b", 0, 2.0, speaker="ben"), channel=1),
        cut("all", recording, 0, 10.0, supervision("c", 0, 10.0, language=None)),
    )
    report, _ = prepare_corpus(
        write(tmp_path, *cuts, name=name), tmp_path / "out", corpus="lhotse", shards=1, workers=1
    )
    assert report.utterances == 3
    index = read_index(tmp_path / "out")
    found = {row.key: row for row in index.samples}
    assert {key: (row.text, row.speaker, row.language) for key, row in found.items()} == {
        "talk-0": ("Text of a.", "anna", "en"),
        "talk_1": ("Text of b.", "ben", "en"),
        "all": ("Text of c.", "anna", "unknown"),
    }
    for key, channel, first, last in (
        ("talk-0", 1, 1.25, 3.25),
        ("talk_1", 2, 1.25, 3.25),
        ("all", 1, 0, 10),
    ):
        expected = speech(channel, 10)[round(first * RATE) : round(last * RATE)]
        heard = read_waveform(index, found[key])[0].numpy()
        assert np.array_equal(heard, expected.astype(np.float32) / 32768)
        assert json.loads(read_member(index, found[key], "json"))["channel"] == channel - 1


def test_what_lhotse_makes_of_a_corpus(tmp_path):
    """As its recipes do: recordings and supervisions, cut by lhotse's own functions."""
    for number in range(3):
        soundfile.write(tmp_path / f"r{number}.flac", speech(number, 4), RATE)
    recordings = lhotse.RecordingSet.from_dir(tmp_path, "*.flac")
    supervisions = lhotse.SupervisionSet.from_segments(
        lhotse.SupervisionSegment(
            id=f"r{n}-{part}",
            recording_id=f"r{n}",
            start=2.0 * part,
            duration=1.5,
            text=f"{n} {part}.",
            speaker=f"s{n}",
        )
        for n in range(3)
        for part in range(2)
    )
    cuts = lhotse.CutSet.from_manifests(recordings=recordings, supervisions=supervisions)
    cuts.to_file(tmp_path / "whole.jsonl.gz")
    cuts.trim_to_supervisions().to_file(tmp_path / "trimmed.jsonl.gz")

    def listed(name):
        return [
            (u.text, u.speaker, u.audio.name, u.offset, u.duration, u.channel)
            for u in sorted(list_utterances("lhotse", tmp_path / name), key=lambda u: u.text)
        ]

    assert listed("whole.jsonl.gz") == listed("trimmed.jsonl.gz")
    assert listed("whole.jsonl.gz")[3] == ("1 1.", "s1", "r1.flac", 2.0, 1.5, None)
    keys = [utterance.key for utterance in list_utterances("lhotse", tmp_path / "whole.jsonl.gz")]
    assert keys == [f"r{n}-{part}" for n in range(3) for part in range(2)]


def test_recordings_of_one_name_in_several_folders_are_told_apart(tmp_path):
    """As AISHELL's chapters and most people's own folders are: every speaker has a 001.wav."""
    cuts = []
    for number, name in enumerate(("anna/x/001.wav", "anna/x/002.wav", "ben/001.wav")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / name, speech(number, 2), RATE)
        made = lhotse.Recording.from_file(tmp_path / name)
        cuts.append(cut(f"c{number}", made, 0, 2.0, supervision(f"s{number}", 0, 2.0)))
    path = write(tmp_path, *cuts)
    found = {u.source: u.audio for u in list_utterances("lhotse", path)}
    assert found == {f"{name}": tmp_path / name for name in ("anna/x/001.wav", "anna/x/002.wav", "ben/001.wav")}  # fmt: skip
    # The same part of the same file is still refused, and where the corpus lies changes nothing.
    with pytest.raises(DataError, match="ben/001.wav is listed more than once"):
        list_utterances("lhotse", write(tmp_path, *cuts, cut("again", cuts[2].recording, 0, 2.0)))
    moved = tmp_path.rename(tmp_path.with_name("moved"))
    text = gzip.decompress(write(moved, *cuts).read_bytes()).decode()
    (moved / "cuts.jsonl").write_text(text.replace(str(tmp_path), str(moved)))
    assert {u.source for u in list_utterances("lhotse", moved / "cuts.jsonl")} == set(found)
    # Where all are told apart names stay names, so that folders of shards that were begun go on: whether by the names,
    # by the part that is meant or by the channel.
    again = cuts[2].recording
    for other in (
        cuts[1],
        cut("later", again, 0.5, 1.5),
        cut("shorter", again, 0, 1.5),
    ):
        path = write(moved, cuts[0], other)
        name = "002.wav" if other is cuts[1] else "001.wav"
        assert [u.source for u in list_utterances("lhotse", path)] == ["001.wav", name]


def test_channels_of_recordings_of_one_name_are_told_apart_by_their_numbers(tmp_path):
    cuts = []
    for channel, name in enumerate("ab"):
        (tmp_path / name).mkdir()
        soundfile.write(tmp_path / name / "t.wav", np.stack([speech(1, 2)] * 2, axis=1), RATE)
        made = lhotse.Recording.from_file(tmp_path / name / "t.wav", recording_id=name)
        cuts.append(cut(name, made, 0, 2.0, channel=channel))
    found = list_utterances("lhotse", write(tmp_path, *cuts))
    assert [(u.source, u.channel) for u in found] == [("t.wav", 0), ("t.wav", 1)]
    found = list_utterances("lhotse", write(tmp_path, *cuts, cut("c", made, 0, 2.0, channel=0)))
    assert {(u.source, u.channel) for u in found} == {("a/t.wav", 0), ("b/t.wav", 1), ("b/t.wav", 0)}  # fmt: skip


def test_paths_are_from_where_one_is_or_from_the_manifest(tmp_path, recording, monkeypatch):
    path = write(tmp_path, cut("a", recording, 0, 1.0))
    text = gzip.decompress(path.read_bytes()).decode().replace(f"{tmp_path}/", "")
    (tmp_path / "relative.jsonl").write_text(text)
    monkeypatch.chdir(tmp_path.parent)
    [found] = list_utterances("lhotse", tmp_path / "relative.jsonl")
    assert found.audio == tmp_path / "talk.wav" and found.text is None
    monkeypatch.chdir(tmp_path)
    [found] = list_utterances("lhotse", tmp_path / "relative.jsonl")
    assert str(found.audio) == "talk.wav"


def test_what_svae_would_have_to_guess_is_refused_and_named(tmp_path, recording):
    whole = cut("a", recording, 0, 2.0)
    command = lhotse.audio.AudioSource("command", [0], f"touch {tmp_path}/ran; cat a.wav")
    commanded = lhotse.Recording("c", [command], RATE, 10 * RATE, 10.0)
    multi = lhotse.MultiCut("m", 0, 1.0, channel=[0, 1], recording=recording)
    three = lhotse.Recording(
        "t", [lhotse.audio.AudioSource("file", [0, 1, 2], "t.wav")], RATE, 10 * RATE, 10.0
    )
    for refused, message in (
        (whole.perturb_speed(1.1), "its recording talk_sp1.1 is to be changed"),
        (whole.append(whole), "a MixedCut without one recording"),
        (whole.pad(3.0), "a MixedCut without one recording"),
        (cut("c", commanded, 0, 1.0), "is no file but a command, which svae does not open"),
        (lhotse.MultiCut("t", 0, 1.0, channel=[0, 2], recording=three), "means 2 of 3 channels"),
        (
            cut("s", recording, 0, 1, supervision("x", 0, 1), supervision("y", 5, 1)),
            "supervision y lies outside",
        ),
    ):
        path = write(tmp_path, whole, refused)
        with pytest.raises(DataError, match=message) as error:
            list_utterances("lhotse", path)
        assert "cut 2 (" in str(error.value)
    assert not (tmp_path / "ran").exists()
    [found] = list_utterances("lhotse", write(tmp_path, multi))
    assert found.channel is None


def test_what_is_no_manifest_of_cuts(tmp_path, recording, monkeypatch):
    lhotse.RecordingSet.from_recordings([recording]).to_file(tmp_path / "recordings.jsonl.gz")
    (tmp_path / "broken.jsonl").write_text("{")
    (tmp_path / "other.jsonl").write_text('{"audio": "a.wav"}\n')
    (tmp_path / "broken.jsonl.gz").write_bytes(b"no gzip")
    (tmp_path / "cuts.pkl").write_bytes(b"")
    for name, message in (
        ("recordings.jsonl.gz", "a RecordingSet, which has no cuts"),
        ("broken.jsonl", "cannot be read"),
        ("other.jsonl", "cannot be read"),
        ("broken.jsonl.gz", "cannot be read"),
        ("nowhere.jsonl", "no such file"),
        ("cuts.pkl", "no manifest by its name"),
    ):
        with pytest.raises(DataError, match=message) as error:
            list_utterances("lhotse", tmp_path / name)
        assert name in str(error.value) and "lhotse cut simple" in str(error.value)
    import sys

    monkeypatch.setitem(sys.modules, "lhotse", None)
    with pytest.raises(ConfigError, match=r"pip install 'svae\[lhotse\]'"):
        list_utterances("lhotse", tmp_path / "broken.jsonl")


def test_a_channel_that_is_not_there(tmp_path, recording):
    with pytest.raises(AudioError, match=r"no channel 2 \(from 0\) of 2") as error:
        load_audio(tmp_path / "talk.wav", channel=2)
    assert error.value.reason == "no channel"
    second, _ = load_audio(tmp_path / "talk.wav", channel=1)
    assert np.array_equal(second[0].numpy(), speech(2, 10).astype(np.float32) / 32768)


def test_the_command(tmp_path, recording, monkeypatch):
    from typer.testing import CliRunner

    from svae.cli import app

    monkeypatch.chdir(tmp_path)
    write(
        tmp_path, *(cut(f"c{n}", recording, n, 1.0, supervision(f"s{n}", 0, 1.0)) for n in range(3))
    )
    command = ["prepare", "lhotse", "cuts.jsonl.gz", "--shards", "1", "--workers", "1"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert len(read_index("data/shards/lhotse").samples) == 3
