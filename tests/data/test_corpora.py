"""Each corpus' own layout is read as its makers describe it; what is missing or malformed is said in one message."""

from __future__ import annotations

import json

import pytest

from svae.data.corpora import CORPORA, list_utterances
from svae.data.corpora.corpus import sanitize_key
from svae.errors import DataError


def put(path, content: str = "audio") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


def summary(utterances):
    return [(u.key, u.text, u.speaker, u.language, u.source) for u in utterances]


def libritts(root) -> None:
    for subset, speaker, number in (
        ("dev-clean", "84", 0),
        ("train-clean-100", "19", 1),
        ("train-clean-100", "7", 2),
    ):
        stem = root / subset / speaker / "100" / f"{speaker}_100_00000{number}_000000"
        put(stem.with_suffix(".wav"))
        put(stem.with_suffix(".normalized.txt"), f"Number {number}.\n")
        put(stem.with_suffix(".original.txt"), "not this one")


@pytest.mark.parametrize("folder", ["", "LibriTTS"])
def test_libritts_is_found_at_the_root_or_below_and_takes_training_subsets(tmp_path, folder):
    libritts(tmp_path / folder)
    assert summary(list_utterances("libritts", tmp_path)) == [
        (
            "19_100_000001_000000",
            "Number 1.\n",
            "19",
            "en",
            "train-clean-100/19/100/19_100_000001_000000.wav",
        ),
        (
            "7_100_000002_000000",
            "Number 2.\n",
            "7",
            "en",
            "train-clean-100/7/100/7_100_000002_000000.wav",
        ),
    ]
    every = list_utterances("libritts", tmp_path, ("dev-clean", "train-clean-100"))
    assert [u.speaker for u in every] == ["19", "7", "84"]
    assert all(u.audio.is_file() for u in every)
    with pytest.raises(DataError, match="test-clean: not in .*There: dev-clean, train-clean-100"):
        list_utterances("libritts", tmp_path, ["test-clean"])


def test_librispeech_reads_chapter_transcripts_and_says_where_one_is_missing(tmp_path):
    chapter = tmp_path / "dev-clean" / "2412" / "153948"
    for number in range(3):
        put(chapter / f"2412-153948-000{number}.flac")
    put(
        chapter / "2412-153948.trans.txt",
        "2412-153948-0000 IF THE READER\n2412-153948-0001 WILL EXCUSE ME\n",
    )
    assert [(u.key, u.text) for u in list_utterances("librispeech", tmp_path)] == [
        ("2412-153948-0000", "IF THE READER"),
        ("2412-153948-0001", "WILL EXCUSE ME"),
        ("2412-153948-0002", None),
    ]


def test_ljspeech_takes_the_normalised_text_and_leaves_quotation_marks_alone(tmp_path):
    put(
        tmp_path / "metadata.csv",
        'LJ001-0001|in 1465|in fourteen "sixty-five\nLJ001-0002|as it is|\n\nLJ001-0003|two\n',
    )
    assert summary(list_utterances("ljspeech", tmp_path)) == [
        ("LJ001-0001", 'in fourteen "sixty-five', "LJ", "en", "wavs/LJ001-0001.wav"),
        ("LJ001-0002", "as it is", "LJ", "en", "wavs/LJ001-0002.wav"),
        ("LJ001-0003", "two", "LJ", "en", "wavs/LJ001-0003.wav"),
    ]
    put(tmp_path / "metadata.csv", "LJ001-0001|a|a\nnonsense\n")
    with pytest.raises(DataError, match=r"metadata\.csv, line 2: expected ID\|text"):
        list_utterances("ljspeech", tmp_path)


def metadata(root, *rows):
    put(root / "metadata.csv", "".join(f"{row}\n" for row in rows))
    return lambda: list_utterances("ljspeech", root)


SPOKEN = ("Printing, in the only sense", "in being comparatively modern.", "Yes.", "He paid £5.")


