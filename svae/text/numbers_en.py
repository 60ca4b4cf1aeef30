"""Numbers as English words: cardinals, ordinals, years, digits, Roman numerals."""

from __future__ import annotations

import re

_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
).split()
_TENS = "? ? twenty thirty forty fifty sixty seventy eighty ninety".split()
_SCALES = ("", "thousand", "million", "billion", "trillion", "quadrillion", "quintillion")
_ORDINALS = {
    "one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth",
    "twelve": "twelfth",
}  # fmt: skip
_ROMAN_VALUES = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}
_ROMAN = re.compile(r"M{0,3}(?:CM|CD|D?C{0,3})(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})")


def cardinal(number: int) -> str:
    """Return a number of at least 0 in words, British fashion: one hundred and five."""
    if number >= 1000 ** len(_SCALES):
        return digits(str(number))
    if number < 20:
        return _ONES[number]
    if number < 100:
        tens, ones = divmod(number, 10)
        return _TENS[tens] + (f" {_ONES[ones]}" if ones else "")
    if number < 1000:
        hundreds, rest = divmod(number, 100)
        return f"{_ONES[hundreds]} hundred" + (f" and {cardinal(rest)}" if rest else "")
    groups = []
    rest, scale = number, 0
    while rest:
        rest, group = divmod(rest, 1000)
        if group:
            words = cardinal(group)
            if not scale and group < 100:
                words = "and " + words
            groups.append(f"{words} {_SCALES[scale]}".strip())
        scale += 1
    return " ".join(reversed(groups))


def ordinal(number: int) -> str:
    """Return the ordinal of a number in words: twenty first."""
    *start, last = cardinal(number).split()
    if last in _ORDINALS:
        last = _ORDINALS[last]
    elif last.endswith("y"):
        last = last[:-1] + "ieth"
    else:
        last += "th"
    return " ".join([*start, last])


def digits(text: str) -> str:
    """Return each digit of a text in words; everything else in it is left out."""
    return " ".join(_ONES[int(char)] for char in text if char.isdecimal())


def year(number: int) -> str:
    """Return a year in words: nineteen oh five, two thousand and five, twenty nineteen."""
    century, rest = divmod(number, 100)
    if number < 1000 or number > 2099 or century % 10 == 0 and rest < 10:
        return cardinal(number)
    if rest == 0:
        return f"{cardinal(century)} hundred"
    return f"{cardinal(century)} {'oh ' if rest < 10 else ''}{cardinal(rest)}"


def plural(words: str) -> str:
    """Return a number in words as a plural: eighties, sixes, seventeens."""
    if words.endswith("y"):
        return words[:-1] + "ies"
    return words + ("es" if words.endswith("x") else "s")


def decade(number: int) -> str:
    """Return the decade that begins with a year, or with two digits of one, in words: nineteen eighties, nineties."""
    if number % 100 == 0:
        return f"{cardinal(number // 100)} hundreds" if number % 1000 else f"{cardinal(number)}s"
    return plural(year(number) if number > 99 else cardinal(number))


def quantity(written: str) -> str:
    """Return a number as written (commas, a decimal point, a sign) in words."""
    sign = "minus " if written[:1] in ("-", "\N{MINUS SIGN}") else ""
    whole, point, decimals = written.lstrip("+-\N{MINUS SIGN}").replace(",", "").partition(".")
    words = cardinal(int(whole or "0"))
    return sign + words + (f" point {digits(decimals)}" if point and decimals else "")


def roman(written: str) -> int | None:
    """Return the value of a Roman numeral in capitals, or None where it is none."""
    if not written or not _ROMAN.fullmatch(written):
        return None
    values = [_ROMAN_VALUES[char] for char in written]
    return sum(-value if value < max(values[i:]) else value for i, value in enumerate(values))
