"""Speech recognisers that judge intelligibility. Which one was used belongs to every word error rate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from svae.assets import asset_path
from svae.audio import pcm16, resample
from svae.errors import ConfigError
from svae.runtime.pretrained import load_pretrained, quiet_transformers, revision, weights_sha256

SAMPLE_RATE = 16000
FORMS = (
    "pocketsphinx (offline), ctc:embedded (offline, small), whisper:ID_OR_FOLDER, ctc:ID_OR_FOLDER, "
    "paraformer:ID_OR_FOLDER; an ID may end in @REVISION"
)
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


def load_asr(
    spec: str,
    device: str | torch.device = "cpu",
    *,
    language: str = "en",
    num_beams: int | None = None,
    batch_size: int = 1,
) -> Recognizer:
    """Load a recogniser.

    Args:
        spec: `pocketsphinx`, `whisper:ID_OR_FOLDER`, `ctc:ID_OR_FOLDER`, `ctc:embedded` or `paraformer:ID_OR_FOLDER`; a
            hub id may be followed by `@REVISION`.
        device: for the neural ones.
        language: that a multilingual Whisper is told.
        num_beams: of Whisper; None is 5.
        batch_size: clips decoded together. With 1 a transcript depends on nothing but its clip, to the last bit.

    Raises:
        ConfigError: unknown spec, or the model cannot be loaded (what works offline is named).
    """
    kind, _, source = spec.partition(":")
    if spec == "pocketsphinx":
        return PocketSphinx()
    if kind == "whisper" and source:
        return Whisper(
            source, device, language=language, num_beams=num_beams or 5, batch_size=batch_size
        )
    if kind == "ctc" and source:
        return CTC(
            str(asset_path("teacher")) if source == "embedded" else source, device, spec, batch_size
        )
    if kind == "paraformer" and source:
        from svae.judges.paraformer import Paraformer

        return Paraformer(source, device)
    raise ConfigError(f"--asr {spec!r}: unknown; use one of: {FORMS}")


def split_revision(source: str) -> tuple[str, str | None]:
    """Split `owner/name@REVISION`; a folder keeps its `@`."""
    name, at, pinned = source.rpartition("@")
    return (
        (name, pinned)
        if at and name.count("/") == 1 and not Path(source).exists()
        else (source, None)
    )


def _batches(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


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
        if (
            waveform.shape[0] < SHORTEST_SECONDS * SAMPLE_RATE
            or waveform.square().mean().sqrt() < SILENCE_RMS
        ):
            return ""
        pcm = pcm16(waveform, full_scale=32767, truncate=True).numpy().tobytes()
        self._decoder.reinit_feat()  # else the transcript depends, a little, on what was heard before
        self._decoder.start_utt()
        try:
            self._decoder.process_raw(pcm, full_utt=True)
        finally:
            self._decoder.end_utt()
        hypothesis = self._decoder.hyp()
        return "" if hypothesis is None else hypothesis.hypstr


class Whisper:
    """Whisper through transformers: beam search without sampling or temperature fallback, windows of 30 s."""

    def __init__(
        self,
        source: str,
        device: str | torch.device = "cpu",
        *,
        language: str = "en",
        num_beams: int = 5,
        batch_size: int = 1,
    ) -> None:
        from transformers import WhisperForConditionalGeneration, WhisperProcessor

        self.device = torch.device(device)
        self.dtype = torch.float16 if self.device.type == "cuda" else torch.float32
        self.batch_size = batch_size
        name, pinned = split_revision(source)

        def load(local: bool) -> tuple[Any, Any]:
            where = {"local_files_only": local, "revision": pinned}
            processor = WhisperProcessor.from_pretrained(name, **where)
            model = WhisperForConditionalGeneration.from_pretrained(name, dtype=self.dtype, **where)
            return processor, model

        option = f"--asr whisper:{source}"
        self._processor, model = load_pretrained(
            load, name, option=option, offline=OFFLINE, probe="config.json"
        )
        self._model = model.to(self.device).eval()
        self._settings: dict[str, Any] = {"num_beams": num_beams, "do_sample": False}
        if getattr(model.generation_config, "lang_to_id", None):  # English-only models know neither
            self._settings |= {"language": language, "task": "transcribe"}
        self.description = {
            "spec": f"whisper:{source}",
            "asr": "whisper",
            "model": name,
            "revision": pinned or revision(name),
            "sha256": weights_sha256(name),
            "dtype": str(self.dtype).removeprefix("torch."),
            "decoding": {**self._settings, "window_seconds": WHISPER_WINDOW_SECONDS},
            "transformers": metadata.version("transformers"),
        }

    @torch.inference_mode()
    def transcribe(self, waveforms: Sequence[Tensor], sample_rate: int = SAMPLE_RATE) -> list[str]:
        """Return the text of each waveform (S,); beyond 30 s it is cut into windows and the texts are joined."""
        window = int(WHISPER_WINDOW_SECONDS * SAMPLE_RATE)
        pieces: list[Tensor] = []
        owners: list[int] = []
        for owner, waveform in enumerate(waveforms):
            for piece in _prepare(waveform, sample_rate).split(window):
                if piece.shape[0]:
                    pieces.append(piece)
                    owners.append(owner)
        heard = [
            text for batch in _batches(pieces, self.batch_size) for text in self._pieces(batch)
        ]
        texts: list[list[str]] = [[] for _ in waveforms]
        for owner, text in zip(owners, heard, strict=True):
            texts[owner].append(text)
        return [" ".join(parts).strip() for parts in texts]

    def _pieces(self, waveforms: Sequence[Tensor]) -> list[str]:
        """Return the text of each piece of at most 30 s; the features of all are padded to that length."""
        clips = [waveform.numpy() for waveform in waveforms]
        inputs = self._processor(
            clips, sampling_rate=SAMPLE_RATE, return_tensors="pt", return_attention_mask=True
        )
        with quiet_transformers():  # its advice about generation settings is for who writes them
            ids = self._model.generate(
                inputs.input_features.to(self.device, self.dtype),
                attention_mask=inputs.attention_mask.to(self.device),
                **self._settings,
            )
        return [
            text.strip() for text in self._processor.batch_decode(ids, skip_special_tokens=True)
        ]


class CTC:
    """Any transformers CTC model (wav2vec2, HuBERT, WavLM, w2v-BERT 2.0 …), decoded greedily.

    Clips are batched only where the model was trained with an attention mask (wav2vec2's and HuBERT's large ones);
    for the others padding changes the answer, and they hear clips one by one.
    """

    def __init__(
        self,
        source: str,
        device: str | torch.device = "cpu",
        spec: str | None = None,
        batch_size: int = 1,
    ) -> None:
        from transformers import AutoFeatureExtractor, AutoModelForCTC, AutoTokenizer

        self.device = torch.device(device)
        name, pinned = split_revision(source)

        def load(local: bool) -> tuple[Any, Any, Any]:
            where = {"local_files_only": local, "revision": pinned}
            return (
                AutoFeatureExtractor.from_pretrained(name, **where),
                AutoTokenizer.from_pretrained(name, **where),
                AutoModelForCTC.from_pretrained(name, dtype=torch.float32, **where),
            )

        option = f"--asr {spec or f'ctc:{source}'}"
        self._extractor, self._tokenizer, model = load_pretrained(
            load, name, option=option, offline=OFFLINE, probe="config.json"
        )
        self._model = model.to(self.device).eval()
        masked = getattr(self._extractor, "return_attention_mask", False)
        self.batch_size = (
            batch_size if masked and hasattr(model, "_get_feat_extract_output_lengths") else 1
        )
        self.description = {
            "spec": spec or f"ctc:{source}",
            "asr": "ctc",
            "model": "embedded" if spec == "ctc:embedded" else name,
            "revision": pinned or revision(name),
            "sha256": weights_sha256(name),
            "decoding": "greedy",
            "transformers": metadata.version("transformers"),
        }

    @torch.inference_mode()
    def transcribe(self, waveforms: Sequence[Tensor], sample_rate: int = SAMPLE_RATE) -> list[str]:
        """Return the text of each waveform (S,)."""
        clips = [_prepare(waveform, sample_rate) for waveform in waveforms]
        texts = [""] * len(clips)
        long_enough = [
            i for i, clip in enumerate(clips) if clip.shape[0] >= SHORTEST_SECONDS * SAMPLE_RATE
        ]
        for batch in _batches(long_enough, self.batch_size):
            for i, text in zip(batch, self._transcribe([clips[i] for i in batch]), strict=True):
                texts[i] = text
        return texts

    def _transcribe(self, clips: Sequence[Tensor]) -> list[str]:
        arrays = [clip.numpy() for clip in clips]
        inputs = self._extractor(
            arrays, sampling_rate=SAMPLE_RATE, return_tensors="pt", padding=True
        )
        logits = self._model(
            **{name: value.to(self.device) for name, value in inputs.items()}
        ).logits
        if len(clips) == 1:
            return [self._decode(logits[0].argmax(dim=-1))]
        lengths = self._model._get_feat_extract_output_lengths(
            torch.tensor([clip.shape[0] for clip in clips])
        )
        return [
            self._decode(row[:n].argmax(dim=-1))
            for row, n in zip(logits, lengths.tolist(), strict=True)
        ]

    def _decode(self, path: Tensor) -> str:
        """Return the text of the best path (T,)."""
        # Not skip_special_tokens: it removes blanks before repeats are merged, and "hello" loses an l.
        text = self._tokenizer.batch_decode(path[None])[0]
        for token in self._tokenizer.all_special_tokens:
            if len(token) > 1:  # "<unk>" is no word; "|" has become a space
                text = text.replace(token, "")
        return text.strip()
