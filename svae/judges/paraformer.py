"""Paraformer for Mandarin, as seed-tts-eval hears it. Its packages are optional: large, and of no use elsewhere here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from svae.errors import ConfigError
from svae.judges.asr import SAMPLE_RATE, SHORTEST_SECONDS, _prepare, split_revision
from svae.runtime.pretrained import weights_sha256


class Paraformer:
    """FunASR's Paraformer without voice activity detection or punctuation, then zhconv to simplified characters.

    Source: seed-tts-eval `run_wer.py` (`AutoModel(model="paraformer-zh")`, `zhconv.convert(text, "zh-cn")`).
    """

    def __init__(self, source: str, device: str | torch.device = "cpu") -> None:
        name, revision = split_revision(source)
        try:
            import funasr
            import zhconv
        except ImportError as error:
            raise ConfigError(
                f"--asr paraformer:{source}: needs {error.name}, which is not installed.\n"
                "Install both packages: pip install funasr zhconv. Without them a Chinese list can be judged by "
                "--asr whisper:ID with a protocol file that says `language: zh`, which is another protocol."
            ) from None
        try:
            which = {} if revision is None else {"model_revision": revision}
            self._model = funasr.AutoModel(
                model=name, device=str(device), disable_update=True, **which
            )
        except (
            Exception
        ) as error:  # funasr and modelscope raise many classes, AssertionError among them
            raise ConfigError(f"--asr paraformer:{source} cannot be loaded: {error}") from None
        self._convert = zhconv.convert
        self.description: dict[str, Any] = {
            "spec": f"paraformer:{source}",
            "asr": "paraformer",
            "model": name,
            "revision": revision,
            "sha256": weights_sha256(name),
            "decoding": "funasr's defaults; zhconv to zh-cn",
            "funasr": getattr(funasr, "__version__", None),
            "zhconv": getattr(zhconv, "__version__", None),
        }

    def transcribe(self, waveforms: Sequence[Tensor], sample_rate: int = SAMPLE_RATE) -> list[str]:
        """Return the text of each waveform (S,), in simplified characters."""
        return [self._transcribe(_prepare(waveform, sample_rate)) for waveform in waveforms]

    def _transcribe(self, waveform: Tensor) -> str:
        if waveform.shape[0] < SHORTEST_SECONDS * SAMPLE_RATE:
            return ""
        results = self._model.generate(input=waveform.numpy(), batch_size_s=300, disable_pbar=True)
        return self._convert(results[0]["text"], "zh-cn")
