"""What the rules of rules_en.py call: functions from a match to its reading, and parts of patterns."""

from __future__ import annotations

import re

from svae.text.numbers_en import cardinal, digits, ordinal, quantity, roman, year
from svae.text.words_en import (
    ABBREVIATIONS,
    COMPOUND_UNITS,
    CURRENCIES,
    CURRENCY_CODES,
    DAYS,
    FRACTIONS,
    LETTERED,
    MONTHS,
    NUMBERED,
    SCALES,
    STARTERS,
    STREETS,
    UNITS,
)

Match = re.Match[str]


def letters(text: str) -> str:
    """Return the letters of a text to be spelled: `U-S`; an ending s of a plural apart: `C-E-O's`."""
    return "-".join(text.upper())


def ends_sentence(match: Match, *, any_capital: bool = False) -> str:
    """Return the full stop that an abbreviation's stands for as well, or nothing.

    Args:
        match: ends after the abbreviation.
        any_capital: what follows begins a sentence if it has a capital; otherwise only if it is a word that often does.
    """
    rest = match.string[match.end() :]
    if not re.sub(r"[\"')\]\s]", "", rest):
        return "."
    following = re.match(r"[\"')\]]*\s+[\"'(]*([A-Z][A-Za-z']*)", rest)
    if following is None:
        return ""
    word = following[1]
    if any_capital:
        name = word.rstrip("s").lower()[:3]
        is_date = name in {m[:3].lower() for m in (*MONTHS, *DAYS)} and word not in STARTERS
        return "" if is_date or re.fullmatch(r"[A-Z]{2,4}|Eastern|Pacific|Central", word) else "."
    return "." if word in STARTERS else ""


# ----------------------------------------------------------------------------------------------- addresses on the web


def read_web_part(text: str) -> str:
    """Return a part of a web address as it is read: words, and the signs between them by name."""
    names = {
        ".": " dot ", "/": " slash ", "-": " dash ", "_": " underscore ", "?": " question mark ", "=": " equals ",
        "&": " and ", "#": " hash ", "%": " percent ", "+": " plus ", "~": " tilde ", ":": " colon ", "@": " at ",
    }  # fmt: skip
    spoken = []
    for piece in re.findall(r"[A-Za-z']+|\d+|.", text):
        if piece.isdigit():
            spoken.append(cardinal(int(piece)) if len(piece) < 3 else digits(piece))
        elif piece[0].isalpha():
            low = piece.lower()
            spoken.append(
                letters(piece) if low in LETTERED or not set(low) & set("aeiouy") else piece
            )
        else:
            spoken.append(names.get(piece, " "))
    return " ".join(" ".join(spoken).split())


def read_address(match: Match) -> str:
    """Read an address of a page or of mail, without its scheme; stops after it stay."""
    written = re.sub(r"^(?:https?|ftp)://", "", match[0])
    tail = re.search(r"[.,;:!?)]*$", written)
    end = tail[0] if tail else ""
    return read_web_part(written[: len(written) - len(end)].rstrip("/")) + end


def read_host_and_port(match: Match) -> str:
    """Read a machine's name, the port by its digits, and a path."""
    stop = re.search(r"[.,;:!?)]*$", match[3])
    end = stop[0] if stop else ""
    path = match[3][: len(match[3]) - len(end)].rstrip("/")
    return (
        f"{read_web_part(match[1])} colon {digits(match[2])} {read_web_part(path)}".rstrip() + end
    )


def read_hashtag(match: Match) -> str:
    """Read a hashtag in its words: `#MondayMood`."""
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", match[1].replace("_", " "))
    return "hashtag " + " ".join(word if word.isupper() else word.lower() for word in words)


# ----------------------------------------------------------------------------------------------- dates and times

MONTH = r"(Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sept?(?:ember)?|Oct(?:ober)?|Nov(?:ember)?|Dec(?:ember)?)\b\.?"
RANGE = r"\s?-\s?"