@pytest.mark.parametrize(
    "third",
    [
        lambda i: f"{1.5 + i}",
        lambda i: f"{i}",
        lambda i: "0",
        lambda i: f"00:0{i}.500",
        lambda i: f"{i}.5s",
        lambda i: "anna",
        lambda i: f"p22{i}",
        lambda i: ["anna", "ben"][i % 2],
        lambda i: "en",
        lambda i: f"wavs/LJ{i}.wav",
        lambda i: ["HH AH0 L OW1", "B EY1 S", "D OW1", "W AH1 N"][i],
        lambda i: ["pɹɪntɪŋ ɪn", "ɪn biːɪŋ", "jɛs", "hiː peɪd"][i],
        lambda i: "-",
    ],
)
@pytest.mark.parametrize("count", [1, 2, 4])
def test_a_third_field_that_is_no_normalised_text_is_refused_by_its_line(tmp_path, third, count):
    rows = [f"LJ{i}|{SPOKEN[i]}|{third(i)}" for i in range(count)]
    with pytest.raises(DataError) as caught:
        metadata(tmp_path, *rows)()
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}/metadata.csv, line ") and "the third field, " in message
    assert "Expected ID|text|normalised text" in message and "svae prepare jsonl" in message


SHORT = ("Yes.", "No.", "Oh!", "Why?", "Stop it.")
FIGURES = ("1984", "12", "Room 7", "£5", "3rd.")


@pytest.mark.parametrize("texts", [SHORT, FIGURES])
@pytest.mark.parametrize(
    "third",
    [
        lambda i: f"{0.7 + i:.3f}",
        lambda i: str(22050 + 7 * i),
        lambda i: "0",
        lambda i: ["anna", "ben"][i % 2],
        lambda i: "p225",
        lambda i: "speaker_a",
        lambda i: "FM"[i % 2],
        lambda i: "en-US",
        lambda i: ["neutral", "happy"][i % 2],
        lambda i: f"LJ{i}.wav",
        lambda i: "wavs/a.flac",
        lambda i: ["Y EH S", "N OW", "OW OW", "W AY", "S T AA P"][i],
        lambda i: ["Y EH1 S", "N OW1", "OW1 OW1", "W AY1", "S T AA1 P"][i],
    ],
)
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_few_short_texts_hide_no_third_field_that_is_none(tmp_path, texts, third, count):
    with pytest.raises(DataError, match=r"metadata\.csv, line \d: the third field"):
        metadata(tmp_path, *(f"LJ{i}|{texts[i]}|{third(i)}" for i in range(count)))()


@pytest.mark.parametrize(
    "second",
    [
        lambda i: f"{0.7 + i:.3f}",
        lambda i: "p225",
        lambda i: f"speaker_{i % 2}",
        lambda i: f"LJ{i}",
        lambda i: f"wavs/LJ{i}.wav",
        lambda i: f"/data/wavs/LJ{i}",
        lambda i: f"C:\\data\\LJ{i}",
        lambda i: f"{i}d41d8cd98f00",
        lambda i: "00:00:01",
    ],
)
@pytest.mark.parametrize("after", ["", "|"])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_second_field_of_names_and_numbers_is_refused(tmp_path, second, after, count):
    with pytest.raises(DataError, match=r"metadata\.csv, line \d: the second field"):
        metadata(tmp_path, *(f"LJ{i}|{second(i)}{after}" for i in range(count)))()


def test_the_same_word_in_every_line_is_no_text(tmp_path):
    with pytest.raises(DataError, match=r"line 1: the second field, 'anna'"):
        metadata(tmp_path, *(f"LJ{i}|anna" for i in range(4)))()


@pytest.mark.parametrize(
    "rows",
    [
        ["LJ1|Yes.", "LJ2|and/or", "LJ3|COVID-19 is over."],
        ["LJ1|Yes.|yes", "LJ2|Yes!|yes", "LJ3|YES|yes"],
        ["LJ1|5|five", "LJ2|five|five", "LJ3|No. 5|number five"],
        ["LJ1|Am 3. Mai 1984 kam er.|Am dritten Mai neunzehnhundertvierundachtzig kam er."],
        ["LJ1|我有5个苹果|我有五个苹果"],
        ["LJ1|TV|T V", "LJ2|It's OK.|it's okay"],
        ["LJ1|Dr. No|Doctor No"],
    ],
)
def test_short_lists_that_are_right_are_taken(tmp_path, rows):
    assert len(metadata(tmp_path, *rows)()) == len(rows)


def test_one_such_line_among_good_ones_is_found(tmp_path):
    good = [f"LJ{i}|{text}|{text}" for i, text in enumerate(SPOKEN)]
    for bad in ("LJ9|Printing, in the only sense|anna", "LJ9|Yes.|2.5", "LJ9|Yes.|p2"):
        with pytest.raises(DataError, match="line 5: the third field"):
            metadata(tmp_path, *good, bad)()


