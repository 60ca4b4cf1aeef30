"""`svae prepare`: any corpus into shards, the same bytes however it ran, and everything left out is accounted for."""

from __future__ import annotations

import errno
import json
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
import webdataset
from fake_corpora import files, make_bad_corpus, make_corpus, run, speech, write_rows

from svae.data import prepare as prepare_module
from svae.data.batches import read_waveform
from svae.data.corpora.corpus import Utterance
from svae.data.index import read_index, read_member
from svae.data.prepare_plan import PrepareOptions, assign, choose_validation, make_plan
from svae.errors import ConfigError, DataError
from svae.runtime import files as runtime_files


def test_sixteen_bit_audio_at_the_same_rate_arrives_unchanged_with_its_text(tmp_path):
    corpus = make_corpus(tmp_path / "corpus")
    report, printed = run(corpus, tmp_path / "out")
    index = read_index(tmp_path / "out")
    assert (
        report.utterances == len(index.samples) == 12 and report.shards == report.shards_made == 3
    )
    assert [shard["name"] for shard in index.shards] == [
        path.name for path in sorted((tmp_path / "out").glob("*.tar"))
    ]
    for sample in index.samples:
        number = int(sample.key[-3:])
        expected = soundfile.read(corpus / f"{sample.key}.wav", dtype="float32")[0]
        assert np.array_equal(read_waveform(index, sample)[0].numpy(), expected)
        assert (sample.text, sample.speaker) == (f"Utterance number {number}.", f"s{number % 3}")
        assert json.loads(read_member(index, sample, "json"))["source"] == f"{sample.key}.wav"
    assert Counter(sample.shard for sample in index.samples) == {0: 4, 1: 4, 2: 4}
    assert str(tmp_path / "out") in printed and "svae train-vae --data" in printed
    shards = [str(tmp_path / "out" / shard["name"]) for shard in index.shards]
    read = list(webdataset.WebDataset(shards, shardshuffle=False))
    assert [sample["__key__"] for sample in read] == [sample.key for sample in index.samples]


def test_other_rates_and_channels_become_mono_at_the_rate_asked_for(tmp_path):
    (tmp_path / "corpus").mkdir()
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(22050) / 22050)
    soundfile.write(tmp_path / "corpus" / "a.flac", np.stack([tone, tone], axis=1), 22050)
    write_rows(tmp_path / "corpus", [{"audio": "a.flac", "text": "a"}])
    run(tmp_path / "corpus", tmp_path / "out", shards=1, sample_rate=24000)
    index = read_index(tmp_path / "out")
    audio = read_waveform(index, index.samples[0])[0].numpy()
    assert index.sample_rate == 24000 and audio.shape == (24000,)
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(24000) / 24000)
    # Loudness untouched, up to two roundings to 16 bits.
    assert np.abs(audio - expected)[2400:-2400].max() < 1e-3


def test_the_number_of_workers_does_not_change_a_byte(tmp_path):
    corpus = make_corpus(tmp_path / "corpus", rate=22050)
    for workers in (1, 3):
        run(corpus, tmp_path / str(workers), workers=workers)
    assert files(tmp_path / "1") == files(tmp_path / "3")
    assert sorted(files(tmp_path / "1")) == sorted(
        [
            "index.json",
            "plan.json",
            "rejected.jsonl",
            *(f"shard-0000{i}.{e}" for i in range(3) for e in ("jsonl", "tar")),
        ]
    )


def test_unusable_utterances_are_counted_by_reason_and_listed(tmp_path):
    expected = make_bad_corpus(tmp_path / "corpus")
    report, printed = run(tmp_path / "corpus", tmp_path / "out")
    rows = [
        json.loads(line) for line in (tmp_path / "out" / "rejected.jsonl").read_text().splitlines()
    ]
    assert {row["key"]: row["reason"] for row in rows} == expected
    assert all(row["path"] == f"{row['key']}.wav" and row["detail"] for row in rows)
    assert report.utterances == 4
    assert (
        report.rejected
        == read_index(tmp_path / "out").metadata["rejected"]
        == dict(Counter(expected.values()))
    )
    assert "2 empty" in printed and "rejected.jsonl" in printed


