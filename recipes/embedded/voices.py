"""The synthetic voices: flite's speakers and espeak-ng's variants, natural or with the whole spectrum moved.

A moved voice (`warp` other than 1) is synthesised and then resampled as a tape played faster or slower: pitch and
formants move together, as they do between a large and a small speaker, so it really is another voice. Its tempo is
corrected in the synthesizer.
"""

from __future__ import annotations

import hashlib
import math
import random
from dataclasses import dataclass, replace

FLITE = ("rms", "slt", "awb", "kal16")
FLITE_WARPS = (1.0, 0.82, 0.9, 1.1, 1.2, 1.3)
ACCENTS = (
    "en-us", "en-gb", "en-gb-scotland", "en-us-nyc", "en-gb-x-rp", "en-029", "en-gb-x-gbclan", "en-gb-x-gbcwmd",
)  # fmt: skip
# espeak-ng 1.51's variants without those that repeat another one almost exactly (mean log-mel distance under 0.5).
VARIANTS = (
    "Alex", "Alicia", "Andrea", "Andy", "Annie", "antonio", "aunty", "belinda", "benjamin", "boris", "david",
    "Demonic", "Denis", "Diogo", "ed", "edward", "Gene", "gustave", "announcer", "Hugo", "iven", "iven2", "iven4",
    "Jacky", "john", "kaukovalta", "Lee", "linda", "marcelo", "Marco", "Mario", "max", "Michael", "michel",
    "Nguyen", "pablo", "paul", "pedro", "quincy", "RicishayMax", "RicishayMax2", "robert", "robosoft", "robosoft2",
    "robosoft3", "robosoft4", "robosoft5", "robosoft6", "robosoft7", "robosoft8", "steph", "Storm", "Tweaky",
    "UniRobot", "zac", "anika", "AnxiousAndy", "f1", "f2", "f3", "f4", "f5", "whisperf", "grandpa", "grandma",
    "klatt", "klatt2", "klatt3", "klatt4", "m1", "m2", "m3", "m5", "m7", "m8", "norbert", "sandro", "shelby", "travis",
    "victor", "whisper",
)  # fmt: skip
# Three voices of each variant: accents are dealt out in turn, the second is lower and larger, the third higher.
_SETTINGS = ((1.0, 50), (0.88, 42), (1.14, 60))
HELD_OUT_PERCENT = 20
VARIED_WARPS = (0.84, 1.22)
VARIED_SHIFTS = (0.75, 1.35)
_SAMPLE = ("flite-rms", "flite-slt", "flite-awb", "flite-kal16", "espeak-f2", "espeak-edward")


@dataclass(frozen=True, kw_only=True)
class Voice:
    """One synthetic speaker."""

    name: str
    """Speaker label in metadata.jsonl."""
    synthesizer: str
    """`flite` or `espeak-ng`."""
    voice: str
    """Argument of the synthesizer's voice option."""
    family: str
    """What is held out together: all voices made from one espeak-ng variant, or one moved flite voice."""
    warp: float = 1.0
    """Factor on pitch and formants."""
    pitch: int = 50
    """espeak-ng's pitch setting, 0-99."""
    shift: float = 1.0
    """Factor on pitch alone, flite's `f0_shift`, which its voice rms does not listen to."""

    @property
    def held_out(self) -> bool:
        """True when no training corpus may contain this voice. flite's own four voices are always for training."""
        if self.name in _SAMPLE:
            return False
        return (
            int(hashlib.sha256(f"voice:{self.family}".encode()).hexdigest(), 16) % 100
            < HELD_OUT_PERCENT
        )


def all_voices() -> list[Voice]:
    """Return every voice, flite's first, in a fixed order."""
    voices = []
    for warp in FLITE_WARPS:
        for base in FLITE:
            name = f"flite-{base}" + ("" if warp == 1 else f"-x{round(100 * warp)}")
            family = f"flite-{base}" if warp == 1 else name
            voices.append(
                Voice(name=name, synthesizer="flite", voice=base, family=family, warp=warp)
            )
    for row, (warp, pitch) in enumerate(_SETTINGS):
        for number, variant in enumerate(VARIANTS):
            accent = ACCENTS[(number + 3 * row) % len(ACCENTS)]
            name = f"espeak-{variant.lower()}" + ("" if warp == 1 else f"-x{round(100 * warp)}")
            family, voice = f"espeak-{variant}", f"{accent}+{variant}"
            voices.append(
                Voice(
                    name=name,
                    synthesizer="espeak-ng",
                    voice=voice,
                    family=family,
                    warp=warp,
                    pitch=pitch,
                )
            )
    return voices


def varied(voice: Voice, rng: random.Random, *, name: str) -> Voice:
    """Return a random relative of a voice: larger or smaller, higher or lower.

    Args:
        voice: Of any synthesizer. A moved one is moved anew, from its natural form.
        rng: Draws factors on the whole spectrum (`VARIED_WARPS`) and on pitch alone (`VARIED_SHIFTS`; espeak-ng: its setting).
        name: The relative's own name.

    Returns:
        A voice of the same family. flite's relatives may come near the held-out moved voices of the same speaker; those of
        rms differ in the whole spectrum only.
    """
    warp, shift = (
        math.exp(rng.uniform(*map(math.log, bounds))) for bounds in (VARIED_WARPS, VARIED_SHIFTS)
    )
    if voice.synthesizer == "flite":
        return replace(voice, name=name, warp=warp, shift=shift)
    return replace(voice, name=name, warp=warp, pitch=rng.randint(10, 90))


def select_voices(wanted: str) -> list[Voice]:
    """Return the voices of a group or of a comma-separated list of names and groups.

    Groups: `all`; `train` and `held-out` (by family); `flite` (the four natural voices); `espeak`; `sample`.

    Raises:
        ValueError: A name that is neither.
    """
    voices = all_voices()
    groups = {
        "all": voices,
        "train": [v for v in voices if not v.held_out],
        "held-out": [v for v in voices if v.held_out],
        "flite": [v for v in voices if v.synthesizer == "flite" and v.warp == 1],
        "espeak": [v for v in voices if v.synthesizer == "espeak-ng"],
        "sample": [next(v for v in voices if v.name == name) for name in _SAMPLE],
    }
    groups |= {v.name: [v] for v in voices}
    chosen: dict[str, Voice] = {}
    for name in wanted.split(","):
        if name not in groups:
            known = ", ".join(list(groups)[:6])
            raise ValueError(
                f"no voice or group {name!r}; groups: {known}; names: {', '.join(v.name for v in voices)}"
            )
        chosen |= {v.name: v for v in groups[name]}
    return list(chosen.values())