@pytest.mark.parametrize(
    "rows",
    [
        [f"LJ{i}|{12 + i}|{text} {i * 'more '}" for i, text in enumerate([SPOKEN[0] * 2] * 3)],
        [f"LJ{i}|7|{text} {i * 'more '}" for i, text in enumerate(SPOKEN * 2)],
        [f"LJ{i}|anna|{text}, and so on {i * 'more '}" for i, text in enumerate(SPOKEN * 2)],
        ["LJ0|1.52", "LJ1|2.40", "LJ2|Yes."],
        ["LJ0|1.52|2.0"],
    ],
)
def test_a_second_field_that_is_no_text_is_refused_by_its_line(tmp_path, rows):
    with pytest.raises(DataError, match=r"metadata\.csv, line \d+: the (second|third) field"):
        metadata(tmp_path, *rows)()


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("in 1465", "in fourteen sixty-five"),
        ("1984", "nineteen eighty-four"),
        ("£5", "five pounds"),
        ("Mr. & Mrs. Smith, Esq.", "Mister and Missis Smith, Esquire"),
        ("1,234,567.89", "one million two hundred thirty-four thousand five hundred sixty-seven point eight nine"),
        ("Voilà, déjà vu", "Voila, deja vu"),
        ("Straße", "strasse"),
        ("今日は3時です", "今日は三時です"),
        ("Ő is м'яко", "Ő is мʼяко"),
        ("Yes.", "yes"),
    ],
)  # fmt: skip
def test_normalised_texts_are_taken(tmp_path, text, normal):
    assert metadata(tmp_path, f"LJ1|{text}|{normal}")()[0].text == normal


def test_single_words_whose_normalised_form_shares_no_letter_are_taken_among_others(tmp_path):
    rows = [f"LJ{i}|{text}|{text}" for i, text in enumerate(SPOKEN)]
    found = metadata(
        tmp_path, *rows, "LJ8|XIV|fourteen", "LJ9|5 lbs.|five pounds", "LJ91|1984.|1984"
    )()
    assert [u.text for u in found][-3:] == ["fourteen", "five pounds", "1984"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("LJ1", "got 1 field in 'LJ1'"),
        ("LJ1|a|a|3.5", "got 4 fields"),
        ("LJ1|either | or|either or", "got 4 fields"),
        ("|a|a", "the id '' is empty"),
        ("  |a|a", "the id '' is empty"),
        ("/data/LJ1|a|a", "'/data/LJ1' is an absolute path"),
        ("/data/wavs/LJ1.wav|a|a", "is an absolute path"),
        ("C:\\wavs\\LJ1|a|a", "is an absolute path"),
        ("LJ1.wav|a|a", "'LJ1.wav' ends in .wav"),
        ("LJ1.WAV|a", "ends in .WAV"),
        ("sub/LJ1.flac|a", "ends in .flac"),
        ("wavs/LJ1|a|a", "is a path; it is looked for in wavs/"),
        ("../LJ1|a|a", "is a path"),
        ("sub/../../LJ1|a", "is a path"),
        ("sub/|a", "is a path"),
    ],
)
def test_a_malformed_line_of_ljspeech_is_named(tmp_path, row, message):
    with pytest.raises(DataError, match=r"metadata\.csv, line 2: ") as caught:
        metadata(tmp_path, "LJ0|a|a", row)()
    assert message in str(caught.value) and "Expected ID|text|normalised text" in str(caught.value)


def test_ids_of_ljspeech_may_lie_in_folders_and_hold_dots(tmp_path):
    found = metadata(tmp_path, "sub/LJ1|a|a", "LJ.2|b|b")()
    assert [(u.key, u.source) for u in found] == [
        ("LJ1", "wavs/sub/LJ1.wav"),
        ("LJ_2", "wavs/LJ.2.wav"),
    ]


def test_the_real_ljspeech_is_read(shared):
    utterances = list_utterances("ljspeech", shared / "data" / "LJSpeech-mini")
    assert len(utterances) == 32 and all(u.audio.is_file() and u.text for u in utterances)


def test_vctk_prefers_the_first_microphone(tmp_path):
    for take, microphones in (("p225_001", (1, 2)), ("p225_002", (2,))):
        for microphone in microphones:
            put(tmp_path / "wav48_silence_trimmed" / "p225" / f"{take}_mic{microphone}.flac")
    put(tmp_path / "txt" / "p225" / "p225_001.txt", "Please call Stella.\n")
    assert summary(list_utterances("vctk", tmp_path)) == [
        (
            "p225_001",
            "Please call Stella.\n",
            "p225",
            "en",
            "wav48_silence_trimmed/p225/p225_001_mic1.flac",
        ),
        ("p225_002", None, "p225", "en", "wav48_silence_trimmed/p225/p225_002_mic2.flac"),
    ]