def read_month(written: str) -> str:
    """Return the name of a month from its first three letters."""
    return next(month for month in MONTHS if month[:3].lower() == written[:3].lower())


def read_day(match: Match) -> str:
    """Month and day, and a year: May the fifth, twenty twenty three."""
    return f"{read_month(match[1])} {read_ordinal_of(match[2])}" + read_of_year(match[3])


def read_day_first(match: Match) -> str:
    """Read day, month and perhaps a year: the fifth of May."""
    spoken = f"{match[1] or 'the '}{read_ordinal_of(match[2])} of {read_month(match[3])}"
    return spoken + _stop_of_month(match, match[3]) + read_of_year(match[4])


def read_days_first(match: Match) -> str:
    """Read two days, a month and perhaps a year: the twelfth to the fourteenth of June."""
    first, last = read_ordinal_of(match[2]), read_ordinal_of(match[3])
    spoken = f"{match[1] or 'the '}{first} to the {last} of {read_month(match[4])}"
    return spoken + _stop_of_month(match, match[4]) + read_of_year(match[5])


def _stop_of_month(match: Match, month: str) -> str:
    """Return the full stop behind a month at the end of a match, where it is no abbreviation's."""
    if not match[0].endswith("."):
        return ""
    return "." if month in MONTHS else ends_sentence(match)


def read_date_and_time(match: Match) -> str:
    """Read a date and a time of day of ISO 8601, in UTC where that is said."""
    date = f"{MONTHS[int(match[2]) - 1]} {ordinal(int(match[3]))}, {year(int(match[1]))}"
    seconds = f" and {read_count(match[6], 'second')}" if match[6] and int(match[6]) else ""
    zone = " U-T-C" if match[7] else ""
    if match[7] and match[7] != "Z":
        zone += f" {'plus' if match[7][0] == '+' else 'minus'} {cardinal(int(match[7][1:3]))}"
    return f"{date}, {read_clock(int(match[4]), int(match[5]))}{seconds}{zone}"


def read_of_year(written: str | None) -> str:
    """Read a comma and a year, or nothing."""
    return f", {year(int(written))}" if written else ""


def read_ordinal_of(written: str) -> str:
    """Read the ordinal of the digits in a text."""
    return ordinal(int(re.sub(r"\D", "", written)))


def read_numeric_date(first: int, second: int, full_year: int, match: Match) -> str:
    """American order, unless the first number is no month."""
    month, day = (first, second) if first <= 12 else (second, first)
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return match[0]
    return f"{MONTHS[month - 1]} {ordinal(day)}, {year(full_year)}"


def read_clock(hour: int, minute: int | None, half: str = "") -> str:
    """Read a time of day; `half` is A-M, P-M or nothing."""
    spoken = cardinal(hour)
    if minute is not None and minute:
        spoken += f" {'oh ' if minute < 10 else ''}{cardinal(minute)}"
    elif minute == 0 and not half:
        spoken += " o'clock" if 0 < hour <= 12 else " hundred hours" if hour > 12 else " hundred"
    return f"{spoken} {half}" if half else spoken


def read_half(written: str) -> str:
    """Read A-M or P-M."""
    return f"{written[0].upper()}-M"


def read_time(match: Match) -> str:
    """Read hours and minutes, unless they are none."""
    hour, minute = int(match[1]), int(match[2])
    if hour > 24 or minute > 59:
        return match[0]
    return read_clock(hour, minute)


def read_time_with_half(match: Match) -> str:
    """Read a time before or after noon, with the stop of a sentence that ends in `p.m.`."""
    minute = int(match[2]) if match[2] else None
    stop = ends_sentence(match, any_capital=True) if match[0].endswith(".") else ""
    return read_clock(int(match[1]), minute, read_half(match[3])) + stop


