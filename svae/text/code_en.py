r"""Code and formulas as they are read aloud in English: `a != b`, `$x^2$`, `f(x) = 2x + 1`.

`markup` finds code spans and TeX and leaves them between marks; a formula in plain text is a run of variables, numbers
and operators with a relation in it. What is returned still has its numbers in digits, for the rules.
"""

from __future__ import annotations

import re
from functools import partial

from svae.text.markup import CODE, FORMULA, MARK_END
from svae.text.numbers_en import quantity
from svae.text.readings_en import read_unit_name, read_web_part

# ----------------------------------------------------------------------------------------------- code

_OPERATORS = {
    "===": "equals", "!==": "is not equal to", "==": "equals", "!=": "is not equal to", "<=": "less than or equal to",
    ">=": "greater than or equal to", "->": "arrow", "=>": "arrow", "&&": "and", "||": "or", "+=": "plus equals",
    "-=": "minus equals", "*=": "times equals", "/=": "divided by equals", "++": "plus plus", "**": "to the power of",
    "::": "colon colon", ":=": "is", "=": "equals", "+": "plus", "/": "slash", "@": "at", "%": "percent",
    "&": "and", "|": "pipe", "!": "not", "~": "tilde", "^": "caret", "\\": "backslash", "$": "dollar", "#": "hash",
    ";": ",", ",": ",", "?": "question mark", "<": "less than", ">": "greater than", "*": "star", "<<": "less than less than",
    ">>": "greater than greater than", "...": "dot dot dot", "//": "slash slash",
}  # fmt: skip
_OPERATOR = "|".join(re.escape(sign) for sign in sorted(_OPERATORS, key=len, reverse=True))
_CODE_TOKEN = re.compile(
    r"(?P<tag></?[A-Za-z][^<>]*>)|(?P<dotted>[\w-]*[A-Za-z][\w-]*(?:\.[A-Za-z][\w-]*)+)|(?P<hex>\b0[xXbB][0-9a-fA-F]+\b)"
    r"|(?P<number>\d+(?:\.\d+)*)|(?P<sharp>\b[CF]#)|(?P<word>[^\W\d_]+(?:['-][^\W\d_]+)*)|(?P<flag>(?<![\w)\]])--?(?=[A-Za-z]))"
    rf"|(?P<call>\(\s*\))|(?P<minus>-(?![->=]))|(?P<operator>{_OPERATOR})|(?P<dot>\.(?=\w))|(?P<other>.)"
)
_COMMENT = re.compile(r"^\s*(?:#|//|/\*)\s+|\s*\*/\s*$")


def read_code(code: str) -> str:
    """Return a piece of code as it is read aloud; brackets, quotes and underscores are silent."""
    return " ".join(" ".join(_read_tokens(_COMMENT.sub("", code))).replace(" ,", ",").split())


