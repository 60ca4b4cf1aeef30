"""ECAPA-TDNN speaker models of speechbrain: the small one in svae/assets, and pretrained ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from svae.audio import SPEECH_RATE
from svae.errors import ConfigError
from svae.judges.clips import long_enough_for_a_voice
from svae.judges.ecapa_folder import HYPERPARAMS, WEIGHTS, SpeechBrainNetwork, read_network
from svae.runtime.files import file_sha256
from svae.runtime.pretrained import (
    first_line,
    load_pretrained,
    revision,
    split_revision,
    weights_sha256,
)

OFFLINE = "Without a network use --speaker embedded, or a local folder: ecapa:FOLDER."


class EmbeddedECAPA:
    """The small ECAPA-TDNN in svae/assets: speechbrain's class, trained by recipes/embedded; its card says on whom."""

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
        self.description: dict[str, Any] = {
            "spec": "embedded",
            "speaker": "ecapa",
            "model": "embedded",
            "sha256": weights_sha256(folder),
            "note": config.get("note", "not comparable with published similarities"),
            "held_out_equal_error_rate": config.get("held_out_eer"),
            "speechbrain": metadata.version("speechbrain"),
        }

    @torch.inference_mode()
    def embed(self, waveforms: Sequence[Tensor], sample_rate: int = SPEECH_RATE) -> Tensor:
        """Return unit-length embeddings (N, E) of waveforms (S,)."""
        rows = []
        for waveform in waveforms:
            features = self._features(
                long_enough_for_a_voice(waveform, sample_rate).to(self.device)
            )
            features = features - features.mean(dim=1, keepdim=True)
            rows.append(self._model(features).reshape(-1).cpu())
        return F.normalize(torch.stack(rows), dim=-1)


class SpeechBrainECAPA:
    """A pretrained speechbrain speaker encoder, from the hub or a folder; nothing in it is run (`ecapa_folder`)."""

    def __init__(self, source: str, device: str | torch.device = "cpu") -> None:
        spec = f"ecapa:{source}"
        name, pinned = split_revision(source)
        self.device = torch.device(device)
        files: list[Path] = []

        def load(local: bool) -> SpeechBrainNetwork:
            files[:] = [_file(name, file, pinned, local) for file in (WEIGHTS, HYPERPARAMS)]
            return read_network(*files)

        self._model = load_pretrained(
            load, name, option=f"--speaker {spec}", offline=OFFLINE, probe=HYPERPARAMS
        )
        self._model.to(self.device).eval()
        self.description: dict[str, Any] = {
            "spec": spec,
            "speaker": "ecapa",
            "model": name,
            "revision": pinned or revision(name, HYPERPARAMS),
            "sha256": _sha256_of(files),
            "speechbrain": metadata.version("speechbrain"),
        }

    @torch.inference_mode()
    def embed(self, waveforms: Sequence[Tensor], sample_rate: int = SPEECH_RATE) -> Tensor:
        """Return unit-length embeddings (N, E) of waveforms (S,)."""
        rows = []
        for waveform in waveforms:
            clip = long_enough_for_a_voice(waveform, sample_rate).to(self.device)
            rows.append(self._model(clip).reshape(-1).float().cpu())
        return F.normalize(torch.stack(rows), dim=-1)


def _file(source: str, name: str, pinned: str | None, local: bool) -> Path:
    """Return a file of a folder, of the hub's cache, or of the hub."""
    from huggingface_hub import hf_hub_download

    if Path(source).is_dir():
        return Path(source) / name
    return Path(hf_hub_download(source, name, revision=pinned, local_files_only=local))


def _sha256_of(files: Sequence[Path]) -> str:
    """Return the sha256 over names and contents of the files that make a model."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.name} {file_sha256(path)}\n".encode())
    return digest.hexdigest()
