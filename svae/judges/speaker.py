"""Speaker embeddings that judge whether two recordings are of one voice. Scores of different models do not compare."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from svae.assets import asset_path
from svae.audio import resample
from svae.errors import ConfigError
from svae.frames import ceil_div
from svae.judges.asr import split_revision
from svae.runtime.pretrained import first_line, load_pretrained, revision, weights_sha256

SAMPLE_RATE = 16000
FORMS = "embedded (offline, small, synthetic voices), ecapa:ID_OR_FOLDER, e.g. ecapa:speechbrain/spkrec-ecapa-voxceleb"
OFFLINE = "Without a network use --speaker embedded, or a local folder: ecapa:FOLDER."
SHORTEST_SECONDS = 0.25
"""Shorter clips are repeated up to this before they are embedded."""


class SpeakerModel(Protocol):
    """What turns speech into a voice embedding."""

    description: dict[str, Any]
    """Class, model and what is known about its quality, as stored with results."""

    def embed(self, waveforms: Sequence[Tensor], sample_rate: int = SAMPLE_RATE) -> Tensor:
        """Return unit-length embeddings (N, E) of waveforms (S,), each independent of the others."""
        ...


def load_speaker_model(spec: str, device: str | torch.device = "cpu") -> SpeakerModel:
    """Load a speaker model.

    Args:
        spec: `embedded`, `wavlm-ecapa:FILE` (SIM-o), or `ecapa:ID_OR_FOLDER` (an id may end in `@REVISION`) in the layout of
            speechbrain/spkrec-ecapa-voxceleb. Such a folder's hyperparams.yaml is executed by hyperpyyaml: use only
            folders whose origin you trust.
        device: where it runs.

    Raises:
        ConfigError: unknown spec, or the model cannot be loaded (what works offline is named).
    """
    kind, _, source = spec.partition(":")
    if spec == "embedded":
        return EmbeddedECAPA(asset_path("speaker"), device)
    if kind == "ecapa" and source:
        return SpeechBrainECAPA(source, device)
    if kind == "wavlm-ecapa" and source:
        from svae.judges.wavlm_speaker import WavLMSpeaker

        return WavLMSpeaker(Path(source), device)
    raise ConfigError(f"--speaker {spec!r}: unknown; use one of: {FORMS}")


def _prepare(waveform: Tensor, sample_rate: int) -> Tensor:
    clip = resample(waveform.detach().float().cpu().reshape(1, -1), sample_rate, SAMPLE_RATE)
    repeats = ceil_div(int(SHORTEST_SECONDS * SAMPLE_RATE), clip.shape[1])
    return clip.repeat(1, repeats) if repeats > 1 else clip


class EmbeddedECAPA:
    """The small ECAPA-TDNN of svae/assets: speechbrain's class, trained on synthetic voices by recipes/embedded."""

    def __init__(self, folder: Path, device: str | torch.device = "cpu") -> None:
        from safetensors.torch import load_file
        from speechbrain.lobes.features import Fbank
        from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN

        try:
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            self._model = ECAPA_TDNN(**config["model"])
            state = load_file(folder / "embedding_model.safetensors")
            self._model.load_state_dict(
                {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
            )
            self._features = Fbank(**{k: v for k, v in config["features"].items() if k != "class"})
        except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
            raise ConfigError(
                f"--speaker embedded: {folder} cannot be loaded: {first_line(error)}"
            ) from None
        self.device = torch.device(device)
        self._model.to(self.device).eval()
        self._features.to(self.device).eval()
        self.description = {
            "spec": "embedded",
            "speaker": "ecapa",
            "model": "embedded",
            "sha256": weights_sha256(folder),
            "note": "small, trained on synthetic voices; not comparable with published similarities",
            "held_out_equal_error_rate": config.get("held_out_eer"),
            "speechbrain": metadata.version("speechbrain"),
        }

    @torch.inference_mode()
    def embed(self, waveforms: Sequence[Tensor], sample_rate: int = SAMPLE_RATE) -> Tensor:
        """Return unit-length embeddings (N, E) of waveforms (S,)."""
        rows = []
        for waveform in waveforms:
            features = self._features(_prepare(waveform, sample_rate).to(self.device))
            features = features - features.mean(dim=1, keepdim=True)
            rows.append(self._model(features).reshape(-1).cpu())
        return F.normalize(torch.stack(rows), dim=-1)


class SpeechBrainECAPA:
    """A pretrained speechbrain speaker encoder, from the hub or a folder."""

    def __init__(self, source: str, device: str | torch.device = "cpu") -> None:
        spec = f"ecapa:{source}"
        source, pinned = split_revision(source)
        from speechbrain.inference.speaker import EncoderClassifier
        from speechbrain.utils.fetching import FetchConfig, LocalStrategy

        self._links = tempfile.TemporaryDirectory(
            prefix="svae-ecapa-"
        )  # speechbrain links the files it loads here

        def load(local: bool) -> Any:
            model = EncoderClassifier.from_hparams(
                source=source,
                savedir=self._links.name,
                overrides={
                    "pretrained_path": str(Path(source).resolve())
                    if Path(source).is_dir()
                    else source
                },
                run_opts={"device": str(device)},
                local_strategy=LocalStrategy.COPY,
                fetch_config=FetchConfig(allow_network=not local, revision=pinned),
            )
            if model is None:
                raise ValueError("speechbrain found no model there")
            return model

        option = f"--speaker {spec}"
        self._model = load_pretrained(
            load, source, option=option, offline=OFFLINE, probe="hyperparams.yaml"
        )
        self._model.eval()
        self.description = {
            "spec": spec,
            "speaker": "ecapa",
            "model": source,
            "revision": pinned or revision(source, "hyperparams.yaml"),
            "sha256": weights_sha256(self._links.name),
            "speechbrain": metadata.version("speechbrain"),
        }

    @torch.inference_mode()
    def embed(self, waveforms: Sequence[Tensor], sample_rate: int = SAMPLE_RATE) -> Tensor:
        """Return unit-length embeddings (N, E) of waveforms (S,)."""
        rows = [
            self._model.encode_batch(_prepare(w, sample_rate)).reshape(-1).float().cpu()
            for w in waveforms
        ]
        return F.normalize(torch.stack(rows), dim=-1)
