"""Protocols are what they say, and their normalisers give the originals' strings character for character."""

from __future__ import annotations

import dataclasses
import string
import sys
import types

import jiwer
import pytest

from svae.errors import ConfigError
from svae.evaluation.protocols import PROTOCOLS, load_protocol, modifications, parse_seeds
from svae.judges.wer import HANZI_PUNCTUATION, NORMALIZERS, word_errors


@pytest.mark.parametrize(
    ("text", "f5", "seed", "zipvoice"),
    [
        ("Well-known, isn't it?", "wellknown isnt it", "wellknown isn't it", "well known isn't it"),
        ("It’s ‘so’ “curly”", "its so curly", "its so curly", "it's 'so' curly"),
        ("a  b", "a b", "a b", "a b"),
        ("a   b", "a  b", "a  b", "a b"),  # one pass over three spaces leaves two
        ("a    b", "a  b", "a  b", "a b"),
        (" lead and trail ", " lead and trail ", " lead and trail ", "lead and trail"),
        ("one -- two", "one two", "one two", "one two"),
        ("one - - two", "one  two", "one  two", "one two"),  # "one   two" after the deletion
        ("In 1984, £5.50!", "in 1984 £550", "in 1984 £550", "in 1984 5 50"),
        ("tab\there", "tab\there", "tab\there", "tab here"),
        ("Café naïve", "café naïve", "café naïve", "caf na ve"),
        ("wait…yes—no–maybe", "waityesnomaybe", "waityesnomaybe", "wait yes no maybe"),
        (
            "‚low‛ „quotes‟ ´acute`",
            "‚low quotes ´acute",
            "‚low quotes ´acute",
            "low quotes acute",
        ),  # U+201A stays
        ("你好，世界。", "你好世界", "你好世界", ""),
        ("", "", "", ""),
    ],
)
def test_english_normalisers_character_for_character(text, f5, seed, zipvoice):
    assert NORMALIZERS["f5-en"](text) == f5
    assert NORMALIZERS["seed-tts-en"](text) == seed
    assert NORMALIZERS["zipvoice-en"](text) == zipvoice


@pytest.mark.parametrize(
    ("text", "f5", "seed"),
    [
        ("你好，“世界”！", "你 好 世 界", "你 好 世 界"),
        (
            "《书》、·点　空",
            "书 点 空",
            "书 点 空",
        ),  # the ideographic space is among the punctuation
        ("A B", "A   B", "A   B"),  # the space is a character too; case stays
        ("it's 3", "i t s   3", "i t ' s   3"),
    ],
)
def test_chinese_normalisers_character_for_character(text, f5, seed):
    assert NORMALIZERS["f5-zh"](text) == f5
    assert NORMALIZERS["seed-tts-zh"](text) == seed


def test_the_chinese_punctuation_is_zhons():
    assert len(HANZI_PUNCTUATION) == len(set(HANZI_PUNCTUATION)) == 82
    hanzi = pytest.importorskip("zhon.hanzi", reason="zhon is not installed")
    assert set(HANZI_PUNCTUATION) == set(hanzi.punctuation)


def test_every_protocol_has_what_a_number_needs(monkeypatch):
    zhconv = types.SimpleNamespace(convert=lambda text, to: text)
    monkeypatch.setitem(sys.modules, "zhconv", zhconv)
    unidecode = types.SimpleNamespace(unidecode=lambda text: text)
    monkeypatch.setitem(sys.modules, "unidecode", unidecode)
    assert {name for name in PROTOCOLS if not name.startswith(("minimax", "fleurs"))} == {
        "offline", "f5-librispeech-pc", "seed-tts-en", "seed-tts-zh", "zipvoice-librispeech-pc"
    }  # fmt: skip
    for protocol in PROTOCOLS.values():
        assert protocol.source and len(protocol.seeds) == 3
        assert protocol.normalize("Ja.") in ("ja", "j a", "Ja", "J a")
        assert protocol.headline == (
            "wer_corpus" if protocol.name.startswith(("zipvoice", "minimax", "fleurs")) else "wer"
        )
        with pytest.raises(dataclasses.FrozenInstanceError):
            protocol.asr = "other"
    assert PROTOCOLS["f5-librispeech-pc"].num_beams == 5


def test_minimax_is_a_protocol_of_each_of_its_languages():
    languages = {p.language for name, p in PROTOCOLS.items() if name.startswith("minimax")}
    assert len(languages) == 24
    assert PROTOCOLS["minimax-multilingual-zh"].asr.startswith("paraformer:")
    assert PROTOCOLS["minimax-multilingual-ar"].normalize("أهلا، بك") == "أ ه ل ا | ب ك"
    assert PROTOCOLS["minimax-multilingual-fr"].normalize("L’eau !") == "l'eau"
    with pytest.raises(ConfigError, match=r"minimax-multilingual-LANGUAGE with one of ar, yue, "):
        load_protocol("minimax-multilingual")


