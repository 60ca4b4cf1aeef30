"""`svae prepare recordings`, from files to shards: on speech whose words are tones, and judges that hear these."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import soundfile
from browser import BROWSER, open_browser
from fake_corpora import files
from fake_speech import FakeAligner, FakeDetector, FakeRecognizer, say, silence, speak
from rich.console import Console
from test_audio_formats import write_av

from svae.audio import load_audio
from svae.data.index import read_index, read_member
from svae.data.prepare import prepare
from svae.data.prepare_plan import PrepareOptions
from svae.errors import ConfigError, DataError
from svae.recordings import command
from svae.recordings.command import RecordingsOptions, prepare_recordings
from svae.recordings.filters import Limits
from svae.training.adapt.recordings import survey


@pytest.fixture
def judges(monkeypatch):
    """Put fake judges in place; return the settable recogniser."""
    place = {"asr": FakeRecognizer()}
    monkeypatch.setattr(command, "SileroVAD", FakeDetector)
    monkeypatch.setattr(command, "PhoneAligner", FakeAligner)
    monkeypatch.setattr(command, "load_asr", lambda *_, **__: place["asr"])
    return place


@pytest.fixture
def run(judges, tmp_path):
    def _run(**changes):
        output = io.StringIO()
        options = {
            "root": tmp_path / "in", "out": tmp_path / "out", "asr": "fake", "workers": 1, "device": "cpu", "shards": 1,
        } | changes  # fmt: skip
        report = prepare_recordings(
            RecordingsOptions(**options), Console(file=output, width=300, force_terminal=False)
        )
        return report, output.getvalue()

    return _run


def texts_of(out: Path) -> dict[str, str]:
    return {
        sample.key: sample.text for sample in sorted(read_index(out).samples, key=lambda s: s.key)
    }


def page_rows(out: Path) -> list[dict]:
    page = (out / "review.html").read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    return json.loads(found.group(1))["rows"]


def rejected(out: Path) -> dict[str, str]:
    lines = (out / "rejected.jsonl").read_text(encoding="utf-8").splitlines()
    return {row["key"]: row["reason"] for row in map(json.loads, lines)}


def test_mixed_recordings_of_two_speakers_become_shards(run, tmp_path):
    root = tmp_path / "in"
    voice = say("the quick brown fox", 44100)
    left = np.stack([voice, np.zeros_like(voice)])
    (root / "anna" / "deep").mkdir(parents=True)
    write_av(root / "anna" / "deep" / "memo é 1.m4a", left, 44100)
    write_av(root / "anna" / "film.mp4", say("a lazy dog")[None], video=True)
    speak(root / "ben" / "long.WAV", 1.0, "seven old men", 3.0, "read from long books", 2.0, rate=8000)  # fmt: skip
    (root / "ben" / "broken.mp3").write_bytes(b"not audio")
    (root / "ben" / ".hidden.wav").write_bytes(b"")
    (root / "ben" / "notes.docx").write_bytes(b"")
    soundfile.write(root / "ben" / "empty room.flac", silence(2.0), 16000)
    report, printed = run()
    index = read_index(tmp_path / "out")
    found = {sample.text: (sample.speaker, sample.language) for sample in index.samples}
    assert found == {
        "the quick brown fox": ("anna", "en"),
        "a lazy dog": ("anna", "en"),
        "seven old men": ("ben", "en"),
        "read from long books": ("ben", "en"),
    }
    assert report.utterances == 4 and report.rejected == {"no speech": 1, "unreadable": 1}
    assert set(rejected(tmp_path / "out")) == {"ben_broken", "ben_empty_room"}
    assert "notes.docx" in printed and "loudness 0" in printed and "fake on cpu" in printed
    made_with = index.metadata["recordings"]
    assert index.metadata["corpus"] == "recordings" and made_with["vad"]["vad"] == "loudness"
    assert made_with["asr"]["spec"] == "fake" and made_with["texts"] == {"heard": 4}
    assert made_with["limits"]["min_snr_db"] == 15
    for row in page_rows(tmp_path / "out"):
        assert (tmp_path / "out" / unquote(row["link"])).is_file() and row["used"]
    # What is in the shards is the segment's file, to the bit, with a margin of the silence.
    sample = next(sample for sample in index.samples if sample.text == "seven old men")
    audio, _ = load_audio(io.BytesIO(read_member(index, sample, "flac")))
    assert audio.equal(load_audio(tmp_path / "out" / "segments" / f"{sample.key}.flac")[0])
    assert audio.shape[1] / 16000 == pytest.approx(0.15 + 0.91 + 0.15, abs=0.03)


def test_an_interrupted_run_asks_about_nothing_twice_and_ends_alike(run, judges, tmp_path):
    for number in range(3):
        speak(tmp_path / "in" / "a" / f"{number}.wav", "the quick", 2.0, "brown fox")
    judges["asr"] = FakeRecognizer(stop_after=4)
    with pytest.raises(KeyboardInterrupt):
        run()
    heard = tmp_path / "out" / "segments" / "recognising.jsonl"
    heard.write_text(
        heard.read_text() + '{"key": "a_2-00', encoding="utf-8"
    )  # killed while writing
    judges["asr"] = second = FakeRecognizer()
    run()
    assert second.asked == 2
    before = files(tmp_path / "out")
    judges["asr"] = third = FakeRecognizer()
    _, printed = run()
    assert third.asked == 0 and "nothing to do" in printed and files(tmp_path / "out") == before
    run(out=tmp_path / "at once")
    for name in ("shard-00000.tar", "index.json", "rejected.jsonl", "review.html"):
        assert (tmp_path / "at once" / name).read_bytes() == before[name], name


def test_a_recording_that_comes_later_or_changes_is_taken_in(run, judges, tmp_path):
    speak(tmp_path / "in" / "a" / "1.wav", "the quick")
    speak(tmp_path / "in" / "a" / "2.wav", "brown fox")
    run()
    speak(tmp_path / "in" / "a" / "1.wav", "old men")
    speak(tmp_path / "in" / "b" / "3.wav", "a lazy dog")
    judges["asr"] = second = FakeRecognizer()
    _, printed = run()
    assert second.asked == 2 and "made anew" in printed
    assert sorted(texts_of(tmp_path / "out").values()) == ["a lazy dog", "brown fox", "old men"]


def test_a_recording_in_the_place_of_one_with_the_same_words_is_taken_in(run, tmp_path):
    path = speak(tmp_path / "in" / "a" / "1.wav", "the quick")
    run()
    soundfile.write(path, 0.8 * say("the quick"), 16000)
    _, printed = run()
    out = tmp_path / "out"
    index = read_index(out)
    audio, _ = load_audio(io.BytesIO(read_member(index, index.samples[0], "flac")))
    assert audio.equal(load_audio(out / "segments" / f"{index.samples[0].key}.flac")[0])
    assert "made anew" in printed and audio.abs().max() < 0.25
    # What an older svae said of its shards says nothing of their audio.
    before = files(out)
    (out / "segments" / "shards.sha256").write_text("0" * 64 + "\n")
    assert "older svae" in run()[1] and files(out) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shards": 2}, "--shards 2: .*only 1 usable"),
        ({"shards": 0}, "--shards 0: expected at least 1"),
        ({"validation": 1.0}, "--validation 1.0: expected"),
        ({"workers": 0}, "--workers 0: expected"),
    ],
)
def test_impossible_options_leave_finished_shards(run, tmp_path, changes, message):
    speak(tmp_path / "in" / "a" / "1.wav", "the quick")
    run()
    before = files(tmp_path / "out")
    with pytest.raises(DataError, match=message):
        run(**changes)
    assert files(tmp_path / "out") == before
    assert "nothing to do" in run()[1]


class TestTexts:
    """Texts that lie beside the recordings."""

    def test_a_plain_text_is_that_of_a_short_recording(self, run, tmp_path):
        path = speak(tmp_path / "in" / "a" / "1.wav", "the quick brown fox")
        path.with_suffix(".txt").write_text("The quick,\nbrown fox!\n", encoding="utf-8")
        run()
        assert list(texts_of(tmp_path / "out").values()) == ["The quick, brown fox!"]
        assert page_rows(tmp_path / "out")[0]["heard"] == "the quick brown fox"

    def test_a_long_text_is_dealt_to_the_segments(self, run, judges, tmp_path):
        said = ["the quick brown fox jumps", "over a lazy dog", "while seven old men read", "from long books about ships"]  # fmt: skip
        parts = [part for text in said for part in (text, 1.5)]
        path = speak(tmp_path / "in" / "a" / "1.wav", "winter winter", 1.5, *parts)
        path.with_suffix(".txt").write_text(
            "Chapter I.\n\nThe quick brown fox jumps\nover a “lazy” dog, while Seven old men read. From long books--about ships. "
            "And this is not read.\n"
        )
        judges["asr"] = FakeRecognizer({"jumps": "jams", "over": "", "seven": "eleven even"})
        run()
        assert list(texts_of(tmp_path / "out").values()) == [
            "The quick brown fox jumps", 'over a "lazy" dog,', "while Seven old men read.", "From long books--about ships.",
        ]  # fmt: skip
        assert list(rejected(tmp_path / "out").values()) == ["not in its text"]
        assert read_index(tmp_path / "out").metadata["recordings"]["texts"] == {"text": 4}

    def test_a_short_recording_takes_its_words_from_a_long_text(self, run, tmp_path):
        path = speak(tmp_path / "in" / "a" / "1.wav", "seven old men read")
        book = "The quick brown fox. Seven old men read. From long books about ships. "
        path.with_suffix(".txt").write_text(book + "Winter and storms. A lazy dog. " * 3)
        run()
        assert list(texts_of(tmp_path / "out").values()) == ["Seven old men read."]

    def test_a_text_of_something_else_is_left_out(self, run, tmp_path):
        path = speak(tmp_path / "in" / "a" / "1.wav", "the quick brown fox")
        path.with_suffix(".txt").write_text("Winter storms and silver ships.")
        speak(tmp_path / "in" / "a" / "2.wav", "a lazy dog")
        run()
        assert list(texts_of(tmp_path / "out").values()) == ["a lazy dog"]
        assert list(rejected(tmp_path / "out").values()) == ["heard otherwise"]

    def test_subtitles_say_what_is_said_and_about_when(self, run, judges, tmp_path):
        path = speak(tmp_path / "in" / "a" / "talk.wav", 1.0, "the quick brown fox", 1.5, "a lazy dog", 0.3, "seven old men", 2.0, "storms")  # fmt: skip
        path.with_suffix(".srt").write_text(
            "1\n00:00:00,800 --> 00:00:02,300\n<i>The quick</i>\nbrown fox.\n\n"
            "2\n00:00:03,700 --> 00:00:04,700\nA lazy dog,\n\n3\n00:00:04,700 --> 00:00:05,900\nseven old men.\n\n"
            "4\n00:00:06,000 --> 00:00:07,000\n[Music]\n\n",
            encoding="utf-8",
        )
        judges["asr"] = None  # not asked
        _, printed = run(asr="none")
        assert list(texts_of(tmp_path / "out").values()) == [
            "The quick brown fox.",
            "A lazy dog, seven old men.",
        ]
        assert not rejected(tmp_path / "out")
        assert page_rows(tmp_path / "out")[0]["start"] == pytest.approx(0.85, abs=0.02)

    def test_what_no_recogniser_is_needed_for_goes_without(self, run, tmp_path):
        speak(tmp_path / "in" / "a" / "1.wav", "the quick", 2.0, "brown fox")
        with pytest.raises(ConfigError, match="1 of 1 recordings have no text.*a/1.wav"):
            run(asr="none")
        (tmp_path / "in" / "a" / "1.txt").write_text("The quick. Brown fox.")
        with pytest.raises(ConfigError, match="2 segments, and .*1.txt no times"):
            run(asr="none")

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("1.txt", b"", "empty"),
            ("1.txt", b" \n", "empty"),
            ("1.txt", "Caf\xe9".encode("latin1"), "not UTF-8 at byte 3"),
            ("1.srt", b"The quick brown fox", "no subtitle with words"),
            ("1.vtt", b"WEBVTT\n\n00:01.000 --> soon\nThe\n", "line 3: .*no time"),
            ("1.srt", b"1\n00:00:09,000 --> 00:00:08,000\nThe\n", "line 2: .*before it begins"),
            ("1.srt", b"1\n00:01:00,000 --> 00:01:02,000\nThe\n", "62.0 s, but a/1.wav is 1.2"),
        ],
    )
    def test_damaged_texts_are_refused_before_anything_is_cut(
        self, run, tmp_path, name, content, message
    ):
        speak(tmp_path / "in" / "a" / "1.wav", "the quick brown fox")
        (tmp_path / "in" / "a" / name).write_bytes(content)
        with pytest.raises(DataError, match=rf"{name}.*{message}"):
            run()
        assert not (tmp_path / "out").exists()


def test_the_linked_folder_of_a_speaker_is_one(run, tmp_path):
    speak(tmp_path / "in" / "anna" / "1.wav", "the quick")
    speak(tmp_path / "disk" / "2.wav", "old men")
    (tmp_path / "in" / "ben").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "all").symlink_to(tmp_path / "in")
    run(out=tmp_path / "in" / "out")
    found = {sample.text: sample.speaker for sample in read_index(tmp_path / "in" / "out").samples}
    assert found == {"the quick": "anna", "old men": "ben"}


@pytest.mark.parametrize(
    ("heard", "language", "spoken"),
    [
        ("1984.", "en-US", "nineteen eighty four."),
        ("555-1234.", "en", "five five five, one two three four."),
        ("1984", "zh", "一千九百八十四"),
        ("1984.", "de", "1984."),  # no rules: how long it is, is not known
    ],
)
def test_numbers_in_digits_are_judged_by_their_words(run, judges, tmp_path, heard, language, spoken):  # fmt: skip
    speak(tmp_path / "in" / "a" / "1.wav", "seven old men read from books")
    judges["asr"] = FakeRecognizer(dict.fromkeys("old men read from books".split(), "") | {"seven": heard})  # fmt: skip
    run(language=language)
    assert list(texts_of(tmp_path / "out").values()) == [heard]
    assert not rejected(tmp_path / "out")
    _, printed = run(language=language, spell_out=True)
    assert list(texts_of(tmp_path / "out").values()) == [spoken]
    assert "made anew" in printed and page_rows(tmp_path / "out")[0]["text"] == heard


class TestReview:
    """Decisions that come back."""

    @pytest.fixture
    def reviewed(self, run, tmp_path):
        speak(tmp_path / "in" / "a" / "1.wav", "the quick", 2.0, "brown silver", 2.0, "gold", 2.0, "old men")  # fmt: skip
        run()
        keys = {row["text"]: row["key"] for row in page_rows(tmp_path / "out")}

        def _review(decisions, **changes):
            rows = {keys.get(text, text): decision for text, decision in decisions.items()}
            path = tmp_path / "review.json"
            path.write_text(json.dumps({"segments": rows}), encoding="utf-8")
            return run(review=path, **changes)

        return _review

    def test_edits_rejections_and_pardons_come_back(self, reviewed, run, judges, tmp_path):
        out = tmp_path / "out"
        assert list(texts_of(out).values()) == ["the quick", "old men"]
        assert list(rejected(out).values()) == ["does not fit the sound"] * 2
        judges["asr"] = again = FakeRecognizer()
        _, printed = reviewed(
            {
                "the quick": {"text": "The “quick” one."},
                "old men": {"use": False},
                "gold": {"use": True},
                "brown silver": {"text": "Brown silver."},
            }
        )
        wanted = ['The "quick" one.', "Brown silver.", "gold"]
        assert sorted(texts_of(out).values()) == sorted(wanted) and again.asked == 0
        assert list(rejected(out).values()) == ["by review"] and "made anew" in printed
        said = read_index(out).metadata["recordings"]
        assert said["review"] == {"edited": 2, "used": 1, "rejected": 1}
        assert said["texts"] == {"review": 2, "heard": 1}
        # It stays in force without being given again, and what comes later is added.
        _, printed = run()
        assert "nothing to do" in printed and sorted(texts_of(out).values()) == sorted(wanted)
        reviewed({"gold": {"use": False}})
        assert sorted(texts_of(out).values()) == sorted(wanted[:2])

    @pytest.mark.parametrize("known", [True, False], ids=["given", "stored by 0.9"])
    def test_a_decision_is_about_the_audio_that_was_heard(self, run, tmp_path, known):
        path, out = tmp_path / "in" / "a" / "1.wav", tmp_path / "out"
        first = {"root": tmp_path / "in", "out": out}
        speak(path, "the quick", 2.0, "old men")
        speak(path.with_name("2.wav"), "a lazy dog")
        run(**first)
        key = next(row["key"] for row in page_rows(out) if row["text"] == "the quick")
        review = tmp_path / "review.json" if known else out / "review.json"
        review.write_text(json.dumps({"segments": {key: {"text": "The quick!"}}}))
        given = {"review": review} if known else {}
        run(**first, **given)
        assert sorted(texts_of(out).values()) == ["The quick!", "a lazy dog", "old men"]
        stored = (out / "review.json").read_text(encoding="utf-8")
        (tmp_path / "saved.json").write_text(stored)  # as the page saves it
        before = path.read_bytes()
        speak(path, "winter storms", 2.0, "old men")
        _, printed = run(**first)
        assert sorted(texts_of(out).values()) == ["a lazy dog", "old men", "winter storms"]
        assert f"1 reviewed segments are not there, or of other audio than was reviewed; what was decided about them is kept, not used: {key}." in printed  # fmt: skip
        _, printed = run(**first, review=tmp_path / "saved.json")
        assert "winter storms" in texts_of(out).values() and "reviewed" in printed
        path.unlink()
        (tmp_path / "other.json").write_text('{"segments": {"a_2-0000000": {"text": "A dog."}}}')
        run(**first, review=tmp_path / "other.json")
        assert list(texts_of(out).values()) == ["A dog."]
        path.write_bytes(before)
        _, printed = run(**first)
        assert sorted(texts_of(out).values()) == ["A dog.", "The quick!", "old men"]
        assert "reviewed" not in printed

    @pytest.mark.skipif(BROWSER is None, reason="no Chromium: apt-get install chromium")
    def test_what_is_changed_on_the_page_is_the_file_that_it_saves(self, run, tmp_path):
        speak(tmp_path / "in" / "a" / "1.wav", "the quick", 2.0, "gold", 2.0, "old men", 2.0, "a dog")  # fmt: skip
        run()
        out = tmp_path / "out"
        with open_browser(tmp_path / "profile", tmp_path / "none.wav") as browser:
            browser.call("Page.navigate", url=(out / "review.html").as_uri())
            browser.wait("document.querySelectorAll('#segments tbody tr').length === 4")
            player = "document.querySelector('audio')"
            browser.run(f"{player}.load()")
            browser.wait(f"{player}.readyState >= 1")  # its sound is found
            saved = browser.run("""(async () => {
                const rows = [...document.querySelectorAll('#segments tbody tr')];
                const row = said => rows.find(each => each.querySelector('textarea').value === said);
                const text = row('the quick').querySelector('textarea');
                text.value = 'The “quick” one.';
                text.dispatchEvent(new Event('input'));
                row('gold').querySelector('input').click();
                row('old men').querySelector('input').click();
                let file;
                URL.createObjectURL = blob => { file = blob; return 'blob:none'; };
                document.getElementById('save').click();
                return await file.text();
            })()""")
        (tmp_path / "review.json").write_text(saved, encoding="utf-8")
        run(review=tmp_path / "review.json")
        assert sorted(texts_of(out).values()) == ['The "quick" one.', "a dog", "gold"]
        assert list(rejected(out).values()) == ["by review"]

    @pytest.mark.parametrize(
        ("decisions", "message"),
        [
            ({"a_1-000": {"use": True}}, "1 of 1 segments are not of these.*a_1-0"),
            ({"gold": {"use": "yes"}}, "`use` is 'yes'"),
            ({"gold": {"text": " "}}, "`text` is empty"),
            ({"gold": {"text": 3}}, "`text` is 3"),
            ({"gold": {"use": True, "audio": 3}}, "`audio` is 3"),
            ({"gold": {"audio": "0"}}, "Expected `text`, `use`"),
            ({"gold": {"tekst": "x"}}, "Expected `text`, `use`"),
            ({"gold": {}}, "Expected `text`, `use`"),
            ({"gold": {"text": "half \ud83d"}}, "surrogate"),
        ],
    )
    def test_a_wrong_review_changes_nothing(self, reviewed, tmp_path, decisions, message):
        before = files(tmp_path / "out")
        with pytest.raises(DataError, match=message):
            reviewed(decisions)
        assert files(tmp_path / "out") == before

    @pytest.mark.parametrize("content", ["", "[]", "{}", '{"segments": []}', '{"segments": {"a": {"use": true}, "a": {"use": false}}}', '{"segments": {}, "more": 1}'])  # fmt: skip
    def test_a_file_that_is_no_review_is_refused(self, run, tmp_path, content):
        speak(tmp_path / "in" / "a" / "1.wav", "the quick")
        (tmp_path / "review.json").write_text(content)
        with pytest.raises(DataError, match=r"review\.json: .*Expected \{\"segments\""):
            run(review=tmp_path / "review.json")

    def test_names_and_texts_reach_the_page_as_text(self, run, tmp_path):
        evil = "</script><b>&"
        path = speak(tmp_path / "in" / "a&<i>" / "1.wav", "the quick")
        path.with_suffix(".txt").write_text(f"the quick {evil}")
        (tmp_path / "in" / "a&<i>" / "<u>.wav").write_bytes(b"x")
        run(min_agreement=0.0)
        page = (tmp_path / "out" / "review.html").read_text(encoding="utf-8")
        assert page.count("<script") == 2 and "<b>" not in page and "<u>.wav" not in page
        assert page_rows(tmp_path / "out")[0]["text"] == f"the quick {evil}"


class TestRefusals:
    """Folders that cannot be what was meant."""

    def test_of_recordings(self, run, tmp_path):
        with pytest.raises(DataError, match="no such folder"):
            run()
        (tmp_path / "in").mkdir()
        with pytest.raises(DataError, match=r"no recording in it \(0 other files\).*\.m4a"):
            run()
        speak(tmp_path / "in" / "1.wav", "the quick")
        with pytest.raises(DataError, match=r"who speaks in 1\.wav.*--speaker NAME"):
            run()
        with pytest.raises(DataError, match="--speaker: empty"):
            run(speaker=" ")
        with pytest.raises(DataError, match="holds --root"):
            run(out=tmp_path, speaker="x")
        (tmp_path / "in" / "1.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nThe\n")
        (tmp_path / "in" / "1.en.vtt").write_text("WEBVTT\n\n00:00.000 --> 00:01.000\nThe\n")
        with pytest.raises(DataError, match="which is its text"):
            run(speaker="x")
        (tmp_path / "in" / "1.srt").unlink()
        report, _ = run(speaker="x")
        assert report.speakers == 1

    def test_of_what_lies_in_out(self, run, tmp_path):
        speak(tmp_path / "in" / "a" / "1.wav", "the quick")
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "thesis.tex").write_text("years")
        with pytest.raises(DataError, match="holds thesis.tex, not by `svae prepare recordings`"):
            run()
        (tmp_path / "out" / "thesis.tex").unlink()
        run()
        before = files(tmp_path / "out")
        with pytest.raises(DataError, match="begun with other options: sample_rate 16000 there, 8000 now"):  # fmt: skip
            run(sample_rate=8000)
        assert files(tmp_path / "out") == before

    def test_of_limits_and_languages(self, run, tmp_path):
        speak(tmp_path / "in" / "a" / "1.wav", "the quick")
        for limits in (Limits(max_seconds=0.5), Limits(max_seconds=61), Limits(min_seconds=float("nan"))):  # fmt: skip
            with pytest.raises(DataError, match="--min-seconds .*--max-seconds"):
                run(limits=limits)
        with pytest.raises(ConfigError, match="English only"):
            run(asr="pocketsphinx", language="de")
        with pytest.raises(ConfigError, match="not one of Whisper's"):
            run(asr="whisper:x", language="xx")
        with pytest.raises(ConfigError, match="--language 'the Queen': expected a language's code"):  # fmt: skip
            run(language="the Queen")

    @pytest.mark.parametrize("name", ["EN", "en-US", "eng", "English"])
    def test_a_language_is_taken_by_any_of_its_names(self, run, judges, monkeypatch, tmp_path, name):  # fmt: skip
        asked = []
        monkeypatch.setattr(command, "load_asr", lambda *_, **use: asked.append(use["language"]) or judges["asr"])  # fmt: skip
        speak(tmp_path / "in" / "a" / "1.wav", "the quick", 2.0, "gold ships")
        for asr in ("pocketsphinx", "whisper:x", "fake"):
            out = tmp_path / asr.replace(":", "")
            run(out=out, asr=asr, language=name)
            # The filter of English is on.
            assert list(rejected(out).values()) == ["does not fit the sound"]
            assert asked.pop() == "en"
            assert read_index(out).samples[0].language == ("en-us" if name == "en-US" else "en")
        # A folder that was begun with the name as it was goes on.
        settings = tmp_path / "fake" / "segments" / "settings.json"
        settings.write_text(json.dumps(json.loads(settings.read_text()) | {"language": name}))
        assert "nothing to do" in run(out=tmp_path / "fake", language=name)[1]
        with pytest.raises(DataError, match="other options: language en.* there, de now"):
            run(out=tmp_path / "fake", language="de")

    def test_where_nothing_is_left_the_page_says_why(self, run, tmp_path):
        speak(tmp_path / "in" / "a" / "1.wav", 1.0, "gold", 1.0)
        with pytest.raises(DataError, match="nothing is left of 1 recordings: 1 does not fit the sound.*review.html"):  # fmt: skip
            run()
        assert page_rows(tmp_path / "out")[0]["reasons"]


def test_what_is_used_can_be_given_to_adapt(run, tmp_path):
    for number in range(2):
        speak(tmp_path / "in" / "a" / f"{number}.wav", "the quick brown", 2.0, "fox jumps over")
    run()
    found = survey(tmp_path / "out" / "segments" / "list.jsonl", tmp_path / "run")
    assert found.has_texts and len(found.utterances) == 4 and not found.left_out


def test_what_is_used_goes_to_a_bucket_as_it_lies_in_the_shards(run, s3, tmp_path):
    for number in range(2):
        speak(tmp_path / "in" / "a" / f"{number}.wav", "the quick brown", 2.0, "fox jumps over")
    run()
    out = tmp_path / "out"
    place = Path("s3://bucket/memos")
    options = PrepareOptions(
        corpus="jsonl", root=out / command.LIST, out=place, shards=1, workers=1
    )
    prepare(options, Console(quiet=True))
    for name in ("shard-00000.tar", "shard-00000.jsonl"):
        there = s3.client.get_object(Bucket="bucket", Key=f"memos/{name}")["Body"].read()
        assert there == (out / name).read_bytes()


def test_other_limits_ask_nobody_again(run, judges, tmp_path):
    speak(tmp_path / "in" / "a" / "1.wav", "the quick brown fox", 2.0, "a", 1.0)
    assert run()[0].utterances == 2
    judges["asr"] = again = FakeRecognizer()
    report, printed = run(limits=Limits(min_seconds=1.0))
    assert again.asked == 0 and report.rejected == {"too short": 1} and "made anew" in printed
