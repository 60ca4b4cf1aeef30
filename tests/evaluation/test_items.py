"""Lists: every bad row is named, every missing recording counted."""

from __future__ import annotations

import json

import pytest
import soundfile
import torch

from svae.errors import DataError
from svae.evaluation.items import Item, check_recordings, held_out_list, read_list

ROW = {
    "id": "a",
    "text": "Hello there.",
    "ref": "a.wav",
    "ref_text": "Reference.",
    "target": "b.wav",
}


@pytest.fixture
def write(tmp_path):
    def _write(*rows: object, name: str = "list.jsonl"):
        path = tmp_path / name
        path.write_text(
            "".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows),
            encoding="utf-8",
        )
        return path

    return _write


def test_paths_are_relative_to_the_list(write, tmp_path):
    soundfile.write(tmp_path / "a.wav", torch.full((1600,), 0.25).numpy(), 16000)
    items = read_list(write(ROW)).items
    assert items[0].prompt.load(8000).shape == (800,)
    assert items[0].target.name == str(tmp_path / "b.wav")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["{"], "line 1: not JSON"),
        (
            ['{"id": "a", "text": "half \\ud800 pair"}'],
            "line 1: field 'text' holds half of a surrogate pair",
        ),
        ([ROW, {**ROW, "id": "b", "text": "?!"}], "line 2: the text has no word"),
        ([ROW, ROW], "line 2: id 'a' appeared before"),
        ([{**ROW, "id": "../a"}], "cannot name a file"),
        ([{**ROW, "id": "a\0b"}], "cannot name a file"),
        ([{k: v for k, v in ROW.items() if k != "text"}], "field 'text' is missing"),
        ([{**ROW, "text": None}], "field 'text' is missing"),
        ([{**ROW, "text": 3}], "must be text"),
        (["[1]"], "expected an object"),
        ([], "no row"),
    ],
)
def test_a_bad_row_is_named_by_its_number(write, rows, message):
    with pytest.raises(DataError, match=message):
        read_list(write(*rows))


def test_texts_may_hold_any_unicode_line_separator_and_the_file_a_byte_order_mark(write):
    row = {**ROW, "text": "Hello\u2028there\x85now."}
    path = write("\ufeff" + json.dumps(row, ensure_ascii=False) + "\r", {**ROW, "id": "b"})
    assert [item.id for item in read_list(path).items] == ["a", "b"]


def test_missing_recordings_are_counted_before_anything_is_computed(write, tmp_path):
    soundfile.write(tmp_path / "a.wav", torch.full((1600,), 0.25).numpy(), 16000)
    items = read_list(write(ROW, {**ROW, "id": "b", "target": "c.wav"})).items
    with pytest.raises(DataError, match=r"(?s)--list x: 2 of 3 recordings.*b\.wav.*c\.wav"):
        check_recordings(items, option="--list x")
    check_recordings([Item("a", "t", items[0].prompt, "t", None)], option="--list x")


def test_a_missing_list_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_list(tmp_path / "none.jsonl")


def test_the_librispeech_pc_list_is_read_whole(shared):
    path = shared / "data" / "librispeech_pc_test_clean_cross_sentence.lst"
    found = read_list(path, shared)
    assert len(found.items) == 1127
    first = found.items[0]
    assert not first.text.endswith("\r") and first.speaker == first.id.split("-")[0]
    assert first.target.name.endswith(f"{first.speaker}/{first.id.split('-')[1]}/{first.id}.flac")
    with pytest.raises(DataError, match="--audio-root"):
        read_list(path)


def test_held_out_utterances_are_prompted_by_another_of_their_speaker(tone_shards):
    found = held_out_list(tone_shards)
    assert [item.id for item in found.items] == ["tone-000"]
    item = found.items[0]
    assert item.speaker == "s0" and item.prompt.name != item.target.name
    assert item.prompt_text != ""
    again = held_out_list(tone_shards)
    assert again.items[0].prompt.name == item.prompt.name and again.description == found.description


