"""`svae synthesize` on long texts, files and lists: bounded, deterministic, resumable, nothing lost."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Iterable
from pathlib import Path

import pytest
import soundfile
import torch
from tiny_tts import PROMPT_TEXT, changed, speech

from svae.audio import load_audio
from svae.errors import ConfigError, DataError
from svae.synthesis import batch, command, long_text
from svae.synthesis.batch import synthesize_batch
from svae.synthesis.command import SynthesizeOptions, synthesize_file
from svae.synthesis.load import load_tts
from svae.synthesis.model import TTS, batches
from svae.synthesis.output import check_output
from svae.synthesis.reference import OpenedPrompt
from svae.synthesis.types import Sampling, Synthesis
from svae.synthesis.voices import keep_voice, saved_voices, voice_path

LONG = "Hello there, you are here. Here we go on, and on. " * 24


def report(out: Path) -> dict:
    return json.loads(out.with_suffix(".json").read_text())


def test_a_long_text_is_spoken_in_chunks_and_no_word_is_lost(options):
    out = synthesize_file(changed(options, text=LONG, num_steps=1))
    row = report(out)
    assert len(row["chunks"]) > 3 and row["text"].split() == LONG.split()
    assert all(
        chunk["generated_seconds"] + 1.0 <= 12.1 for chunk in row["chunks"]
    )  # what it was trained on
    overlap = 0.03 * (len(row["chunks"]) - 1)
    assert soundfile.info(out).duration == pytest.approx(
        sum(chunk["generated_seconds"] for chunk in row["chunks"]) - overlap, abs=1e-3
    )
    again = synthesize_file(
        changed(options, text=LONG, num_steps=1, out=out.with_name("again.wav"))
    )
    assert again.read_bytes() == out.read_bytes()


def test_a_changed_sentence_leaves_the_other_chunks_as_they_are(options, tmp_path):
    first = synthesize_file(changed(options, text=LONG + "Here it ends.", num_steps=1))
    other = synthesize_file(
        changed(options, text=LONG + "Here it stops.", num_steps=1, out=tmp_path / "b.wav")
    )
    size = sum(chunk["generated_seconds"] for chunk in report(first)["chunks"][:-1]) - 1
    a, b = (soundfile.read(path, frames=int(16000 * size))[0] for path in (first, other))
    assert (a == b).all()


def test_streaming_writes_every_sentence_as_soon_as_it_is_there(options, monkeypatch, capsys):
    sizes, speak = [], long_text.speak_chunks

    def watching(*arguments):
        sizes.append(options.out.stat().st_size if options.out.exists() else 0)
        return speak(*arguments)

    monkeypatch.setattr(long_text, "speak_chunks", watching)
    streamed = synthesize_file(changed(options, text=LONG, num_steps=1, stream=True))
    row = report(streamed)
    assert [chunk["text"] for chunk in row["chunks"]] == [
        "Hello there, you are here.",
        "Here we go on, and on.",
    ] * 24
    assert sizes[0] < 100 < sizes[1] < sizes[2] < sizes[-1]
    assert "first audio after" in " ".join(capsys.readouterr().out.split())
    assert 0 < row["first_audio_seconds"]
    audio, rate = soundfile.read(streamed)
    assert len(audio) / rate == pytest.approx(row["generated_seconds"])


def test_text_comes_from_a_file_or_standard_input(options, tmp_path, monkeypatch):
    file = tmp_path / "text.txt"
    file.write_bytes("\ufeffHello there.\nHere?\n".encode())
    assert (
        report(synthesize_file(changed(options, text=None, text_file=file)))["text"]
        == "Hello there. Here?"
    )
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"Hello you.")))
    assert (
        report(synthesize_file(changed(options, text=None, text_file=Path("-"))))["text"]
        == "Hello you."
    )
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not UTF-8 at byte 0"):
        synthesize_file(changed(options, text=None, text_file=file))


def test_numbers_are_spoken_and_unknown_characters_skipped_only_when_asked(options, capsys):
    row = report(synthesize_file(changed(options, text="Hello, 2 of you.", verbose=True)))
    assert row["text"] == "Hello, two of you." and "→ Hello, two of you." in capsys.readouterr().out
    with pytest.raises(DataError, match="'!'"):
        synthesize_file(changed(options, text="Hello!"))
    row = report(synthesize_file(changed(options, text="Hello! Here?", skip_unknown=True)))
    assert row["text"] == "Hello Here?" and "Left out: '!'" in capsys.readouterr().out
    with pytest.raises(DataError, match="nothing is left"):
        synthesize_file(changed(options, text="ÜÜ", skip_unknown=True))


class Transcripts:
    """A recogniser that hears one sentence after the other."""

    def __init__(self, sentences: Iterable[str]) -> None:
        self.sentences = iter(sentences)

    def transcribe(self, waveforms, sample_rate):
        return [next(self.sentences) for _ in waveforms]


def test_what_is_not_understood_is_tried_again(options, monkeypatch, capsys):
    def hear(sentences: Iterable[str]) -> None:
        monkeypatch.setattr(command, "load_asr", lambda asr, device: Transcripts(sentences))

    hear(["something else", "hello there you", "never asked"])
    row = report(synthesize_file(changed(options, verify=3)))
    attempts = row["chunks"][0]["attempts"]
    assert [a["seed"] for a in attempts] == [5, 6] and attempts[1]["wer"] == 0
    plain = synthesize_file(changed(options, seed=6, out=options.out.with_name("plain.wav")))
    # Their tags differ in the seed that was asked for.
    assert torch.equal(load_audio(plain)[0], load_audio(options.out)[0])
    assert "Understood after 2 attempt(s), kept seed 6 (WER 0.00)" in capsys.readouterr().out
    hear(["hello there", "something else"])
    synthesize_file(changed(options, verify=1))
    assert "Not understood after 2 attempt(s), kept seed 5" in (said := capsys.readouterr().out)
    assert "(heard: hello there)" in " ".join(said.split())
    hear(itertools.repeat("no no no no"))
    assert len(report(synthesize_file(changed(options, verify=1)))["chunks"][0]["attempts"]) == 2
    assert "Not understood after 2 attempt(s)" in capsys.readouterr().out


# ----------------------------------------------------------------------------------------------- voices


@pytest.fixture
def voice(options, tmp_path, monkeypatch):
    monkeypatch.setenv("SVAE_VOICES", str(tmp_path / "voices"))
    keep_voice("anna", options.ref, PROMPT_TEXT, options.model, asr="pocketsphinx", device="cpu")
    return "anna"


def test_a_saved_voice_speaks_like_its_recording(options, voice):
    direct = synthesize_file(options)
    saved = synthesize_file(
        changed(options, ref=None, ref_text=None, voice=voice, out=direct.with_name("v.wav"))
    )
    a, b = (torch.from_numpy(soundfile.read(path)[0]) for path in (direct, saved))
    torch.testing.assert_close(a, b, atol=1e-3, rtol=0)
    assert report(saved)["voice"] == "anna" and saved_voices() == ["anna"]


def test_a_voice_of_another_vae_is_encoded_again(options, voice, tmp_path, tiny_vae_config, capsys):
    from tiny_tts import write_tts

    other = write_tts(tmp_path / "other", tiny_vae_config, seed=1)
    synthesize_file(changed(options, ref=None, ref_text=None, voice=voice, model=other))
    assert "encoded again" in capsys.readouterr().out


def test_wrong_voices_are_refused(options, voice):
    with pytest.raises(ConfigError, match=r"no such voice .*anna"):
        synthesize_file(changed(options, ref=None, ref_text=None, voice="bob"))
    with pytest.raises(ConfigError, match="letters, digits"):
        voice_path("../../etc/passwd")
    voice_path(voice).write_bytes(b"broken")
    with pytest.raises(DataError, match="damaged voice file"):
        synthesize_file(changed(options, ref=None, ref_text=None, voice=voice))


# ----------------------------------------------------------------------------------------------- lists


def write_list(path: Path, *rows: object) -> Path:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return path


@pytest.fixture
def base(options) -> SynthesizeOptions:
    return changed(options, text=None, ref=None, ref_text=None, num_steps=1)


def test_bad_rows_are_named_and_the_others_done(options, base, tmp_path):
    good = {"text": "Hello.", "ref": str(options.ref), "ref_text": PROMPT_TEXT, "out": "a.wav"}
    listed = write_list(
        tmp_path / "list.jsonl", good, "{broken", {**good, "out": "b.wav", "ref": "missing.wav"},
        {**good, "out": "c.wav", "txt": "?"}, {**good, "out": "d.wav", "text": "Hello!"}, {**good, "text": "Here."}, "",
        {**good, "out": "sub/e.flac", "seed": 9}, {"text": "Hello.", "out": "f.wav"}, {**good, "out": "g.mp3"},
        {**good, "out": "h.wav", "text": "Half \ud800"}, {**good, "out": "i" * 300 + ".wav"}, {**good, "out": "j\0.wav"},
        json.dumps({**good, "out": "k.wav", "text": "Hello.\u2028Here."}, ensure_ascii=False),
    )  # fmt: skip
    with pytest.raises(DataError) as caught:
        synthesize_batch(listed, base, tmp_path / "out")
    message = str(caught.value)
    assert "10 of 13 rows failed" in message
    for expected in ("row 2: not valid JSON", "row 3: ", "missing.wav", "row 4: unknown: txt", "row 5: ", "'!'",
                     "row 6: out", "row 1 writes it too", "row 9: needs either `ref` or `voice`", "row 10"):  # fmt: skip
        assert expected in message
    assert report(tmp_path / "out" / "sub" / "e.flac")["seed"] == 9
    assert (
        (tmp_path / "out" / "a.wav").exists()
        and (tmp_path / "out" / "k.wav").exists()
        and not (tmp_path / "out" / "b.wav").exists()
    )


def test_whatever_goes_wrong_in_a_row_is_that_rows_failure(options, base, tmp_path, monkeypatch):
    good = {"ref": str(options.ref), "ref_text": PROMPT_TEXT}
    listed = write_list(
        tmp_path / "list.jsonl",
        {**good, "text": "Here.", "out": "0.wav"},
        {**good, "text": "Hello.", "out": "1.wav"},
        {**good, "text": "Here you are.", "out": "2.wav"},
        '{"text": ' + "[" * 100_000,
    )
    speak = long_text.speak_chunks

    def failing(tts, chunks, *more):
        return 1 / 0 if any(c.text == "Hello." for c in chunks) else speak(tts, chunks, *more)

    monkeypatch.setattr(long_text, "speak_chunks", failing)
    with pytest.raises(DataError) as caught:
        synthesize_batch(listed, base, tmp_path / "out")
    message = str(caught.value)
    assert "2 of 4 rows failed" in message and "row 4: RecursionError" in message
    assert "row 2: ZeroDivisionError: division by zero" in message
    assert {path.name for path in (tmp_path / "out").glob("*.json")} == {"0.json", "2.json"}


def test_where_nothing_is_spoken_that_is_said(options, tmp_path):
    with pytest.raises(DataError, match="nothing to say"):
        long_text.write_chunks(tmp_path / "a.wav", iter(()), 16000, stream=False)
    assert not (tmp_path / "a.wav").exists()
    with pytest.raises(DataError, match="nothing to say"):
        long_text.speak_long(None, [], None, Sampling())
    silent = long_text.WrittenSpeech(0.0, 0.0, [])
    opened = OpenedPrompt(None, None, {}, 0.1)
    with pytest.raises(DataError, match="nothing to say"):
        _ = command.SpeechReport(options, None, opened, silent, 0.0).real_time_factors


def test_a_lexicon_overrides_and_is_part_of_how_a_row_was_made(options, base, tmp_path):
    lexicon = tmp_path / "names.txt"
    lexicon.write_text("hello\there\nJoe = you\n")
    row = report(synthesize_file(changed(options, text="Hello there, Joe.", lexicon=lexicon)))
    assert row["text"] == "here there, you."
    listed = write_list(
        tmp_path / "list.jsonl",
        {"ref": str(options.ref), "ref_text": PROMPT_TEXT, "text": "Hello.", "out": "0.wav"},
    )
    assert synthesize_batch(listed, base, tmp_path / "out") == 1
    with_lexicon = changed(base, lexicon=lexicon)
    assert synthesize_batch(listed, with_lexicon, tmp_path / "out") == 1
    assert report(tmp_path / "out" / "0.wav")["text"] == "here."
    assert synthesize_batch(listed, with_lexicon, tmp_path / "out") == 0
    lexicon.write_text("hello\tthere\n")
    assert synthesize_batch(listed, with_lexicon, tmp_path / "out") == 1
    lexicon.write_text("hello\n")
    with pytest.raises(DataError, match="line 1"):
        synthesize_file(changed(options, lexicon=lexicon))


def test_phones_in_a_text_are_no_words_that_must_be_heard():
    speech = Synthesis(
        waveform=torch.zeros(1, 1, 16), sample_rate=16000, text="the bass{B EY1 S} line", prompt_text="", sampling=Sampling(),
        prompt_seconds=1.0, generated_seconds=1.0, timings={},
    )  # fmt: skip
    verifier = long_text.Verifier(Transcripts(["the bass line"]), retries=0, max_wer=0.3)
    assert verifier.judge(speech).wer == 0


def test_what_is_said_in_the_reference_is_spelled_out_like_the_text(options, voice):
    row = report(synthesize_file(changed(options, ref_text="the 2 sentences")))
    assert row["prompt_text"] == "the two sentences."
    with pytest.raises(DataError, match="--ref-text: .*'2'"):
        synthesize_file(changed(options, ref_text="the 2 sentences", language=None))


def test_finished_rows_are_not_redone(options, base, tmp_path):
    good = {"ref": str(options.ref), "ref_text": PROMPT_TEXT}
    rows = [
        {**good, "text": text, "out": f"{i}.wav"}
        for i, text in enumerate(["Hello.", "Here we are.", "Here on."])
    ]
    listed = write_list(tmp_path / "list.jsonl", *rows)
    out = tmp_path / "out"
    calls = []
    speak = long_text.speak_chunks

    def interrupted(*arguments):
        calls.append(arguments[1])
        if len(calls) == 3:
            raise KeyboardInterrupt
        return speak(*arguments)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(long_text, "speak_chunks", interrupted)
        synthesize_batch(listed, base, out)
    assert sorted(path.name for path in out.iterdir()) == ["0.json", "0.wav", "1.json", "1.wav"]
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert synthesize_batch(listed, base, out) == 1
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    rows[0]["text"] = "Hello you."
    write_list(listed, *rows)
    assert synthesize_batch(listed, base, out) == 1
    assert synthesize_batch(listed, changed(base, seed=1), out) == 3
    assert synthesize_batch(listed, changed(base, seed=1, stream=True), out) == 3
    assert synthesize_batch(listed, changed(base, seed=1), out) == 3
    (out / "2.wav").write_bytes(b"cut off")
    assert synthesize_batch(listed, changed(base, seed=1), out) == 1
    config = json.loads((options.model / "config.json").read_text())
    (options.model / "config.json").write_text(json.dumps(config | {"prompt_guidance": 0.5}))
    assert (
        synthesize_batch(listed, changed(base, seed=1), out) == 3
    )  # the model's own default is another now
    assert synthesize_batch(listed, changed(base, seed=1, prompt_guidance=0.5), out) == 0


@pytest.fixture
def several(options):
    """A model, and texts of unequal lengths with voices and settings of their own, ready to be spoken."""
    tts = load_tts(options.model)
    prompts = [tts.encode_prompt(speech(seconds), PROMPT_TEXT) for seconds in (1.0, 0.6, 1.5)]
    texts = ["Hello there, you.", "Here on.", "Hello there, you."] * 2
    settings = [Sampling(num_steps=3 - i % 2, seed=i % 3, speed=1 + i % 2) for i in range(6)]
    return tts, [
        tts.prepare(*each) for each in zip(texts, prompts + prompts[::-1], settings, strict=True)
    ]


def test_a_batch_gives_what_each_text_gives_alone_to_the_bit_on_a_cpu(several):
    tts, utterances = several
    assert tts.batch_frames == 0
    alone = [tts.speak_prepared([utterance])[0] for utterance in utterances]
    for order in (range(6), (5, 0, 3), (4, 4, 1)):
        together = tts.speak_prepared([utterances[place] for place in order])
        for place, result in zip(order, together, strict=True):
            assert torch.equal(result.waveform, alone[place].waveform)
            assert (result.text, result.sampling) == (alone[place].text, alone[place].sampling)
    assert not torch.equal(alone[0].waveform, alone[2].waveform)


@pytest.mark.parametrize("frames", [100, 200, 100_000])
def test_utterances_that_are_padded_to_one_length_are_equal_to_rounding(several, frames):
    tts, utterances = several
    alone = [tts.speak_prepared([utterance])[0] for utterance in utterances]
    tts.batch_frames = frames
    assert frames < 200 or len(batches(utterances, frames)) < 6
    for result, own in zip(tts.speak_prepared(utterances), alone, strict=True):
        torch.testing.assert_close(result.waveform, own.waveform, atol=1e-5, rtol=1e-4)


def test_batches_stay_in_their_budget_and_share_their_settings(several):
    _, utterances = several
    for budget in (0, 150, 250, 10**6):
        found = batches(utterances, budget)
        assert sorted(place for places in found for place in places) == list(range(6))
        for places in found:
            assert len({utterances[place].sampling.num_steps for place in places}) == 1
            padded = len(places) * max(utterances[place].frames for place in places)
            assert padded <= budget or len(places) == 1
    assert len(batches(utterances, 10**6)) == 2


@pytest.mark.parametrize("frames", [0, 150, 10_000])
def test_rows_are_spoken_together_and_are_as_they_are_alone(
    options, base, tmp_path, monkeypatch, frames
):
    rows = [
        {
            "ref": str(options.ref),
            "ref_text": PROMPT_TEXT,
            "text": text,
            "out": f"{i}.wav",
            "seed": i,
        }
        for i, text in enumerate(["Hello.", "Here we are. [pause 0.2s] Here we go on.", "Here on."])
    ]
    listed = write_list(tmp_path / "list.jsonl", *rows)
    assert synthesize_batch(listed, base, tmp_path / "alone") == 3
    sizes, together = [], TTS._speak_together

    def watching(tts, utterances):
        sizes.append(len(utterances))
        return together(tts, utterances)

    monkeypatch.setattr(TTS, "_speak_together", watching)
    monkeypatch.setattr(batch, "load_model", lambda *_: with_budget(base, frames))
    assert synthesize_batch(listed, base, tmp_path / "together") == 3
    assert sum(sizes) == 4 and (max(sizes) > 1) == (frames > 0)
    for i in range(3):
        one, other = (tmp_path / folder / f"{i}.wav" for folder in ("alone", "together"))
        if frames == 0:
            assert one.read_bytes() == other.read_bytes()
        a, b = soundfile.read(one)[0], soundfile.read(other)[0]
        assert abs(a - b).max() < 1e-3 and len(a) == len(b)
        assert report(one)["chunks"][0]["seed"] == report(other)["chunks"][0]["seed"] == i


def with_budget(options, frames):
    tts = load_tts(options.model)
    tts.batch_frames = frames
    return tts


def test_a_row_that_fails_among_others_fails_alone(options, base, tmp_path, monkeypatch):
    rows = [
        {"ref": str(options.ref), "ref_text": PROMPT_TEXT, "text": text, "out": f"{i}.wav"}
        for i, text in enumerate(["Hello.", "Here we are.", "Here on."])
    ]
    listed = write_list(tmp_path / "list.jsonl", *rows)
    together = TTS._speak_together

    def failing(tts, utterances):
        return (
            1 / 0
            if any(u.text == "Here we are." for u in utterances)
            else together(tts, utterances)
        )

    monkeypatch.setattr(TTS, "_speak_together", failing)
    monkeypatch.setattr(batch, "load_model", lambda *_: with_budget(base, 10_000))
    with pytest.raises(DataError, match="row 2: ZeroDivisionError"):
        synthesize_batch(listed, base, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").glob("*.wav")} == {"0.wav", "2.wav"}


def test_a_long_text_is_spoken_in_batches_and_its_first_sentence_alone_where_it_streams(
    options, monkeypatch
):
    tts = with_budget(options, 10_000)
    prompt = tts.encode_prompt(speech(), PROMPT_TEXT)
    sizes, together = [], TTS._speak_together

    def watching(tts, utterances):
        sizes.append(len(utterances))
        return together(tts, utterances)

    monkeypatch.setattr(TTS, "_speak_together", watching)
    sentences = ["Hello there, you are here.", "Here we go on, and on.", "Here.", "Hello on."]
    spoken = long_text.speak_long(tts, sentences, prompt, Sampling(num_steps=1), by_sentence=True)
    assert [chunk.report.text for chunk in spoken] == sentences
    assert sizes == [1, 3]


@pytest.mark.parametrize("folder", ["a.wav", "a.json"])
def test_a_folder_in_the_way_of_an_output_is_named_before_any_work(tmp_path, folder):
    (tmp_path / folder).mkdir()
    with pytest.raises(ConfigError, match=f"{folder} is a folder"):
        check_output(tmp_path / "a.wav")
