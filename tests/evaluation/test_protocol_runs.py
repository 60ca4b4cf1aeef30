"""Every protocol from list to table, on tiny models of the right classes under the published models' names."""

from __future__ import annotations

import json
import shutil
import sys
import types
from dataclasses import replace

import pytest
import soundfile
import torch
from fake_judges import (
    FakeAutoModel,
    make_ctc,
)

from svae.errors import ConfigError, DataError
from svae.evaluation.compare import compare
from svae.evaluation.options import EvaluateOptions
from svae.evaluation.protocols import (
    FASTER_WHISPER_LARGE_V3,
    HUBERT_LARGE,
    PROTOCOLS,
    WHISPER_LARGE_V3,
)
from svae.evaluation.run import evaluate


@pytest.fixture
def hub(tmp_path, monkeypatch, whisper_folder, ct2_folder):
    """A local hub cache in which the published names are tiny models."""
    import huggingface_hub

    (tmp_path / "hubert").mkdir()
    for spec, source in (
        (WHISPER_LARGE_V3, whisper_folder),
        (FASTER_WHISPER_LARGE_V3, ct2_folder),
        (HUBERT_LARGE, make_ctc(tmp_path / "hubert", masked=True)),
    ):
        name, revision = spec.partition(":")[2].split("@")
        shutil.copytree(
            source, tmp_path / "hub" / f"models--{name.replace('/', '--')}" / "snapshots" / revision
        )
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setitem(
        sys.modules, "funasr", types.SimpleNamespace(AutoModel=FakeAutoModel, __version__="1")
    )
    monkeypatch.setitem(
        sys.modules,
        "zhconv",
        types.SimpleNamespace(convert=lambda text, to: text.replace("語", "语")),
    )


