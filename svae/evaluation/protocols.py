"""Named protocols: everything that moves a score besides the system. docs/protocols.md says each with its source."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

from svae.errors import ConfigError
from svae.judges import multilingual
from svae.judges.wer import NORMALIZERS
from svae.runtime.text_files import read_utf8
from svae.synthesis.types import DurationChoice

WHISPER_LARGE_V3 = "whisper:openai/whisper-large-v3@06f233fe06e710322aca913c1bc4249a0d71fce1"
FASTER_WHISPER_LARGE_V3 = (
    "faster-whisper:Systran/faster-whisper-large-v3@edaa852ec7e145841d8ffdb056a99866b5f0a478"
)
"""The same weights for CTranslate2, which F5-TTS's evaluation runs."""
PARAFORMER = "paraformer:paraformer-zh@v2.0.4"
HUBERT_LARGE = "ctc:facebook/hubert-large-ls960-ft@ece5fabbf034c1073acae96d5401b25be96709d8"
ECAPA = "ecapa:speechbrain/spkrec-ecapa-voxceleb@0f99f2d0ebe89ac095bcc5903c4dd8f72b367286"
LIBRISPEECH_PC_SHA256 = "09811d521effa4eeb1da655f7379de97343b2f5ea86d829ec7ccb8656758a10f"
"""F5-TTS data/librispeech_pc_test_clean_cross_sentence.lst, 1,127 rows, CRLF, commit 2ae2c9b."""
LIST_FORMATS = ("auto", "jsonl", "librispeech-pc", "seed-tts", "zipvoice", "omnivoice")
AVERAGES = ("wer", "wer_corpus")
CHOICES = {
    "list_format": LIST_FORMATS,
    "normalizer": (*NORMALIZERS, *multilingual.NORMALIZERS),
    "headline": AVERAGES,
    "duration_rule": get_args(DurationChoice),
    "published_similarity": (None, "sim_o", "sim_ecapa"),
}


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What has to be equal for two scores to compare."""

    name: str
    list_format: str = "auto"
    """`auto` goes by the file's ending, and takes held-out utterances of shards where no list is named."""
    list_sha256: str | None = None
    """The published list's, where it is known."""
    asr: str = "pocketsphinx"
    language: str = "en"
    num_beams: int | None = None
    """The width of the search, for recognisers that search (Whisper)."""
    normalizer: str = "svae"
    """A key of `judges.wer.NORMALIZERS`, or of `judges.multilingual.NORMALIZERS`, which go by the language."""
    headline: str = "wer"
    """`wer`: mean of the utterances' rates; `wer_corpus`: all errors over all words."""
    speaker: str = "embedded"
    """Fills the column `sim_ecapa`."""
    published_similarity: str | None = None
    """The column that compares with published numbers: `sim_o`, computed where --sim-o names its checkpoint."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Each makes one recording of every utterance."""
    duration_rule: DurationChoice = "auto"
    """How long the speech is to be: `bytes` is F5-TTS's rule, `auto` the model's own predictor where it has one."""
    source: str = ""

    @property
    def normalize(self) -> Callable[[str], str]:
        """The normaliser."""
        if self.normalizer in multilingual.NORMALIZERS:
            normalize = multilingual.NORMALIZERS[self.normalizer]
            return lambda text: normalize(text, self.language)
        return NORMALIZERS[self.normalizer]

    @property
    def description(self) -> dict[str, Any]:
        """Return what is stored with results."""
        return dataclasses.asdict(self) | {"seeds": list(self.seeds)}


_published = partial(Protocol, speaker=ECAPA, published_similarity="sim_o", duration_rule="bytes")
"""What the papers' protocols share."""
_omnivoice = partial(_published, list_format="omnivoice", headline="wer_corpus")
"""What OmniVoice's of many languages share besides."""

MINIMAX = "minimax-multilingual"
MINIMAX_LANGUAGES = (
    *("ar", "yue", "zh", "cs", "nl", "en", "fi", "fr", "de", "el", "hi", "id", "it", "ja", "ko", "pl"),
    *("pt", "ro", "ru", "es", "th", "tr", "uk", "vi"),
)  # fmt: skip

