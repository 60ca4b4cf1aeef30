"""Recognisers: what they hear, from where they load, and what is said when they do not."""

from __future__ import annotations

import json
import shutil
import sys
import types

import pytest
import torch
from fake_judges import FakeAutoModel, make_ctc

from svae.assets import asset_path
from svae.audio import load_audio
from svae.errors import ConfigError
from svae.judges.asr import load_asr
from svae.judges.wer import word_errors
from svae.runtime.pretrained import split_revision


@pytest.fixture(scope="module")
def clips():
    rows = [
        json.loads(line) for line in asset_path("sample", "metadata.jsonl").read_text().splitlines()
    ]
    chosen = [row for row in rows if "rms" in row["speaker"]][:3]
    waveforms = [
        load_audio(asset_path("sample", row["audio"]), sample_rate=16000)[0][0] for row in chosen
    ]
    return waveforms, [row["text"] for row in chosen]


@pytest.fixture(scope="module")
def ctc_folder(tmp_path_factory):
    return make_ctc(tmp_path_factory.mktemp("ctc"))


@pytest.fixture(scope="module")
def masked_ctc_folder(tmp_path_factory):
    """Of the structure of hubert-large-ls960-ft: layer norm in the convolutions, so padding can be masked."""
    return make_ctc(tmp_path_factory.mktemp("masked"), masked=True)


@pytest.fixture(scope="module")
def sphinx():
    return load_asr("pocketsphinx")


@pytest.fixture(scope="module")
def heard(sphinx, clips):
    return sphinx.transcribe(clips[0])


def test_pocketsphinx_hears_most_of_clean_synthetic_speech(clips, heard):
    _, texts = clips
    rates = [
        word_errors(text, hypothesis).rate for text, hypothesis in zip(texts, heard, strict=True)
    ]
    assert sum(rates) / len(rates) < 0.5


def test_pocketsphinx_does_not_depend_on_what_it_heard_before(clips, heard, sphinx):
    assert sphinx.transcribe(clips[0][::-1]) == heard[::-1]


def test_recognisers_hear_16_khz_whatever_comes_in(clips):
    from svae.audio import resample
    from svae.judges.clips import at_speech_rate

    clip = clips[0][0]
    heard = at_speech_rate(resample(clip[None], 16000, 32000)[0], 32000)
    assert heard.shape == clip.shape
    assert (heard - clip).square().mean() < 1e-3 * clip.square().mean()


def test_silence_and_nothing_are_transcribed_as_nothing(sphinx, ctc_folder, whisper_folder):
    assert sphinx.transcribe([torch.zeros(0), torch.zeros(16000), torch.full((200,), 0.5)]) == [
        "",
        "",
        "",
    ]
    for spec in (f"ctc:{ctc_folder}", f"whisper:{whisper_folder}"):
        assert load_asr(spec).transcribe([torch.zeros(0)]) == [""]


def test_whisper_is_not_asked_about_silence_or_a_sliver(whisper_folder, monkeypatch):
    recognizer = load_asr(f"whisper:{whisper_folder}")
    asked = []

    def pieces(batch):
        asked.extend(batch)
        return ["word"] * len(batch)

    monkeypatch.setattr(recognizer, "_pieces", pieces)
    tone = 0.1 * torch.sin(torch.arange(30 * 16000 + 800) / 20)
    silent = torch.zeros(31 * 16000)
    # Of the tone, 30.05 s, one window; nothing of the others.
    assert recognizer.transcribe([tone, silent, tone[:1500]]) == ["word", "", ""]
    assert [piece.shape[0] for piece in asked] == [30 * 16000]


def test_whisper_loads_from_a_folder_and_transcribes_any_length(whisper_folder):
    recognizer = load_asr(f"whisper:{whisper_folder}")
    tone = 0.1 * torch.sin(torch.arange(31 * 16000) / 20)
    texts = recognizer.transcribe([tone[:16000], tone])
    assert len(texts) == 2 and all(isinstance(text, str) for text in texts)
    assert texts == recognizer.transcribe([tone[:16000], tone])
    assert recognizer.description["decoding"]["num_beams"] == 5
    assert recognizer.description["decoding"]["language"] == "en"
    assert len(recognizer.description["sha256"]) == 64


