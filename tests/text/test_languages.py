"""The language of a text: its names, Chinese as pinyin, phonemes by espeak-ng, and what the shards say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from svae.checkpoint import open_checkpoint
from svae.errors import CheckpointError, ConfigError, DataError
from svae.text.espeak import EspeakVocabulary, _backend_class, espeak_language
from svae.text.languages import base_language, check_code, language_code
from svae.text.phonemes import open_vocabulary
from svae.text.pinyin import PinyinVocabulary, has_syllables, syllables
from svae.text.sentences import prepare_sentences
from svae.text.vocabulary import Vocabulary

PINYIN = Path(__file__).parent / "cases" / "f5_pinyin.jsonl"


def pinyin_cases() -> Iterator[tuple[str, list[str]]]:
    """Texts, and what F5-TTS's `convert_char_to_pinyin` made of each (rjieba 0.2.2, pypinyin 0.55.0), 2026-11-28."""
    for line in PINYIN.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        yield row["text"], row["symbols"]


@pytest.fixture(scope="module")
def espeak() -> EspeakVocabulary:
    try:
        _backend_class()
    except ConfigError as error:
        pytest.skip(str(error))
    return EspeakVocabulary()


def test_a_language_has_many_names() -> None:
    for name in ("en", "EN", "en-US", "en_US", "eng", "English", " en "):
        assert base_language(name) == "en"
    assert language_code("pt_BR") == "pt-br" and language_code("cmn-Hans") == "zh-hans"
    assert language_code(None) is language_code("unknown") is language_code("") is None
    assert check_code("ZH", "--language") == "zh"
    for wrong in ("4", "a", "en us", "=en", "--"):
        with pytest.raises(ConfigError, match="--language"):
            check_code(wrong, "--language")


# ----------------------------------------------------------------------------------------- pinyin


def test_pinyin_is_that_of_f5_tts() -> None:
    cases = list(pinyin_cases())
    assert len(cases) >= 200
    vocabulary = PinyinVocabulary([" "])
    different = [text for text, symbols in cases if vocabulary.read(text) != symbols]
    assert not different
    # The ids too, where the model knows all but some punctuation, which F5-TTS reads as a space.
    known = {symbol for _, symbols in cases for symbol in symbols} - {" ", "：", "；", "（"}
    vocabulary = PinyinVocabulary([" ", *sorted(known)])
    ids = {symbol: i for i, symbol in enumerate(vocabulary.symbols)}
    for text, symbols in cases[::5]:
        assert vocabulary.encode(text) == [ids.get(symbol, 0) for symbol in symbols]
        assert vocabulary.places(text) == len(symbols) and not vocabulary.unknown(text)
        size = vocabulary.places(vocabulary.fit(text))
        assert vocabulary.fits(text, size) and not vocabulary.fits(text, size - 1)


def test_pinyin_reads_every_syllable_of_its_data_and_names_what_it_lacks() -> None:
    everything = PinyinVocabulary.from_characters(text for text, _ in pinyin_cases())
    for text, _ in pinyin_cases():
        assert not everything.unknown(text)
    few = PinyinVocabulary([" ", "ni2", "hao3", "，", "a", "b", "c"])
    assert few.encode("你好，") == [0, 1, 0, 2, 3]
    assert few.unknown("你好世①") == ["世", "①"]
    with pytest.raises(DataError, match=r"'世' \(shi4\), '①'"):
        few.encode("你好世①")
    assert few.fold("ABC你好") == "abc你好"
    sentences, notes = prepare_sentences("你好世。", few, language="zh", skip_unknown=True)
    assert sentences == ["你好 。"] and "世" in notes[0]
    assert {"lv4", "nve4", "er", "zhuang1"} <= set(syllables())


def test_a_vocabulary_of_pinyin_is_stored_and_found() -> None:
    vocabulary = PinyinVocabulary.from_characters(["你好 abc"])
    stored = json.loads(json.dumps(vocabulary.to_json()))
    again = open_vocabulary(stored)
    assert isinstance(again, PinyinVocabulary) and again == vocabulary
    assert has_syllables(vocabulary.symbols) and not has_syllables("abc123")
    with pytest.raises(DataError):
        open_vocabulary({"tokens": "pinyin", "symbols": ["a"]})


def test_without_its_packages_pinyin_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from svae.text import pinyin

    pinyin._libraries.cache_clear()
    monkeypatch.setitem(sys.modules, "rjieba", None)
    with pytest.raises(ConfigError, match=r"svae\[chinese\]"):
        PinyinVocabulary([" "]).encode("从来没有读过的句子")
    pinyin._libraries.cache_clear()


