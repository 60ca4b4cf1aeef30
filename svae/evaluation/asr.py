"""Speech recognisers that judge intelligibility. Which one was used belongs to every word error rate."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from typing import Any, Protocol

import torch
from torch import Tensor

from svae.assets import asset_path
from svae.audio import resample
from svae.errors import ConfigError
from svae.pretrained import load_pretrained, revision, weights_sha256

SAMPLE_RATE = 16000
FORMS = "pocketsphinx (offline), ctc:embedded (offline, small), whisper:ID_OR_FOLDER, ctc:ID_OR_FOLDER"
OFFLINE = "Without a network use --asr pocketsphinx, or a local folder: whisper:FOLDER, ctc:FOLDER."
WHISPER_WINDOW_SECONDS = 30.0
SHORTEST_SECONDS = 0.1
"""Less than this is transcribed as nothing."""
SILENCE_RMS = 1e-4
"""-80 dB: PocketSphinx hears words in digital silence."""


class Recognizer(Protocol):
    """What turns speech into text."""

    description: dict[str, Any]
    """Class, model, versions and decoding settings, as stored with results."""

    def transcribe(self, waveforms: Sequence[Tensor], sample_rate: int = SAMPLE_RATE) -> list[str]:
        """Return the text of each waveform (S,), independent of the others."""
        ...


def load_asr(spec: str, device: str | torch.device = "cpu") -> Recognizer:
    """Load a recogniser.

    Args:
        spec: `pocketsphinx`, `whisper:ID_OR_FOLDER`, `ctc:ID_OR_FOLDER` or `ctc:embedded`.
        device: for the neural ones.

    Raises:
        ConfigError: unknown spec, or the model cannot be loaded (what works offline is named).
    """
    kind, _, source = spec.partition(":")
    if spec == "pocketsphinx":
        return PocketSphinx()
    if kind == "whisper" and source:
        return Whisper(source, device)
    if kind == "ctc" and source:
        return CTC(str(asset_path("teacher")) if source == "embedded" else source, device, spec)
    raise ConfigError(f"--asr {spec!r}: unknown; use one of: {FORMS}")


def _prepare(waveform: Tensor, sample_rate: int) -> Tensor:
    return resample(waveform.detach().float().cpu().reshape(1, -1), sample_rate, SAMPLE_RATE)[0]


class PocketSphinx:
    """CMU PocketSphinx with the general English model that its package carries. Needs no network.

    Weak by today's measure (16-28 % WER on clean synthetic speech): read its scores beside those of the originals.
    """

    def __init__(self) -> None:
        from pocketsphinx import Decoder

        self._decoder = Decoder(samprate=SAMPLE_RATE, loglevel="FATAL")
        self.description = {
            "spec": "pocketsphinx",
            "asr": "pocketsphinx",
            "model": "en-us (in the package)",
            "decoding": "the package's defaults, trigram language model, state reset before each utterance",
            "pocketsphinx": metadata.version("pocketsphinx"),
        }

    def transcribe(self, waveforms: Sequence[Tensor], sample_rate: int = SAMPLE_RATE) -> list[str]:
        """Return the text of each waveform (S,), lower case, without punctuation."""
        return [self._transcribe(_prepare(waveform, sample_rate)) for waveform in waveforms]

    def _transcribe(self, waveform: Tensor) -> str:
        if waveform.shape[0] < SHORTEST_SECONDS * SAMPLE_RATE or waveform.square().mean().sqrt() < SILENCE_RMS:
            return ""
        pcm = (waveform.clamp(-1, 1) * 32767).to(torch.int16).numpy().tobytes()
        self._decoder.reinit_feat()  # else the transcript depends, a little, on what was heard before
        self._decoder.start_utt()
        try:
            self._decoder.process_raw(pcm, full_utt=True)
        finally:
            self._decoder.end_utt()
        hypothesis = self._decoder.hyp()
        return "" if hypothesis is None else hypothesis.hypstr


class Whisper:
    """Whisper through transformers: beam 5, English where the model is multilingual, windows of 30 s."""

    def __init__(self, source: str, device: str | torch.device = "cpu") -> None:
        from transformers import WhisperForConditionalGeneration, WhisperProcessor

        self.device = torch.device(device)
        self.dtype = torch.float16 if self.device.type == "cuda" else torch.float32

        def load(local: bool) -> tuple[Any, Any]:
            processor = WhisperProcessor.from_pretrained(source, local_files_only=local)
            model = WhisperForConditionalGeneration.from_pretrained(source, dtype=self.dtype, local_files_only=local)
            return processor, model

        option = f"--asr whisper:{source}"
        self._processor, model = load_pretrained(load, source, option=option, offline=OFFLINE, probe="config.json")
        self._model = model.to(self.device).eval()
        self._settings: dict[str, Any] = {"num_beams": 5, "do_sample": False}
        if getattr(model.generation_config, "lang_to_id", None):  # English-only models know neither
            self._settings |= {"language": "en", "task": "transcribe"}
        self.description = {
            "spec": f"whisper:{source}",
            "asr": "whisper",
            "model": source,
            "revision": revision(source),
            "sha256": weights_sha256(source),
            "dtype": str(self.dtype).removeprefix("torch."),
            "decoding": {**self._settings, "window_seconds": WHISPER_WINDOW_SECONDS},
            "transformers": metadata.version("transformers"),
        }

    @torch.inference_mode()
    def transcribe(self, waveforms: Sequence[Tensor], sample_rate: int = SAMPLE_RATE) -> list[str]:
        """Return the text of each waveform (S,); beyond 30 s it is cut into windows and the texts are joined."""
        window = int(WHISPER_WINDOW_SECONDS * SAMPLE_RATE)
        texts = []
        for waveform in waveforms:
            pieces = _prepare(waveform, sample_rate).split(window)
            texts.append(" ".join(self._piece(piece) for piece in pieces if piece.shape[0]).strip())
        return texts

    def _piece(self, waveform: Tensor) -> str:
        inputs = self._processor(
            waveform.numpy(), sampling_rate=SAMPLE_RATE, return_tensors="pt", return_attention_mask=True
        )
        ids = self._model.generate(
            inputs.input_features.to(self.device, self.dtype),
            attention_mask=inputs.attention_mask.to(self.device),
            **self._settings,
        )
        return self._processor.batch_decode(ids, skip_special_tokens=True)[0].strip()


class CTC:
    """Any transformers CTC model (wav2vec2, HuBERT, WavLM, w2v-BERT 2.0 …), decoded greedily, one by one."""

    def __init__(self, source: str, device: str | torch.device = "cpu", spec: str | None = None) -> None:
        from transformers import AutoFeatureExtractor, AutoModelForCTC, AutoTokenizer

        self.device = torch.device(device)

        def load(local: bool) -> tuple[Any, Any, Any]:
            return (
                AutoFeatureExtractor.from_pretrained(source, local_files_only=local),
                AutoTokenizer.from_pretrained(source, local_files_only=local),
                AutoModelForCTC.from_pretrained(source, dtype=torch.float32, local_files_only=local),
            )

        option = f"--asr {spec or f'ctc:{source}'}"
        self._extractor, self._tokenizer, model = load_pretrained(
            load, source, option=option, offline=OFFLINE, probe="config.json"
        )
        self._model = model.to(self.device).eval()
        self.description = {
            "spec": spec or f"ctc:{source}",
            "asr": "ctc",
            "model": "embedded" if spec == "ctc:embedded" else source,
            "revision": revision(source),
            "sha256": weights_sha256(source),
            "decoding": "greedy",
            "transformers": metadata.version("transformers"),
        }

    @torch.inference_mode()
    def transcribe(self, waveforms: Sequence[Tensor], sample_rate: int = SAMPLE_RATE) -> list[str]:
        """Return the text of each waveform (S,)."""
        return [self._transcribe(_prepare(waveform, sample_rate)) for waveform in waveforms]

    def _transcribe(self, waveform: Tensor) -> str:
        if waveform.shape[0] < SHORTEST_SECONDS * SAMPLE_RATE:
            return ""
        inputs = self._extractor(waveform.numpy(), sampling_rate=SAMPLE_RATE, return_tensors="pt")
        logits = self._model(**{name: value.to(self.device) for name, value in inputs.items()}).logits
        # Not skip_special_tokens: it removes blanks before repeats are merged, and "hello" loses an l.
        text = self._tokenizer.batch_decode(logits.argmax(dim=-1))[0]
        for token in self._tokenizer.all_special_tokens:
            if len(token) > 1:  # "<unk>" is no word; "|" has become a space
                text = text.replace(token, "")
        return text.strip()
