"""Whisper by faster-whisper (CTranslate2): the engine that F5-TTS's own evaluation runs."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from svae.audio import SPEECH_RATE
from svae.errors import ConfigError
from svae.judges.clips import at_speech_rate
from svae.runtime.pretrained import identity, load_pretrained, split_revision

OFFLINE = "Without a network use --asr pocketsphinx, or a local folder: faster-whisper:FOLDER."
MOST_WORKERS = 4
"""Clips under way at a time; more hardly help a GPU, and take memory."""
SEED = 0


class FasterWhisper:
    """Whisper as faster-whisper's `WhisperModel.transcribe` runs it, with all its defaults.

    These are timestamps, the text before as context, and sampling at rising temperatures where beam search fails. Such
    sampling draws numbers. A clip in which it happened is heard again by a model that begins its numbers anew, so
    that its text, like that of every other clip, depends on nothing but the clip.

    Args:
        source: hub id or folder of a CTranslate2 conversion.
        device: where it runs.
        language: what a multilingual model is told.
        num_beams: the width of its search; None is 5.
        batch_size: clips under way at a time, up to `MOST_WORKERS`; texts do not depend on it.
        int8: compute with 8-bit weights: faster on a CPU, other rounding, another judge.

    Raises:
        ConfigError: no such model, not a CTranslate2 conversion, or faster-whisper is not installed.
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
        self.device = torch.device(device)
        self.batch_size = batch_size
        self._workers = min(batch_size, MOST_WORKERS)
        on_gpu = self.device.type == "cuda"
        self._compute_type = ("int8_float16" if on_gpu else "int8") if int8 else ("float16" if on_gpu else "float32")  # fmt: skip
        spec = f"faster-whisper{'-int8' if int8 else ''}:{source}"
        try:
            from faster_whisper.utils import download_model
        except ImportError:
            raise ConfigError(
                f"--asr {spec}: needs faster-whisper; try: pip install 'svae[faster-whisper]'"
            ) from None
        name, pinned = split_revision(source)

        def load(local: bool) -> Any:
            self._folder = name
            if not Path(name).is_dir():
                self._folder = download_model(name, local_files_only=local, revision=pinned)
            return self._load()

        self._model = load_pretrained(
            load, name, option=f"--asr {spec}", offline=OFFLINE, probe="model.bin"
        )
        self._settings = {"beam_size": num_beams or 5, "language": language, "task": "transcribe"}
        self.description: dict[str, Any] = {
            "spec": spec,
            "asr": "faster-whisper",
            **identity(name, pinned),
            "dtype": self._compute_type,
            "decoding": {
                **self._settings,
                "fallback_temperatures": [0.2, 0.4, 0.6, 0.8, 1.0],
                "seed": SEED,
            },
            "faster-whisper": metadata.version("faster-whisper"),
            "ctranslate2": metadata.version("ctranslate2"),
        }

    def _load(self) -> Any:
        """Return a model whose random numbers are at their beginning: CTranslate2 seeds them when its threads start."""
        import ctranslate2
        from faster_whisper import WhisperModel

        ctranslate2.set_random_seed(SEED)
        return WhisperModel(
            self._folder,
            device=self.device.type,
            device_index=self.device.index or 0,
            compute_type=self._compute_type,
            cpu_threads=torch.get_num_threads(),
            num_workers=self._workers,
        )

    def transcribe(self, waveforms: Sequence[Tensor], sample_rate: int = SPEECH_RATE) -> list[str]:
        """Return the text of each waveform (S,) of any length."""
        clips = [at_speech_rate(waveform, sample_rate).numpy() for waveform in waveforms]
        with ThreadPoolExecutor(self._workers) as pool:
            heard = list(pool.map(self._hear, clips))
        texts = []
        for clip, (text, drawn) in zip(clips, heard, strict=True):
            if drawn:
                self._model = self._load()
                text, _ = self._hear(clip)
            texts.append(text)
        return texts

    def _hear(self, clip: np.ndarray) -> tuple[str, bool]:
        """Return the text of a clip (S,), and whether random numbers were drawn for it."""
        if clip.size == 0:
            return "", False
        segments = list(self._model.transcribe(clip, **self._settings)[0])
        drawn = any(segment.temperature for segment in segments)
        return "".join(segment.text for segment in segments).strip(), drawn
