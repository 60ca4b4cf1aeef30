"""The words that the rules of rules_en.py look up: abbreviations, units, currencies, months, initialisms."""

from __future__ import annotations

MONTHS = (
    "January February March April May June July August September October November December"
).split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
SCALES = {
    "k": "thousand", "m": "million", "mn": "million", "mm": "million", "b": "billion", "bn": "billion",
    "t": "trillion", "tn": "trillion",
}  # fmt: skip
FRACTIONS = {2: "half", 4: "quarter"}
CURRENCIES = {
    "$": ("dollar", "dollars", "cent", "cents"),
    "€": ("euro", "euros", "cent", "cents"),
    "£": ("pound", "pounds", "penny", "pence"),
    "¥": ("yen", "yen", "", ""),
    "₹": ("rupee", "rupees", "", ""),
    "₩": ("won", "won", "", ""),
    "₽": ("ruble", "rubles", "", ""),
    "₿": ("bitcoin", "bitcoins", "", ""),
    "franc": ("franc", "francs", "", ""),
    "krona": ("krona", "kronor", "", ""),
    "krone": ("krone", "kroner", "", ""),
    "zloty": ("zloty", "zlotys", "", ""),
    "yuan": ("yuan", "yuan", "", ""),
    "peso": ("peso", "pesos", "", ""),
    "real": ("real", "reais", "", ""),
    "rand": ("rand", "rand", "", ""),
}
"""Singular and plural of the coin, and of its hundredth."""
CURRENCY_CODES = {
    "USD": ("$", ""), "EUR": ("€", ""), "GBP": ("£", ""), "JPY": ("¥", ""), "INR": ("₹", ""), "KRW": ("₩", ""),
    "RUB": ("₽", ""), "BTC": ("₿", ""), "CAD": ("$", "Canadian"), "AUD": ("$", "Australian"),
    "NZD": ("$", "New Zealand"), "HKD": ("$", "Hong Kong"), "SGD": ("$", "Singapore"), "CHF": ("franc", "Swiss"),
    "SEK": ("krona", "Swedish"), "NOK": ("krone", "Norwegian"), "DKK": ("krone", "Danish"), "PLN": ("zloty", ""),
    "CNY": ("yuan", ""), "MXN": ("peso", "Mexican"), "BRL": ("real", "Brazilian"), "ZAR": ("rand", ""),
}  # fmt: skip
"""Key of the coin in `CURRENCIES`, and whose it is."""
COUNTRY_OF_DOLLARS = {
    "US": "", "A": "Australian", "AU": "Australian", "C": "Canadian", "CA": "Canadian", "NZ": "New Zealand",
    "HK": "Hong Kong", "S": "Singapore",
}  # fmt: skip
"""By what is written before the sign of dollars."""