def read_long_time(match: Match) -> str:
    """Read how long something took: minutes and seconds, or hours and minutes."""
    large, small = ("hour", "minute") if match[3].startswith("h") else ("minute", "second")
    stop = ends_sentence(match) if match[0].endswith(".") else ""
    first = read_count(match[1], large)
    return (f"{first} and {read_count(match[2], small)}" if int(match[2]) else first) + stop


def read_time_range(match: Match) -> str:
    """Read from one time to another, `10-11am`."""
    first = read_clock(
        int(match[1]), int(match[2]) if match[2] else None, read_half(match[3]) if match[3] else ""
    )
    if not match[3] and match[2] and int(match[2]) == 0:
        first = cardinal(int(match[1]))
    return (
        f"{first} to {read_clock(int(match[4]), int(match[5]) if match[5] else None, read_half(match[6]))}"
        + (ends_sentence(match, any_capital=True) if match[0].endswith(".") else "")
    )


def read_verse(match: Match) -> str:
    """Read chapter and verse: John three sixteen."""
    first = int(match[3])
    verse = cardinal(first) if first > 9 and not match[4] else f"verse {cardinal(first)}"
    if match[4]:
        verse = f"verses {cardinal(first)} to {cardinal(int(match[4]))}"
    comma = "" if first > 9 and not match[4] else ","
    return f"{match[1]} {cardinal(int(match[2]))}{comma} {verse}"


# ----------------------------------------------------------------------------------------------- numbers

NUMBER = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+"
SIGNED = rf"(?:(?<![\w)])[-\N{{MINUS SIGN}}])?(?:{NUMBER})"
SCALE = r"(?:[\s-]?(thousand|million|billion|trillion)\b|\s?(k|K|mn?|M|MM|bn?|B|tn|T)\b)?"
COIN = "[" + re.escape("".join(sign for sign in CURRENCIES if len(sign) == 1)) + "]"


def read_money_parts(
    sign: str, written: str, scale: str | None, *, single: bool = False, country: str = ""
) -> str:
    """Read an amount in a currency; `single` gives the form before a noun, a six dollar burger."""
    one, many, cent, cents = CURRENCIES[sign]
    one, many = f"{country} {one}".strip(), f"{country} {many}".strip()
    if scale:
        word = SCALES.get(scale.lower(), scale.lower())
        return f"{quantity(written)} {word} {one if single else many}"
    whole, point, rest = written.replace(",", "").partition(".")
    if point and len(rest) == 2 and cent:
        minor = int(rest)
        small = f"{cardinal(minor)} {cent if minor == 1 or single else cents}"
        if not int(whole or "0"):
            return small
        large = f"{cardinal(int(whole))} {one if int(whole) == 1 or single else many}"
        return f"{large} and {small}" if minor else large
    return f"{quantity(written)} {one if written == '1' or single else many}"


def read_money(match: Match) -> str:
    """Read an amount: group 1 its minus, 2 the sign, 3 the number, 4 and 5 its scale."""
    sign = "minus " if match[1] else ""
    return sign + read_money_parts(match[2], match[3], match[4] or match[5])


def read_coded_money(code: str, written: str, scale: str | None) -> str:
    """Read an amount whose currency is given by its three letters."""
    sign, country = CURRENCY_CODES[code]
    return read_money_parts(sign, written, scale, country=country)


def read_money_before_noun(match: Match) -> str:
    """Read an amount between an article and a noun."""
    return f"{match[1]} {read_money_parts(match[2], match[3], match[4] or match[5], single=True)}"


def read_money_range(match: Match) -> str:
    """Read from one amount to another; the currency is named once."""
    scale = match[6] or match[7]
    first = match[3] or match[4]
    if "." in match[2]:
        start = read_money_parts(match[1], match[2], first)
    else:
        start = quantity(match[2]) + (
            f" {SCALES.get(first.lower(), first.lower())}" if first else ""
        )
    return f"{start} to {read_money_parts(match[1], match[5], scale)}"