def test_the_older_vctk_is_read_too(tmp_path):
    put(tmp_path / "VCTK-Corpus" / "wav48" / "p226" / "p226_003.wav")
    put(tmp_path / "VCTK-Corpus" / "txt" / "p226" / "p226_003.txt", "Six spoons.")
    assert summary(list_utterances("vctk", tmp_path)) == [
        ("p226_003", "Six spoons.", "p226", "en", "wav48/p226/p226_003.wav")
    ]


def layouts(root):
    """Write one recording of every corpus; return corpus → the file of its text, and what stands before the text."""
    put(root / "libritts/dev-clean/7/100/a.wav")
    put(root / "librispeech/dev-clean/7/100/7-100-0000.flac")
    put(root / "vctk/wav48/p226/p226_003.wav")
    return {
        "libritts": (root / "libritts/dev-clean/7/100/a.normalized.txt", ""),
        "librispeech": (root / "librispeech/dev-clean/7/100/7-100.trans.txt", "7-100-0000 "),
        "ljspeech": (root / "ljspeech/metadata.csv", "LJ1|"),
        "vctk": (root / "vctk/txt/p226/p226_003.txt", ""),
        "jsonl": (root / "jsonl/metadata.jsonl", '{"audio": "a.wav", "text": "'),
    }


@pytest.mark.parametrize("name", ["libritts", "librispeech", "ljspeech", "vctk", "jsonl"])
@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "utf-16-le"])
def test_a_text_that_is_not_utf8_is_refused_with_file_byte_and_encoding(tmp_path, name, encoding):
    path, before = layouts(tmp_path)[name]
    path.parent.mkdir(parents=True, exist_ok=True)
    after = '"}' if name == "jsonl" else ""
    path.write_bytes(f"{before}Das Mädchen{after}\n".encode(encoding))
    with pytest.raises(DataError) as caught:
        list_utterances(name, tmp_path / name)
    message = str(caught.value)
    assert message.startswith(f"{path}: not UTF-8 at byte ") and "line 1" in message
    assert f"looks like {encoding.replace('-', '_')}" in message and "iconv" in message


@pytest.mark.parametrize("name", ["libritts", "librispeech", "ljspeech", "vctk", "jsonl"])
@pytest.mark.parametrize("char", "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e")
def test_no_separator_but_a_line_end_ends_a_text(tmp_path, name, char):
    path, before = layouts(tmp_path)[name]
    after = '"}' if name == "jsonl" else ""
    text = f"first half{char}second half"
    if name == "jsonl" and char < "\x20":  # JSON has no bare control characters
        char, text = "", text.replace(char, json.dumps(char)[1:-1])
    put(path, f"\ufeff{before}{text}{after}\r\n")
    [found] = list_utterances(name, tmp_path / name)
    assert found.text.split() == ["first", "half", "second", "half"]


def test_a_text_that_cannot_be_read_is_an_error_and_not_a_missing_one(tmp_path):
    path, _ = layouts(tmp_path)["vctk"]
    path.mkdir(parents=True)
    with pytest.raises(DataError, match=r"p226_003\.txt: Is a directory"):
        list_utterances("vctk", tmp_path / "vctk")


def test_librispeech_takes_tabs_and_refuses_two_texts_of_an_id(tmp_path):
    path, _ = layouts(tmp_path)["librispeech"]
    put(path, "7-100-0000\tONE TWO\n")
    assert list_utterances("librispeech", tmp_path / "librispeech")[0].text == "ONE TWO"
    put(path, "7-100-0000 ONE TWO\n7-100-0000 THREE\n")
    with pytest.raises(DataError, match="line 2: 7-100-0000 has the text 'THREE' here"):
        list_utterances("librispeech", tmp_path / "librispeech")


def write_list(path, *rows) -> None:
    put(
        path, "\n".join(json.dumps(row) if not isinstance(row, str) else row for row in rows) + "\n"
    )


