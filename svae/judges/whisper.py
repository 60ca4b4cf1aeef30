"""Whisper, the recogniser of most published word error rates."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from typing import Any

import torch
from torch import Tensor

from svae.audio import SPEECH_RATE
from svae.errors import ConfigError
from svae.judges.clips import at_speech_rate, batches, holds_no_speech
from svae.runtime.pretrained import (
    identity,
    load_pretrained,
    quiet_transformers,
    split_revision,
)

SPEC, INT8_SPEC = "whisper", "whisper-int8"
"""What `--asr` begins with: computed as the weights are stored, or with 8-bit weights."""
OFFLINE = "Without a network use --asr pocketsphinx, or a local folder: whisper:FOLDER."
WINDOW_SECONDS = 30.0
"""What Whisper was trained to hear at a time."""


class Whisper:
    """Whisper through transformers: beam search without sampling or temperature fallback, windows of 30 s.

    Args:
        source: hub id or folder.
        device: where it runs.
        language: what a multilingual model is told.
        num_beams: the width of its search; None is 5.
        batch_size: pieces of at most 30 s decoded together.
        int8: linear layers with 8-bit weights and 8-bit activations whose range is that of what is heard together: faster on a
            CPU, other rounding, another judge. With `batch_size` above 1 a text then depends on its neighbours a little.

    Raises:
        ConfigError: no such model, or `int8` on another device than a CPU.
    """

    def __init__(
        self,
        source: str,
        device: str | torch.device = "cpu",
        *,
        language: str = "en",
        num_beams: int | None = None,
        batch_size: int = 1,
        int8: bool = False,
    ) -> None:
        from transformers import WhisperForConditionalGeneration, WhisperProcessor

        self.device = torch.device(device)
        spec = f"{INT8_SPEC if int8 else SPEC}:{source}"
        if int8 and self.device.type != "cpu":
            raise ConfigError(
                f"--asr {spec}: torch computes in 8 bits on a CPU only, not on {self.device.type}; use {SPEC}:, "
                "faster-whisper-int8:, or --device cpu"
            )
        self.dtype = torch.float16 if self.device.type == "cuda" else torch.float32
        self.batch_size = batch_size
        name, pinned = split_revision(source)

        def load(local: bool) -> tuple[Any, Any]:
            where: dict[str, Any] = {"local_files_only": local, "revision": pinned}
            processor = WhisperProcessor.from_pretrained(name, **where)
            model = WhisperForConditionalGeneration.from_pretrained(name, dtype=self.dtype, **where)
            return processor, model

        self._processor, model = load_pretrained(
            load, name, option=f"--asr {spec}", offline=OFFLINE, probe="config.json"
        )
        self._model = model.to(self.device).eval()
        if int8:
            self._model = _in_int8(self._model)
        self._settings: dict[str, Any] = {"num_beams": num_beams or 5, "do_sample": False}
        if getattr(model.generation_config, "lang_to_id", None):  # English-only models know neither
            self._settings |= {"language": language, "task": "transcribe"}
        self.description: dict[str, Any] = {
            "spec": spec,
            "asr": "whisper",
            **identity(name, pinned),
            **(_int8_description() if int8 else {"dtype": str(self.dtype).removeprefix("torch.")}),
            "decoding": {**self._settings, "window_seconds": WINDOW_SECONDS},
            "transformers": metadata.version("transformers"),
        }

    @torch.inference_mode()
    def transcribe(self, waveforms: Sequence[Tensor], sample_rate: int = SPEECH_RATE) -> list[str]:
        """Return the text of each waveform (S,); beyond 30 s it is cut into windows and the texts are joined.

        A window shorter than 0.1 s, as the last one may be, or silent is not transcribed: Whisper would make words up.
        """
        pieces: list[Tensor] = []
        owners: list[int] = []
        for owner, waveform in enumerate(waveforms):
            for piece in at_speech_rate(waveform, sample_rate).split(
                int(WINDOW_SECONDS * SPEECH_RATE)
            ):
                if not holds_no_speech(piece):
                    pieces.append(piece)
                    owners.append(owner)
        heard: list[str] = []
        for batch in batches(pieces, self.batch_size):
            heard += self._pieces(batch)
        texts: list[list[str]] = [[] for _ in waveforms]
        for owner, text in zip(owners, heard, strict=True):
            texts[owner].append(text)
        return [" ".join(parts).strip() for parts in texts]

    def _pieces(self, pieces: Sequence[Tensor]) -> list[str]:
        """Return the text of each piece of at most 30 s; the features of all are padded to that length."""
        inputs = self._processor(
            [piece.numpy() for piece in pieces],
            sampling_rate=SPEECH_RATE,
            return_tensors="pt",
            return_attention_mask=True,
        )
        with quiet_transformers():  # its advice about generation settings is for who writes them
            ids = self._model.generate(
                inputs.input_features.to(self.device, self.dtype),
                attention_mask=inputs.attention_mask.to(self.device),
                **self._settings,
            )
        texts = self._processor.batch_decode(ids, skip_special_tokens=True)
        return [text.strip() for text in texts]


def _in_int8(model: Any) -> Any:
    """Return a model whose linear layers compute in 8 bits, each row of a weight with a scale of its own."""
    # torch says of this module that torchao follows it, one package more for one call; torch is pinned (pyproject.toml).
    from torch.ao.quantization import per_channel_dynamic_qconfig, quantize_dynamic

    return quantize_dynamic(model, {torch.nn.Linear: per_channel_dynamic_qconfig})


def _int8_description() -> dict[str, Any]:
    """Return what the numbers of `_in_int8` depend on; the engine is that of the processor."""
    return {
        "dtype": "int8",
        "quantization": "linear layers, dynamic, weights per channel",
        "quantized_engine": torch.backends.quantized.engine,
        "torch": torch.__version__,
    }
