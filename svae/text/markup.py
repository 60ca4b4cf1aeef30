"""Documents as plain paragraphs: HTML, Markdown and emoji are taken for what they mean, never spoken as symbols.

A single line break joins lines, an empty line separates paragraphs. Headings, list items and rows of tables are
paragraphs of their own; a rule (`---`, `* * *`) or a line of dots is a pause.
"""

from __future__ import annotations

import html
import re
import unicodedata
from typing import NamedTuple

PARAGRAPH_SECONDS = 0.5
"""Silence after a paragraph, beside what is heard after any sentence."""
ITEM_SECONDS = 0.2
"""The same after an item of a list, a row of a table."""
RULE_SECONDS = 1.0
"""The same where a rule or a line of dots separates parts."""


class Paragraph(NamedTuple):
    """Lines that belong together, joined by spaces, without markup."""

    text: str
    pause_seconds: float
    """Silence after it."""


CODE, FORMULA, MARK_END = "\ue010", "\ue011", "\ue012"
"""Private characters around pieces of code and TeX: a language that reads them knows where they are."""

_TAGS = (
    "a abbr address article aside b bdi big blockquote body br caption center cite code dd del details div dl dt em "
    "figcaption figure font footer h1 h2 h3 h4 h5 h6 head header hr html i img ins kbd label li main mark nav ol p pre "
    "q s samp section small span strike strong sub summary sup table tbody td tfoot th thead title tr tt u ul var"
).split()
_TAG = re.compile(rf"</?({'|'.join(_TAGS)})(?:\s[^<>]*)?/?>", re.IGNORECASE)
_BREAKING = frozenset(
    "article aside blockquote body caption dd div dl dt figure footer h1 h2 h3 h4 h5 h6 head header html li main nav ol "
    "p pre section table title tr ul".split()
)
_UNSEEN = re.compile(r"<!--.*?-->|<(script|style)\b[^>]*>.*?</\1>", re.DOTALL | re.IGNORECASE)
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")

_RULE = re.compile(r"\s*(?:([-*_=~#])(?:[ \t]*\1){2,}|(?:\.[ \t]*){2,}|[…—–⁂]+)\s*")
_FENCE = re.compile(r"\s*(?:```|~~~)[\w+-]*\s*")
_HEADING = re.compile(r"\s{0,3}#{1,6}\s+(.*?)\s*#*\s*")
_ITEM = re.compile(r"\s*[-*+•‣▪●◦]\s+(?:\[[ xX]\]\s+)?(.*)")
_NUMBERED = re.compile(r"\s*(\d{1,2})[.)]\s+(.*)")
_QUOTED = re.compile(r"\s{0,3}(?:>\s?)+(.*)")
_ROW = re.compile(r"\s*\|(.*)\|\s*")
_ROW_RULE = re.compile(r"[\s|:-]*-[\s|:-]*")