def read_years(match: Match) -> str:
    """Read from one year to another, which may have two digits."""
    first, second = int(match[1]), match[2]
    return f"{year(first)} to {year(int(second)) if len(second) == 4 else cardinal(int(second))}"


def read_fraction(top: int, bottom: int) -> str | None:
    """Read a fraction by name, or None where it has none."""
    if bottom in (2, 4):
        name = FRACTIONS[bottom]
        return f"{cardinal(top)} {name if top == 1 else ('halves' if bottom == 2 else name + 's')}"
    if 3 <= bottom <= 100 and top < bottom:
        return f"{cardinal(top)} {ordinal(bottom)}{'' if top == 1 else 's'}"
    return None


def read_mixed_fraction(match: Match) -> str:
    """Read a whole number and a fraction."""
    fraction = read_fraction(int(match[2]), int(match[3]))
    if fraction is None:
        return match[0]
    return f"{cardinal(int(match[1]))} and {'a' if match[2] == '1' else ''}{fraction.removeprefix('one')}".replace(
        "  ", " "
    )


def read_plain_fraction(match: Match, first: int = 1) -> str:
    """Read a fraction by name, or one number over the other; `first` is the group of the upper one."""
    top, bottom = int(match[first]), int(match[first + 1])
    return read_fraction(top, bottom) or f"{cardinal(top)} over {cardinal(bottom)}"


def read_dotted_number(written: str, dot: str = " point ") -> str:
    """Read numbers with points between them, each read as a number: version three point twelve."""
    return dot.join(
        digits(part) if len(part) > 1 and part[0] == "0" else cardinal(int(part))
        for part in written.split(".")
    )


def read_characters(text: str) -> str:
    """Return letters and digits one by one; everything else in the text is left out."""
    return " ".join(digits(char) or char.upper() for char in text if char.isalnum())


def read_serial(match: Match) -> str:
    """Read a serial number group by group: letters are spelled, three digits and more are read one by one."""
    spoken = []
    for group in re.findall(r"[A-Z]+|\d+", match[0]):
        if group.isdigit():
            spoken.append(
                digits(group) if len(group) > 2 or group[0] == "0" else cardinal(int(group))
            )
        else:
            spoken.append(letters(group) if len(group) < 4 else group)
    return " ".join(spoken)


def digits_or_letters(text: str) -> str:
    """Return digits in words and letters as they are: one A."""
    return " ".join(digits(char) if char.isdigit() else char for char in text)


def read_count(written: str, name: str) -> str:
    """Read a number of things, in the singular for one."""
    number = int(written)
    return f"{cardinal(number)} {name if number == 1 else name + 's'}"


def read_quantity_range(match: Match) -> str:
    """Read from one number to another."""
    return f"{quantity(match[1])} to {quantity(match[2])}"


def read_unit_name(written: str) -> tuple[str, str] | None:
    """Return singular and plural of a unit as written, compound ones included."""
    if written in COMPOUND_UNITS:
        return COMPOUND_UNITS[written]
    if written in UNITS:
        return UNITS[written]
    if "/" in written:
        above, below = written.split("/", 1)
        power = {"2": " squared", "²": " squared", "3": " cubed", "³": " cubed"}.get(below[-1:], "")
        below = below[:-1] if power else below
        lower = UNITS[below][0] if below in UNITS else PER.get(below)
        upper = UNITS.get(above)
        if upper and lower:
            return f"{upper[0]} per {lower}{power}", f"{upper[1]} per {lower}{power}"
    for sign, name in (("2", "square"), ("²", "square"), ("3", "cubic"), ("³", "cubic")):
        if written.endswith(sign) and written[:-1] in UNITS:
            one, many = UNITS[written[:-1]]
            return f"{name} {one}", f"{name} {many}"
    return None