ABBREVIATIONS = {
    "Mr.": ("Mister", False), "Mrs.": ("Missus", False), "Ms.": ("Miz", False), "Mr": ("Mister", False),
    "Mrs": ("Missus", False), "Ms": ("Miz", False), "Dr.": ("Doctor", False), "Dr": ("Doctor", False),
    "Drs.": ("Doctors", False), "Prof.": ("Professor", False), "St.": ("Saint", False), "Ste.": ("Sainte", False),
    "Rev.": ("Reverend", False), "Hon.": ("Honorable", False), "Gov.": ("Governor", False), "Sen.": ("Senator", False),
    "Rep.": ("Representative", False), "Gen.": ("General", False), "Col.": ("Colonel", False),
    "Lt.": ("Lieutenant", False), "Sgt.": ("Sergeant", False), "Capt.": ("Captain", False), "Cpl.": ("Corporal", False),
    "Maj.": ("Major", False), "Cmdr.": ("Commander", False), "Adm.": ("Admiral", False), "Pres.": ("President", False),
    "Supt.": ("Superintendent", False), "Messrs.": ("Messieurs", False), "Fr.": ("Father", False),
    "Mt.": ("Mount", False), "Ft.": ("Fort", False), "Jr.": ("Junior", True), "Sr.": ("Senior", True),
    "Jr": ("Junior", True), "Esq.": ("Esquire", True),
    "vs.": ("versus", False), "vs": ("versus", False), "etc.": ("et cetera", True),
    "etc": ("et cetera", False),
    "e.g.": ("for example", False), "E.g.": ("For example", False), "i.e.": ("that is", False), "I.e.": ("That is", False),
    "eg.": ("for example", False), "ie.": ("that is", False), "cf.": ("compare", False), "viz.": ("namely", False),
    "approx.": ("approximately", False), "Approx.": ("Approximately", False), "et al.": ("et al", True),
    "ca.": ("circa", False), "Inc.": ("Incorporated", True), "Ltd.": ("Limited", True), "Corp.": ("Corporation", True),
    "Co.": ("Company", True), "Bros.": ("Brothers", True), "Dept.": ("Department", False), "dept.": ("department", True),
    "Univ.": ("University", False), "Assn.": ("Association", True), "Govt.": ("Government", False),
    "govt.": ("government", True), "est.": ("established", False), "Est.": ("Established", False),
    "misc.": ("miscellaneous", True), "incl.": ("including", False), "excl.": ("excluding", False),
    "doz.": ("dozen", False), "tel.": ("telephone", False), "Tel.": ("Telephone", False), "ext.": ("extension", False),
    "Apt.": ("Apartment", False), "apt.": ("apartment", False), "Blvd.": ("Boulevard", True), "Ave.": ("Avenue", True),
    "Rd.": ("Road", True), "Hwy.": ("Highway", True), "a.k.a.": ("A-K-A", False), "R.S.V.P.": ("R-S-V-P", True),
    "w/c": ("week commencing", False), "b/c": ("because", False), "c/o": ("care of", False), "Attn.": ("Attention", False),
    "P.S.": ("P-S", False), "No.": ("No.", False), "Tues.": ("Tuesday", True), "Thurs.": ("Thursday", True),
}  # fmt: skip
"""Reading, and whether the abbreviation's full stop may end a sentence as well."""

NUMBERED = {
    "vol": "volume", "vols": "volumes", "fig": "figure", "figs": "figures", "ch": "chapter", "chap": "chapter",
    "p": "page", "pp": "pages", "pg": "page", "sec": "section", "sect": "section", "eq": "equation", "eqs": "equations",
    "ed": "edition", "art": "article", "app": "appendix", "tab": "table", "ex": "example", "pt": "part", "ver": "version",
    "para": "paragraph", "ref": "reference", "apt": "apartment", "ste": "suite", "rm": "room", "ext": "extension",
    "tel": "telephone", "op": "opus", "ep": "episode", "rt": "route", "rte": "route", "bldg": "building", "fl": "floor",
}  # fmt: skip
"""Abbreviations before a number."""

STREETS = {
    "St": "Street", "Dr": "Drive", "Ave": "Avenue", "Rd": "Road", "Blvd": "Boulevard", "Ln": "Lane", "Ct": "Court",
    "Pl": "Place", "Hwy": "Highway", "Pkwy": "Parkway", "Sq": "Square", "Ter": "Terrace", "Cir": "Circle",
}  # fmt: skip

STARTERS = frozenset(
    "A About After All Also Although Am An And Another Any Anyone Are As Ask At Be Because Before Both But By Call Can "
    "Come Could Despite Did Do Does During Each Even Every Everyone Everything Few Finally First For From Get Go Had Has "
    "Have He Her Here His How However I If In Instead Is It Its Just Last Later Let Many Maybe Meet Meanwhile More Most "
    "My Neither Never Next No Nobody None Nor Not Nothing Now Of Often On Once One Only Or Other Others Our Over People "
    "Perhaps Please Read See Several She Should Since So Some Someone Something Soon Still Such Take Tell That The Their "
    "Then There These They This Those Though Thus To Today Tomorrow Too Turn Two Under Unless Until Use Very Visit Was We "
    "Well Were What When Where Which While Who Whose Why Will With Without Would Yes Yesterday Yet You Your".split()
)
"""Words that begin sentences more often than they are names."""