# ----------------------------------------------------------------------------------------- espeak


def test_espeak_reads_each_language_in_its_own_way(espeak: EspeakVocabulary) -> None:
    german = espeak.in_language("de")
    assert espeak.in_language(None) is espeak.in_language("en") is espeak.in_language("unknown")
    assert espeak.read("Hello world. ") == "həlˈoʊ wˈɜːld. "
    assert german.read("Guten Tag, du.") == "ɡˈuːtən tˈɑːk, duː."
    assert espeak.encode("Hand") != german.encode("Hand")
    assert len(german.encode("Hand")) == german.places("Hand")
    again = open_vocabulary(json.loads(json.dumps(german.to_json())))
    assert again == german and again.encode("Hand") == german.encode("Hand")
    for name in ("en-GB", "pt-BR", "fr", "zh", "cmn", "de-AT", "chr"):
        espeak_language(name)
    with pytest.raises(ConfigError, match="'xx'.* de "):
        espeak.in_language("xx")
    with pytest.raises(DataError, match="braces"):
        espeak.encode("The {B EY1 S} is loud")


def test_espeak_takes_languages_without_rules_and_spells_out_those_with(
    espeak: EspeakVocabulary,
) -> None:
    sentences, _ = prepare_sentences("Es kostet 5 €. Gut!", espeak, language="de")
    assert sentences == ["Es kostet 5 €.", "Gut!"]
    sentences, _ = prepare_sentences("It costs $5.", espeak, language="en-US")
    assert sentences == ["It costs five dollars."]
    with pytest.raises(ConfigError, match="--language 'de'"):
        prepare_sentences("Es kostet 5.", Vocabulary.from_characters(["abc"]), language="de")


# ----------------------------------------------------------------------------------------- runs


def speaking_shards(root: Path, rows: list[tuple[str, str]]) -> Path:
    """Write shards of noise with these texts and languages; the first utterance is held out."""
    import io

    import numpy as np
    import soundfile

    from svae.data.index import write_index
    from svae.data.shard_writer import ShardItem, write_shard

    items = []
    for number, (text, language) in enumerate(rows):
        file = io.BytesIO()
        wave = 0.1 * np.random.default_rng(number).standard_normal(16000)
        soundfile.write(file, wave, 16000, format="FLAC", subtype="PCM_16")
        items.append(
            ShardItem(f"u{number}", {"flac": file.getvalue()}, 16000, 16000, "s", language, text)
        )
    entry = write_shard(root, 0, items)
    write_index(
        root, kind="waveforms", corpus="x", sample_rate=16000, shards=[entry], validation=["u0"]
    )
    return root


def trained(root: Path, toy_tts: Path, out: Path, tokens: str, **data: str) -> Path:
    from tiny_runs import TTS, tts_config

    from svae.training.loop import TrainOptions
    from svae.training.tts.train import train_tts

    config = tts_config(
        root,
        toy_tts.parent / "vae",
        tokens=tokens,
        trainer=TTS["trainer"] | {"steps": 2},
        batch_frames=400,
    )
    config = replace(config, data=replace(config.data, **data))
    return train_tts(TrainOptions(config, out, device="cpu"))


def test_a_model_of_pinyin_is_trained_and_speaks(toy_tts: Path, tmp_path: Path) -> None:
    from svae.synthesis.command import SynthesizeOptions, synthesize_file
    from svae.synthesis.types import Sampling

    root = speaking_shards(
        tmp_path / "s", [("你好世界。", "zh"), ("我们走吧，ok。", "zh"), ("hello there.", "en")]
    )
    run = trained(root, toy_tts, tmp_path / "run", "pinyin")
    stored = open_checkpoint(run, kind="tts").config["vocabulary"]
    assert stored["tokens"] == "pinyin" and "zou3" in stored["symbols"]
    again = trained(
        root, toy_tts, tmp_path / "run", "pinyin"
    )  # a finished run is found, not refused
    assert again == run
    ref = toy_tts.parent / "ref.wav"
    if not ref.exists():
        import numpy as np
        import soundfile

        soundfile.write(ref, 0.1 * np.random.default_rng(0).standard_normal(24000), 16000)
    options = SynthesizeOptions(
        model=run, ref=ref, ref_text="你好。", text="我有3本书，走吧。", language="zh",
        out=tmp_path / "a.wav", sampling=Sampling(num_steps=1), device="cpu",
    )  # fmt: skip
    synthesize_file(options)
    report = json.loads((tmp_path / "a.json").read_text())
    assert report["text"] == "我有三本书，走吧。" and report["prompt_text"] == "你好。"
    with pytest.raises(CheckpointError, match="tokens=pinyin"):
        from tiny_runs import tts_config

        from svae.data.index import read_index
        from svae.training.warm_start import choose_vocabulary

        config = tts_config(root, toy_tts.parent / "vae")
        choose_vocabulary(read_index(root), config, open_checkpoint(run, kind="tts"))


