"""Which language a text is in, as corpora and users write it: `en`, `EN`, `en-US`, `eng`."""

from __future__ import annotations

import re

from svae.errors import ConfigError

UNKNOWN = "unknown"
"""What an utterance has as its language where nobody said it."""
_SAME = {
    "eng": "en", "zho": "zh", "chi": "zh", "cmn": "zh", "jpn": "ja", "jp": "ja", "deu": "de", "ger": "de", "fra": "fr",
    "fre": "fr", "spa": "es", "ita": "it", "por": "pt", "rus": "ru", "kor": "ko", "nld": "nl", "dut": "nl", "pol": "pl",
    "english": "en", "chinese": "zh", "mandarin": "zh", "japanese": "ja", "german": "de", "french": "fr",
    "spanish": "es", "italian": "it", "portuguese": "pt", "russian": "ru", "korean": "ko",
}  # fmt: skip
_CODE = re.compile(r"[a-z]{2,3}(?:[-_][a-z0-9]{2,8})*")


def language_code(name: str | None) -> str | None:
    """Return a language in svae's spelling, `en` or `pt-br`; None for None, `unknown` and the like."""
    plain = (name or "").strip().lower().replace("_", "-")
    if plain in ("", UNKNOWN, "none", "und", "mul"):
        return None
    first, dash, region = plain.partition("-")
    return f"{_SAME.get(first, first)}{dash}{region}"


def base_language(name: str | None) -> str | None:
    """Return a language without its region: `en` for `en-US`, `eng` and `English`."""
    code = language_code(name)
    return None if code is None else code.partition("-")[0]


def check_code(name: str, option: str) -> str:
    """Return `language_code` of what a user gave. Raises ConfigError for what can be no language."""
    plain = name.strip().lower()
    if not _CODE.fullmatch(plain) and plain not in _SAME:
        raise ConfigError(
            f"{option} {name!r}: expected a language's code, such as en, zh, ja, de or pt-br"
        )
    return language_code(name) or UNKNOWN