def test_the_seed_tts_form_takes_paths_beside_the_list_and_finds_originals(write, tmp_path):
    (tmp_path / "wavs").mkdir()
    for name in ("p.wav", "wavs/b.wav"):
        soundfile.write(tmp_path / name, torch.full((1600,), 0.25).numpy(), 16000)
    path = write(
        "a|What is said.|p.wav|To say.|human.wav",
        "b|What.|p.wav|Say it",
        "c|W.|p.wav|Say",
        name="meta.lst",
    )
    assert read_list(path).items == read_list(path, form="seed-tts").items
    a, b, c = read_list(path).items
    assert (a.text, a.prompt_text, a.prompt.path, a.target.path) == (
        "To say.", "What is said.", tmp_path / "p.wav", tmp_path / "human.wav"
    )  # fmt: skip
    assert b.target is not None and c.target is None
    with pytest.raises(DataError, match="line 1: expected utt"):
        read_list(write("a|b|c", name="x.lst"), form="seed-tts")


def test_without_a_fifth_column_the_original_is_in_wavs(write, tmp_path):
    (tmp_path / "wavs").mkdir()
    soundfile.write(tmp_path / "wavs/b.wav", torch.full((1600,), 0.25).numpy(), 16000)
    (item,) = read_list(write("b|What.|p.wav|Say it", name="meta.lst")).items
    assert item.target.path == tmp_path / "wavs/b.wav"


def test_the_zipvoice_form_has_four_columns(write, tmp_path):
    (item,) = read_list(write("u1\tWhat.\tp.wav\tSay it.", name="test.tsv"), form="zipvoice").items
    assert (item.id, item.prompt.path, item.text, item.target) == (
        "u1",
        tmp_path / "p.wav",
        "Say it.",
        None,
    )
    with pytest.raises(DataError, match="4 tab-separated"):
        read_list(write("u1\tx", name="test.tsv"), form="zipvoice")


def test_the_omnivoice_form_takes_rows_of_one_language_and_finds_unpacked_prompts(write, tmp_path):
    rows = [
        {"id": f"{code}_1", "text": "a", "ref_audio": f"download/data/pack/prompt/{code}.wav",
         "ref_text": "b", "language_id": code, "language_name": "…"}
        for code in ("fr", "arb", "en")
    ]  # fmt: skip
    path = write(*map(json.dumps, rows))
    (tmp_path / "pack/prompt").mkdir(parents=True)
    (tmp_path / "pack/prompt/arb.wav").touch()
    (item,) = read_list(path, form="omnivoice", language="ar").items
    assert (item.id, item.prompt_text, item.target) == ("arb_1", "b", None)
    assert item.prompt.path == tmp_path / "pack/prompt/arb.wav"
    (item,) = read_list(path, form="omnivoice", language="fr").items
    assert item.prompt.path == tmp_path / "download/data/pack/prompt/fr.wav"  # to be missed there
    with pytest.raises(DataError, match="no row in it.*of language 'de'"):
        read_list(path, form="omnivoice", language="de")
    with pytest.raises(DataError, match="line 1: field 'language_id' is missing"):
        read_list(write('{"id": "1", "text": "a", "ref_audio": "x.wav"}'), form="omnivoice")


def test_a_text_that_the_protocol_leaves_no_word_of_is_refused(write):
    from svae.judges.wer import zipvoice_english

    path = write({**ROW, "text": "你好"})
    assert len(read_list(path).items) == 1
    with pytest.raises(DataError, match="no word"):
        read_list(path, normalize=zipvoice_english)


def test_a_recording_is_known_by_its_content(write, tmp_path, tone_shards):
    from svae.evaluation.recordings import recording_from_file

    for name, level in (("a.wav", 0.25), ("b.wav", 0.25), ("c.wav", 0.5)):
        soundfile.write(tmp_path / name, torch.full((1600,), level).numpy(), 16000)
    a, b, c = (recording_from_file(tmp_path / f"{name}.wav").sha256() for name in "abc")
    assert a == b != c
    with pytest.raises(DataError, match="no such file"):
        recording_from_file(tmp_path / "d.wav").sha256()
    item = held_out_list(tone_shards).items[0]
    assert len(item.target.sha256()) == 64 and item.target.sha256() != item.prompt.sha256()