def test_digits_among_phonemes_say_what_to_do(tmp_path: Path) -> None:
    from tiny_runs import tts_config

    from svae.data.index import read_index
    from svae.training.warm_start import choose_vocabulary

    root = speaking_shards(tmp_path / "s", [("I have 3 books at 50 %.", "en")])
    with pytest.raises(DataError, match=r"no rule for '%', '0', '3', '5'.*--spell-out"):
        choose_vocabulary(read_index(root), tts_config(root, root, tokens="phonemes"), None)


def test_each_utterance_is_read_in_its_language(
    espeak: EspeakVocabulary, toy_tts: Path, tmp_path: Path
) -> None:
    from svae.data.batches import read_utterances
    from svae.data.index import read_index
    from svae.synthesis.load import load_tts

    rows = [("Hand", "de"), ("Hand", "en-US"), ("Hand", "unknown"), ("Hand", "DE")]
    root = speaking_shards(tmp_path / "s", rows)
    with pytest.raises(DataError, match="1 of 4 utterances do not say their language"):
        trained(root, toy_tts, tmp_path / "no", "espeak")
    with pytest.raises(ConfigError, match="'xx'"):
        trained(root, toy_tts, tmp_path / "no", "espeak", language="xx")
    run = trained(root, toy_tts, tmp_path / "run", "espeak", language="de")
    tts = load_tts(run)
    index = read_index(root)
    batch = read_utterances(index, index.samples, vocabulary=tts.vocabulary, hop_length=400)
    tokens = [row[: len(tts.vocabulary.encode("Hand"))].tolist() for row in batch.tokens]
    assert tokens[0] == tokens[2] == tokens[3] == tts.vocabulary.encode("Hand") != tokens[1]
    english = tts.in_language("en")
    assert tts.in_language("de") is tts
    assert english.vocabulary.encode("Hand") == english.planner.own.vocabulary.encode("Hand")
    assert english.vocabulary.encode("Hand") == tokens[1][: english.vocabulary.places("Hand")]


def test_prepare_fills_in_languages_and_spells_out(tmp_path: Path) -> None:
    from fake_corpora import make_corpus, run, write_rows

    from svae.data.index import read_index, read_member

    corpus = make_corpus(tmp_path / "c", count=4)
    rows = [json.loads(line) for line in (corpus / "metadata.jsonl").read_text().splitlines()]
    for row, (language, text) in zip(
        rows, [("en", "I ate 3."), ("EN", "5 of us."), (None, "我有3本书。"), ("de", "3 Äpfel.")], strict=True
    ):  # fmt: skip
        row |= {"language": language, "text": text}
    write_rows(corpus, rows)
    run(corpus, tmp_path / "as_it_is", shards=1)
    plan = json.loads((tmp_path / "as_it_is" / "plan.json").read_text())
    assert not {"language", "spell_out"} & plan.keys()  # a folder of before goes on
    assert "我有3本书。" in [sample.text for sample in read_index(tmp_path / "as_it_is").samples]
    run(corpus, tmp_path / "said", shards=1, language="zh", spell_out=True)
    index = read_index(tmp_path / "said")
    found = {sample.text: sample for sample in index.samples}
    assert found.keys() == {"I ate three.", "Five of us.", "我有三本书。", "3 Äpfel."} or (
        found.keys() == {"I ate three.", "five of us.", "我有三本书。", "3 Äpfel."}
    )
    chinese = found["我有三本书。"]
    assert chinese.language == "zh" and found["3 Äpfel."].language == "de"
    assert json.loads(read_member(index, chinese, "json"))["raw_text"] == "我有3本书。"


def test_the_published_vocabulary_of_f5_is_read_as_pinyin(tmp_path: Path) -> None:
    from svae.importing.f5_tts import read_f5_vocabulary

    for symbols, tokens in (
        ([" ", "a", "zhang1", "，"], "pinyin"),
        ([" ", "a", "，"], "characters"),
    ):
        path = tmp_path / f"{tokens}.txt"
        path.write_text("\r\n".join(symbols) + "\r\n", encoding="utf-8")
        vocabulary = read_f5_vocabulary(path)
        assert vocabulary.tokens == tokens and list(vocabulary.symbols) == symbols
