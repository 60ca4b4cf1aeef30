"""Normalisers of many languages: the strings that OmniVoice's evaluation makes, character for character."""

from __future__ import annotations

import sys
import types

import pytest

from svae.errors import ConfigError
from svae.judges.multilingual import BY_CHARACTER, fleurs, minimax, omnilingual


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("Well-known, isn’t it?", "en", "well-known isn't it"),
        ("l’’été “d’or”", "fr", "l 'été d'or"),  # the last one of a word, then punctuation
        ("Rock #1 (Sam 23:17) (sic)", "en", "rock #1 sic"),
        ("a\u200bb &lt;c&gt; d&nbsp e", "en", "ab c d e"),
        ("¿Qué? ¡Ya! «Sí» 50%", "es", "qué ya sí 50"),
        ("ﬁne ＡＢＣ １２", "en", "fine abc 12"),  # NFKC
        ("العَرَبِيَّة، ٱلْكِتاب؟", "ar", "العربية الكتاب"),
        ("a\u200db", "th", "a b"),
        ("a\u200db", "en", "a\u200db"),
        ("שָׁלוֹם", "he", "שלום"),
        ("сай\u00adн", "mn", "сайн"),
        ("сай\u00adн", "ru", "сай\u00adн"),
        ("नमस्ते। दुनिया॥", "hi", "नमस्ते दुनिया"),
    ],
)
def test_punctuation_case_and_marks(text, language, expected):
    assert omnilingual(text, language) == expected


def test_minimax_counts_characters_in_nine_languages_only():
    assert minimax("Là, ô!", "vi") == "l à | ô"
    assert minimax("안녕 하세요.", "ko") == "안 녕 | 하 세 요"
    assert minimax("こんにちは、 世界。", "ja") == "こ ん に ち は 世 界"
    assert minimax("C’est ça.", "fr") == "c'est ça"
    assert set(BY_CHARACTER) == {"zh", "yue", "ja", "ko", "th", "ar", "vi", "hi", "el"}


def test_chinese_comes_to_simplified_characters(monkeypatch):
    fake = types.ModuleType("zhconv")
    fake.convert = lambda text, to: text.replace("愛", "爱") if to == "zh-cn" else text
    monkeypatch.setitem(sys.modules, "zhconv", fake)
    assert minimax("我 愛，你", "yue") == minimax("我爱你", "zh") == "我 爱 你"
    monkeypatch.setitem(sys.modules, "zhconv", None)
    with pytest.raises(ConfigError, match="'zh': its normaliser needs zhconv; try: pip install"):
        minimax("我", "zh")


def test_fleurs_counts_characters_in_all_languages():
    assert fleurs("It is.", "en") == "i t | i s"
    assert fleurs("我 爱 you too", "zh") == "我 爱 y o u | t o o"