_METRES = {
    "m": "meter",
    "g": "gram",
    "W": "watt",
    "Hz": "hertz",
    "B": "byte",
    "V": "volt",
    "J": "joule",
    "Pa": "pascal",
}
_PREFIXES = {"k": "kilo", "K": "kilo", "M": "mega", "G": "giga", "T": "tera", "m": "milli", "c": "centi", "µ": "micro", "μ": "micro", "n": "nano", "h": "hecto"}  # fmt: skip
_PREFIXED = (
    "km cm mm nm µm μm kg mg µg μg kW MW GW TW mW kHz MHz GHz THz kB KB MB GB TB kV mV MV kJ MJ kPa hPa MPa"
).split()


def _prefixed(unit: str) -> tuple[str, str]:
    base = _METRES[unit[1:]]
    name = _PREFIXES[unit[0]] + base
    return name, name if base == "hertz" else name + "s"


UNITS: dict[str, tuple[str, str]] = {
    **{unit: _prefixed(unit) for unit in _PREFIXED},
    "m": ("meter", "meters"), "g": ("gram", "grams"), "W": ("watt", "watts"), "Hz": ("hertz", "hertz"),
    "V": ("volt", "volts"), "J": ("joule", "joules"), "l": ("liter", "liters"), "L": ("liter", "liters"),
    "ml": ("milliliter", "milliliters"), "mL": ("milliliter", "milliliters"), "cl": ("centiliter", "centiliters"),
    "dl": ("deciliter", "deciliters"), "dL": ("deciliter", "deciliters"), "t": ("ton", "tons"), "ha": ("hectare", "hectares"), "ft": ("foot", "feet"),
    "in": ("inch", "inches"), "yd": ("yard", "yards"), "yds": ("yard", "yards"), "mi": ("mile", "miles"),
    "lb": ("pound", "pounds"), "lbs": ("pound", "pounds"), "oz": ("ounce", "ounces"), "gal": ("gallon", "gallons"),
    "qt": ("quart", "quarts"), "pt": ("pint", "pints"), "tsp": ("teaspoon", "teaspoons"),
    "tbsp": ("tablespoon", "tablespoons"), "Tbsp": ("tablespoon", "tablespoons"), "kn": ("knot", "knots"),
    "s": ("second", "seconds"), "sec": ("second", "seconds"), "secs": ("second", "seconds"),
    "ms": ("millisecond", "milliseconds"), "µs": ("microsecond", "microseconds"), "ns": ("nanosecond", "nanoseconds"),
    "min": ("minute", "minutes"), "mins": ("minute", "minutes"), "h": ("hour", "hours"), "hr": ("hour", "hours"),
    "hrs": ("hour", "hours"), "d": ("day", "days"), "wk": ("week", "weeks"), "wks": ("week", "weeks"),
    "mo": ("month", "months"), "mos": ("month", "months"), "yr": ("year", "years"), "yrs": ("year", "years"),
    "°C": ("degree Celsius", "degrees Celsius"), "°F": ("degree Fahrenheit", "degrees Fahrenheit"),
    "°": ("degree", "degrees"), "kcal": ("kilocalorie", "kilocalories"), "cal": ("calorie", "calories"),
    "dB": ("decibel", "decibels"), "dBA": ("decibel", "decibels"), "Mb": ("megabit", "megabits"),
    "Gb": ("gigabit", "gigabits"), "kb": ("kilobit", "kilobits"), "Mbit": ("megabit", "megabits"), "Gbit": ("gigabit", "gigabits"), "kbit": ("kilobit", "kilobits"), "px": ("pixel", "pixels"), "ppm": ("part per million", "parts per million"),
    "bpm": ("beat per minute", "beats per minute"), "psi": ("P-S-I", "P-S-I"), "Ω": ("ohm", "ohms"), "kΩ": ("kilohm", "kilohms"),
    "hp": ("horsepower", "horsepower"), "mol": ("mole", "moles"), "lm": ("lumen", "lumens"), "N": ("newton", "newtons"),
}  # fmt: skip
COMPOUND_UNITS: dict[str, tuple[str, str]] = {
    "mph": ("mile per hour", "miles per hour"), "mpg": ("mile per gallon", "miles per gallon"),
    "km/h": ("kilometer per hour", "kilometers per hour"), "kph": ("kilometer per hour", "kilometers per hour"),
    "kmh": ("kilometer per hour", "kilometers per hour"),
    "kWh": ("kilowatt hour", "kilowatt hours"), "MWh": ("megawatt hour", "megawatt hours"),
    "GWh": ("gigawatt hour", "gigawatt hours"), "TWh": ("terawatt hour", "terawatt hours"),
    "Wh": ("watt hour", "watt hours"), "mAh": ("milliamp hour", "milliamp hours"), "Ah": ("amp hour", "amp hours"),
    "rpm": ("R-P-M", "R-P-M"), "fps": ("frame per second", "frames per second"),
    "Mbps": ("megabit per second", "megabits per second"), "Gbps": ("gigabit per second", "gigabits per second"),
    "kbps": ("kilobit per second", "kilobits per second"), "sq ft": ("square foot", "square feet"),
    "sq m": ("square meter", "square meters"), "sq km": ("square kilometer", "square kilometers"),
    "sq mi": ("square mile", "square miles"), "sq in": ("square inch", "square inches"), "sq yd": ("square yard", "square yards"),
    "sq cm": ("square centimeter", "square centimeters"), "cu ft": ("cubic foot", "cubic feet"), "cu in": ("cubic inch", "cubic inches"),
    "cu m": ("cubic meter", "cubic meters"), "cu yd": ("cubic yard", "cubic yards"), "cu cm": ("cubic centimeter", "cubic centimeters"), "fl oz": ("fluid ounce", "fluid ounces"),
    "Nm": ("newton meter", "newton meters"), "mmHg": ("millimeter of mercury", "millimeters of mercury"),
}  # fmt: skip