UNIT_NAMES = "|".join(
    re.escape(name) for name in sorted({*UNITS, *COMPOUND_UNITS}, key=len, reverse=True)
)
UNIT = rf"((?:{UNIT_NAMES})(?:/(?:{UNIT_NAMES}|day|week|month|year|hour|minute|second|person))?[²³]?|(?:mm|cm|m|km|ft|in)[23](?!\d))(?![\w/])"
NOT_COUNTED = frozenset(
    "a an the is was are were and or of in at to for from by with on as but than per long wide high tall deep away old "
    "later ago apart above below today yesterday now then each more less over under north south east west since so "
    "every if that which who when while because after before until into only yet nor he she it they we you i had has "
    "off up down out left first".split()
)


def read_inches(match: Match) -> str:
    """Read a number and the sign of inches, unless it closes a quotation."""
    if _closes_quotation(match):
        return match[0]
    alone = match.string[match.end() : match.end() + 1] in (" ", "-") and not re.match(
        r"\s?[x×]", match.string[match.end() :]
    )
    return f"{quantity(match[1])} {'inch' if alone or match[1] == '1' else 'inches'}"


def read_fraction_of_inch(match: Match) -> str:
    """Read a fraction and the sign of inches, unless it closes a quotation: one and a half inch."""
    fraction = read_mixed_fraction(match) if match[1] else read_plain_fraction(match, 2)
    return match[0] if _closes_quotation(match) else f"{fraction} inch"


def _closes_quotation(match: Match) -> bool:
    """Return whether the sign of inches at the end of a match is a quotation mark; behind a digit others are of inches."""
    is_open = False
    for sign in re.finditer(r"(?<=(\d))\"|\"", match.string[: match.end() - 1]):
        is_open = not is_open and sign[1] is None
    return is_open


def read_by(match: Match) -> str:
    """Read one number by another, with the unit of both if there is one."""
    names = read_unit_name(match[3]) if match[3] else None
    unit = f" {names[1]}" if names else ""
    return f"{quantity(match[1])} by {quantity(match[2])}{unit}"


def read_with_unit(match: Match) -> str:
    """A number and a unit; the unit in the singular after one, or before a noun after `a`."""
    article, number, gap, unit = match[1] or "", match[2], match[3], match[4]
    names = read_unit_name(unit)
    if names is None or not read_is_unit(match, unit, gap):
        return match[0]
    noun = r"[a-z]{3,}|[A-Z]{2,}" if article.lower() in ("a ", "an ") else r"[a-z]{3,}"
    following = re.match(rf"\s+({noun})", match.string[match.end() :])
    before_noun = bool(article) and following is not None and following[1] not in NOT_COUNTED
    single = number == "1" or before_noun or gap == "-"
    return f"{article}{quantity(number)} {names[0] if single else names[1]}"


def read_is_unit(match: Match, unit: str, gap: str) -> bool:
    """Return whether what may be another word is a unit here: no `5 in the box`, no `the 90s`."""
    rest = match.string[match.end() :]
    if unit == "in":
        is_end = match[0][-1] == "." or re.match(r"\.(?:[ ,]|$)", rest) is not None
        has_measure = (
            re.match(r"\s*(?:[x×,)]|by\b|long|wide|tall|high|deep|thick)", rest) is not None
        )
        return gap == "" or is_end or has_measure
    if unit in ("s", "d"):
        is_decade = gap == "" and unit == "s" and re.fullmatch(r"\d0|\d{3}0", match[2]) is not None
        return not is_decade and (gap == "" or rest[:1] in (".", ",", ""))
    return True


def read_roman_after(match: Match) -> str:
    """Read a Roman numeral after a word such as Chapter."""
    value, following = roman(match[2]), re.match(r"\s+([a-z']+)", match.string[match.end() :])
    is_letter = len(match[2]) == 1 and match[2] in "CDLM"
    is_pronoun = (
        match[2] == "I"
        and "War" not in match[1]
        and (match[1][0].islower() or following is not None and following[1] not in AFTER_PART)
    )
    if value is None or is_letter or is_pronoun:
        return match[0]
    return f"{match[1]} {cardinal(value)}"