def test_a_list_of_one_s_own_has_defaults_and_safe_keys(tmp_path):
    write_list(
        tmp_path / "metadata.jsonl",
        {"audio": "a/one.v2.wav", "text": "Eins.", "speaker": "anna", "language": "de"},
        "",
        {"audio": str(tmp_path / "b c.flac"), "text": None},
        {"audio": "/elsewhere/ü.ogg"},
    )
    expected = [
        ("a_one_v2", "Eins.", "anna", "de", "a/one.v2.wav"),
        ("b_c", None, "unknown", "unknown", "b c.flac"),
        ("elsewhere_ü", None, "unknown", "unknown", "/elsewhere/ü.ogg"),
    ]
    for root in (tmp_path, tmp_path / "metadata.jsonl"):
        found = list_utterances("jsonl", root)
        assert summary(found) == expected
    assert [str(u.audio) for u in found] == [
        f"{tmp_path}/a/one.v2.wav",
        f"{tmp_path}/b c.flac",
        "/elsewhere/ü.ogg",
    ]


def test_different_files_get_different_keys_and_the_same_file_twice_is_refused(tmp_path):
    rows = [{"audio": name, "text": "t"} for name in ("a.b.wav", "a_b.wav", "c.wav")]
    write_list(tmp_path / "x.jsonl", *rows)
    keys = [u.key for u in list_utterances("jsonl", tmp_path)]
    assert (
        len(set(keys)) == 3
        and "c" in keys
        and all(key == "c" or key.startswith("a_b-") for key in keys)
    )
    write_list(tmp_path / "x.jsonl", *reversed(rows))
    assert [u.key for u in list_utterances("jsonl", tmp_path)] == keys
    write_list(tmp_path / "x.jsonl", *rows, rows[2])
    with pytest.raises(DataError, match="c.wav is listed more than once"):
        list_utterances("jsonl", tmp_path)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", "line 2: not JSON"),
        ("[]", "line 2: got list"),
        ({"text": "no audio"}, "line 2: `audio` is None"),
        ({"audio": ""}, "line 2: `audio` is ''"),
        ({"audio": "a.wav", "text": 5}, "line 2: `text` is 5"),
        ({"audio": "a.wav", "speaker": ["x"]}, r"line 2: `speaker` is \['x'\]"),
        ("[" * 100_000, "line 2: not JSON"),
        (
            '{"audio": "a.wav", "text": "a", "text": "b"}',
            "line 2: not JSON .the field 'text' occurs",
        ),
        ({"audio": "a.wav", "text": "half \ud83d"}, "line 2: `text` is not valid Unicode.*U.D83D"),
        ({"audio": "\udc80.wav"}, "line 2: `audio` is not valid Unicode"),
        ({"audio": "a\0.wav"}, "line 2: `audio` is not valid Unicode: a zero"),
        ({"audio": "a.wav", "speaker": "\udfff"}, "line 2: `speaker` is not valid Unicode"),
        ({"audio": "a.wav", "language": "\ud800"}, "line 2: `language` is not valid Unicode"),
        ({"audio": "a.wav", "\ud800": 1}, "line 2: the name of a field is not valid Unicode"),
        *(
            ({"audio": "a.wav", name: value}, f"line 2: `{name}` is .*Expected seconds: a number")
            for name in ("offset", "duration")
            for value in (-0.1, -3, "1.5", True, False, [1], {}, 10**400, 1e300)
        ),
        ({"audio": "a.wav", "duration": 0}, "line 2: `duration` is 0.*more than 0"),
        ('{"audio": "a.wav", "duration": NaN}', "line 2: `duration` is nan"),
        ('{"audio": "a.wav", "offset": Infinity}', "line 2: `offset` is inf"),
        (
            {"audio": "a.wav", "start": 1, "end": 2},
            "line 2: `end` is unknown.*`offset`.*`duration`",
        ),
    ],
)
def test_a_malformed_row_is_named_by_its_line(tmp_path, row, message):
    write_list(tmp_path / "x.jsonl", {"audio": "ok.wav"}, row)
    with pytest.raises(DataError, match=message):
        list_utterances("jsonl", tmp_path)


@pytest.mark.parametrize(
    "names",
    [
        ("start", "end"), ("Start", "End"), ("startTime", "endTime"), ("START_MS", "END_MS"), ("segment-start",),
        ("begin_s", "stop_s"), ("audio_start_seconds",), ("offset_ms",), ("offsetSeconds",), ("from", "to"), ("tmin",),
        ("clip_begin", "clip_end"), ("start_sample", "end_sample"), ("segments",), ("onset",),
    ],
)  # fmt: skip
def test_other_names_of_a_part_of_a_recording_are_refused(tmp_path, names):
    write_list(tmp_path / "x.jsonl", {"audio": "a.wav", "text": "t"} | dict.fromkeys(names, 1))
    with pytest.raises(DataError, match="line 1: .* is unknown and looks like a part"):
        list_utterances("jsonl", tmp_path)


