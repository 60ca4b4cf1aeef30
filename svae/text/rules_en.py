r"""How written English is read aloud: a table of rules, applied in their order before wetext's grammar.

A rule is a row of `RULES`: its kind, a pattern, what is read in its place (a template such as `\1 and a half`, or a
function of the match), and an example with its reading. A new rule is a new row; tests/text/test_rules_en.py reads every
example with the whole of `spoken_form`. A letter that is spelled is written in capitals joined by hyphens (`U-S`), so that
it is neither an ending of a sentence nor another word.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from svae.text.numbers_en import cardinal, decade, digits, ordinal, plural, quantity, roman, year
from svae.text.readings_en import (
    AFTER,
    BIBLE,
    COIN,
    COUNTED,
    KINGS,
    MONTH,
    NOT_COUNTED,
    NUMBER,
    PER,
    PHONE_WORDS,
    PLACES,
    RANGE,
    SCALE,
    SIGNED,
    UNIT,
    Match,
    digits_or_letters,
    ends_sentence,
    letters,
    read_abbreviation,
    read_address,
    read_clock,
    read_count,
    read_day,
    read_day_first,
    read_direction,
    read_dotted_letters,
    read_dotted_number,
    read_half,
    read_half_day,
    read_hashtag,
    read_host_and_port,
    read_inches,
    read_mixed_fraction,
    read_money,
    read_money_before_noun,
    read_money_parts,
    read_money_range,
    read_month,
    read_numbered,
    read_numeric_date,
    read_of_year,
    read_ordinal_of,
    read_phone,
    read_plain_fraction,
    read_quantity_range,
    read_roman_after,
    read_roman_of_name,
    read_score,
    read_street,
    read_time,
    read_time_range,
    read_time_with_half,
    read_verse,
    read_web_part,
    read_with_unit,
    read_years,
)
from svae.text.words_en import (
    ABBREVIATIONS,
    DAYS,
    EXTENSIONS,
    MONTHS,
    NUMBERED,
    SCALES,
    SHORT_DOMAINS,
    STARTERS,
    STREETS,
    SYMBOLS,
    TOP_DOMAINS,
    UNITS,
)


class Rule(NamedTuple):
    """One way of reading."""

    kind: str
    pattern: re.Pattern[str]
    reading: str | Callable[[Match], str]
    example: str
    spoken: str


def _rule(
    kind: str, pattern: str, reading: str | Callable[[Match], str], example: str, spoken: str
) -> Rule:
    return Rule(kind, re.compile(pattern), reading, example, spoken)


RULES: tuple[Rule, ...] = (
    # Signs that other rules count on.
    _rule("sign", r"(\d)\s?½", r"\1 1/2", "The drive took 1½ hours.", "The drive took one and a half hours."),
    _rule("sign", r"(\d)\s?¼", r"\1 1/4", "It is 2¼ inches.", "It is two and a quarter inches."),
    _rule("sign", r"(\d)\s?¾", r"\1 3/4", "Use 2¾ cups.", "Use two and three quarters cups."),
    _rule("sign", r"[½¼¾⅓⅔⅛⅜⅝⅞⅕⅖⅗⅘⅙⅚]", lambda m: {"½": "1/2", "¼": "1/4", "¾": "3/4", "⅓": "1/3", "⅔": "2/3", "⅛": "1/8", "⅜": "3/8", "⅝": "5/8", "⅞": "7/8", "⅕": "1/5", "⅖": "2/5", "⅗": "3/5", "⅘": "4/5", "⅙": "1/6", "⅚": "5/6"}[m[0]], "About ⅔ of them", "About two thirds of them"),
    _rule("sign", r"(?<![\w'])(?=[A-Za-z]*[₀-₉])(?:[A-Z][a-z]?[₀-₉]*){2,9}(?!\w)", lambda m: " ".join(re.findall(r"[A-Z][a-z]?|[₀-₉]+", m[0])), "Mix H₂SO₄ here.", "Mix H two S O four here."),
    _rule("sign", r"[₀-₉]+", lambda m: "".join(chr(ord(c) - 0x2080 + 48) for c in m[0]), "Plants need H₂O.", "Plants need H two O."),
    _rule("sign", r"℃|º\s?C|°\s?C\b|° C\b", "°C", "25 ° C", "twenty five degrees Celsius"),
    _rule("sign", r"℉|º\s?F|°\s?F\b", "°F", "70 °F", "seventy degrees Fahrenheit"),
    _rule("sign", "№\\s?", "No. ", "№ 5", "number five"),
    # Dashes that part a sentence are pauses.
    _rule("dash", r"(?<=[^\s\d-])\s*--+\s*(?=\S)|(?<=[\w,.!?\"')])\s+-\s+(?=[A-Za-z\"'])(?<![\d=] - )", ", ", "He stopped - then ran -- fast.", "He stopped, then ran, fast."),
    _rule("dash", r"(?<=\w)\s*--+\s*$", ",", "But I --", "But I,"),
    # The web.
    _rule("web", r"\b(?:https?|ftp)://[^\s\"<>]+|\bwww\.[^\s\"<>]+", read_address, "The site is https://example.org/help.", "The site is example dot org slash help."),
    _rule("web", r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+", read_address, "Mail jane.doe@mail.net now.", "Mail jane dot doe at mail dot net now."),
    _rule("web", rf"(?<![\w@.])(?:[A-Za-z0-9-]+\.)+(?:{TOP_DOMAINS})\b(?:/[^\s\"<>]*)?(?!\.?\w)", read_address, "Go to bbc.co.uk/news.", "Go to B-B-C dot co dot U-K slash news."),
    _rule("web", rf"(?<![\w@.])(?:[A-Za-z0-9-]+\.)+(?:{SHORT_DOMAINS})/[^\s\"<>]+", read_address, "Join t.me/chat today.", "Join T dot me slash chat today."),
    _rule("web", r"\b(localhost|[\w-]+(?:\.[\w-]+)+):(\d{2,5})\b((?:/[^\s\"<>]*)?)", read_host_and_port, "Open localhost:8080/admin first.", "Open localhost colon eight zero eight zero slash admin first."),
    _rule("web", rf"\b[\w-]+(?:\.[\w-]+)*\.(?:{EXTENSIONS})\b", lambda m: read_web_part(m[0]), "Open report.pdf first.", "Open report dot P-D-F first."),
    _rule("web", r"(?<!\S)~?/[\w.-]+(?:/[\w.-]+)+/?(?<![.])", lambda m: read_web_part(m[0]), "See /usr/bin now.", "See slash U-S-R slash bin now."),
    _rule("web", r"(?<![\w&])#([A-Za-z_]\w*)", read_hashtag, "Post it with #MondayMood tonight.", "Post it with hashtag monday mood tonight."),
    _rule("web", r"(?<!\w)@(?=\w)", "at ", "Follow @annika for news.", "Follow at annika for news."),
    # Abbreviations, streets, letters with dots.
    _rule("address", r"(?<![A-Z]\. )\b([NSEW])(?:\. | (?=\d))(?=[A-Z\d])", read_direction, "Walk to N. State St. now.", "Walk to North State Street now."),
    _rule("code", r"\b([A-Z]{1,2})(\d[A-Z\d]?) (\d)([A-Z]{2})\b", lambda m: f"{letters(m[1])} {digits_or_letters(m[2])}, {digits(m[3])} {letters(m[4])}", "London NW1 6XE", "London N-W one, six X-E"),
    _rule("address", rf"\b([A-Z][a-z]+(?:'s)?|\d+(?:st|nd|rd|th)) ({'|'.join(STREETS)})\b\.?(?!\w)", read_street, "Dr. Patel lives on Oak Dr. near us.", "Doctor Patel lives on Oak Drive near us."),
    _rule("abbreviation", r"\b(?:[A-Z]\. ){2,}[A-Z]\.", read_dotted_letters, "Spell it N. O. R. A. for me.", "Spell it N-O-R-A for me."),
    _rule("abbreviation", r"\b(Ph|M|J|D|LL)\.(D|B|A|Phil)\.s\b", lambda m: letters(m[1] + m[2]) + "'s", "Two M.D.s came.", "Two M-D's came."),
    _rule("abbreviation", r"\bPh\.\s?D\.?|\bPhDs?\b", lambda m: "P-H-D" + ("'s" if m[0].endswith("s") else ends_sentence(m) if m[0].endswith(".") else ""), "She has a Ph.D. in law.", "She has a P-H-D in law."),
    _rule("time", r"\b(\d{1,2})(?::(\d\d))?\s?([ap])\.?\s?m\b\.?" + RANGE + r"(?=\d)", lambda m: f"{read_clock(int(m[1]), int(m[2]) if m[2] else None, read_half(m[3]))} to ", "Open 9am-5pm daily.", "Open nine A-M to five P-M daily."),
    _rule("time", r"\b(\d{1,2})(?::(\d\d))?()\s?(?:-|to)\s?(\d{1,2})(?::(\d\d))?\s?([apAP])\.?[mM]\b\.?", read_time_range, "The class is 10-11am daily.", "The class is ten to eleven A-M daily."),
    _rule("time", r"\b(noon|midnight)-(?=\d)", r"\1 to ", "Lunch is from noon-1pm.", "Lunch is from noon to one P-M."),
    _rule("time", r"\b(\d{1,2})(?:[:.](\d\d))?\s?([apAP])\.?\s?[mM]\b\.?(?![\w])", read_time_with_half, "The plane landed at 4:07 p.m. Nobody clapped.", "The plane landed at four oh seven P-M. Nobody clapped."),
    _rule("time", r"\b([ap])\.\s?m\.", read_half_day, "He came in the p.m. and left.", "He came in the P-M and left."),
    _rule("abbreviation", r"\b(?:[A-Za-z]\.){2,}(?<!e\.g\.)(?<!i\.e\.)(?<!E\.g\.)(?<!I\.e\.)", lambda m: read_dotted_letters(m), "The U.S. economy grew.", "The U-S economy grew."),
    _rule("abbreviation", r"\b(?:[A-Z]\.){1,}[A-Z]\b(?!\.)", lambda m: letters(m[0].replace(".", "")), "The U.S economy", "The U-S economy"),
    _rule("abbreviation", r"(?<![\w.])(?:" + "|".join(re.escape(a) for a in sorted(ABBREVIATIONS, key=len, reverse=True)) + r")(?![\w])", read_abbreviation, "Pack socks, shirts, etc. We leave early.", "Pack socks, shirts, et cetera. We leave early."),
    _rule("abbreviation", rf"\b({'|'.join(n + '|' + n.capitalize() for n in sorted(NUMBERED, key=len, reverse=True))})\.\s?(?=\d|[IVXL]+\b)", read_numbered, "As fig. 3 on p. 15 shows, it works.", "As figure three on page fifteen shows, it works."),
    _rule("abbreviation", r"\b([Mm])(ax|(?<!\d [Mm])(?<!\d[Mm])in)\.\s?(?=\d)", r"\1\2imum ", "Use min. 3 of them.", "Use minimum three of them."),
    _rule("abbreviation", r"\b(I-?D|ID|[Pp]hone|[Aa]ccount|[Ss]erial|[Oo]rder|[Tt]icket|[Rr]oom|[Ff]light|[Mm]odel|[Pp]art|[Cc]ase|[Tt]el) no\.(?!\w)", r"\1 number", "Write your phone no. here.", "Write your phone number here."),
    _rule("abbreviation", r"(?<=[a-z]) v\.? (?=[A-Z])", " versus ", "In Roe v. Wade it ruled.", "In Roe versus Wade it ruled."),
    _rule("abbreviation", r"(?:\bNo|(?<![,.] )\bno)\.\s?(?=\d)", "number ", "Take bus No. 5 to the park.", "Take bus number five to the park."),
    _rule("initial", r"(?<![\w.'-])([A-HJ-Z])\. (?=(?:[A-Z]\. )*[A-Z][a-z])", lambda m: m[0] if re.match(r"(?:[A-Z]\. )*(\w+)", m.string[m.end() :])[1] in STARTERS else f"{m[1]} ", "He met J. R. Smith.", "He met J R Smith."),  # type: ignore[index]
    _rule("initial", r"(?<=[A-Z] )I\. (?=[A-Z][a-z])|(?<=[a-z] )I\. (?=[A-Z]\. [A-Z])", "I ", "By J. I. Packer", "By J I Packer"),
    # Phones with points between their groups, before these are versions.
    _rule("phone", r"(?<![\d.])(?:1\.)?\d{3}\.\d{3}\.\d{4}(?![\d.]\d)", read_phone, "Call 415.555.0132 first.", "Call four one five, five five five, zero one three two first."),
    # Versions, addresses of machines, sections.
    _rule("date", r"\b(\d{1,2})\.(\d{1,2})\.([12]\d{3})\b", lambda m: read_numeric_date(int(m[2]), int(m[1]), int(m[3]), m), "On 25.12.2019", "On December twenty fifth, twenty nineteen"),
    _rule("ip", r"\b\d{1,3}(?:\.\d{1,3}){3}\b(?!\.\d)", lambda m: read_dotted_number(m[0], " dot "), "Ping 192.168.1.20 first.", "Ping one hundred and ninety two dot one hundred and sixty eight dot one dot twenty first."),
    _rule("version", r"\b([Vv])(?:er)?\.?\s?(\d+(?:\.\d+)*)\b(?!\.?\d)", lambda m: f"version {read_dotted_number(m[2])}", "The update to v2.0 is free.", "The update to version two point zero is free."),
    _rule("version", r"\b(\d+(?:\.\d+){2,})\b", lambda m: read_dotted_number(m[1]), "Release 10.0.1 fixed it.", "Release ten point zero point one fixed it."),
    _rule("version", r"\b(Python|[Vv]ersion|[Rr]elease|Ubuntu|Java|Node|Android|iOS|macOS|Windows|Django|PHP|Ruby|Rust|Go|Perl|Linux|CUDA|PyTorch|[Ss]ection|[Cc]hapter|[Ff]igure|[Tt]able|[Ee]quation|[Ee]xercise|[Uu]pdate|[Bb]uild|[Kk]ernel) (\d+\.\d+)\b(?!%|\s?(?:percent|million))", lambda m: f"{m[1]} {read_dotted_number(m[2])}", "It needs Python 3.12 or newer.", "It needs Python three point twelve or newer."),
    _rule("number", r"(?<![\d,.] )(?<![\d,.])\b([1-9]\d{0,2}(?: \d{3})*? 000(?: \d{3})*)\b(?! \d|[.,]\d)", lambda m: cardinal(int(m[1].replace(" ", ""))), "About 50 000 people came.", "About fifty thousand people came."),
    # Phones.
    _rule("phone", r"\+\d{1,3}(?:[ .-]?\(?\d{1,4}\)?){2,5}(?!\d)", read_phone, "Ring +44 20 7946 0018.", "Ring plus four four, two zero, seven nine four six, zero zero one eight."),
    _rule("phone", r"(?<![\d$-])(?:1[ .-])?(?:\(\d{3}\)\s?|\d{3}[ .-])\d{3}[ .-]\d{4}\b(?![-\d])", read_phone, "My number is (212) 555-0176.", "My number is two one two, five five five, zero one seven six."),
    _rule("phone", r"(?<![\d$,.-])\d{3}-\d{4}\b(?![-\d])", read_phone, "Call 555-1234.", "Call five five five, one two three four."),
    _rule("phone", r"(?<![\d.,$£€-])(?:\(0\d{1,5}\)|\b0\d{2,5}\b)(?:[ -]\d{3,8}){1,3}\b(?!\s?%|[.,]\d)", read_phone, "Ring 020 7946 0018.", "Ring zero two zero, seven nine four six, zero zero one eight."),
    _rule("phone", rf"\b({PHONE_WORDS}) (\d{{3,}})\b(?! ?(?:people|times|of|customers|men|women|minutes|[a-z]+s\b))", lambda m: f"{m[1]} {digits(m[2])}", "Dial 911 in an emergency.", "Dial nine one one in an emergency."),
    _rule("phone", rf"\b({PHONE_WORDS} [a-z ]+) or (\d{{3,}})\b(?! ?[a-z])", lambda m: f"{m[1]} or {digits(m[2])}", "Dial 112 or 999.", "Dial one one two or nine nine nine."),
    _rule("phone", r"\b([Tt]ext (?:[\w']+ ){1,3}to) (\d{4,6})\b(?! ?[a-z]+s\b| people)", lambda m: f"{m[1]} {digits(m[2])}", "Text HELP to 40404.", "Text HELP to four zero four zero four."),
    _rule("phone", r"\b(911|999|112|411|311|988)(?= (?:call|operator|dispatcher|emergency))", lambda m: digits(m[1]), "A 911 call came.", "A nine one one call came."),
    _rule("code", r"\b([A-Z]{2}|[Zz]ip|ZIP)((?: code)?(?: is)?) (\d{5})\b(?![,\d])", lambda m: f"{m[1]}{m[2]} {digits(m[3])}", "Boston, MA 02134", "Boston, M-A zero two one three four"),
    _rule("code", r"\b(Boeing|Airbus|[Ff]light|[Hh]ighway|[Rr]oute|[Ii]nterstate) ([1-9])(\d\d)\b", lambda m: f"{m[1]} {cardinal(int(m[2]))} {'oh ' if m[3][0] == '0' and m[3] != '00' else ''}{'hundred' if m[3] == '00' else cardinal(int(m[3]))}", "The Boeing 747 landed.", "The Boeing seven forty seven landed."),
    # Dates.
    _rule("date", r"\b([12]\d{3})[-/](0[1-9]|1[0-2])[-/](0[1-9]|[12]\d|3[01])\b(?:T(?=\d))?", lambda m: f"{MONTHS[int(m[2]) - 1]} {ordinal(int(m[3]))}, {year(int(m[1]))}", "The meeting is on 2024-05-17.", "The meeting is on May seventeenth, twenty twenty four."),
    _rule("date", r"\b(\d{1,2})/(\d{1,2})/(\d{4})\b", lambda m: read_numeric_date(int(m[1]), int(m[2]), int(m[3]), m), "The deadline is 02/28/2025.", "The deadline is February twenty eighth, twenty twenty five."),
    _rule("date", r"(?<![\d/])(\d{1,2})/(\d{1,2})/(\d\d)\b(?!/)", lambda m: read_numeric_date(int(m[1]), int(m[2]), int(m[3]) + (2000 if int(m[3]) < 50 else 1900), m), "Due 4/1/24 at noon.", "Due April first, twenty twenty four at noon."),
    _rule("date", rf"\b{MONTH}{RANGE}{MONTH}(?!\s?\d)", lambda m: f"{read_month(m[1])} to {read_month(m[2])}", "From Jan.-Mar. it snows.", "From January to March it snows."),
    _rule("date", rf"\b{MONTH} (\d{{1,2}})(?:st|nd|rd|th)?{RANGE}(\d{{1,2}})(?:st|nd|rd|th)?\b(?![/:%\d])(?:,? ([12]\d{{3}}))?", lambda m: f"{read_month(m[1])} {read_ordinal_of(m[2])} to {read_ordinal_of(m[3])}" + read_of_year(m[4]), "The fair runs Aug 2-6.", "The fair runs August second to sixth."),
    _rule("date", rf"\b{MONTH} (\d{{1,2}}(?:st|nd|rd|th)?)\b(?![:/%.,]\d|\s?[ap]\.?m)(?:,? ([12]\d{{3}})\b(?! (?:people|men|women)))?", read_day, "The paper was signed on July 9, 1851.", "The paper was signed on July ninth, eighteen fifty one."),
    _rule("date", rf"\b(\d{{1,2}}) {MONTH}{RANGE}(?=\d{{1,2}} {MONTH})", lambda m: f"the {read_ordinal_of(m[1])} of {read_month(m[2])} to ", "It runs 1 Nov-15 Dec here.", "It runs the first of November to the fifteenth of December here."),
    _rule("date", r"\b(Q[1-4]|FY)['’](\d\d)\b", lambda m: f"{m[1]} {cardinal(int(m[2]))}", "In Q4'23 it fell.", "In Q four twenty three it fell."),
    _rule("date", rf"\b([Tt]he )?(\d{{1,2}}(?:st|nd|rd|th)?) (?:of )?{MONTH}(?:,? ([12]\d{{3}})\b)?(?<!\d (?:may|mar))", read_day_first, "She arrived on 5 May 2023.", "She arrived on the fifth of May, twenty twenty three."),
    _rule("date", rf"\b{MONTH}(?= ['’]?\d| [a-z]|,)(?<=\.)", lambda m: read_month(m[1]), "In Sept. we left.", "In September we left."),
    _rule("date", r"\b(Mon|Tues?|Wed|Thurs?|Thu|Fri|Sat|Sun)\.?-(Mon|Tues?|Wed|Thurs?|Thu|Fri|Sat|Sun)\b\.?", lambda m: " to ".join(next(d for d in DAYS if d[:2] == n[:2]) for n in m.groups()), "Open Mon-Fri at ten.", "Open Monday to Friday at ten."),
    _rule("date", r"\b(Mon|Tues?|Wed|Thurs?|Thu|Fri|Sat|Sun)\.(?=,| \d| (?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)| (?:at|and|to|the)\b)", lambda m: next(d for d in DAYS if d[:2] == m[1][:2]), "On Tues., Nov. 11 we rested.", "On Tuesday, November eleventh we rested."),
    _rule("date", r"\b((?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day,?|(?:[Oo]n|[Bb]y|[Uu]ntil|[Dd]ue)) (0?[1-9]|1[0-2])/(0?[1-9]|[12]\d|3[01])\b(?!/)(?! (?:of|cup|inch|mile))", lambda m: f"{m[1]} {MONTHS[int(m[2]) - 1]} {ordinal(int(m[3]))}", "It is due on 3/15 at noon.", "It is due on March fifteenth at noon."),
    # Times.
    _rule("time", r"\b(\d{1,2}):(\d\d)\s?-\s?(\d{1,2}):(\d\d)\b", lambda m: f"{read_clock(int(m[1]), int(m[2]))} to {read_clock(int(m[3]), int(m[4]))}", "Open 9:15-17:30.", "Open nine fifteen to seventeen thirty."),
    _rule("time", r"(?<![\d:])(\d{1,2}):([0-5]\d)\.(\d{1,3})\b", lambda m: f"{read_count(m[1], 'minute')}, {quantity(f'{int(m[2])}.{m[3]}')} seconds", "She ran 3:42.5 today.", "She ran three minutes, forty two point five seconds today."),
    _rule("time", r"\b(\d{1,2}):([0-5]\d):([0-5]\d)\b", lambda m: f"{read_count(m[1], 'hour')}, {read_count(m[2], 'minute')} and {read_count(m[3], 'second')}", "It took 2:15:30.", "It took two hours, fifteen minutes and thirty seconds."),
    _rule("bible", rf"\b({BIBLE}) (\d{{1,3}}):(\d{{1,3}})(?:\s?-\s?(\d{{1,3}}))?\b(?!:)", read_verse, "Psalm 23:4 comforts.", "Psalm twenty three, verse four comforts."),
    _rule("time", r"(?<![\d:])(\d{1,2}):(\d\d)(?![\d:])", read_time, "The train leaves at 10:15.", "The train leaves at ten fifteen."),
    _rule("time", r"\b(\d+)\s?h\s?(\d+)\s?(?:m|min)\b(?!/)", lambda m: f"{read_count(m[1], 'hour')} and {read_count(m[2], 'minute')}", "It took 1h30m.", "It took one hour and thirty minutes."),
    # Money.
    _rule("money", r"\b(?:US|A|C|CA|AU|NZ|HK|S)(?=\$\d)", lambda m: {"A": "Australian ", "AU": "Australian ", "C": "Canadian ", "CA": "Canadian ", "NZ": "New Zealand ", "HK": "Hong Kong ", "S": "Singapore "}.get(m[0], ""), "It is US$5 now.", "It is five dollars now."),
    _rule("money", rf"({COIN})\s?({NUMBER}){SCALE}\s?(?:-|to)\s?{COIN}?\s?({NUMBER}){SCALE}(?![\w%])", read_money_range, "Parking costs $15-$20.", "Parking costs fifteen to twenty dollars."),
    _rule("money", rf"\b([Aa]n?|[Tt]he|[Oo]ne|[Tt]his|[Tt]hat|[Hh]is|[Hh]er|[Tt]heir|[Mm]y|[Oo]ur|[Yy]our|[Ee]very|[Ee]ach|[Ee]xtra|[Nn]ew)[ -]({COIN})\s?({NUMBER}){SCALE}(?=[ -](?!(?:{'|'.join(sorted(NOT_COUNTED))})\b)[a-z]{{3,}})(?![ -][a-z]+ed\b)", read_money_before_noun, "He ordered a $6 burger.", "He ordered a six dollar burger."),
    _rule("money", rf"(?:(?<!\w)(-))?({COIN})\s?({NUMBER}){SCALE}", read_money, "Shares rose $0.85 today.", "Shares rose eighty five cents today."),
    _rule("money", rf"({NUMBER})\s?([€£])", lambda m: read_money_parts(m[2], m[1], None), "The soup was 8€.", "The soup was eight euros."),
    _rule("money", rf"({NUMBER})\s?(\$)(?!\s?\d)", lambda m: read_money_parts(m[2], m[1], None), "It is 5 $ now.", "It is five dollars now."),
    _rule("money", r"\b(\d+)\s?¢", lambda m: f"{cardinal(int(m[1]))} cent{'' if m[1] == '1' else 's'}", "A stamp was 25¢ then.", "A stamp was twenty five cents then."),
    _rule("money", r"\b(USD|EUR|GBP)\s?(?=\d)", lambda m: {"USD": "$", "EUR": "€", "GBP": "£"}[m[1]], "EUR20", "twenty euros"),
    _rule("money", rf"(?<=[a-z])\s?/\s?({'|'.join(PER)})\b", lambda m: f" per {PER[m[1]]}" if re.search(r"(?:dollars?|euros?|pounds?|cents?|pence|yen|rupees|thousand|million)$", m.string[: m.start()]) else m[0], "The plan is $9/month.", "The plan is nine dollars per month."),
    _rule("money", r"\b(\d[\d,.]*) (USD|EUR|GBP)\b", lambda m: f"{quantity(m[1])} " + {"USD": "dollars", "EUR": "euros", "GBP": "pounds"}[m[2]], "It is 5 EUR now.", "It is five euros now."),
    # Scores, ratios, idioms.
    _rule("idiom", r"\b401\(k\)", "four oh one K", "His 401(k) grew.", "His four oh one K grew."),
    _rule("idiom", r"\b([CF])#(?!\w)", r"\1 sharp", "She writes C# code.", "She writes C sharp code."),
    _rule("number", r"\b\d{10,}\b(?![.,]\d)", lambda m: digits(m[0]), "Code 1234567890 works.", "Code one two three four five six seven eight nine zero works."),
    _rule("idiom", r"\b24[/-]7\b", "twenty four seven", "The shop is open 24/7.", "The shop is open twenty four seven."),
    _rule("idiom", r"\b9/11\b(?! of)", "nine eleven", "After 9/11 travel changed.", "After nine eleven travel changed."),
    _rule("idiom", r"\b(50/50|60/40|70/30|80/20|90/10|20/20)\b", lambda m: " ".join(cardinal(int(n)) for n in m[1].split("/")), "It is a 50/50 chance.", "It is a fifty fifty chance."),
    _rule("idiom", r"\b(50-50)\b", "fifty fifty", "They split it 50-50.", "They split it fifty fifty."),
    _rule("score", r"\b(\d{1,3}(?:\.\d)?)/(5|10|100)(?= (?:on|stars?|in|from|for)\b|[.,;!?)]*$|[,;!?)])(?<!1/5)(?<!1/10)(?<!1/100)", lambda m: f"{quantity(m[1])} out of {cardinal(int(m[2]))}", "I rate the film 4/5.", "I rate the film four out of five."),
    _rule("score", r"\b((?:[Ww]on|[Ll]ost|[Bb]eat|[Dd]rew|[Ll]ed|[Tt]ied|[Ff]inished|[Ss]core|[Ww]in|[Ll]oss|[Vv]ictory|[Dd]efeat|[Dd]efeated)\b(?: \w+){0,3}?) (\d{1,3})-(\d{1,3})(?![-/\d%]|\s(?:percent|to|minutes|times))", lambda m: f"{m[1]} {cardinal(int(m[2]))} to {'nil' if m[3] == '0' else cardinal(int(m[3]))}", "They won 3-1.", "They won three to one."),
    _rule("score", r"\b(\d{1,3})-(\d{1,3})(?= (?:win|loss|defeat|victory|lead|draw|score|thrashing|triumph|record|vote)\b)", lambda m: read_score(m), "It was a 2-0 defeat.", "It was a two to nil defeat."),
    _rule("score", r"\b(\d{1,2})-0\b", lambda m: f"{cardinal(int(m[1]))} nil", "It ended 4-0.", "It ended four nil."),
    _rule("ratio", r"\b(\d+)\s?:\s?(\d+)\b", lambda m: f"{cardinal(int(m[1]))} to {cardinal(int(m[2]))}", "A ratio of 3:1.", "A ratio of three to one."),
    # Counts with a letter for thousands or millions.
    _rule("count", rf"(?<![\w.,$€£])({NUMBER})\s?([kKmMbB]|mn|bn)(?= (?:{COUNTED})\b)", lambda m: f"{quantity(m[1])} {SCALES[m[2].lower()]}", "It has 1.4m people.", "It has one point four million people."),
    _rule("count", r"\b(10{1,6})'?s(?= of\b)", lambda m: {"10": "tens", "100": "hundreds", "1000": "thousands", "10000": "tens of thousands", "100000": "hundreds of thousands", "1000000": "millions"}[m[1]], "There are 100s of fans.", "There are hundreds of fans."),
    _rule("count", r"\b([A-Z])-(\d+)'?s\b", lambda m: f"{m[1]} {plural(cardinal(int(m[2])))}", "Two B-17s flew by.", "Two B seventeens flew by."),
    # Percentages, feet and inches, units.
    _rule("percent", rf"({SIGNED})\s?%?{RANGE}({NUMBER})\s?%", lambda m: f"{quantity(m[1])} to {quantity(m[2])} percent", "Prices rose 10-15%.", "Prices rose ten to fifteen percent."),
    _rule("percent", rf"(?:(?<=[\s(\"])\+|^\+)({NUMBER})\s?%", lambda m: f"plus {quantity(m[1])} percent", "It is +5% today.", "It is plus five percent today."),
    _rule("percent", rf"({SIGNED})\s?%", lambda m: f"{quantity(m[1])} percent", "Only 0.5% failed.", "Only zero point five percent failed."),
    _rule("unit", r"\b(\d{1,2})'\s?(\d{1,2})(?:\"|'')", lambda m: f"{cardinal(int(m[1]))} foot {cardinal(int(m[2]))}", "He is 5'10\" tall.", "He is five foot ten tall."),
    _rule("unit", r"\b(\d[\d.]*)\"(?=[ -][a-z]|\s?[x×]|[.,;)]|$)", read_inches, "A 12\" ruler", "A twelve inch ruler"),
    _rule("unit", r"\b(\d[\d.]*)\s?[lL]/100\s?km\b", lambda m: f"{quantity(m[1])} liters per hundred kilometers", "It needs 6.5 l/100 km.", "It needs six point five liters per hundred kilometers."),
    _rule("unit", r"\b(\d{2,3})/(\d{2,3})\s?mm\s?Hg\b", lambda m: f"{cardinal(int(m[1]))} over {cardinal(int(m[2]))} millimeters of mercury", "It was 120/80 mmHg.", "It was one hundred and twenty over eighty millimeters of mercury."),
    _rule("unit", r"(?<![\w.,])(\d*\.\d+)\s?A\b(?!-|\.\w)|(?<![\w.,])(\d+)[ -]?A(?= (?:fuse|breaker|current|charger|circuit|socket|supply|plug))", lambda m: f"{quantity(m[1] or m[2])} {'amps' if m[1] else 'amp'}", "It draws 0.5 A at most.", "It draws zero point five amps at most."),
    _rule("unit", r"\b(\d+) (\d)/(\d{1,2})\s?(tsp|tbsp|Tbsp|lbs?|oz|gal|qt|pt|in|ft|mi|km|hrs?|h|yd)\b\.?(?=\W|$)", lambda m: f"{read_mixed_fraction(m)} {UNITS[m[4]][1]}", "Add 2 1/2 tsp now.", "Add two and a half teaspoons now."),
    _rule("unit", rf"(?<![\w.,$€£])({NUMBER})\s?-\s?({NUMBER})(?=\s?{UNIT})", lambda m: f"{quantity(m[1])} to {m[2]}", "Walk 5-10 km.", "Walk five to ten kilometers."),
    _rule("unit", rf"(?<![\w.,$€£/])((?:[Aa]n?|[Tt]he|[Oo]ne|[Tt]his|[Ee]very|[Hh]is|[Hh]er|[Oo]ur|[Mm]y|[Tt]heir) )?({SIGNED})(\s?|-){UNIT}(?:\.(?=\s+[a-z\d]|,))?", read_with_unit, "She ran a 10 km race.", "She ran a ten kilometer race."),
    _rule("unit", r"\b(meters?|centimeters?|millimeters?|kilometers?|inch(?:es)?|feet|foot|yards?|miles?|pixels?)\s?[x×]\s?(?=[a-z\d])", r"\1 by ", "It is 3m x 4m.", "It is three meters by four meters."),
    _rule("unit", r"(?<![\w.,])(\d+(?:\.\d+)?)[x×](\d+(?:\.\d+)?)(?![\w.]\w|\s?=|x)", lambda m: f"{quantity(m[1])} by {quantity(m[2])}", "A 4x4 truck", "A four by four truck"),
    _rule("unit", r"\b(\d+) (\d+)/(\d+)\b", read_mixed_fraction, "Cut it 2 1/4 inches wide.", "Cut it two and a quarter inches wide."),
    _rule("unit", r"\b([1-9])/(\d{1,2}) (tsp|tbsp|lb|oz|gal|qt|pt|in|kg|km|mi|ml|mL)\b\.?", lambda m: f"{read_plain_fraction(m)} {'of a ' if m[1] != '1' and m[2] == '4' else ''}{UNITS[m[3]][0] if m[1] == '1' or m[2] == '4' else UNITS[m[3]][1]}", "Add 1/2 tsp of salt.", "Add one half teaspoon of salt."),
    _rule("unit", r"\b(hrs?|hours?|mins?|minutes|days?|times|doses?|cups?|pills?|tablets?|calls?|people|units|miles|steps|pages|words)/(day|week|wk|month|year|yr|hour|hr|minute|min|person|night|patient)\b", lambda m: f"{UNITS[m[1]][1] if m[1] in UNITS else m[1]} per {UNITS[m[2]][0] if m[2] in UNITS else m[2]}", "Take two pills/day.", "Take two pills per day."),
    # Years and decades.
    _rule("year", r"\b(may|march|mar|sun|sat) (\d{1,4})\b(?![\d.,:/%-]\d)", lambda m: f"{m[1]} {cardinal(int(m[2]))}", "They may 5 times fail.", "They may five times fail."),
    _rule("year", r"\b(1[0-9]\d\d|20\d\d)\s?-\s?(1[0-9]\d\d|20\d\d)\b(?! (?:people|dollars))", read_years, "The war of 1939-1945 changed everything.", "The war of nineteen thirty nine to nineteen forty five changed everything."),
    _rule("year", r"\b(1[5-9]\d\d|20[0-4]\d)[-/](\d\d)\b(?![-/\d])", read_years, "See the 1870-71 letters.", "See the eighteen seventy to seventy one letters."),
    _rule("year", r"\b((?:1[0-9]|20)\d0)'?s\b('?)", lambda m: decade(int(m[1])), "The 1990s' music lives on.", "The nineteen nineties music lives on."),
    _rule("year", r"'?\b([2-9]0)'?s\b", lambda m: decade(int(m[1])), "Back in the '90s we had no phones.", "Back in the nineties we had no phones."),
    _rule("year", r"(?<!\w)'(\d\d)\b(?!')", lambda m: (("oh " if m[1][0] == "0" else "") + cardinal(int(m[1]))), "The class of '98 met.", "The class of ninety eight met."),
    _rule("year", r"\b([Ii]n|[Ss]ince|[Bb]y|[Uu]ntil|[Ff]rom|[Oo]f|[Tt]o|[Cc]irca|[Aa]round|[Bb]efore|[Aa]fter|[Dd]uring|[Yy]ear|[Ss]pring|[Ss]ummer|[Aa]utumn|[Ff]all|[Ww]inter|early|late|mid|January|February|March|April|May|June|July|August|September|October|November|December),? (1[1-9]\d\d|20\d\d)\b(?![,.]\d|%|:|-| ?(?:people|men|women|\w+s\b(?<!was)(?<!is)(?<!has)(?<!this)))", lambda m: f"{m[1]} {year(int(m[2]))}", "The castle was finished in 1805.", "The castle was finished in eighteen oh five."),
    _rule("year", r"\((1[0-9]\d\d|20\d\d)\)", lambda m: f"({year(int(m[1]))})", "Her book (1905) sold.", "Her book (nineteen oh five) sold."),
    _rule("year", r"(?<=\")(1[1-9]\d\d|20\d\d)(?= (?:was|is|will|has)\b)|^(1[1-9]\d\d|20\d\d)(?= (?:was|is|will|has)\b)", lambda m: year(int(m[1] or m[2])), '"2019 was hard," he wrote.', '"twenty nineteen was hard," he wrote.'),
    _rule("year", r"\b(\d{1,4})\s?(BCE|BC|AD|CE)\b", lambda m: f"{year(int(m[1]))} {letters(m[2])}", "In 44 BC he died.", "In forty four B-C he died."),
    # Ordinals and ranges.
    _rule("ordinal", r"\b(\d[\d,]*)(?:st|nd|rd|th)\b", lambda m: ordinal(int(m[1].replace(",", ""))), "A 20th-century novel lay open.", "A twentieth-century novel lay open."),
    _rule("range", r"\b(\w*(?:first|second|third|th))-(?=(?:\w+ )?\w*(?:first|second|third|th)\b)(?<!th-c)", r"\1 to ", "Places 1st-3rd win medals.", "Places first to third win medals."),
    _rule("range", r"(?<![\w.,/-])(\d+)-(\d+)(?=-(?:year|month|week|day|hour|minute|second|page|foot|inch|mile|point|person)s?\b)", lambda m: f"{cardinal(int(m[1]))} to {cardinal(int(m[2]))}", "A 3-4-page letter", "A three to four-page letter"),
    _rule("range", rf"(?<![\w.,/-])({NUMBER})\s?-\s?({NUMBER})(?![\w/-]|\s?=|-\w)(?!\.\d)", lambda m: read_quantity_range(m) if " - " not in m[0] or not re.match(r"\s?=", m.string[m.end() :]) else m[0], "It takes 10-20 minutes.", "It takes ten to twenty minutes."),
    # Roman numerals.
    _rule("roman", r"\bWW ?(II|I|2|1)\b(?!['-])", lambda m: f"World War {'two' if m[1] in ('II', '2') else 'one'}", "He fought in WWII.", "He fought in World War two."),
    _rule("roman", r"\b([IVXLC]+)(?= (?:Olympiad|Corps|Legion|Dynasty|dynasty|Congress)\b)(?<!\bI)(?<!\bC)", lambda m: m[0] if roman(m[1]) is None else ordinal(roman(m[1]) or 0), "The XXX Olympiad began.", "The thirtieth Olympiad began."),
    _rule("roman", rf"\b({KINGS}) ([A-Z][a-z]+) (II|III|IV)\b(?!['-])", lambda m: f"{m[1]} {m[2]} the {ordinal(roman(m[3]) or 0)}", "Henry Ford II ran it.", "Henry Ford the second ran it."),
    _rule("roman", rf"\b({AFTER}|[Pp]ages?) ((?:x{{0,3}}(?:ix|iv|v?i{{2,3}}|vi)|x{{1,3}}i?|[iv](?=[,.;:)]|$)))\b(?!['-])(?!x\b)", lambda m: f"{m[1]} {cardinal(roman(m[2].upper()) or 0)}", "Read Scene iii tonight.", "Read Scene three tonight."),
    _rule("roman", r"\b(XX|XIX|XVIII|XVII|XVI|XV|XIV|XXI)(?:th)?(?= century)", lambda m: ordinal(roman(m[1]) or 0), "The XIX century", "The nineteenth century"),
    _rule("roman", rf"\b({AFTER}) ([IVXLCDM]+)\b(?!\.[A-Z]|['-])", read_roman_after, "Read Chapter IV tonight.", "Read Chapter four tonight."),
    _rule("roman", rf"\b({PLACES} [A-Z][a-z]+|{KINGS}) ((?:[IVX]{{2,}}|[IV](?= (?:of|was|and|had|ruled|died|is|reigned)\b)))(?!['-])\b", read_roman_of_name, "Henry VIII had six wives.", "Henry the eighth had six wives."),
    _rule("roman", r"\b([A-Z][a-z]+) (II|III|IV|VI|VII|VIII|IX|XI|XII|XIII|XIV|XV|XVI|XVII|XVIII|XIX|XX|XXI)\b(?!['-])", lambda m: f"{m[1]} {cardinal(roman(m[2]) or 0)}", "Rocky Horror II is out.", "Rocky Horror two is out."),
    _rule("roman", r"(?<![\w'-])(II|III|VII|VIII|IX|XII|XIII|XIV)\b(?!['-])", lambda m: cardinal(roman(m[1]) or 0), "Read parts one, II and III.", "Read parts one, two and three."),
    _rule("roman", r"(?<![\w'-])([MDCLXVI]{4,})(?![\w'-])", lambda m: m[0] if roman(m[1]) is None else year(roman(m[1]) or 0), "The stone says MCMXLV here.", "The stone says nineteen forty five here."),
    # Mathematics.
    _rule("math", r"(?<=\d)(⁻?)([⁰¹²³⁴-⁹]{2,}|(?<=⁻)[⁰¹²³⁴-⁹]|[⁰¹⁴-⁹])", lambda m: f" to the power of {'minus ' if m[1] else ''}{cardinal(int(''.join(str('⁰¹²³⁴⁵⁶⁷⁸⁹'.index(c)) for c in m[2])))}", "About 10⁻³ of it.", "About ten to the power of minus three of it."),
    _rule("math", r"(?<![\w.])(\d+(?:\.\d+)?)[eE]([+-]?)(\d{1,3})\b", lambda m: f"{quantity(m[1])} times ten to the power of {'minus ' if m[2] == '-' else ''}{cardinal(int(m[3]))}", "About 1e-5 of it", "About one times ten to the power of minus five of it"),
    _rule("math", r"\b(\d+)([a-z])(?=\s[+=-])", lambda m: f"{cardinal(int(m[1]))} {m[2]}", "f(x) = 2x + 1", "f of x equals two x plus one"),
    _rule("math", r"(?<=\w)²", " squared", "The area is x² here.", "The area is x squared here."),
    _rule("math", r"(?<=\w)³", " cubed", "A volume of x³.", "A volume of x cubed."),
    _rule("math", r"(\d)\s?\^\s?(?=\d)", r"\1 to the power of ", "10^3", "ten to the power of three"),
    _rule("math", r"\b([a-z])\s?\^\s?2\b", r"\1 squared", "x^2 is y", "x squared is y"),
    _rule("math", r"(?<=[\w)])\s*[×✕]\s*(?=[\w(])|(?<=\d)\s*\*\s*(?=\d)|(?<=\d) x (?=\d)", " times ", "We know 5 × 3 = 15.", "We know five times three equals fifteen."),
    _rule("math", r"(?<![\w*])([A-Za-z]|\d+) \* (?=(?:[A-Za-z]|\d+)(?!\w))", r"\1 times ", "Use a * b here.", "Use a times b here."),
    _rule("math", r"(?<=\d)\s*÷\s*(?=\d)|(?<=\d) / (?=\d)", " divided by ", "10 / 2 = 5", "ten divided by two equals five"),
    _rule("math", r"(?<=[\w)])\s*(?:≥|>=)\s*(?=[\w(-])", " is greater than or equal to ", "If x ≥ 5, stop.", "If x is greater than or equal to five, stop."),
    _rule("math", r"(?<=[\w)])\s*(?:≤|<=)\s*(?=[\w(-])", " is less than or equal to ", "If x ≤ 5, go.", "If x is less than or equal to five, go."),
    _rule("math", r"(?<=[\w)])\s*(?:≠|!=)\s*(?=[\w(-])", " is not equal to ", "x ≠ 5", "x is not equal to five"),
    _rule("math", r"(?<=[\w)])\s*≈\s*(?=[\w(-])", " is approximately ", "x ≈ 5", "x is approximately five"),
    _rule("math", r"\s*±\s*(?=\d)", " plus or minus ", "10 ± 2", "ten plus or minus two"),
    _rule("math", r"(?<=[\w)]) ?= ?(?=[\w(-])", " equals ", "See Table 3 (n = 48).", "See Table three (n equals forty eight)."),
    _rule("math", r"(?<=[\w)]) \+ (?=[\w(])|(?<=\d)\+(?=\d)", " plus ", "2 + 2 = 4.", "two plus two equals four."),
    _rule("math", r"(?<=\d)\+", " plus", "There were 50+ guests.", "There were fifty plus guests."),
    _rule("math", r"(?<=\d) - (?=\d)", " minus ", "9 - 4 = 5 in class.", "nine minus four equals five in class."),
    _rule("math", r"(?<=\w) < (?=[\w-])", " is less than ", "x < 5", "x is less than five"),
    _rule("math", r"(?<=\w) > (?=[\w-])", " is greater than ", "x > 5", "x is greater than five"),
    _rule("math", r"(?<![\w~])[<](?=\s?\d)", "less than ", "It took <5 days.", "It took less than five days."),
    _rule("math", r"(?<![\w~])[>](?=\s?\d)", "more than ", "It took >5 days.", "It took more than five days."),
    _rule("math", r"(?<![\w~])[~≈]\s?(?=[\d$])|\bc\.\s?(?=1\d{3})", "about ", "It holds ~50 people.", "It holds about fifty people."),
    _rule("math", rf"(?<![\w).])[-\N{{MINUS SIGN}}](?=(?:{NUMBER}))", "minus ", "The answer is -5.", "The answer is minus five."),
    _rule("math", r"(?<!\w)\+(?=\d)", "plus ", "It is +5 now.", "It is plus five now."),
    # Fractions.
    _rule("fraction", r"(?<![\w./])(\d{1,3})/(\d{1,3})(?![\w/])", read_plain_fraction, "Nearly 3/4 of the roads were closed.", "Nearly three quarters of the roads were closed."),
    # What wetext leaves alone or reads in another way.
    _rule("number", r"\bNos\.\s?(?=\d)", "numbers ", "Nos. 3 and 4", "numbers three and four"),
    _rule("number", r"#\s?(?=\d)", "number ", "We are #1 in Ohio.", "We are number one in Ohio."),
    _rule("number", r"§\s?(?=\d)", "section ", "See § 7.", "See section seven."),
    _rule("number", r"\b(\d{1,3}(?:,\d{3})+)(?!\.?\d|,\d)", lambda m: quantity(m[1]), "In his life he wrote 1,001 letters.", "In his life he wrote one thousand and one letters."),
    _rule("number", r"(?<![\w.,])\.(\d+)\b", lambda m: f"point {digits(m[1])}", "The correlation was .82 overall.", "The correlation was point eight two overall."),
    _rule("number", r"(?<![\w.])(\d[\d,]*\.\d+)(?![\w.]|\.\d)|(?<![\w.])(\d[\d,]*\.\d+)(?=\.(?:\s|$|\"))", lambda m: quantity(m[1] or m[2]), "The average came to 3.14.", "The average came to three point one four."),
    _rule("number", r"(?<![\d,.\w-])1000(?![\d,.]\d|\w)", "one thousand", "About 1000 people", "About one thousand people"),
    _rule("number", r"\b(\d+)([a-z]{3,})\b", r"\1 \2", "10minutes", "ten minutes"),
    _rule("slash", r"\b([Hh]e|[Hh]im|[Hh]is|[Yy]es|[Tt]rue)/(she|her|hers|no|false)\b", r"\1 or \2", "If he/she asks", "If he or she asks"),
    _rule("slash", r"\band/or\b", "and or", "Milk and/or tea", "Milk and or tea"),
    _rule("slash", r"\bs/he\b", "she or he", "if s/he asks", "if she or he asks"),
    _rule("abbreviation", r"\bw/o\b", "without", "tea w/o milk", "tea without milk"),
    _rule("abbreviation", r"\bw/(?=\s|\w)\s?", "with ", "tea w/ milk", "tea with milk"),
    _rule("abbreviation", r"\b[Nn]/[Aa]\b", "N-A", "It is N/A here.", "It is N-A here."),
    _rule("sign", r"(?<=[\w:])\\+(?=\w)", " backslash ", "See C:\\data now.", "See C: backslash data now."),
    _rule("sign", r"\b([A-Z]{1,3})&([A-Z]{1,3})\b", lambda m: f"{letters(m[1])} and {letters(m[2])}", "AT&T paid.", "A-T and T paid."),
    _rule("sign", r"(?<=[A-Z])&(?=[A-Z])", " and ", "The R&D team", "The R and D team"),
    _rule("sign", r"\s*&\s*", " and ", "Salt & pepper", "Salt and pepper"),
)  # fmt: skip
"""In the order in which they are applied."""

LEFT_OVER: tuple[tuple[re.Pattern[str], str | Callable[[Match], str]], ...] = (
    (
        re.compile(r"\d+"),
        lambda m: f" {cardinal(int(m[0])) if len(m[0]) < 10 and m[0][0] != '0' else digits(m[0])} ",
    ),
    (re.compile("|".join(re.escape(sign) for sign in SYMBOLS)), lambda m: f" {SYMBOLS[m[0]]} "),
    (re.compile(r"(?<=\w)/(?=\w)"), " slash "),
)
"""For what neither a rule nor wetext has read."""
