"""PocketSphinx: the recogniser that needs no network."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from typing import Any

from torch import Tensor

from svae.audio import SPEECH_RATE, pcm16
from svae.judges.clips import at_speech_rate, holds_no_speech


class PocketSphinx:
    """CMU PocketSphinx with the general English model that its package carries.

    Weak by today's measure (16-28 % WER on clean synthetic speech): read its scores beside those of the originals.
    """

    def __init__(self) -> None:
        from pocketsphinx import Decoder

        self._decoder = Decoder(samprate=SPEECH_RATE, loglevel="FATAL")
        self.description: dict[str, Any] = {
            "spec": "pocketsphinx",
            "asr": "pocketsphinx",
            "model": "en-us (in the package)",
            "decoding": "the package's defaults, trigram language model, state reset before each utterance",
            "pocketsphinx": metadata.version("pocketsphinx"),
        }

    def transcribe(self, waveforms: Sequence[Tensor], sample_rate: int = SPEECH_RATE) -> list[str]:
        """Return the text of each waveform (S,), lower case, without punctuation."""
        return [self._transcribe(at_speech_rate(waveform, sample_rate)) for waveform in waveforms]

    def _transcribe(self, clip: Tensor) -> str:
        if holds_no_speech(clip):
            return ""
        pcm = pcm16(clip, full_scale=32767, truncate=True).numpy().tobytes()
        self._decoder.reinit_feat()  # else the transcript depends, a little, on what was heard before
        self._decoder.start_utt()
        try:
            self._decoder.process_raw(pcm, full_utt=True)
        finally:
            self._decoder.end_utt()
        hypothesis = self._decoder.hyp()
        return "" if hypothesis is None else hypothesis.hypstr
