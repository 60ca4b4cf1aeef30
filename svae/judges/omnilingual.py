"""Meta's omnilingual-asr for more than 1,600 languages, as OmniVoice hears FLEURS; in an environment of its own."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import soundfile
import torch
from torch import Tensor

from svae.audio import SPEECH_RATE
from svae.errors import ConfigError, SvaeError
from svae.judges.clips import at_speech_rate, holds_no_speech

PYTHON_VARIABLE = "SVAE_OMNILINGUAL_PYTHON"
"""Names the interpreter of the environment that has the package."""
INSTALL = (
    "python3.11 -m venv omnilingual && omnilingual/bin/pip install omnilingual-asr==0.2.0 torchaudio==2.8.0 'pyarrow<23'; "
    f"export {PYTHON_VARIABLE}=$PWD/omnilingual/bin/python"
)
WORKER = Path(__file__).with_name("omnilingual_worker.py")
OTHER_CODES = {"et": "ekk", "ms": "zsm", "ne": "nep", "sw": "swh"}
"""Languages of which the package knows a narrower or a wider one than ISO 639-1 means."""
ISO_639_3 = OTHER_CODES | dict(
    pair.split(":")
    for pair in (
        "af:afr am:amh ar:arb as:asm az:aze be:bel bg:bul bn:ben bs:bos ca:cat cs:ces cy:cym da:dan de:deu el:ell en:eng es:spa fa:fas "
        "ff:ful fi:fin fr:fra ga:gle gl:glg gu:guj ha:hau he:heb hi:hin hr:hrv hu:hun hy:hye id:ind ig:ibo is:isl it:ita ja:jpn jv:jav "
        "ka:kat kk:kaz km:khm kn:kan ko:kor ky:kir lb:ltz lg:lug ln:lin lo:lao lt:lit lv:lav mi:mri mk:mkd ml:mal mn:mon mr:mar mt:mlt "
        "my:mya nb:nob nl:nld ny:nya oc:oci om:orm or:ory pa:pan pl:pol ps:pus pt:por ro:ron ru:rus sd:snd sk:slk sl:slv sn:sna so:som "
        "sr:srp sv:swe ta:tam te:tel tg:tgk th:tha tr:tur uk:ukr ur:urd uz:uzb vi:vie wo:wol xh:xho yo:yor zh:cmn zu:zul"
    ).split()
)
"""FLEURS' languages that have a code of two letters; others have one of three. Source: OmniVoice `docs/lang_id_name_map.tsv`."""


class Omnilingual:
    """A model of omnilingual-asr, by the name of its card, as its own pipeline runs it.

    Source: k2-fsa/OmniVoice `omnivoice/eval/wer/fleurs.py`. The package asks for another torch than svae, so it runs as a process of the
    interpreter that `SVAE_OMNILINGUAL_PYTHON` names, or of this one where the package is installed here.

    Args:
        card: `omniASR_LLM_Unlimited_7B_v2`, or another of its models; fairseq2 downloads it (15 GB) where it has not yet.
        device: where it runs.
        language: ISO 639-1, or 639-3 where there is no shorter one. Its CTC models do not heed it.
        batch_size: clips decoded together, padded to the longest of them.

    Raises:
        ConfigError: no environment has the package, the model cannot be loaded, or it does not know the language.
    """

    def __init__(
        self,
        card: str,
        device: str | torch.device = "cpu",
        *,
        language: str = "en",
        batch_size: int = 1,
    ) -> None:
        self._spec = f"omnilingual:{card}"
        self._batch_size = batch_size
        arguments = (card, str(device), ISO_639_3.get(language, language))
        self._process = _start(self._spec, arguments)
        weakref.finalize(self, _stop, self._process)
        loaded = self._answer()
        if "error" in loaded:
            raise ConfigError(
                f"--asr {self._spec} cannot be loaded: {loaded['error']}\nIts environment is made by: {INSTALL}"
            )
        self.description: dict[str, Any] = {
            "spec": self._spec,
            "asr": "omnilingual",
            "model": card,
            **loaded["weights"],
            "language": loaded["language"],
            "decoding": "the package's pipeline, its defaults",
            "dtype": loaded["dtype"],
            "batch_size": batch_size,
            **loaded["versions"],
        }

    def transcribe(self, waveforms: Sequence[Tensor], sample_rate: int = SPEECH_RATE) -> list[str]:
        """Return the text of each waveform (S,); of one without speech, nothing.

        Raises:
            SvaeError: the package refuses a clip, or its process has ended.
        """
        speaking = [
            place
            for place, waveform in enumerate(waveforms)
            if not holds_no_speech(at_speech_rate(waveform, sample_rate))
        ]
        texts = [""] * len(waveforms)
        if not speaking:
            return texts
        with tempfile.TemporaryDirectory(prefix="svae-omnilingual-") as folder:
            paths = []
            for place in speaking:
                path = f"{folder}/{place}.wav"
                clip = waveforms[place].detach().float().cpu().reshape(-1).numpy()
                soundfile.write(path, clip, sample_rate, subtype="FLOAT")
                paths.append(path)
            longest = max(waveforms[place].numel() for place in speaking) / sample_rate
            heard = self._ask(
                {"paths": paths, "batch_size": self._batch_size},
                f"{len(paths)} heard together, the longest of {longest:.1f} s",
            )
        for place, text in zip(speaking, heard, strict=True):
            texts[place] = text
        return texts

    def _ask(self, asked: dict[str, Any], clips: str) -> list[str]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(asked) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # the missing answer says so
        answer = self._answer()
        if "error" in answer:
            raise SvaeError(f"--asr {self._spec}: {answer['error']} (recordings: {clips})")
        return answer["texts"]

    def _answer(self) -> dict[str, Any]:
        """Return the next line of the process."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            return {
                "error": f"its process ended with code {self._process.wait()}; it wrote why above"
            }
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if isinstance(answer, dict):
            return answer
        # Another program, or one more that writes there: its next lines would answer the wrong questions.
        self._process.kill()
        return {
            "error": f"{os.environ.get(PYTHON_VARIABLE, sys.executable)} answered {line[:80]!r}; expected the Python interpreter of an "
            "environment with omnilingual-asr, which prints nothing by itself"
        }


def _start(spec: str, arguments: Sequence[str]) -> subprocess.Popen[str]:
    here = importlib.util.find_spec("omnilingual_asr") is not None
    python = os.environ.get(PYTHON_VARIABLE) or (sys.executable if here else None)
    if python is None:
        raise ConfigError(
            f"--asr {spec}: needs the package omnilingual-asr, in an environment of its own.\nMake one: {INSTALL}"
        )
    try:
        return subprocess.Popen(
            [python, str(WORKER), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",  # of what is no answer
            start_new_session=True,  # Ctrl-C is this process' to answer; it ends that one
        )
    except OSError as error:
        raise ConfigError(
            f"--asr {spec}: {PYTHON_VARIABLE}={python}: {error.strerror}; expected the interpreter of an environment "
            f"with omnilingual-asr.\nMake one: {INSTALL}"
        ) from None


def _stop(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