FLEURS = "fleurs"
FLEURS_LANGUAGES = tuple(
    "af am ar as ast az be bg bn bs ca ceb ckb cs cy da de el en es et fa ff fi fil fr ga gl gu ha he hi hr hu hy id ig is it ja jv ka "
    "kam kea kk km kn ko ky lb lg ln lo lt luo lv mi mk ml mn mr ms mt my nb ne nl nso ny oc om or pa pl ps pt ro ru sd sk sl sn so sr "
    "sv sw ta te tg th tr uk umb ur uz vi wo xh yo yue zh zu".split()
)
"""The 102 of FLEURS, by ISO 639-1 or, where that has none, 639-3."""
FAMILIES = {MINIMAX: MINIMAX_LANGUAGES, FLEURS: FLEURS_LANGUAGES}
"""Protocols that are one of each language, called `FAMILY-LANGUAGE`."""
OMNIASR = "omnilingual:omniASR_LLM_Unlimited_7B_v2"
PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(name="offline", source="this project: judges that come with it, no network"),
        _published(
            name="f5-librispeech-pc",
            list_format="librispeech-pc",
            list_sha256=LIBRISPEECH_PC_SHA256,
            asr=FASTER_WHISPER_LARGE_V3,
            num_beams=5,
            normalizer="f5-en",
            source="F5-TTS eval/eval_librispeech_test_clean.py, eval/utils_eval.py",
        ),
        _published(
            name="seed-tts-en",
            list_format="seed-tts",
            asr=WHISPER_LARGE_V3,
            num_beams=1,
            normalizer="seed-tts-en",
            source="BytedanceSpeech/seed-tts-eval run_wer.py, average_wer.py",
        ),
        _published(
            name="seed-tts-zh",
            list_format="seed-tts",
            asr=PARAFORMER,
            language="zh",
            normalizer="seed-tts-zh",
            source="BytedanceSpeech/seed-tts-eval run_wer.py, average_wer.py",
        ),
        _published(
            name="zipvoice-librispeech-pc",
            list_format="librispeech-pc",
            list_sha256=LIBRISPEECH_PC_SHA256,
            asr=HUBERT_LARGE,
            normalizer="zipvoice-en",
            headline="wer_corpus",
            source="k2-fsa/ZipVoice zipvoice/eval/wer/hubert.py, eval/speaker_similarity/sim.py",
        ),
        *(
            _omnivoice(
                name=f"{MINIMAX}-{language}",
                asr=PARAFORMER if language == "zh" else WHISPER_LARGE_V3,
                language=language,
                num_beams=None if language == "zh" else 1,
                normalizer="minimax",
                source="k2-fsa/OmniVoice omnivoice/eval/wer/minimax.py, eval/speaker_similarity/sim.py",
            )
            for language in MINIMAX_LANGUAGES
        ),
        *(
            _omnivoice(
                name=f"{FLEURS}-{language}",
                asr=OMNIASR,
                language=language,
                normalizer="fleurs",
                source="k2-fsa/OmniVoice omnivoice/eval/wer/fleurs.py, eval/speaker_similarity/sim.py",
            )
            for language in FLEURS_LANGUAGES
        ),
    )
}


def load_protocol(name: str) -> Protocol:
    """Return a protocol by its name, or read one from a YAML file.

    Raises:
        ConfigError: no such name or file; an unknown key or a value that does not fit.
    """
    if name in PROTOCOLS:
        return PROTOCOLS[name]
    if not name.endswith((".yaml", ".yml")):
        names = [each for each in PROTOCOLS if not each.startswith(tuple(FAMILIES))]
        families = [
            f"{family}-LANGUAGE with one of {', '.join(languages)}"
            for family, languages in FAMILIES.items()
        ]
        raise ConfigError(
            f"--protocol {name!r}: unknown. Use one of {', '.join(names)}; {'; '.join(families)}; "
            "or FILE.yaml with your own (docs/protocols.md, section custom)."
        )
    return _read_protocol(Path(name))