def test_shards_that_lost_utterances_still_number_what_was_asked_for(tmp_path):
    (tmp_path / "corpus").mkdir()
    for name, data in (("good", speech(0, 1.0)), ("silent", np.zeros(16000, np.int16))):
        soundfile.write(tmp_path / "corpus" / f"{name}.wav", data, 16000)
    write_rows(
        tmp_path / "corpus", [{"audio": f"{name}.wav", "text": "t"} for name in ("good", "silent")]
    )
    run(tmp_path / "corpus", tmp_path / "out", shards=2)
    index = read_index(tmp_path / "out")
    assert sorted(shard["utterances"] for shard in index.shards) == [0, 1]


@pytest.mark.parametrize("how", ["by their audio", "by their text"])
def test_a_corpus_of_nothing_usable_is_an_error_and_can_be_mended(tmp_path, how):
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    soundfile.write(
        corpus / "a.wav",
        np.zeros(16000, np.int16) if how == "by their audio" else speech(0, 1.0),
        16000,
    )
    write_rows(corpus, [{"audio": "a.wav", "text": "t" if how == "by their audio" else ""}])
    reason = "1 silent" if how == "by their audio" else "1 without text"
    with pytest.raises(
        DataError, match=rf"all 1 utterances were rejected: {reason}.*rejected\.jsonl"
    ):
        run(corpus, tmp_path / "out", shards=None)
    assert list(files(tmp_path / "out")) == ["rejected.jsonl"]
    make_corpus(corpus, 3)
    assert run(corpus, tmp_path / "out", shards=None)[0].utterances == 3


def test_a_corpus_without_any_transcript_is_prepared_without_text(tmp_path):
    corpus = make_corpus(tmp_path / "corpus", 4)
    write_rows(corpus, [{"audio": path.name} for path in sorted(corpus.glob("*.wav"))])
    report, printed = run(corpus, tmp_path / "out")
    assert report.utterances == 4 and "has no transcripts" in printed
    with pytest.raises(DataError, match="4 without text"):
        run(corpus, tmp_path / "strict", require_text=True)


def test_text_is_normalised_and_the_original_kept_where_it_differs(tmp_path):
    corpus = make_corpus(tmp_path / "corpus", 2)
    texts = ["It’s  “fine” –\tyes", "plain"]
    write_rows(corpus, [{"audio": f"s{i}-00{i}.wav", "text": text} for i, text in enumerate(texts)])
    run(corpus, tmp_path / "out", shards=1)
    index = read_index(tmp_path / "out")
    rows = {sample.key: json.loads(read_member(index, sample, "json")) for sample in index.samples}
    assert rows["s0-000"]["text"] == 'It\'s "fine" - yes' and rows["s0-000"]["raw_text"] == texts[0]
    assert rows["s1-001"]["text"] == "plain" and "raw_text" not in rows["s1-001"]
    assert set(index.metadata["characters"]) == set('It\'s "fine" - yesplain')


def test_keys_longer_than_a_file_s_name_are_shortened_and_stay_different(tmp_path):
    corpus = make_corpus(tmp_path / "corpus", 3)
    deep = "/".join(["ordner-mit-langem-namen-für-alles"] * 8)
    (corpus / deep).mkdir(parents=True)
    rows = []
    for number in range(3):
        name = f"{deep}/s{number}.wav"
        (corpus / f"s{number}-00{number}.wav").rename(corpus / name)
        rows.append({"audio": name, "text": "t"})
    write_rows(corpus, rows)
    run(corpus, tmp_path / "out", shards=1)
    keys = {sample.key for sample in read_index(tmp_path / "out").samples}
    assert len(keys) == 3 and all(200 < len(key.encode()) <= 240 for key in keys)
    assert {
        u.key
        for shard in make_plan(PrepareOptions(corpus="jsonl", root=corpus)).shards
        for u in shard
    } == keys
    with tarfile.open(tmp_path / "out" / "shard-00000.tar") as tar:
        tar.extractall(tmp_path / "unpacked", filter="data")
    assert len(list((tmp_path / "unpacked").iterdir())) == 6