def read_two_romans_after(match: Match) -> str:
    """Read two Roman numerals after the name of what they count: `Chapters I-IV`."""
    first, second = roman(match[2]), roman(match[4])
    if first is None or second is None or {match[2], match[4]} & set("CDLM"):
        return match[0]
    if match[1][-1] != "s" and "-" not in match[3] and "I" in (match[2], match[4]):
        return match[0]  # a pronoun, perhaps
    between = " to " if "-" in match[3] else match[3]
    return f"{match[1]} {cardinal(first)}{between}{cardinal(second)}"


def read_roman_of_name(match: Match) -> str:
    """Read a Roman numeral after the name of a ruler, as an ordinal."""
    value = roman(match[2])
    return match[0] if value is None or value > 40 else f"{match[1]} the {ordinal(value)}"


def read_phone(match: Match) -> str:
    """Read a telephone number digit by digit, its groups apart."""
    groups = re.findall(r"\d+", match[0])
    spoken = []
    for group in groups:
        if group in ("800", "900"):
            spoken.append(f"{digits(group[0])} hundred")
        else:
            spoken.append(digits(group))
    plus = "plus " if match[0].lstrip("( ").startswith("+") else ""
    return plus + ", ".join(spoken)


def read_score(match: Match) -> str:
    """Read a result of two numbers."""
    zero = "nil" if match[2] == "0" and int(match[1]) < 10 else cardinal(int(match[2]))
    return f"{cardinal(int(match[1]))} to {zero}"


def read_street(match: Match) -> str:
    """`Elm Dr.` and `Main St.`, but not `See Dr. Smith` or `Visit St. Paul`."""
    rest = match.string[match.end() :]
    following = re.match(r"\s+([A-Z][\w']*)", rest)
    name_follows = following is not None and following[1] not in STARTERS
    if match[2] in ("Dr", "St") and name_follows or match[1] in STARTERS:
        return match[0]
    stop = ends_sentence(match) if match[0].endswith(".") else ""
    return f"{match[1]} {STREETS[match[2]]}{stop}"


def read_direction(match: Match) -> str:
    """`N. State St.` and `W. 8th St.`, but not the initial of a name."""
    rest = match.string[match.end() :]
    names = "|".join([*STREETS, *STREETS.values()])
    if not re.match(rf"\d+(?:st|nd|rd|th)\b|[A-Z][a-z]+ (?:{names})\b", rest):
        return match[0]
    return {"N": "North", "S": "South", "E": "East", "W": "West"}[match[1]] + " "


def read_abbreviation(match: Match) -> str:
    """Read an abbreviation in full, with the stop of a sentence that ends in it."""
    written = match[0]
    spoken, may_end = ABBREVIATIONS[written]
    stop = ends_sentence(match, any_capital=written == "etc.") if may_end else ""
    return spoken + stop


def read_dotted_letters(match: Match) -> str:
    """Read letters with full stops after them, spelled."""
    return letters(re.sub(r"[^A-Za-z]", "", match[0])) + ends_sentence(match)


def read_half_day(match: Match) -> str:
    """Read `p.m.` without a number before it."""
    return read_half(match[1]) + ends_sentence(match, any_capital=True)


def read_numbered(match: Match) -> str:
    """Read an abbreviation before a number: Fig. 2."""
    return (
        NUMBERED[match[1].rstrip(".").lower()].capitalize() + " "
        if match[1][0].isupper()
        else NUMBERED[match[1].rstrip(".").lower()] + " "
    )