def _read_tokens(code: str) -> list[str]:
    spoken = []
    for match in _CODE_TOKEN.finditer(code):
        kind, piece = match.lastgroup, match[0]
        before, after = code[: match.start()], code[match.end() :]
        if kind == "tag":
            spoken += _read_tokens(piece.strip("</>"))
        elif kind == "dotted":
            spoken.append(read_web_part(piece.strip("_").replace("_", " ")))
        elif kind == "hex":
            spoken.append(" ".join(piece.upper()))
        elif kind == "word":
            spoken.append(re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", " ", piece))
        elif kind == "flag":
            spoken.append(" ".join(["dash"] * len(piece)))
        elif kind == "minus":
            is_hyphen = before[-1:].isalnum() and after[:1].isalnum()
            spoken.append("" if is_hyphen and not before[-1:].isdigit() else "minus")
        elif kind == "operator":
            is_product = (
                piece == "*" and re.search(r"[\w)\]]\s*$", before) and re.match(r"\s*[\w(]", after)
            )
            is_query = re.search(r"[A-Z]{3,}\s*$", before)
            spoken.append("times" if is_product and not is_query else _OPERATORS[piece])
        elif kind == "sharp":
            spoken.append(f"{piece[0]} sharp")
        elif kind == "number":
            spoken.append(piece)
        elif kind == "dot":
            spoken.append("dot")
        elif piece == ":" and after.strip():
            spoken.append(",")
    return spoken


# ----------------------------------------------------------------------------------------------- formulas

_COMMANDS = {
    "cdot": "times", "times": "times", "div": "divided by", "leq": "≤", "le": "≤", "geq": "≥", "ge": "≥", "neq": "≠",
    "ne": "≠", "approx": "≈", "pm": "±", "to": "→", "rightarrow": "→", "Rightarrow": "implies", "implies": "implies",
    "infty": "infinity", "in": "∈", "forall": "∀", "exists": "∃", "cup": "∪", "cap": "∩", "subset": "⊂", "partial": "∂",
    "nabla": "∇", "ldots": ", and so on,", "dots": ", and so on,", "cdots": ", and so on,", "sim": "is distributed as",
    "propto": "∝", "equiv": "is equivalent to", "mid": "given", "lVert": "", "rVert": "", "left": "", "right": "", "quad": " ",
    "text": "", "mathrm": "", "mathbf": "", "mathbb": "", "mathcal": "", "operatorname": "", "displaystyle": "",
    "ln": "natural log", "sum": "∑", "prod": "∏", "int": "∫", "degree": "degrees", "circ": "degrees", "hat": "", "bar": "",
}  # fmt: skip
_SIGNS = {
    "=": "equals", "+": "plus", "±": "plus or minus", "×": "times", "·": "times", "*": "times", "÷": "divided by",
    "≤": "is less than or equal to", "≥": "is greater than or equal to", "<": "is less than", ">": "is greater than",
    "≈": "is approximately", "≠": "is not equal to", "→": "goes to", "∞": "infinity", "∈": "in", "∉": "not in",
    "∀": "for all", "∃": "there is", "∪": "union", "∩": "intersection", "⊂": "is a subset of", "∂": "partial",
    "∇": "nabla", "∝": "is proportional to", "√": "the square root of", "∛": "the cube root of", "⇒": "implies",
    "²": "squared", "³": "cubed", "%": "percent", "/": "over", "−": "minus", "-": "minus", "&": "", "⟨": "", "⟩": "",
    "{": "", "}": "", "[": "", "]": "", "(": "", ")": "", "$": "", "|": "", "'": "prime", "!": "factorial", "\\": "",
}  # fmt: skip
_FUNCTION = re.compile(r"\b([fghFGHPEO]|sin|cos|tan|log|ln|exp|max|min)(\s?[₀-₉\d]*)\s?\(")
_RAISED = str.maketrans("⁰¹⁴⁵⁶⁷⁸⁹⁻ⁿ", "01456789-n")
_GROUP = r"\{([^{}]*)\}"


def read_formula(formula: str) -> str:
    """Return a formula, in TeX or plain signs, as it is read aloud."""
    text = re.sub(r"\\[,;:! ]|~", " ", formula)
    for _ in range(8):  # fractions within fractions
        inner = re.sub(rf"\\[dt]?frac\s*{_GROUP}\s*{_GROUP}", r" \1 over \2 ", text)
        inner = re.sub(rf"\\sqrt\s*{_GROUP}", r" √ \1 ", inner)
        inner = re.sub(
            rf"\\(?:text|mathrm|mathbf|mathbb|mathcal|operatorname|hat|bar)\s*{_GROUP}",
            r" \1 ",
            inner,
        )
        inner = re.sub(
            rf"([\^_])\s*{_GROUP}", lambda m: m[1] + "⟨" + m[2].replace("^", "ˆ") + "⟩", inner
        )
        if inner == text:
            break
        text = inner
    text = re.sub(r"\\([A-Za-z]+)", lambda m: f" {_COMMANDS.get(m[1], m[1])} ", text)
    bound = r"(?:⟨([^⟨⟩]*)⟩|(\w))"
    for sign, name in (("∑", "the sum"), ("∏", "the product"), ("∫", "the integral")):
        limits = rf"{sign}\s*(?:_{bound})?\s*(?:\^{bound})?"
        text = re.sub(limits, partial(_with_limits, name), text)
    text = re.sub(r"\(([^()]*=[^()]*)\)", r"（\1）", text)  # a remark: its brackets stay
    text = re.sub(r"\|\s*([^|=]{1,12}?)\s*\|", r" the absolute value of \1 ", text)
    text = re.sub(r"\bP\s?\(([^()|]+)\|([^()|]+)\)", r"P of \1 given \2", text)
    text = _FUNCTION.sub(lambda m: f"{m[1]} {m[2]} of ( ", text)
    text = re.sub(
        r"[⁰¹²³⁴-⁹⁻ⁿ]{2,}|[⁰¹⁴-⁹ⁿ]",
        lambda m: f"^⟨{m[0].translate(_RAISED).replace('²', '2').replace('³', '3')}⟩",
        text,
    )
    text = re.sub(r"(?<![\w.])(\d+(?:\.\d+)?)(?=[A-Za-z])", lambda m: quantity(m[1]) + " ", text)
    # Variables side by side are read one by one.
    text = re.sub(
        r"\b(?!of\b|to\b|in\b|is\b|ln\b|or\b)([A-Za-z])([A-Za-z])(?=[²³^]|\b(?=\s*[=+*/)-]|$))(?<![A-Z][a-z])",
        r"\1 \2",
        text,
    )
    text = re.sub(r"\^\s*(?:⟨([^⟨⟩]*)⟩|\((-?\w+)\)|(-?\w+))", _power, text)
    text = re.sub(rf"_\s*{bound}", lambda m: f" sub {m[1] or m[2]} ", text)
    text = re.sub(r"[₀-₉]", lambda m: f" {ord(m[0]) - 0x2080} ", text)
    text = re.sub(r"(?<=[²³])(?=\w)", " ", text)
    text = re.sub("|".join(map(re.escape, _SIGNS)), lambda m: f" {_SIGNS[m[0]]} ", text)
    text = text.replace("ˆ", " to the power of ").replace("（", " (").replace("）", ") ")
    return " ".join(text.split()).replace("( ", "(").replace(" )", ")")


def _with_limits(name: str, match: re.Match[str]) -> str:
    low, high = match[1] or match[2], match[3] or match[4]
    if low and high:
        return f" {name} from {low} to {high} of "
    return f" {name} over {low} of " if low else f" {name} of "


def _power(match: re.Match[str]) -> str:
    exponent = (match[1] or match[2] or match[3]).strip()
    if match.string[match.start() - 1 : match.start()].isdigit():
        return f" to the power of {exponent} "
    named = {"2": " squared ", "3": " cubed ", "T": " transposed ", "∘": " degrees "}
    return named.get(exponent, f" to the power of {exponent} ")


# ----------------------------------------------------------------------------------------------- where they are

_MARKED = re.compile(f"([{CODE}{FORMULA}])([^{MARK_END}]*){MARK_END}")
_NAMES = "sin|cos|tan|log|ln|exp|max|min|lim|dx|dy|dt"
_PART = (
    rf"(?:{_NAMES})(?![A-Za-z])|\d+(?:\.\d+)?(?:[a-z]{{1,2}}(?![A-Za-z]))?|[A-Za-z]{{1,2}}(?=[²³^])|(?:xy|[bcdfghj-np-tv-xz]{{2}})(?![A-Za-z])|[A-Za-z](?![A-Za-z])"
    r"|[α-ωΔΣΩ²³⁰-⁹⁻ⁿ₀-₉+=*/^·×÷±≤≥≈≠<>→∈∉∪∩∀∃⊂∂∇∝∞√∛∑∏∫()|_!'-]"
)
_TERM = re.compile(rf"(?:{_PART})+")
"""A word of a formula: variables of one letter, numbers, operators, names of functions."""
_IS_FORMULA = re.compile(
    rf"[α-ωΣ√∛∑∏∫∂∇∈∉∀∃∪∩⊂∝].*[=≈≤≥≠<>→/^_]|[A-Za-z√∑∏∫∂∇∀∃].*[=≈≤≥≠∈∉∪∩]|[=≈≤≥≠∈].*[A-Za-z√]|\w\)?\^\(?[-\w]|\b[A-Za-z]_\w\b"
    rf"|{_FUNCTION.pattern}|[∑∏∫⁰¹⁴-⁹⁻]|\|[A-Za-z]\|"
)


def read_code_and_formulas(text: str) -> str:
    """Return an English text with its marked code and formulas, and formulas in plain signs, read."""

    def marked(match: re.Match[str]) -> str:
        return f" {read_code(match[2]) if match[1] == CODE else read_formula(match[2])} "

    return _plain_formulas(_MARKED.sub(marked, text))


def _read_if_formula(text: str) -> str:
    return read_formula(text) if _IS_FORMULA.search(text) else text


def _plain_formulas(text: str) -> str:
    """Read runs of terms that hold a relation, a power or a function."""
    spoken: list[str] = []
    run: list[str] = []

    def end(stop: str = "") -> None:
        formula = " ".join(run)
        run.clear()
        if formula:
            spoken.append(_read_if_formula(formula) + stop)

    for word in text.split():
        term = word.rstrip(".,;:?")
        is_unit = bool(run) and run[-1][-1].isnumeric() and read_unit_name(term) is not None
        if term and not is_unit and len(term) < 80 and _TERM.fullmatch(term):
            run.append(term)
            if term != word:
                end(word[len(term) :])
        else:
            end()
            spoken.append(word)
    end()
    return " ".join(spoken)