def test_a_recording_whose_path_is_too_long_is_rejected_with_the_reason(tmp_path):
    corpus = make_corpus(tmp_path / "corpus", 2)
    rows = [{"audio": "s0-000.wav", "text": "t"}, {"audio": "x" * 300 + ".wav", "text": "t"}]
    write_rows(corpus, rows)
    assert run(corpus, tmp_path / "out", shards=1)[0].rejected == {"missing": 1}
    assert "File name too long" in (tmp_path / "out" / "rejected.jsonl").read_text()


def test_shards_are_balanced_and_mix_speakers():
    sizes = {
        f"{s}-{n:03d}": 1000 + (n * 7919 + s * 104729) % 9000 for s in range(5) for n in range(40)
    }
    utterances = [Utterance(key, Path(key), "t", key[0], "en", key) for key in sizes]
    shards = assign(utterances, sizes, 7)
    assert sorted(u.key for shard in shards for u in shard) == sorted(sizes)
    counts = [len(shard) for shard in shards]
    loads = [sum(sizes[u.key] for u in shard) for shard in shards]
    assert max(counts) - min(counts) <= 1 and max(loads) - min(loads) <= max(sizes.values())
    assert assign(utterances[::-1], sizes, 7) == shards
    for shard in shards:
        changes = sum(a.speaker != b.speaker for a, b in zip(shard, shard[1:], strict=False))
        assert changes > len(shard) / 2


def test_the_held_out_share_depends_on_the_keys_alone_and_leaves_something_to_train_on():
    keys = [f"k{i}" for i in range(1000)]
    chosen = choose_validation(keys, 0.05)
    assert len(chosen) == 50 and choose_validation(reversed(keys), 0.05) == chosen
    assert chosen[0] != "k0"
    # Another corpus size moves the border, not the order.
    assert set(choose_validation(keys[:500], 0.05)) <= set(choose_validation(keys, 0.2))
    assert [len(choose_validation(keys[:n], 0.05)) for n in (0, 1, 3, 4, 20)] == [0, 0, 0, 1, 1]
    assert len(choose_validation([f"k{i}" for i in range(20000)], 0.05)) == 256
    assert len(choose_validation(keys[:4], 0.99)) == 3
    assert choose_validation(keys, 0) == []


def test_the_default_number_of_shards_follows_the_corpus(tmp_path):
    for count, expected in ((3, 3), (20, 8)):
        corpus = make_corpus(tmp_path / str(count), count)
        assert len(make_plan(PrepareOptions(corpus="jsonl", root=corpus)).shards) == expected


def test_a_finished_folder_is_left_alone(tmp_path):
    corpus = make_corpus(tmp_path / "corpus", 4)
    run(corpus, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    report, printed = run(corpus, tmp_path / "out", workers=1)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before
    assert report.shards_made == 0 and "nothing to do" in printed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sample_rate": 8000}, "sample_rate 16000 there, 8000 now"),
        ({"shards": 2}, "shards 3 there, 2 now"),
        ({"validation": 0.5}, r"validation 0\.05 there, 0\.5 now"),
        ("text", "the corpus' files or texts changed"),
        ("file", "the corpus' files or texts changed"),
    ],
)
def test_other_options_than_those_of_the_folder_are_refused(tmp_path, change, message):
    corpus = make_corpus(tmp_path / "corpus", 4)
    run(corpus, tmp_path / "out")
    before = files(tmp_path / "out")
    if change == "text":
        listing = corpus / "metadata.jsonl"
        listing.write_text(listing.read_text().replace("number 2", "number two"))
    elif change == "file":
        soundfile.write(corpus / "s0-000.wav", speech(0, 0.5), 16000)
    with pytest.raises(DataError, match=rf"{message}[\s\S]*Choose another --out, or delete"):
        run(corpus, tmp_path / "out", **(change if isinstance(change, dict) else {}))
    assert files(tmp_path / "out") == before