def test_names_that_only_sound_like_a_part_are_not_used_and_not_refused(tmp_path):
    names = ("weekend", "started_by", "token", "gender", "trend", "start_page", "duration_ms")
    write_list(tmp_path / "x.jsonl", {"audio": "a.wav", "text": "t"} | dict.fromkeys(names, 1))
    assert list_utterances("jsonl", tmp_path)[0].unused == tuple(sorted(names))


def test_parts_of_a_recording_have_keys_and_differ_by_their_seconds(tmp_path):
    parts = [{}, {"offset": 0, "duration": 1}, {"offset": 1}, {"offset": 1, "duration": 2.5}]
    rows = [{"audio": "a.wav", "text": str(i)} | part for i, part in enumerate(parts)]
    write_list(tmp_path / "x.jsonl", *rows, {"audio": "b.wav", "offset": None, "duration": None})
    found = {u.text: u for u in list_utterances("jsonl", tmp_path)}
    assert len({u.key for u in found.values()}) == 5 and found[None].key == "b"
    assert all(found[i].key.startswith("a-") for i in "01") and not found["0"].is_segment
    assert all(found[i].key.startswith("a-1000") for i in "23")
    assert [(found[i].offset, found[i].duration) for i in "123"] == [(0, 1), (1, None), (1, 2.5)]
    write_list(tmp_path / "x.jsonl", *rows, rows[3])
    with pytest.raises(
        DataError, match=r"a\.wav from 1.000 s to 3.500 s is listed more.*line 4.*line 5"
    ):
        list_utterances("jsonl", tmp_path)


def test_a_file_name_that_is_no_unicode_is_an_error(tmp_path):
    chapter = tmp_path / "dev-clean" / "7" / "100"
    put(chapter / "\udce9.flac")
    with pytest.raises(DataError, match="the name of a file or folder is not valid Unicode"):
        list_utterances("librispeech", tmp_path)


def test_which_list_is_meant_must_be_clear(tmp_path):
    for name in ("x.jsonl", "y.jsonl"):
        write_list(tmp_path / name, {"audio": "ok.wav"})
    with pytest.raises(DataError, match=r"2 \.jsonl files there"):
        list_utterances("jsonl", tmp_path)
    with pytest.raises(DataError, match="no such file or folder"):
        list_utterances("jsonl", tmp_path / "nowhere")
    write_list(tmp_path / "metadata.jsonl", {"audio": "mine.wav"})
    assert [u.key for u in list_utterances("jsonl", tmp_path)] == ["mine"]


@pytest.mark.parametrize(
    ("name", "address", "licence"),
    [
        ("libritts", "openslr.org/60", "CC BY 4.0, 585 hours"),
        ("librispeech", "openslr.org/12", "CC BY 4.0"),
        ("ljspeech", "keithito.com", "public domain"),
        ("vctk", "datashare.ed.ac.uk", "CC BY 4.0"),
    ],
)
@pytest.mark.parametrize("exists", [True, False])
def test_a_missing_corpus_is_an_error_that_says_how_to_get_it(
    tmp_path, name, address, licence, exists
):
    root = tmp_path if exists else tmp_path / "nowhere"
    with pytest.raises(DataError) as caught:
        list_utterances(name, root)
    message = str(caught.value)
    for part in (
        str(root),
        address,
        licence,
        "GB",
        CORPORA[name].layout,
        f"svae prepare {name} --root data/",
    ):
        assert part in message


def test_unknown_corpora_and_subsets_of_what_has_none_are_refused(tmp_path):
    with pytest.raises(DataError, match="'commonvoice': unknown. Expected one of sample, libritts"):
        list_utterances("commonvoice", tmp_path)
    with pytest.raises(DataError, match="vctk has no subsets"):
        list_utterances("vctk", tmp_path, ["p225"])


def test_keys_survive_in_a_webdataset():
    assert sanitize_key("a.b/c d-e_é") == "a_b_c_d-e_é"


def test_the_embedded_sample_is_complete():
    utterances = list_utterances("sample", CORPORA["sample"].folder)
    assert len(utterances) >= 100
    assert len({u.speaker for u in utterances}) >= 4
    assert all(u.audio.is_file() and u.text and u.language == "en" for u in utterances)
