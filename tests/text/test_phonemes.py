"""English text as phonemes, and a model that is trained and speaks with them."""

from __future__ import annotations

import json

import pytest
import torch
from tiny_runs import TTS, tts_config, vae_of
from tone_shards import write_tone_shards

from svae.errors import CheckpointError, DataError
from svae.synthesis.load import load_tts
from svae.text.phonemes import PHONES, PhonemeVocabulary, open_vocabulary, pronounce
from svae.text.vocabulary import Vocabulary
from svae.training.loop import TrainOptions
from svae.training.tts.train import train_tts


@pytest.mark.parametrize(
    ("text", "symbols"),
    [
        ("Hello, world!", "HH AH L OW , | W ER L D ."),
        ("HELLO - (world)?", "HH AH L OW | , W ER L D , ?"),
        ("na\u00efve x-ray", "N AY IY V | EH K S | R EY"),
        ("  two   spaces ", "T UW | S P EY S AH Z"),
        ("the dog\u2019s", "DH AH | D AO G Z"),
        ("zzyx blorf", "z z y x | b l o r f"),
        ("the zzyx's", "DH AH | z z y x ' s"),
        ("GPU GPU's", "JH IY P IY Y UW | JH IY P IY Y UW Z"),
        ("foxes' James's", "F AA K S AH Z | JH EY M Z IH Z"),
        ("'quoted' don't", "K W OW T IH D | D OW N T"),
        ("", ""),
        ("...", ". . ."),
    ],
)
def test_words_are_looked_up_and_the_others_spelled(text, symbols):
    assert PhonemeVocabulary().read(text) == [" " if s == "|" else s for s in symbols.split()]


def test_ids_are_those_of_the_symbols_and_case_and_white_space_do_not_matter():
    vocabulary = PhonemeVocabulary()
    ids = vocabulary.encode("The cat, the zzyx.")
    assert [vocabulary.symbols[i] for i in ids] == vocabulary.read("The cat, the zzyx.")
    assert vocabulary.encode("  THE cat,\nthe Zzyx. ") == ids
    assert vocabulary.decode([*ids, -1]).split() == "DH AH K AE T , DH AH z z y x .".split()


def test_possessives_follow_english():
    assert pronounce("zarathustra's") is None or pronounce("zarathustra's")[-1] == "Z"
    for word, last in (("catnip's", "S"), ("marsh's", "Z"), ("farm's", "Z")):
        assert pronounce(word)[-1] == last


def test_unknown_characters_are_named_and_known_ones_never_are():
    vocabulary = PhonemeVocabulary()
    assert vocabulary.unknown("caf\u00e9 \u2014 \u201cyes\u201d 5 \u20ac \u4f60") == [
        "5",
        "\u20ac",
        "\u4f60",
    ]
    with pytest.raises(DataError, match=r"'5' \(U\+0035 DIGIT FIVE\)"):
        vocabulary.encode("5 apples")


def test_a_share_of_the_words_is_spelled_in_training_always_the_same_ones():
    text = " ".join(["window"] * 2000)
    symbols = PhonemeVocabulary(spelled=0.1).read(text)
    spelled = symbols.count("d") / 2000
    assert 0.07 < spelled < 0.13
    assert symbols == PhonemeVocabulary(spelled=0.1).read(text)
    assert not set(PhonemeVocabulary().read(text)) - {" ", *PHONES}


def test_a_checkpoint_keeps_which_kind_of_vocabulary_it_has():
    stored = json.loads(json.dumps(PhonemeVocabulary(0.1).to_json()))
    opened = open_vocabulary(stored)
    assert isinstance(opened, PhonemeVocabulary)
    assert opened.encode("window") == PhonemeVocabulary().encode("window")
    assert open_vocabulary([" ", "a"]) == Vocabulary([" ", "a"])
    with pytest.raises(DataError, match="phonemes of this version"):
        open_vocabulary(stored | {"symbols": stored["symbols"][:-1]})


def test_a_model_trained_on_phonemes_speaks_with_them_and_is_no_start_for_characters(
    tone_shards, toy_tts, tmp_path
):
    config = tts_config(
        tone_shards, vae_of(toy_tts), tokens="phonemes", trainer=TTS["trainer"] | {"steps": 2}
    )
    run = train_tts(TrainOptions(config, tmp_path / "run", device="cpu"))
    tts = load_tts(run)
    assert isinstance(tts.vocabulary, PhonemeVocabulary) and tts.vocabulary.spelled == 0
    prompt = 0.1 * torch.randn(1, 16000)
    a, b = (tts.synthesize(text, prompt, "hello") for text in ("Two WORDS.", "two words!"))
    assert torch.isfinite(a).all() and a.shape == b.shape
    went_on = tts_config(
        tone_shards,
        vae_of(toy_tts),
        tokens="phonemes",
        init=str(run),
        trainer=TTS["trainer"] | {"steps": 1},
    )
    train_tts(TrainOptions(went_on, tmp_path / "on", device="cpu"))
    characters = tts_config(
        tone_shards, vae_of(toy_tts), init=str(run), trainer=TTS["trainer"] | {"steps": 1}
    )
    with pytest.raises(CheckpointError, match="it reads phonemes. Pass --set tokens=phonemes"):
        train_tts(TrainOptions(characters, tmp_path / "other", device="cpu"))
    assert not (tmp_path / "other").exists()


def test_texts_that_are_not_english_stop_the_training_before_it_begins(tmp_path, toy_tts):
    shards = write_tone_shards(tmp_path / "shards", mark=" \u4f60")
    config = tts_config(
        shards, vae_of(toy_tts), tokens="phonemes", trainer=TTS["trainer"] | {"steps": 1}
    )
    with pytest.raises(DataError, match="no rule for"):
        train_tts(TrainOptions(config, tmp_path / "run", device="cpu"))
