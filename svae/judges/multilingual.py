"""Texts of many languages before their words, or characters, are compared: what MiniMax's test set and FLEURS are scored by.

Source: k2-fsa/OmniVoice `omnivoice/eval/wer/` (minimax.py, fleurs.py), whose normaliser is that of facebookresearch/omnilingual-asr
`workflows/dataprep/text_tools.py` with norm_config_module.py. Its list of punctuation is that of fairseq's MMS
(`examples/mms/data_prep/punctuations.lst`); omnilingual-asr's own copy of it was not seen.
"""

from __future__ import annotations

import importlib
import re
import unicodedata
from collections.abc import Callable
from typing import Any

from svae.errors import ConfigError

_MMS = (
    "$%&()*+/=@[]^_|~£©¬¯°¶·¼½×ˇ˜\u037e\u0387־؞۔॥৷ๆໆ༄༅༌།༎၊။၌၍၎၏႟፡።፣፤፥፦᙭᙮។៕៖ៗ៚\u2006―†‡•…\u202f‰‸※⁄\u2060\u206fⁱⁿ€⅓⅟→−≪≫"
    "⌊⌋⌞⌟⵰々【】〔〕・ー꓾꓿꤮꤯﴾﴿﹐﹕﹖﹗．＜＞･\ufffd"
    "\x08\x1a\x81\x8d\x8f\x90\x92\x93\x94\x9d"  # what breaks when encodings are mixed up
    "\ue003\ue013\ue01d\ue040\ue041\ue043\ue06b\ue06d\ue070\ue203\ue231\ue232\ue233\ue234\ue236\ue290\ue291\ue292\ue293\ue294\ue295"
    "\ue296\ue2d9\ue2db\ue2de\ue2f9\ue2fa\ue2fb\ue2fc\ue2fe\ue313\ue328\ue329\ue32a\ue32b\ue32c\ue32d\ue32e\ue492\ue493\ue514\ue516"
    "\ue517\ue518\uea01\uea7b\uf171\uf172\uf173\uf218\uf21d\uf50e\uf50f\uf511\uf513\uf518\uf519\uf521\uf522\uf523\uf529\uf52d\uf62d"
    "\uf7d0\uf7e8"
)
"""The list. `#` is not in it: its line begins like a comment, and is read as one."""
_CONFIGURED = (
    '.?,:!{}<>;"\u201c\u201d«»‹›„‚‟‛’‘¿¡'
    "\u055a\u055b\u055c\u055d\u055e\u055f\u0589"  # Armenian
    "،؛؟\u0964"  # Arabic, Hindi
    "。，！？；：（）「」『』ａｂｃｄ〈〉《》﹏⋯、‧／～─＿"
)
"""What norm_config_module.py adds; the full-width letters stand there for vertical quotation marks."""
_PUNCTUATION = re.compile(f"[{re.escape(_MMS + _CONFIGURED)}]")
_THAI_PUNCTUATION = re.compile(f"[{re.escape(_MMS + _CONFIGURED)}\u200d]")
_DELETED = r"\u200e\u200c\u0656-\u0657\u200b\u064b-\u0652\u202c\u200f\u202a"
_MORE_DELETED = {"mn": r"\u00ad", "he": r"\u05b0-\u05bf\u05c0-\u05cf"}
_CJK = r"\u4e00-\u9fff\u3040-\u309f\u30a0-\u30ff\u3000-\u303f"
BY_CHARACTER = ("zh", "yue", "ja", "ko", "th", "ar", "vi", "hi", "el")
"""MiniMax's languages whose errors are counted by characters."""
SPACELESS = ("zh", "yue", "ja")


def omnilingual(text: str, language: str) -> str:
    """Lower the case, turn punctuation into spaces, collapse them, as omnilingual-asr does where numbers stay.

    An apostrophe stays, a curly one inside a word becomes straight (the last one of a word only, as there); hyphens stay; what stands in
    round brackets with a digit goes.
    """
    text = unicodedata.normalize("NFKC", text).lower()
    text = re.sub(r"\([^\)]*\d[^\)]*\)", " ", text)
    text = re.sub("&lt;|&gt;|&nbsp", "", text)
    text = re.sub("(\\S+)[‛’‘](\\S+)", r"\1'\2", text).replace("ٱ", "ا")
    text = (_THAI_PUNCTUATION if language == "th" else _PUNCTUATION).sub(" ", text)
    text = re.sub(f"[{_DELETED}{_MORE_DELETED.get(language, '')}]", "", text)
    if language == "jv":
        text = _package("unidecode", language).unidecode(text)
    return re.sub(r"\s+", " ", text).strip()


def minimax(text: str, language: str) -> str:
    """Do as `omnilingual`; where errors are counted by characters, set spaces between them.

    There a space becomes `|`, which counts; in Chinese, Cantonese and Japanese it goes. The first two come to simplified characters.
    Source: OmniVoice `minimax.py`, `post_process`.

    Raises:
        ConfigError: zhconv is not installed, and the language needs it.
    """
    text = omnilingual(text, language)
    if language in ("zh", "yue"):
        text = _package("zhconv", language).convert(text, "zh-cn")
    if language in BY_CHARACTER:
        text = " ".join(text.replace(" ", "" if language in SPACELESS else "|"))
    return text.lower().strip()


def fleurs(text: str, language: str) -> str:
    """Do as `omnilingual`, drop spaces beside Chinese and Japanese characters, and set spaces between all characters.

    Another space becomes `|`, which counts. Source: OmniVoice `fleurs.py`, `post_process`.
    """
    text = re.sub(rf"(?<=[{_CJK}])\s+|\s+(?=[{_CJK}])", "", omnilingual(text, language))
    return " ".join(re.sub(r"\s+", " ", text).strip().replace(" ", "|"))


def _package(name: str, language: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ConfigError(
            f"language {language!r}: its normaliser needs {name}; try: pip install {name}"
        ) from None


NORMALIZERS: dict[str, Callable[[str, str], str]] = {"minimax": minimax, "fleurs": fleurs}
"""Text and its language's code → text."""