@pytest.fixture
def task(tmp_path):
    """Two utterances with prompts and originals, as each list form names them, and wavs of three seeds."""
    sizes = iter(range(8000, 20000, 700))

    def clip(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        size = next(sizes)
        soundfile.write(
            path, (0.2 * torch.sin(torch.arange(size) / (9 + size / 4000))).numpy(), 16000
        )

    ids = ["1-2-0001", "1-2-0002"]
    for name in ids:
        clip(tmp_path / "1" / "2" / f"{name}.flac")
        clip(tmp_path / "wavs" / f"{name}.wav")
        for seed in range(3):
            clip(tmp_path / "made" / f"seed-{seed}" / f"{name}.wav")
    rows = [(ids[1], ids[0], "Well-known, isn’t it?"), (ids[0], ids[1], "It's nine.")]
    pc = "".join(f"{prompt}\t3.0\tPrompt.\t{name}\t4.0\t{text}\r\n" for prompt, name, text in rows)
    (tmp_path / "pc.lst").write_text(pc, newline="")
    texts = {"en": [text for _, _, text in rows], "zh": ["语，8", "你好。"]}
    for language, said in texts.items():
        lines = [f"{n}|Prompt.|1/2/{p}.flac|{t}\n" for (p, n, _), t in zip(rows, said, strict=True)]
        (tmp_path / f"{language}.lst").write_text("".join(lines), encoding="utf-8")
    return tmp_path


LISTS = {
    "f5-librispeech-pc": "pc.lst",
    "zipvoice-librispeech-pc": "pc.lst",
    "seed-tts-en": "en.lst",
    "seed-tts-zh": "zh.lst",
}


@pytest.mark.parametrize("name", LISTS)
def test_a_protocol_runs_from_list_to_table(name, task, hub, ecapa_folder, checkpoint, capsys):
    options = EvaluateOptions(
        protocol=name, wavs=task / "made", list_file=task / LISTS[name], audio_root=task, sim_o=checkpoint,
        speaker=f"ecapa:{ecapa_folder}", out=task / "out", device="cpu",
    )  # fmt: skip
    metrics = evaluate(options)
    protocol = PROTOCOLS[name]
    assert metrics["system_recordings"] == ["seed 0", "seed 1", "seed 2"]
    assert (
        metrics["headline"] == protocol.headline
        and metrics["protocol"]["normalizer"] == protocol.normalizer
    )
    for column in ("wer", "wer_corpus", "sim_ecapa", "sim_o"):
        for row in ("system", "originals"):
            assert metrics[row][column] is not None
        assert (
            metrics["spread"][column]["min"]
            <= metrics["system"][column]
            <= metrics["spread"][column]["max"]
        )
    assert metrics["system"]["sim_ecapa"] != metrics["system"]["sim_o"]
    assert metrics["judges"]["sim_o"]["speaker"] == "wavlm-ecapa"
    asr = metrics["judges"]["asr"]
    if protocol.asr.startswith("whisper"):
        assert asr["revision"] == WHISPER_LARGE_V3.split("@")[1]
        assert (
            asr["decoding"]["num_beams"] == protocol.num_beams
            and asr["decoding"]["language"] == "en"
        )
    elif protocol.asr.startswith("faster-whisper"):
        assert asr["revision"] == FASTER_WHISPER_LARGE_V3.split("@")[1]
        assert asr["decoding"]["beam_size"] == 5 and asr["decoding"]["language"] == "en"
    elif protocol.asr.startswith("ctc"):
        assert (
            asr["model"] == "facebook/hubert-large-ls960-ft"
            and asr["revision"] == HUBERT_LARGE.split("@")[1]
        )
    modified = metrics["protocol"]["modified"]
    assert [change.split()[0] for change in modified] == ["speaker"] + ["list_sha256"] * (
        protocol.list_sha256 is not None
    )
    printed = capsys.readouterr().out
    assert "modified: speaker ecapa:" in printed and "Over seeds" in printed
    assert "modified: speaker" in (task / "out" / "table.md").read_text()


def test_nothing_is_modified_where_nothing_was_changed(task, hub, monkeypatch):
    from svae.evaluation import options as options_module

    class Fake:
        description = {"speaker": "fake", "model": "fake"}

        def embed(self, waveforms, sample_rate=16000):
            return torch.ones(len(waveforms), 2)

    monkeypatch.setattr(options_module, "load_speaker_model", lambda spec, device: Fake())
    options = EvaluateOptions(
        protocol="seed-tts-en",
        wavs=task / "wavs",
        list_file=task / "en.lst",
        out=task / "out",
        device="cpu",
    )
    label = "seed-tts-en (modified: 1 recording of each utterance instead of 3 seeds)"
    assert evaluate(options)["protocol"]["label"] == label
    for seed in range(3):
        shutil.copytree(task / "wavs", task / "spoken" / f"seed-{seed}")
    metrics = evaluate(replace(options, wavs=task / "spoken"))
    assert metrics["protocol"]["label"] == "seed-tts-en"
    assert (
        any("pass --sim-o" in note for note in metrics["notes"])
        and "sim_o" not in metrics["system"]
    )


def test_the_chinese_protocol_counts_characters(task, hub, ecapa_folder):
    options = EvaluateOptions(
        protocol="seed-tts-zh",
        wavs=task / "wavs",
        list_file=task / "zh.lst",
        speaker="none",
        out=task / "out",
        device="cpu",
    )
    evaluate(options)
    first = json.loads((task / "out" / "utterances.jsonl").read_text().splitlines()[0])[
        "recordings"
    ]["wavs"]
    samples = round(first["seconds"] * 16000)
    assert first["hypothesis"] == f"语 {samples}"
    assert first["words"] == 2  # 语 and 8; the comma is no character
    assert first["substitutions"] + first["deletions"] + first["insertions"] == len(
        str(samples)
    ) - (1 if "8" in str(samples) else 0)


def test_fleurs_takes_its_language_from_the_list_and_counts_characters(task, omnilingual_package):
    rows = [
        {"id": f"{code}_1", "text": text, "ref_audio": f"download/{prompt}.flac", "ref_text": "P.", "language_id": code}
        for code, text, prompt in (("de", "Deu, latn!", "1-2-0001"), ("npi", "नमस्ते।", "1-2-0002"))
    ]  # fmt: skip
    listed = task / "fleurs.jsonl"
    listed.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    for seed in range(3):
        wav = task / "made" / f"seed-{seed}" / "1-2-0001.wav"
        shutil.copy(wav, wav.with_name("de_1.wav"))
        shutil.copy(wav, wav.with_name("npi_1.wav"))
    options = EvaluateOptions(
        protocol="fleurs-de",
        wavs=task / "made",
        list_file=listed,
        audio_root=task / "1" / "2",
        speaker="none",
        out=task / "out",
        device="cpu",
    )
    metrics = evaluate(options)
    assert metrics["judges"]["asr"]["language"] == "deu_Latn"
    assert [change.split()[0] for change in metrics["protocol"]["modified"]] == ["speaker"]
    (row,) = (task / "out" / "utterances.jsonl").read_text().splitlines()
    heard = json.loads(row)["recordings"]["seed 0"]
    assert heard["hypothesis"].startswith("deu_Latn é ")
    assert heard["words"] == len("deu|latn")
    with pytest.raises(DataError, match="of language 'ne'"):
        evaluate(replace(options, protocol="fleurs-ne", list_file=_only(listed, 0)))


def _only(path, row):
    """Return a list of one row of a list."""
    other = path.with_name("one-row.jsonl")
    other.write_text(path.read_text(encoding="utf-8").splitlines()[row] + "\n", encoding="utf-8")
    return other


def test_a_protocol_with_a_published_list_asks_for_it(task):
    with pytest.raises(
        ConfigError,
        match=r"(?s)pass --list FILE, a list of the form 'librispeech-pc'.*09811d521eff",
    ):
        evaluate(EvaluateOptions(protocol="f5-librispeech-pc", wavs=task / "wavs", device="cpu"))


def test_a_custom_protocol_runs_and_two_results_compare(task, ecapa_folder, capsys):
    make_ctc_folder = task / "ctc"
    make_ctc_folder.mkdir()
    make_ctc(make_ctc_folder)
    (task / "mine.yaml").write_text(
        f"asr: ctc:{make_ctc_folder}\nspeaker: ecapa:{ecapa_folder}\nnormalizer: zipvoice-en\nheadline: wer_corpus\n"
        "list_format: seed-tts\nseeds: [0]\n"
    )
    options = {"protocol": str(task / "mine.yaml"), "list_file": task / "en.lst", "device": "cpu"}
    a = evaluate(EvaluateOptions(wavs=task / "wavs", out=task / "a", **options))
    b = evaluate(EvaluateOptions(wavs=task / "made" / "seed-0", out=task / "b", **options))
    assert a["protocol"]["label"] == "mine" and a["headline"] == "wer_corpus"
    capsys.readouterr()
    (task / "file").touch()
    with pytest.raises(ConfigError, match="--out .*file: cannot write there"):
        compare(task / "a", task / "b", out=task / "file")
    found = compare(task / "a", task / "b", out=task / "c")
    for column in ("wer", "wer_corpus", "sim_ecapa"):
        assert found["scores"][column]["difference"] == pytest.approx(
            b["system"][column] - a["system"][column]
        )
        assert 0 < found["scores"][column]["p"] <= 1
    assert json.loads((task / "c" / "comparison.json").read_text()) == json.loads(json.dumps(found))
    assert "B - A" in capsys.readouterr().out
    moved = json.loads((task / "b" / "metrics.json").read_text())
    moved["judges"]["asr"]["spec"] = moved["judges"]["asr"]["model"] = (
        "elsewhere"  # the same weights in another folder
    )
    del moved["judges"]["sim_ecapa"]
    moved["errors"] = [{"id": "x", "recording": moved["system_recordings"][0], "error": "gone"}]
    (task / "b" / "metrics.json").write_text(json.dumps(moved))
    found = compare(task / "a", task / "b")
    assert "wer" in found["scores"] and "sim_ecapa" not in found["scores"]
    assert found["left_out"] == ["sim_ecapa: only one of them has it"] and found["b"]["errors"] == 1
    printed = capsys.readouterr().out
    assert (
        "Left out: sim_ecapa" in printed
        and "1 recordings missing" in printed
        and "originals' WER" in printed
    )
    for damaged in ("[]", '{"format": 2}'):
        (task / "b" / "metrics.json").write_text(damaged)
        with pytest.raises(DataError, match="damaged"):
            compare(task / "a", task / "b")
