"""Parts of recordings: what a list gives as offset and duration is what is prepared, and nothing else."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile
from fake_corpora import run, speech, write_rows

from svae.data import prepare_plan
from svae.data.batches import read_waveform
from svae.data.index import read_index, read_member
from svae.errors import DataError


def corpus(root, rows, *, suffix=".wav", rate=16000, seconds=3.0):
    root.mkdir(exist_ok=True)
    data = speech(1, seconds, rate)
    soundfile.write(root / f"talk{suffix}", data, rate)
    write_rows(
        root, [{"audio": f"talk{suffix}", "text": f"t{i}"} | row for i, row in enumerate(rows)]
    )
    return data


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".aiff"])
def test_a_part_of_a_recording_is_cut_to_the_sample(tmp_path, suffix):
    rows = [{"offset": 0.5, "duration": 1.25}, {"offset": 2.0625}, {"duration": 0.7}, {}]
    data = corpus(tmp_path / "corpus", rows, suffix=suffix)
    run(tmp_path / "corpus", tmp_path / "out", shards=2)
    index = read_index(tmp_path / "out")
    bounds = {"t0": (8000, 28000), "t1": (33000, 48000), "t2": (0, 11200), "t3": (0, 48000)}
    assert {sample.text for sample in index.samples} == set(bounds)
    for sample in index.samples:
        first, last = bounds[sample.text]
        audio = np.rint(read_waveform(index, sample)[0].numpy() * 32768)
        assert np.array_equal(audio, data[first:last])
        row = json.loads(read_member(index, sample, "json"))
        assert row["source"] == f"talk{suffix}" and row.get("offset", 0) == first / 16000


def test_parts_of_compressed_recordings_and_of_other_rates_are_cut_too(tmp_path):
    corpus(tmp_path / "corpus", [{"offset": 1.0, "duration": 1.5}], suffix=".mp3", rate=44100)
    run(tmp_path / "corpus", tmp_path / "out", shards=1)
    [sample] = read_index(tmp_path / "out").samples
    assert sample.num_samples == 24000


@pytest.mark.parametrize("suffix", [".wav", ".mp3", ".ogg"])
@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"offset": 3.2}, "`offset` 3.2, but talk."),
        ({"offset": 100}, "`offset` 100"),
        ({"offset": 2.5, "duration": 1}, "`offset` 2.5 and `duration` 1 s end at 3.500 s"),
        ({"duration": 3.2}, "`offset` 0 and `duration` 3.2 s end at 3.200 s"),
    ],
)
def test_a_part_beyond_the_end_is_an_error_with_its_line_before_anything_is_made(
    tmp_path, row, message, suffix
):
    corpus(tmp_path / "corpus", [{"duration": 1}, row], suffix=suffix)
    with pytest.raises(DataError, match=r"metadata\.jsonl, line 2: ") as caught:
        run(tmp_path / "corpus", tmp_path / "out")
    assert message in str(caught.value) and "line 1" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_lengths_that_a_list_rounded_up_are_taken(tmp_path):
    corpus(tmp_path / "corpus", [{"duration": 3.04}, {"offset": 2, "duration": 1.01}])
    report, _ = run(tmp_path / "corpus", tmp_path / "out", shards=1)
    assert report.seconds == 4.0


def test_what_shows_only_when_a_recording_is_decoded_is_rejected_with_its_line(
    tmp_path, monkeypatch
):
    corpus(tmp_path / "corpus", [{"duration": 1}, {"offset": 2, "duration": 9}], suffix=".mp3")
    monkeypatch.setattr(prepare_plan, "audio_seconds", lambda path: 0.0)  # it cannot be told
    report, _ = run(tmp_path / "corpus", tmp_path / "out", shards=1)
    assert report.utterances == 1 and report.rejected == {"beyond the end": 1}
    assert "metadata.jsonl, line 2: `offset` 2" in (tmp_path / "out/rejected.jsonl").read_text()


def test_the_limits_are_those_of_the_part(tmp_path):
    rows = [{"duration": 0.2}, {"offset": 1}, {"offset": 0.5, "duration": 1}]
    corpus(tmp_path / "corpus", rows)
    report, _ = run(tmp_path / "corpus", tmp_path / "out", shards=1, max_seconds=1.5)
    assert report.rejected == {"too long": 1, "too short": 1} and report.seconds == 1.0


def test_unknown_fields_are_named_once(tmp_path):
    corpus(tmp_path / "corpus", [{"duration": 1, "mood": "gay"}, {"mood": "sad", "id": 7}])
    _, printed = run(tmp_path / "corpus", tmp_path / "out", shards=1)
    assert (
        printed.count("mood") == 1 and "'id' (" in printed and "metadata.jsonl, line 1)" in printed
    )


def test_the_name_of_a_field_is_printed_as_it_is(tmp_path):
    corpus(tmp_path / "corpus", [{"[bold]x[/] [/y]": 1}])
    _, printed = run(tmp_path / "corpus", tmp_path / "out", shards=1)
    assert "'[bold]x[/] [/y]' (" in printed


def test_other_parts_are_another_corpus(tmp_path):
    corpus(tmp_path / "corpus", [{"offset": 0.5, "duration": 1}])
    run(tmp_path / "corpus", tmp_path / "out", shards=1)
    corpus(tmp_path / "corpus", [{"offset": 0.5, "duration": 2}])
    with pytest.raises(DataError, match="begun with other options"):
        run(tmp_path / "corpus", tmp_path / "out", shards=1)


def test_a_recording_that_is_cut_off_inside_a_part_is_no_traceback(tmp_path):
    corpus(tmp_path / "corpus", [{"offset": 2, "duration": 1}, {"duration": 0.5}], suffix=".flac")
    path = tmp_path / "corpus" / "talk.flac"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    report, _ = run(tmp_path / "corpus", tmp_path / "out", shards=1)
    assert sum(report.rejected.values()) == 1 and report.utterances == 1