_INLINE = (
    (re.compile(r"!\[([^\[\]]*)\]\([^()\s]*(?:\s\"[^\"]*\")?\)"), r"\1"),  # image
    (re.compile(r"\[([^\[\]]+)\]\([^()\s]*(?:\([^()\s]*\))?[^()\s]*(?:\s\"[^\"]*\")?\)"), r"\1"),  # link
    (re.compile(r"\[(?!\d+\])([^\[\]]+)\]\[[^\[\]]*\]"), r"\1"),  # link by reference; `[1][2]` are citations
    (re.compile(r"\[\^[^\[\]\s]+\]"), ""),  # footnote
    (re.compile(r"<((?:https?://|mailto:)?[^<>\s]+[.@][^<>\s]+)>"), r"\1"),  # address
    (re.compile(r"(?<!\*)(\*\*\*?)(?=[^\s*])(.+?)(?<=[^\s*])\1(?!\*)"), r"\2"),  # bold
    (re.compile(r"(?<![\w_])(__)(?=[^\s_])(.+?)(?<=[^\s_])\1(?![\w_])"), r"\2"),
    (re.compile(r"(?<![\w*])\*(?=[^\s*])([^*\n]+?)(?<=[^\s*])\*(?![\w*])"), r"\1"),  # italic
    (re.compile(r"(?<![\w_])_(?=[^\s_])([^_\n]+?)(?<=[^\s_])_(?![\w_])"), r"\1"),
    (re.compile(r"~~(?=\S)(.+?)(?<=\S)~~"), r"\1"),  # struck out
)  # fmt: skip
_CODE = re.compile(r"``\s?(.+?)\s?``|(?<!`)`([^`\n]+)`(?!`)")
_TEX = re.compile(
    r"\$\$(?=\S)([^$]+)\$\$|\\\[(.+?)\\\]|\\\((.+?)\\\)"
    r"|(?<![\w\\$])\$(?=[^\s$\d][^$]*[\\^_={}][^$]*\$|\d[\w.]*\s?[\\^_={}+*-][^$]*\$|[A-Za-z]\$)([^$]*[^\s$])\$(?!\w)"
)
_ESCAPED = re.compile(r"\\([\\`*_{}\[\]()#+.!|>~$-])")
_REFERENCE = re.compile(r"\s{0,3}\[(?!\^)[^\[\]]+\]:\s+\S+(?:\s+[\"'(].*[\"')])?\s*")
_FOOTNOTE = re.compile(r"\s{0,3}\[\^[^\[\]\s]+\]:\s+(.*)")
_FENCED = re.compile(r"(^[ \t]*(?:```|~~~).*?^[ \t]*(?:```|~~~)[ \t]*$)", re.MULTILINE | re.DOTALL)
_FIRST_KEPT = 0xF8000
"""From here on private characters stand for what the marks of Markdown must not touch."""
_EMOTICON = re.compile(
    r"(?<!\S)(?:[:;=]['’]?-?[()DPpOo|/*]|[xX]D|<3|\(?\^[_.]?\^\)?|T_T|¯\\?_\(ツ\)_/¯)(?![^\s.,!?])"
)
_EMOJI = re.compile(
    "[\U0001f000-\U0001faff\u2600-\u27bf\u2b05-\u2b07\u2b1b\u2b1c\u2b50\u2b55\u231a\u231b\u23e9-\u23fa\u25fb-\u25fe"
    "\u200d\ufe0f\u20e3\U000e0020-\U000e007f]+"
)
_NAMELESS = re.compile("[\u200d\ufe0f\u20e3\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]")


def plain_paragraphs(text: str) -> list[Paragraph]:
    """Return the paragraphs of a text without markup; a pause alone is a paragraph without text."""
    pieces = _FENCED.split(text)
    plain = "".join(piece if i % 2 else _without_html(piece) for i, piece in enumerate(pieces))
    found = [
        Paragraph(without_emoji(inline_text(p.text)) if p.text else "", p.pause_seconds)
        for p in paragraphs(plain)
    ]
    if not any(char.isalnum() for paragraph in found for char in paragraph.text):
        found = [
            Paragraph(emoji_names(inline_text(p.text)), p.pause_seconds) for p in paragraphs(plain)
        ]
    return [p for p in found if p.text or p.pause_seconds]


def _without_html(text: str) -> str:
    plain = _UNSEEN.sub(" ", text)
    plain = re.sub(r"<hr\s*/?>", "\n\n---\n\n", plain, flags=re.IGNORECASE)
    plain = _TAG.sub(_tag, plain)
    return _ENTITY.sub(lambda m: html.unescape(m[0]), plain)


def _tag(match: re.Match[str]) -> str:
    line = match.string[match.string.rfind("\n", 0, match.start()) + 1 : match.start()]
    if line.count("`") % 2:
        return match[0]  # it is code
    name = match[1].lower()
    if name in ("td", "th"):
        return ", " if match[0][1] == "/" else ""
    if name in _BREAKING:
        return "\n\n"
    return "\n" if name == "br" else ""


