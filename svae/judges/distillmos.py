"""DistillMOS, a predictor of naturalness that was trained on people's opinions; its package carries its weights."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from svae.audio import SPEECH_RATE
from svae.errors import ConfigError
from svae.judges.naturalness import NotFinite
from svae.runtime.files import file_sha256

DISTILLMOS = "distillmos"


def load_naturalness(choice: str, option: str) -> DistillMOS | None:
    """Return the judge that `trainer.naturalness` names, on the CPU; None for `none`. Raises as `DistillMOS`."""
    return DistillMOS(option=f"{option}={choice}") if choice == DISTILLMOS else None


class DistillMOS:
    """Microsoft's distilled XLS-R predictor of mean opinion scores (1 to 5), as the package `distillmos` computes it.

    Source: Stahl and Gamper, "Distillation and pruning for scalable self-supervised representation-based speech quality
    assessment", arXiv 2502.05356; package and weights MIT.

    Args:
        device: where it runs.
        option: what the user asked with, for the message.

    Raises:
        ConfigError: the package is not installed, or does not load.
    """

    name = DISTILLMOS
    columns: tuple[str, ...] = (DISTILLMOS,)

    def __init__(self, device: str | torch.device = "cpu", *, option: str = "--distillmos") -> None:
        try:
            # The package prints where its weights lie.
            with contextlib.redirect_stdout(io.StringIO()):
                from distillmos import sqa

                self._model = sqa.ConvTransformerSQAModel().eval()
        except ImportError as error:
            raise ConfigError(
                f"{option}: needs the package distillmos ({error}); try: pip install 'svae[mos]'"
            ) from None
        except (OSError, RuntimeError, KeyError) as error:
            raise ConfigError(
                f"{option}: the installed distillmos does not load ({str(error).splitlines()[0][:200]}); "
                "try: pip install --force-reinstall --no-deps distillmos"
            ) from None
        self.device = torch.device(device)
        self._model.to(self.device)
        self.description: dict[str, Any] = {
            "model": f"DistillMOS, package distillmos {metadata.version('distillmos')}",
            "distillmos": metadata.version("distillmos"),
            "sha256": file_sha256(Path(sqa.DEFAULT_WEIGHTS_CHKPT)),
            "sample_rate": SPEECH_RATE,
        }

    @torch.inference_mode()
    def predict(self, waveforms: Sequence[Tensor]) -> list[dict[str, float]]:
        """Return `{"distillmos": score}` of each waveform (S,) at 16 kHz, independent of the others.

        Raises:
            NotFinite: a score is not finite, as that of samples that are no numbers.
        """
        return [
            {DISTILLMOS: self._predict(waveform.detach().float().to(self.device))}
            for waveform in waveforms
        ]

    def _predict(self, waveform: Tensor) -> float:
        score = self._model(waveform.reshape(1, -1))
        if not score.isfinite().all():
            raise NotFinite(
                f"distillmos: the score of {waveform.numel()} samples is not finite; are they within -1 and 1?"
            )
        return float(score)