TOP_DOMAINS = (
    "com|org|net|edu|gov|mil|info|biz|dev|app|io|ai|tv|co|uk|eu|de|fr|ca|au|nz|jp|cn|ru|ch|nl|se|dk|fi|pl|es|br|"
    "museum|xyz|online|shop|blog|ie|at"
)
SHORT_DOMAINS = "me|ly|gl|gg|be|it|us|in|to|cc|fm|is|so|sh|se|no|id|gd|cn"
"""Ends of addresses that are words as well: only with a path after them."""
EXTENSIONS = (
    "pdf|py|txt|docx?|xlsx?|pptx?|jpe?g|png|gif|svg|html?|css|js|ts|json|jsonl|ya?ml|xml|csv|tsv|zip|tar|gz|exe|mp3|"
    "mp4|wav|flac|ogg|md|ini|cfg|toml|sh|cpp|rs|java|log|mov|avi|epub|dmg|bat|dll|sql"
)
LETTERED = frozenset(
    "pdf txt html htm css js ts xml csv tsv gz mp wav png svg jpg xlsx pptx md cfg sh cpp rs sql py www http https ftp "
    "uk eu de fr ca au nz jp cn ru ch nl se dk fi pl es br io ai tv bbc cnn nhs ibm mit nbc abc fbi irs usps ups us ie "
    "edu usr api faq url npr pbs nasdaq".split()
) - {"nasdaq", "wav", "edu"}
"""Parts of addresses that are read letter by letter."""