def test_a_long_clip_is_what_its_windows_are(whisper_folder):
    recognizer = load_asr(f"whisper:{whisper_folder}")
    heard = []
    recognizer._pieces = lambda pieces: [
        heard.append(p.shape[0]) or f"<{len(heard)}>" for p in pieces
    ]
    for batch_size in (1, 2, 8):
        heard.clear()
        recognizer.batch_size = batch_size
        assert recognizer.transcribe(
            [torch.ones(70 * 16000), torch.zeros(0), torch.ones(1600)]
        ) == [
            "<1> <2> <3>",
            "",
            "<4>",
        ]
        assert heard == [480000, 480000, 160000, 1600]


def test_whisper_hears_the_same_in_a_batch_as_alone(whisper_folder):
    clips = [0.1 * torch.sin(torch.arange(n) / (10 + n / 4000)) for n in (16000, 4000, 24000)]
    alone = load_asr(f"whisper:{whisper_folder}", num_beams=2)
    together = load_asr(f"whisper:{whisper_folder}", num_beams=2, batch_size=3)
    assert together.transcribe(clips) == alone.transcribe(clips)
    assert alone.description["decoding"]["num_beams"] == 2


def test_whisper_in_eight_bits_is_another_judge_that_is_nearly_the_same(whisper_folder):
    plain, small = (load_asr(f"{kind}:{whisper_folder}") for kind in ("whisper", "whisper-int8"))
    assert small.description["spec"] == f"whisper-int8:{whisper_folder}"
    assert (plain.description["dtype"], small.description["dtype"]) == ("float32", "int8")
    assert small.description["quantized_engine"] == torch.backends.quantized.engine
    kinds = [type(module) for module in small._model.modules()]
    assert torch.nn.Linear not in kinds and torch.ao.nn.quantized.dynamic.Linear in kinds
    torch.manual_seed(0)
    features = torch.randn(1, plain._model.config.num_mel_bins, 3000)
    with torch.inference_mode():
        exact, rounded = (
            judge._model.model.encoder(features).last_hidden_state for judge in (plain, small)
        )
    assert 0 < (rounded - exact).norm() < 0.05 * exact.norm()
    clips = [0.1 * torch.sin(torch.arange(n) / (10 + n / 4000)) for n in (16000, 4000)]
    texts = small.transcribe(clips)
    assert texts == small.transcribe(clips) and texts[1:] == small.transcribe(clips[1:])


def test_whisper_in_eight_bits_needs_a_cpu(whisper_folder):
    with pytest.raises(ConfigError, match="on a CPU only, not on cuda; use whisper:"):
        load_asr(f"whisper-int8:{whisper_folder}", "cuda")


def test_a_masked_ctc_model_hears_the_same_in_a_batch_as_alone(masked_ctc_folder, ctc_folder):
    clips = [0.1 * torch.sin(torch.arange(n) / (10 + n / 4000)) for n in (16000, 400, 4000, 24000)]
    together = load_asr(f"ctc:{masked_ctc_folder}", batch_size=4)
    assert together.batch_size == 4 and load_asr(f"ctc:{ctc_folder}", batch_size=4).batch_size == 1
    assert together.transcribe(clips) == load_asr(f"ctc:{masked_ctc_folder}").transcribe(clips)
    assert len(set(together.transcribe(clips))) > 2


def test_a_pinned_revision_is_split_from_a_hub_id_but_not_from_a_folder(tmp_path):
    assert split_revision("openai/whisper@abc") == ("openai/whisper", "abc")
    assert split_revision("openai/whisper") == ("openai/whisper", None)
    folder = tmp_path / "a@b"
    folder.mkdir()
    assert split_revision(str(folder)) == (str(folder), None)


