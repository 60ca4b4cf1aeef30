"""CTC recognisers: wav2vec2, HuBERT, WavLM, w2v-BERT 2.0, and the small one in svae/assets."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from typing import Any

import torch
from torch import Tensor

from svae.assets import asset_path
from svae.audio import SPEECH_RATE
from svae.judges.clips import at_speech_rate, batches, too_short_for_speech
from svae.judges.ctc_alignment import best_path
from svae.runtime.pretrained import identity, load_pretrained, split_revision

EMBEDDED = "embedded"
OFFLINE = "Without a network use --asr pocketsphinx, or a local folder: ctc:FOLDER."


class CTC:
    """Any transformers CTC model, decoded greedily.

    Clips are batched only where the model was trained with an attention mask (wav2vec2's and HuBERT's large ones);
    for the others padding changes the answer, and they hear clips one by one.

    Args:
        source: hub id, folder, or `embedded`.
        device: where it runs.
        batch_size: clips heard together, where that is possible.
    """

    def __init__(
        self, source: str, device: str | torch.device = "cpu", *, batch_size: int = 1
    ) -> None:
        from transformers import AutoFeatureExtractor, AutoModelForCTC, AutoTokenizer

        self.device = torch.device(device)
        folder = str(asset_path("teacher")) if source == EMBEDDED else source
        name, pinned = split_revision(folder)

        def load(local: bool) -> tuple[Any, Any, Any]:
            where: dict[str, Any] = {"local_files_only": local, "revision": pinned}
            return (
                AutoFeatureExtractor.from_pretrained(name, **where),
                AutoTokenizer.from_pretrained(name, **where),
                AutoModelForCTC.from_pretrained(
                    name,
                    dtype=torch.float32,
                    # transformers looks for an adapter beside the model, and would ask the hub for it.
                    adapter_kwargs={"local_files_only": local},
                    **where,
                ),
            )

        spec = f"ctc:{source}"
        self._extractor, self._tokenizer, model = load_pretrained(
            load, name, option=f"--asr {spec}", offline=OFFLINE, probe="config.json"
        )
        self._model = model.to(self.device).eval()
        masked = getattr(self._extractor, "return_attention_mask", False)
        can_batch = masked and hasattr(model, "_get_feat_extract_output_lengths")
        self.batch_size = batch_size if can_batch else 1
        self.description: dict[str, Any] = {
            "spec": spec,
            "asr": "ctc",
            **identity(name, pinned) | ({"model": EMBEDDED} if source == EMBEDDED else {}),
            "decoding": "greedy",
            "transformers": metadata.version("transformers"),
        }

    @torch.inference_mode()
    def transcribe(self, waveforms: Sequence[Tensor], sample_rate: int = SPEECH_RATE) -> list[str]:
        """Return the text of each waveform (S,)."""
        clips = [at_speech_rate(waveform, sample_rate) for waveform in waveforms]
        texts = [""] * len(clips)
        heard = [i for i, clip in enumerate(clips) if not too_short_for_speech(clip)]
        for batch in batches(heard, self.batch_size):
            for i, text in zip(batch, self._transcribe([clips[i] for i in batch]), strict=True):
                texts[i] = text
        return texts

    def _transcribe(self, clips: Sequence[Tensor]) -> list[str]:
        inputs = self._extractor(
            [clip.numpy() for clip in clips],
            sampling_rate=SPEECH_RATE,
            return_tensors="pt",
            padding=True,
        )
        on_device = {name: value.to(self.device) for name, value in inputs.items()}
        logits = self._model(**on_device).logits
        if len(clips) == 1:
            return [self._decode(logits[0].argmax(dim=-1))]
        samples = torch.tensor([clip.shape[0] for clip in clips])
        lengths = self._model._get_feat_extract_output_lengths(samples).tolist()
        return [
            self._decode(row[:length].argmax(dim=-1))
            for row, length in zip(logits, lengths, strict=True)
        ]

    @torch.inference_mode()
    def align(self, waveform: Tensor, words: Sequence[str]) -> list[tuple[float, float]] | None:
        """Return when each of some words is spoken in a waveform (S,) at `SPEECH_RATE`, in seconds.

        A word of which the model knows no letter takes no time. None: the words do not fit, or it knows none of them.
        """
        vocabulary = self._tokenizer.get_vocab()
        blank, between = self._tokenizer.pad_token_id, vocabulary.get("|")
        targets: list[int] = []
        places: list[tuple[int, int]] = []
        for word in words:
            known = [
                found[0]
                for char in word
                if (found := [vocabulary[c] for c in (char, char.lower(), char.upper()) if c in vocabulary])
            ]  # fmt: skip
            if known and targets and between is not None:
                targets.append(between)
            places.append((len(targets), len(targets) + len(known)))
            targets += known
        inputs = self._extractor(
            [waveform.numpy()], sampling_rate=SPEECH_RATE, return_tensors="pt", padding=True
        )
        on_device = {name: value.to(self.device) for name, value in inputs.items()}
        scores = self._model(**on_device).logits[0].log_softmax(dim=-1).float().cpu().numpy()
        spans = best_path(scores, targets, blank)
        if spans is None:
            return None
        frame = len(waveform) / SPEECH_RATE / len(scores)
        times, now = [], 0.0
        for first, behind in places:
            if first < behind:
                start, now = spans[first][0] * frame, spans[behind - 1][1] * frame
                times.append((start, now))
            else:
                times.append((now, now))
        return times

    def _decode(self, path: Tensor) -> str:
        """Return the text of the best path (T,)."""
        # Not skip_special_tokens: it removes blanks before repeats are merged, and "hello" loses an l.
        text = self._tokenizer.batch_decode(path[None])[0]
        for token in self._tokenizer.all_special_tokens:
            if len(token) > 1:  # "<unk>" is no word; "|" has become a space
                text = text.replace(token, "")
        return text.strip()