def test_a_second_run_in_the_same_folder_is_refused_and_disturbs_nothing(tmp_path, monkeypatch):
    corpus, out = make_corpus(tmp_path / "corpus"), tmp_path / "out"
    finish = prepare_module._finish

    def twice(*arguments):
        (out / ".shard-00001.tar.tmp-1").touch()  # what another process is writing
        before = files(out)
        with pytest.raises(ConfigError, match="out: process .* is working in this folder"):
            run(corpus, out)
        assert files(out) == before
        return finish(*arguments)

    monkeypatch.setattr(prepare_module, "_finish", twice)
    assert run(corpus, out)[0].utterances == 12
    monkeypatch.undo()
    assert not (out / ".lock").exists()


def test_a_finished_folder_may_be_one_that_only_reads(tmp_path, monkeypatch):
    corpus, out = make_corpus(tmp_path / "corpus", 4), tmp_path / "out"
    run(corpus, out)

    def create(path, text):
        raise PermissionError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(runtime_files, "_create", create)
    assert "nothing to do" in run(corpus, out)[1]


def test_a_folder_with_foreign_shards_is_refused(tmp_path):
    corpus = make_corpus(tmp_path / "corpus", 4)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "shard-00000.tar").write_bytes(b"mine")
    with pytest.raises(DataError, match=r"did not begin \(no plan\.json\)"):
        run(corpus, tmp_path / "out")


def test_impossible_options_are_refused(tmp_path):
    corpus = make_corpus(tmp_path / "corpus", 4)
    for change, message in (
        ({"shards": 5}, "only 4 usable utterances"),
        ({"workers": 0}, "--workers 0"),
        ({"validation": 1.0}, "--validation 1.0"),
        ({"root": None}, "--root is missing"),
        ({"root": None, "corpus": "cd"}, "'cd': unknown"),
    ):
        with pytest.raises(DataError, match=message):
            run(corpus, tmp_path / "out", **change)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        run(corpus, tmp_path / "file" / "out")


@pytest.mark.parametrize(
    ("corpus", "folder", "utterances"),
    [("ljspeech", "LJSpeech-mini", 32), ("librispeech", "LibriSpeech-mini", 3)],
)
def test_real_corpora_are_prepared(shared, tmp_path, corpus, folder, utterances):
    report, printed = run(shared / "data" / folder, tmp_path / "out", corpus=corpus, shards=None)
    index = read_index(tmp_path / "out")
    assert report.utterances == len(index.samples) == utterances and report.rejected == {}
    assert index.sample_rate == 16000 and 0 < index.metadata["seconds"] < 300
    assert bool(index.samples[0].text) == (corpus == "ljspeech")
    assert ("has no transcripts" in printed) == (corpus == "librispeech")


def test_a_path_with_a_separator_of_lines_is_rejected_like_any_other(tmp_path):
    corpus = make_corpus(tmp_path / "corpus", 4)
    rows = [json.loads(line) for line in (corpus / "metadata.jsonl").read_text().splitlines()]
    soundfile.write(corpus / "a\u2028b.wav", np.zeros(16000, np.int16), 16000)
    write_rows(corpus, [*rows, {"audio": "a\u2028b.wav", "text": "words"}])
    report, _ = run(corpus, tmp_path / "out", shards=1)
    assert report.rejected == {"silent": 1}
