"""When each phone of a known English text is spoken: forced alignment with pocketsphinx's acoustic model.

On flite's voices, whose true phone ends are known, the ends found have a median error of 9 ms (docs/embedded.md).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from svae.errors import SvaeError
from svae.text.phonemes import Word, pieces

if TYPE_CHECKING:  # the runtime package, which has no torch, uses this module too
    from torch import Tensor

SAMPLE_RATE = 16000
PADDING_SECONDS = 0.1
"""Silence that is added on either side: trimmed recordings begin and end more abruptly than the model expects."""
BEAM = 1e-200
"""Wide, so that voices unlike any person's are aligned too."""
LETTER_SOUNDS = {
    "a": "AE", "b": "B", "c": "K", "d": "D", "e": "EH", "f": "F", "g": "G", "h": "HH", "i": "IH", "j": "JH", "k": "K",
    "l": "L", "m": "M", "n": "N", "o": "AA", "p": "P", "q": "K", "r": "R", "s": "S", "t": "T", "u": "AH", "v": "V",
    "w": "W", "x": "K", "y": "Y", "z": "Z",
}  # fmt: skip
"""For the place of words that no dictionary has; where such a word begins and ends is all that is kept."""


class AlignmentError(SvaeError):
    """This recording and this text do not fit."""


class PhoneAligner:
    """Finds the times of phones; English, 16 kHz."""

    def __init__(self) -> None:
        import pocketsphinx  # its library is large, and few commands need it

        root = Path(pocketsphinx.get_model_path()) / "en-us"
        beams = {"beam": BEAM, "wbeam": BEAM, "pbeam": BEAM}
        self._decoder = pocketsphinx.Decoder(
            hmm=str(root / "en-us"),
            dict=str(root / "cmudict-en-us.dict"),
            lm=None,
            bestpath=False,
            loglevel="FATAL",
            **beams,
        )

    def align(self, waveform: Tensor | np.ndarray, text: str) -> list[list[float]]:
        """Return of each word its start, and the end of each of its phones, in seconds.

        A word that nothing pronounces has only a start and an end.

        Args:
            waveform: (S,) at 16 kHz, on the CPU.
            text: what is said in it.

        Raises:
            AlignmentError: no words, or the recording says something else.
        """
        words = [piece for piece in pieces(text) if isinstance(piece, Word)]
        if not words:
            raise AlignmentError(f"text {text[:80]!r}: no words to align")
        heard = np.asarray(waveform, dtype=np.float32).reshape(-1)
        samples = np.pad(heard, round(PADDING_SECONDS * SAMPLE_RATE)) * np.float32(32767)
        audio = samples.astype(np.float32).clip(-32767, 32767).astype(np.int16).tobytes()
        try:
            self._decoder.set_align_text(" ".join(self._name(word) for word in words))
            self._hear(audio)
            self._decoder.set_alignment()  # the second pass goes into the words
            self._hear(audio)
            # Read as it is walked through: pocketsphinx's words do not outlive its iterator.
            found = [
                [entry.start, *(phone.start + phone.duration for phone in entry)]
                for entry in self._decoder.get_alignment()
                if entry.name[0] == "/"
            ]
        except (RuntimeError, TypeError) as error:
            raise AlignmentError(
                f"text {text[:80]!r} does not fit the recording ({error})"
            ) from None
        if len(found) != len(words):
            raise AlignmentError(
                f"text {text[:80]!r}: {len(found)} of its {len(words)} words found in the recording"
            )
        seconds = len(heard) / SAMPLE_RATE
        times = []
        for word, row in zip(words, found, strict=True):
            kept = row if word.phones is not None else [row[0], row[-1]]
            times.append(
                [round(min(max(0.01 * t - PADDING_SECONDS, 0.0), seconds), 3) for t in kept]
            )
        return times

    def fit(self, waveform: Tensor | np.ndarray, text: str) -> float:
        """Return how well a text fits a recording (S,): the mean log likelihood a frame of 10 ms, beside the best sounds there.

        Of 38 clips of people -25 or more in 95 % of them; another text of that length gives -40 or less (2026-11-28).

        Raises:
            AlignmentError: as `align`.
        """
        self.align(waveform, text)
        scores = [
            (entry.score, entry.duration)
            for entry in self._decoder.get_alignment()
            if entry.name[0] == "/"
        ]
        return sum(score for score, _ in scores) / max(sum(frames for _, frames in scores), 1)

    def _name(self, word: Word) -> str:
        """Return the name of a word in the decoder's dictionary, adding it where it is new."""
        sounds = word.phones or [LETTER_SOUNDS[letter] for letter in word.letters if letter != "'"]
        name = "/" + "/".join(sounds)
        if self._decoder.lookup_word(name) is None:
            self._decoder.add_word(name, " ".join(sounds), False)
        return name

    def _hear(self, audio: bytes) -> None:
        self._decoder.reinit_feat()  # else times depend, a little, on what was heard before
        self._decoder.start_utt()
        self._decoder.process_raw(audio, no_search=False, full_utt=True)
        self._decoder.end_utt()