def test_fleurs_is_a_protocol_of_each_of_its_languages():
    found = {name: each for name, each in PROTOCOLS.items() if name.startswith("fleurs")}
    assert len(found) == len({each.language for each in found.values()}) == 102
    assert {each.asr for each in found.values()} == {"omnilingual:omniASR_LLM_Unlimited_7B_v2"}
    assert found["fleurs-de"].normalize("Ja, ja.") == "j a | j a"
    with pytest.raises(
        ConfigError, match=r"fleurs-LANGUAGE with one of af, am, ar, .* zu; or FILE"
    ):
        load_protocol("fleurs")


def test_the_list_that_two_protocols_name_is_the_published_one(shared):
    from svae.runtime.files import file_sha256

    found = file_sha256(shared / "data" / "librispeech_pc_test_clean_cross_sentence.lst")
    assert {p.list_sha256 for p in PROTOCOLS.values() if p.list_format == "librispeech-pc"} == {
        found
    }


def test_a_protocol_from_a_file_has_the_defaults_of_what_it_does_not_say(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "asr: ctc:embedded\nnormalizer: zipvoice-en\nheadline: wer_corpus\nseeds: [4]\n"
    )
    found = load_protocol(str(path))
    assert (found.name, found.asr, found.headline, found.seeds) == (
        "mine",
        "ctc:embedded",
        "wer_corpus",
        (4,),
    )
    assert found.speaker == "embedded" and found.language == "en"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("asrr: x", "unknown key 'asrr'"),
        ("normalizer: none", "normalizer 'none' is none of svae"),
        ("headline: mean", "headline 'mean'"),
        ("list_format: csv", "list_format 'csv'"),
        ("asr: 3", "asr must be text"),
        ("num_beams: many", "num_beams must be int"),
        ("seeds: 0", "seeds must be a list"),
        ("seeds: [1, 1]", "name one twice"),
        ("seeds: [-1]", "none below 0"),
        ("num_beams: 0", "num_beams must be a whole number from 1"),
        ("num_beams: true", "num_beams must be a whole number from 1"),
        ("duration_rule: guess", "duration_rule 'guess' is none of auto"),
        ("published_similarity: foo", "published_similarity 'foo' is none of"),
        ("list_sha256: abc", "list_sha256 must be 64 digits"),
        ("name: ''", "name must be text"),
        ("name: offline", "taken by a built-in"),
        ("[1, 2]", "expected keys"),
        ("a: [", "cannot be read"),
    ],
)
def test_a_bad_protocol_file_is_refused_with_the_key(tmp_path, text, message):
    path = tmp_path / "p.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_protocol(str(path))


def test_an_unknown_protocol_names_those_there_are():
    for name in ("custom", "f5"):
        with pytest.raises(ConfigError, match="f5-librispeech-pc"):
            load_protocol(name)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_protocol("none.yaml")


def test_only_what_differs_is_a_modification():
    f5 = PROTOCOLS["f5-librispeech-pc"]
    same = {"asr": f5.asr, "speaker": None, "list_sha256": f5.list_sha256, "seeds": (0, 1, 2)}
    assert modifications(f5, same) == []
    changed = modifications(
        f5, same | {"asr": "pocketsphinx", "list_sha256": "a" * 64, "seeds": (0,)}
    )
    assert changed[0].startswith(
        "asr pocketsphinx instead of faster-whisper:Systran/faster-whisper-large-v3"
    )
    assert changed[1] == f"list_sha256 aaaaaaaaaaaa… instead of {f5.list_sha256[:12]}…"
    assert changed[2] == "seeds 0 instead of 0,1,2"
    assert modifications(PROTOCOLS["seed-tts-en"], {"list_sha256": "a" * 64}) == []  # none is known


def test_seeds_are_whole_numbers_each_once():
    assert parse_seeds("0,1,2") == (0, 1, 2)
    for text in ("", "a", "1,1", "-1", "0,"):
        with pytest.raises(ConfigError, match="--seeds"):
            parse_seeds(text)


@pytest.mark.parametrize("name", NORMALIZERS)
def test_word_errors_are_jiwers_to_the_last_word(name):
    normalize = NORMALIZERS[name]
    words = [
        "don't",
        "well-known",
        "  ",
        "“said”",
        "他说，好",
        "1984",
        "a",
        "the",
        "\t",
        "Ünder",
        "...",
        "o’clock",
    ]
    for number in range(60):
        chosen = [words[(number * 7 + i * i + 3 * i) % len(words)] for i in range(3 + number % 9)]
        reference, hypothesis = (
            "start " + " ".join(chosen),
            " ".join(chosen[number % 3 :][::-1] + chosen[:1]),
        )
        found = word_errors(reference, hypothesis, normalize)
        expected = jiwer.process_words(normalize(reference), normalize(hypothesis))
        assert found.rate == expected.wer
        assert found.errors == expected.substitutions + expected.deletions + expected.insertions


def test_no_punctuation_survives_f5():
    assert NORMALIZERS["f5-en"](f"a{string.punctuation}{HANZI_PUNCTUATION}b") == "ab"
