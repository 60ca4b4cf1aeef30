"""Paraformer for Mandarin, as seed-tts-eval hears it. Its packages are optional: large, and of no use elsewhere here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from svae.audio import SPEECH_RATE
from svae.errors import ConfigError
from svae.judges.clips import at_speech_rate, holds_no_speech
from svae.runtime.pretrained import split_revision, weights_sha256


class Paraformer:
    """FunASR's Paraformer without voice activity detection or punctuation, then zhconv to simplified characters.

    Source: seed-tts-eval `run_wer.py` (`AutoModel(model="paraformer-zh")`, `zhconv.convert(text, "zh-cn")`).
    """

    def __init__(self, source: str, device: str | torch.device = "cpu") -> None:
        name, revision = split_revision(source)
        spec = f"paraformer:{source}"
        try:
            import funasr
            import zhconv
        except ImportError as error:
            raise ConfigError(
                f"--asr {spec}: needs {error.name}, which is not installed.\n"
                "Install both packages: pip install funasr zhconv. Without them a Chinese list can be judged by "
                "--asr whisper:ID with a protocol file that says `language: zh`, which is another protocol."
            ) from None
        pinned = {} if revision is None else {"model_revision": revision}
        try:
            self._model = funasr.AutoModel(
                model=name, device=str(device), disable_update=True, **pinned
            )
        # funasr and modelscope raise many classes, AssertionError among them.
        except Exception as error:
            raise ConfigError(f"--asr {spec} cannot be loaded: {error}") from None
        self._convert = zhconv.convert
        self.description: dict[str, Any] = {
            "spec": spec,
            "asr": "paraformer",
            "model": name,
            "revision": revision,
            "sha256": weights_sha256(name),
            "decoding": "funasr's defaults; zhconv to zh-cn",
            "funasr": getattr(funasr, "__version__", None),
            "zhconv": getattr(zhconv, "__version__", None),
        }

    def transcribe(self, waveforms: Sequence[Tensor], sample_rate: int = SPEECH_RATE) -> list[str]:
        """Return the text of each waveform (S,), in simplified characters."""
        return [self._transcribe(at_speech_rate(waveform, sample_rate)) for waveform in waveforms]

    def _transcribe(self, clip: Tensor) -> str:
        if holds_no_speech(clip):
            return ""
        results = self._model.generate(input=clip.numpy(), batch_size_s=300, disable_pbar=True)
        return self._convert(results[0]["text"], "zh-cn")