def _read_protocol(path: Path) -> Protocol:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    where = f"--protocol {path}"
    if not path.is_file():
        raise ConfigError(f"{where}: cannot be read: no such file")
    try:
        values = YAML(typ="safe").load(read_utf8(path, where))
    except YAMLError as error:
        raise ConfigError(f"{where}: cannot be read: {str(error).splitlines()[0]}") from None
    fields = {field.name for field in dataclasses.fields(Protocol)}
    if not isinstance(values, dict):
        raise ConfigError(f"{where}: expected keys out of {', '.join(sorted(fields))}")
    unknown = sorted(str(key) for key in values if key not in fields)
    if unknown:
        raise ConfigError(
            f"{where}: unknown key {unknown[0]!r}; known are {', '.join(sorted(fields))}"
        )
    if isinstance(values.get("seeds"), list):
        values["seeds"] = tuple(values["seeds"])
    fields_given: dict[str, Any] = {"name": path.stem} | values
    protocol = Protocol(**fields_given)
    problems = list(_problems(protocol))
    if problems:
        raise ConfigError(f"{where}: {'; '.join(problems)}")
    return protocol


def _problems(protocol: Protocol) -> Iterator[str]:
    """Yield what does not fit its key. YAML gives values of any type, whatever the annotations say."""
    values: dict[str, Any] = dataclasses.asdict(protocol)
    for key, allowed in CHOICES.items():
        if values[key] not in allowed:
            yield f"{key} {values[key]!r} is none of {', '.join(map(str, allowed))}"
    for key in ("name", "asr", "language", "speaker", "source"):
        if not isinstance(values[key], str) or (key != "source" and not values[key].strip()):
            yield f"{key} must be text, got {values[key]!r}"
    beams, sha256, seeds = values["num_beams"], values["list_sha256"], values["seeds"]
    if not isinstance(beams, int | None):
        yield f"num_beams must be int or null, got {beams!r}"
    elif beams is not None and (isinstance(beams, bool) or beams < 1):
        yield f"num_beams must be a whole number from 1 up, or null, got {beams!r}"
    if sha256 is not None and not re.fullmatch("[0-9a-f]{64}", str(sha256)):
        yield f"list_sha256 must be 64 digits 0-9a-f, or null, got {sha256!r}"
    if protocol.name in PROTOCOLS:
        yield f"name {protocol.name!r} is taken by a built-in protocol; choose another"
    whole = isinstance(seeds, tuple) and all(type(seed) is int and seed >= 0 for seed in seeds)
    if not whole or not seeds:
        yield f"seeds must be a list of whole numbers, none below 0, got {seeds!r}"
    elif len(set(seeds)) != len(seeds):
        yield f"seeds {list(seeds)} name one twice"


def parse_seeds(text: str) -> tuple[int, ...]:
    """Read `0,1,2`.

    Raises:
        ConfigError: something else stands there, or a seed twice.
    """
    try:
        seeds = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(
            f"--seeds {text!r}: expected whole numbers with commas, e.g. 0,1,2"
        ) from None
    if len(set(seeds)) != len(seeds) or min(seeds) < 0:
        raise ConfigError(f"--seeds {text!r}: each seed once, none below 0")
    return seeds


def modifications(protocol: Protocol, used: dict[str, Any]) -> list[str]:
    """Return what differs from the protocol, in words; empty where the result may carry its name alone.

    `used` holds what was used, by the names of the fields; None where nothing was overridden.
    """
    meant = {key: getattr(protocol, key) for key in used}
    return [
        f"{key} {_short(value)} instead of {_short(meant[key])}"
        for key, value in used.items()
        if None not in (value, meant[key]) and value != meant[key]
    ]


def _short(value: Any) -> str:
    text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return f"{text[:12]}…" if len(text) == 64 and not text.startswith(("whisper", "ctc")) else text