INITIALISMS = frozenset(
    "SEC VP SSN US UN UK EU AI AM PM ID TV PC CD DVD VIP WHO PR HR ER AC DC LA NY DJ MC IQ EQ UV AP CEO CFO CTO COO ETA FAQ ATM GPS "
    "USA USB SAT LED IPO DIY VPN URL API CPU GPU UFO MIT IRS IOU EPA NBA NFL MLB NHL FBI CIA BBC CNN NBC ABC CBS DNA RNA "
    "HIV GDP IMF WTO NHS MP MPs PhD BA MA MBA BSc MSc NYPD LAPD NSA DEA FDA CDC IT ICU MRI CT EKG ECG PS QA UI UX IP DOS "
    "ADHD OCD PTSD SUV ACL ACLU AOL ISP HTML HTTP HTTPS SQL CSS PDF XML UPS USPS ASAP FYI BTW OMG LOL RSVP TBA TBD AKA "
    "EST PST GMT UTC CST BC AD BCE CE MPH RPM KGB GOP NRA NAACP UCLA USC NYU NYC DMV ROI KPI B2B AAA ESPN HBO MTV VHS "
    "PVC BMW IBM HP GE GM KFC BP EV EVs EMT ED PE PTA GPA LLC LLM NGO ISBN MS RAF RV SOS SMS SPF TNT UAE USSR WWII XL".split()
) - {"ASAP", "WWII", "B2B", "ED", "PE"}
"""Capitals that are read letter by letter although a dictionary may have them as a word."""

WORDS_TOO = frozenset("AD AM COO DOS ED ER EST IT LA LED LOL MA ME SAT SEC UPS US WHO".split())
"""Initialisms that are words as well: among words in capitals they are those."""

ACRONYMS = frozenset(
    "JSON YAML JPEG GIF COVID SARS FIFA UEFA UNESCO UNICEF OPEC NASDAQ IKEA ASCII CAPTCHA POTUS SCOTUS FEMA OSHA NAFTA ASEAN "
    "DARPA HIPAA LEGO ASAP CUDA ICANN NASA NATO RAM ROM SIM PIN AIDS LASER SCUBA SWAT TED YOLO FOMO BAFTA CERN WYSIWYG QWERTY INTERPOL EBITDA".split()
)
"""Capitals that are said as a word although a dictionary may not have it."""

SOUNDS = frozenset("SHH SH HMM HM MM BRR GRR PSST PFFT TSK NTH MR MRS MS DR ST VS MT FT LT".split())
"""Capitals without a vowel that are said as a word."""

COMMON_CAPITALS = frozenset(
    "A I AN AND ANY ARE AS AT BE BUT BY CAN DO FOR GO GOT HAD HAS HE HER HIM HIS HOW IF IN IS ITS ME MY NEW NO NOT NOW OF "
    "OFF OH OK ON ONE OR OUR OUT SEE SHE SO THE TO TOO TWO UP WAS WAY WE WHY YES YOU AH HI HA OW OX AX".split()
)
"""Short words that stay words when somebody shouts them."""

SYMBOLS = {
    "$": "dollars", "€": "euros", "£": "pounds", "¥": "yen", "¢": "cents", "%": "percent", "+": "plus", "=": "equals",
    "@": "at", "&": "and", "#": "hash", "^": "to the power of", "<": "less than", ">": "greater than", "×": "times",
    "÷": "divided by", "±": "plus or minus", "≥": "greater than or equal to", "≤": "less than or equal to", "≠": "not equal to",
    "≈": "approximately", "°": "degrees", "√": "the square root of", "∞": "infinity", "π": "pi", "µ": "micro", "Ω": "ohms",
    "©": "copyright", "§": "section", "→": "to", "½": "one half", "¼": "one quarter", "¾": "three quarters", "²": "squared",
    "³": "cubed", "~": "about", "α": "alpha", "β": "beta", "γ": "gamma", "Δ": "delta", "δ": "delta", "λ": "lambda", "σ": "sigma", "θ": "theta",
    "™": "", "®": "", "|": ",", "•": ",", "*": "", "{": "", "}": "", "·": "", "¿": "", "¡": "", "†": "", "‡": "", "¶": "", "←": "", "↑": "", "↓": "",
}  # fmt: skip
"""Signs that no rule has read; an empty reading is silence."""