def test_paraformer_gives_simplified_text_and_says_what_is_missing(monkeypatch):
    with pytest.raises(ConfigError, match=r"(?s)paraformer:x: needs .*pip install funasr zhconv"):
        monkeypatch.setitem(sys.modules, "funasr", None)
        load_asr("paraformer:x")
    monkeypatch.setitem(
        sys.modules, "funasr", types.SimpleNamespace(AutoModel=FakeAutoModel, __version__="1")
    )
    convert = types.SimpleNamespace(
        convert=lambda text, to: text.replace("語", "语") if to == "zh-cn" else text
    )
    monkeypatch.setitem(sys.modules, "zhconv", convert)
    recognizer = load_asr("paraformer:x")
    assert recognizer.transcribe([torch.zeros(16000) + 0.1, torch.zeros(0)]) == ["语 16000", ""]
    assert recognizer.description["model"] == "x" and recognizer.description["funasr"] == "1"


def test_ctc_loads_from_a_folder_and_equals_greedy_decoding_by_hand(ctc_folder):
    from transformers import AutoModelForCTC

    recognizer = load_asr(f"ctc:{ctc_folder}")
    tone = 0.1 * torch.sin(torch.arange(16000) / 20)
    model = AutoModelForCTC.from_pretrained(ctc_folder).eval()
    normal = (tone - tone.mean()) / torch.sqrt(tone.var(correction=0) + 1e-7)
    with torch.no_grad():
        path = model(normal[None]).logits[0].argmax(-1)
    symbols = ["", "", " ", *"abc"]
    assert len(torch.unique_consecutive(path)) > 1
    by_hand = "".join(symbols[i] for i in torch.unique_consecutive(path).tolist()).strip()
    assert recognizer.transcribe([tone])[0].split() == by_hand.split()


def test_ctc_merges_repeats_before_blanks_and_leaves_special_tokens_out(ctc_folder):
    recognizer = load_asr(f"ctc:{ctc_folder}")
    a, b, blank, unknown, border = 3, 4, 0, 1, 2
    path = torch.tensor([a, a, blank, a, unknown, unknown, b, border, b, b])

    class Scripted:
        def __call__(self, **inputs):
            class Output:
                logits = torch.nn.functional.one_hot(path, 6)[None].float()

            return Output()

    recognizer._model = Scripted()
    assert recognizer.transcribe([torch.ones(16000)]) == ["aab b"]


@pytest.mark.parametrize("spec", ["", "whisper", "whisper:", "sphinx", "ctc:"])
def test_an_unknown_spec_lists_the_forms(spec):
    with pytest.raises(ConfigError, match="pocketsphinx"):
        load_asr(spec)


def test_a_hub_model_without_a_network_names_what_works_offline(monkeypatch):
    import huggingface_hub

    def no_network(*args, **kwargs):
        raise OSError("Name or service not known")

    monkeypatch.setattr(huggingface_hub, "get_session", no_network)
    with pytest.raises(ConfigError, match=r"(?s)not in the local hub cache.*--asr pocketsphinx"):
        load_asr("whisper:nobody/nothing-at-all")


def test_a_cached_hub_model_loads_without_a_network_and_names_its_revision(
    ctc_folder, tmp_path, monkeypatch
):
    import huggingface_hub

    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--nobody--tiny"
    shutil.copytree(ctc_folder, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    recognizer = load_asr("ctc:nobody/tiny")
    assert (
        recognizer.description["revision"] == commit
        and recognizer.description["model"] == "nobody/tiny"
    )
    tone = 0.1 * torch.sin(torch.arange(16000) / 20)
    assert recognizer.transcribe([tone]) == load_asr(f"ctc:{ctc_folder}").transcribe([tone])


def test_a_folder_that_holds_no_model_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="cannot be loaded"):
        load_asr(f"ctc:{tmp_path}")


def test_another_engine_is_one_entry(monkeypatch):
    from svae.judges import asr

    monkeypatch.setitem(asr.ENGINES, "echo:", asr.Engine("echo:WORD", lambda word, use: word * 2))
    assert load_asr("echo:one") == "oneone"
    with pytest.raises(ConfigError, match="paraformer:ID_OR_FOLDER, .*, echo:WORD"):
        load_asr("echo")