COUNTED = (
    "people|users|views|viewers|followers|subscribers|customers|households|homes|jobs|copies|tons|tonnes|barrels|children|"
    "students|workers|votes|voters|downloads|units|residents|inhabitants|visitors|members|players|fans|years|dollars|euros|"
    "pounds|steps|miles|Americans|Britons|cars|cases|doses|acres|hectares|tokens|parameters|hours|lines|words|new|active|"
    "more|other|passengers|tourists|refugees|patients|readers|listeners|likes|comments|shares|times"
)
_NUMBERED_WITH_LETTERS = re.compile(
    r"\b(?:table|fig(?:ure)?|section|chapter|exercise|equation|version|appendix)\.? $",
    re.IGNORECASE,
)


def read_decimal_count(match: Match) -> str:
    """Read 2.5M as millions, unless it numbers a table or a section."""
    if _NUMBERED_WITH_LETTERS.search(match.string[: match.start()]):
        return match[0]
    return f"{quantity(match[1])} {SCALES[match[2].lower()]}"


KINGS = (
    "Henry|Elizabeth|Charles|George|Edward|William|James|Richard|Louis|Philip|Francis|John Paul|Benedict|Pius|Leo|Gregory|"
    "Alexander|Nicholas|Catherine|Peter|Frederick|Ferdinand|Napoleon|Ramses|Ramesses|Mary|Margaret|Harald|Olaf|Gustav|"
    "Christian|Otto|Ludwig|Wilhelm|Joseph|Leopold|Umberto|Victor Emmanuel|Juan Carlos|Felipe|Alfonso|Clement|Innocent|"
    "Urban|Boniface|Paul|John|Robert|David|Malcolm|Ivan|Stephen|Thutmose|Amenhotep|Cleopatra|Ptolemy|Darius|Xerxes"
)
PLACES = r"(?:King|Queen|Pope|Emperor|Empress|Tsar|Czar|Prince|Princess|Sultan|Pharaoh|Saint)"
AFTER = (
    "Chapter|chapter|Part|part|Act|act|Scene|scene|Volume|volume|Book|book|Section|section|Article|article|Appendix|"
    "appendix|Phase|phase|Type|type|Class|class|Level|level|World War|Super Bowl|Stage|stage|Title|Grade|Figure|Table|"
    "Mark|Rocky|Apollo|Schedule|Form|Division|division|Episode|Unit|Season|Game|Canto|War"
)
AFTER_PART = frozenset(
    "is was begins began ends ended of and or to in has had covers tells shows describes deals opens starts by for on".split()
)
"""What follows the numeral of `Part I` rather than the pronoun."""
BIBLE = (
    "Genesis|Exodus|Leviticus|Deuteronomy|Joshua|Judges|Ruth|Samuel|Kings|Chronicles|Ezra|Nehemiah|Esther|Job|Psalms?|"
    "Proverbs|Ecclesiastes|Isaiah|Jeremiah|Lamentations|Ezekiel|Daniel|Hosea|Joel|Amos|Jonah|Micah|Matthew|Mark|Luke|John|"
    "Acts|Romans|Corinthians|Galatians|Ephesians|Philippians|Colossians|Timothy|Titus|Hebrews|James|Peter|Revelation|Surah"
)
PHONE_WORDS = r"(?:[Cc]all|[Dd]ial|[Rr]ing|[Tt]ext|[Pp]hone|[Tt]elephone|[Tt]el\.?|[Ff]ax)"
PER = {
    "month": "month", "mo": "month", "year": "year", "yr": "year", "day": "day", "week": "week", "wk": "week",
    "hour": "hour", "hr": "hour", "h": "hour", "night": "night", "person": "person", "user": "user", "lb": "pound",
    "kg": "kilogram", "g": "gram", "gal": "gallon", "liter": "liter", "litre": "litre", "sqft": "square foot",
    "mile": "mile", "min": "minute", "minute": "minute", "item": "item", "unit": "unit", "piece": "piece",
    "barrel": "barrel", "ton": "ton", "head": "head", "seat": "seat", "share": "share",
}  # fmt: skip