def paragraphs(text: str, *, markdown: bool = True) -> list[Paragraph]:
    """Return the paragraphs of a text; with `markdown`, its lines are also read as Markdown's."""
    found: list[Paragraph] = []
    lines: list[str] = []

    def end(pause_seconds: float) -> None:
        joined = " ".join(" ".join(lines).split())
        lines.clear()
        if joined:
            found.append(Paragraph(joined, pause_seconds))

    def alone(line: str, pause_seconds: float) -> None:
        end(PARAGRAPH_SECONDS)
        lines.append(line)
        end(pause_seconds)

    in_code = in_table = False
    for line in re.split(r"\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]", text):
        if not line.strip():
            in_table = False
            end(PARAGRAPH_SECONDS)
        elif _RULE.fullmatch(line):
            end(PARAGRAPH_SECONDS)
            found.append(Paragraph("", RULE_SECONDS))
        elif not markdown:
            lines.append(line)
        elif _FENCE.fullmatch(line):
            end(PARAGRAPH_SECONDS)
            in_code = not in_code
        elif in_code:
            alone(f"{CODE}{line.strip()}{MARK_END}", ITEM_SECONDS)
        elif _REFERENCE.fullmatch(line):
            continue
        elif note := _FOOTNOTE.fullmatch(line):
            end(PARAGRAPH_SECONDS)
            lines.append(note[1])
        elif heading := _HEADING.fullmatch(line):
            alone(heading[1], PARAGRAPH_SECONDS)
        elif row := _ROW.fullmatch(line):
            if not _ROW_RULE.fullmatch(row[1]):
                alone(_cells(row[1]), ITEM_SECONDS)
        elif "|" in line and _ROW_RULE.fullmatch(line):
            # What stands over it are names of columns, and rows follow.
            in_table = True
            head = lines.pop() if lines else ""
            alone(_cells(head), ITEM_SECONDS)
        elif in_table and "|" in line:
            alone(_cells(line), ITEM_SECONDS)
        elif item := _ITEM.fullmatch(line):
            end(ITEM_SECONDS)
            lines.append(item[1])
        elif numbered := _NUMBERED.fullmatch(line):
            end(ITEM_SECONDS)
            lines.append(f"{numbered[1]}, {numbered[2]}")
        elif quoted := _QUOTED.fullmatch(line):
            lines.append(quoted[1])
        else:
            lines.append(line)
    end(PARAGRAPH_SECONDS)
    return found


def _cells(row: str) -> str:
    """Return the cells of a row of a table as one line; empty ones are passed over."""
    cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", row)]
    return ", ".join(cell for cell in cells if cell)


def inline_text(text: str) -> str:
    """Return a line without the marks of Markdown; code and TeX are between `CODE` or `FORMULA` and `MARK_END`."""
    kept: list[str] = []

    def keep(piece: str) -> str:
        kept.append(piece)
        return chr(_FIRST_KEPT + len(kept) - 1)

    def keep_tex(match: re.Match[str]) -> str:
        tex = match[1] or match[2] or match[3] or match[4]
        return keep(f"{FORMULA}{tex}{MARK_END}")

    text = _CODE.sub(lambda m: keep(f"{CODE}{m[1] or m[2]}{MARK_END}"), text)
    text = _TEX.sub(keep_tex, text)
    text = _ESCAPED.sub(lambda m: keep(m[1]), text)
    for pattern, plain in _INLINE:
        text = pattern.sub(plain, text)
    for number in range(len(kept) - 1, -1, -1):
        text = text.replace(chr(_FIRST_KEPT + number), kept[number])
    return text


def without_marks(text: str) -> str:
    """Return a text without the marks around code and formulas."""
    return re.sub(f"[{CODE}{FORMULA}{MARK_END}]", "", text)


def without_emoji(text: str) -> str:
    """Return a text without emoji and emoticons, which are passed over in silence."""
    plain = _EMOJI.sub("\ue0ff ", _EMOTICON.sub("\ue0ff", text))
    if plain == text:
        return text
    plain = re.sub(r"\s*\ue0ff\s*(?=[.,;:!?]|$)", "", re.sub(r"(?:\s*\ue0ff)+", "\ue0ff", plain))
    return " ".join(plain.replace("\ue0ff", " ").split())


def emoji_names(text: str) -> str:
    """Return a text with its emoji named, for where nothing else is said."""

    def name(match: re.Match[str]) -> str:
        names = [unicodedata.name(char, "").lower() for char in _NAMELESS.sub("", match[0])]
        return f" {', '.join(filter(None, names))} "

    return " ".join(_EMOJI.sub(name, text).split())
