"""The published archives of corpora: where they are, how many bytes they have, and what their bytes add up to.

Checksums: of LibriTTS, LibriSpeech, LJSpeech and VCTK the SHA-256 that torchaudio 2.11 has (torchaudio/datasets/*.py); of
LibriTTS-R the MD5 of OpenSLR's list for resource 141, as several projects that check downloads repeat it. Sizes: checksums.tsv
of tensorflow-datasets for LibriTTS, the download scripts of Kaldi and ESPnet for LibriSpeech; those of LJSpeech and VCTK are
recorded by people who checked the sums. Of LibriTTS-R no exact sizes are known: its server says them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from urllib.parse import urlsplit

OPENSLR = (
    "https://openslr.trmal.net",
    "https://openslr.elda.org",
    "https://openslr.magicdatatech.com",
)
"""OpenSLR's mirrors in the USA, Europe and China, in this order."""


@dataclass(frozen=True)
class Archive:
    """One file to download."""

    hosts: tuple[str, ...]
    """Where it is, the first to be asked first."""
    path: str
    """On every host."""
    digest: str
    """`sha256:` or `md5:` and the sum in hexadecimal; empty where none is known with certainty."""
    size: int | None
    """Bytes; None: as the server says."""

    @property
    def name(self) -> str:
        """What the file is called."""
        return urlsplit(self.path).path.rpartition("/")[2]


@dataclass(frozen=True)
class Published:
    """A corpus as it is published."""

    archives: Mapping[str, Archive]
    """Subset → archive; a corpus of one archive has one under its own name."""
    folder: str
    """What unpacking makes, from the folder of all corpora."""
    inside: str
    """The folder in the archives that becomes `folder`; empty: the archive's own top."""
    unpacked: float
    """How many bytes are unpacked from one, about, rather too many."""
    prepare: str
    """The command that reads it."""

    @property
    def has_subsets(self) -> bool:
        """Whether there is something to choose."""
        return len(self.archives) > 1


def _openslr(number: int, underscores: bool, rows: str) -> Mapping[str, Archive]:
    """Return the archives of an OpenSLR resource; a row is subset, bytes (0: not known) and sum."""
    algorithm = {32: "md5", 64: "sha256"}
    archives = {}
    for row in rows.split("\n"):
        if row.strip():
            subset, size, digest = row.split()
            name = subset.replace("-", "_") if underscores else subset
            archives[subset] = Archive(
                OPENSLR,
                f"/resources/{number}/{name}.tar.gz",
                f"{algorithm[len(digest)]}:{digest}",
                int(size) or None,
            )
    return MappingProxyType(archives)


PUBLISHED: Mapping[str, Published] = MappingProxyType({
    "libritts": Published(
        _openslr(60, False, """
            train-clean-100 7723686890 c5608bf1ef74bb621935382b8399c5cdd51cd3ee47cec51f00f885a64c6c7f6b
            train-clean-360 27504073644 ce7cff44dcac46009d18379f37ef36551123a1dc4e5c8e4eb73ae57260de4886
            train-other-500 44565031479 e35f7e34deeb2e2bdfe4403d88c8fdd5fbf64865cae41f027a185a6965f0a5df
            dev-clean 1291469655 da0864e1bd26debed35da8a869dd5c04dfc27682921936de7cff9c8a254dbe1a
            dev-other 924804676 d413eda26f3a152ac7c9cf3658ef85504dfb1b625296e5fa83727f5186cca79c
            test-clean 1230670113 234ea5b25859102a87024a4b9b86641f5b5aaaf1197335c95090cde04fe9a4f5
            test-other 964502297 33a5342094f3bba7ccc2e0500b9e72d558f72eb99328ac8debe1d9080402f10d
        """),
        folder="LibriTTS", inside="LibriTTS", unpacked=1.35, prepare="libritts",
    ),
    "libritts-r": Published(
        _openslr(141, True, """
            train-clean-100 0 6df668d8f5f33e70876bfa33862ad02b
            train-clean-360 0 382eb3e64394b3da6a559f864339b22c
            train-other-500 0 a37a8e9f4fe79d20601639bf23d1add8
            dev-clean 0 2c1f5312914890634cc2d15783032ff3
            dev-other 0 62d3a80ad8a282b6f31b3904f0507e4f
            test-clean 0 4d373d453eb96c0691e598061bbafab7
            test-other 0 dbc0959d8bdb6d52200595cabc9995ae
        """),
        folder="LibriTTS_R", inside="LibriTTS_R", unpacked=1.35, prepare="libritts --root {folder}",
    ),
    "librispeech": Published(
        _openslr(12, False, """
            train-clean-100 6387309499 d4ddd1d5a6ab303066f14971d768ee43278a5f2a0aa43dc716b0e64ecbbbf6e2
            train-clean-360 23049477885 146a56496217e96c14334a160df97fffedd6e0a04e66b9c5af0d40be3c792ecf
            train-other-500 30593501606 ddb22f27f96ec163645d53215559df6aa36515f26e01dd70798188350adcb6d2
            dev-clean 337926286 76f87d090650617fca0cac8f88b9416e0ebf80350acb97b343a85fa903728ab3
            dev-other 314305928 12661c48e8c3fe1de2c1caa4c3e135193bfb1811584f11f569dd12645aa84365
            test-clean 346663984 39fde525e59672dc6d1551919b1478f724438a95aa55f874b576be21967e6c23
            test-other 328757843 d09c181bba5cf717b3dee7d4d592af11a3ee3a09e08ae025c5506f6ebe961c29
        """),
        folder="LibriSpeech", inside="LibriSpeech", unpacked=1.1, prepare="librispeech",
    ),
    "ljspeech": Published(
        MappingProxyType({"ljspeech": Archive(
            ("https://data.keithito.com",),
            "/data/speech/LJSpeech-1.1.tar.bz2",
            "sha256:be1a30453f28eb8dd26af4101ae40cbf2c50413b1bb21936cbcdc6fae3de8aa5",
            2748572632,
        )}),
        folder="LJSpeech-1.1", inside="LJSpeech-1.1", unpacked=1.5, prepare="ljspeech",
    ),
    "vctk": Published(
        MappingProxyType({"vctk": Archive(
            ("https://datashare.ed.ac.uk", "https://datashare.is.ed.ac.uk"),
            "/bitstream/handle/10283/3443/VCTK-Corpus-0.92.zip",
            "sha256:f96258be9fdc2cbff6559541aae7ea4f59df3fcaf5cf963aae5ca647357e359c",
            11747302977,
        )}),
        folder="VCTK-Corpus-0.92", inside="", unpacked=1.1, prepare="vctk",
    ),
})  # fmt: skip
"""Corpora that `svae download` knows."""
