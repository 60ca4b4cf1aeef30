"""What a text-to-speech training changes, whatever it learns."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import nn

from svae.checkpoint import Checkpoint
from svae.data.timings import Timings
from svae.models.representation import Representation
from svae.models.tts.dit import DiT
from svae.text.vocabulary import Vocabulary
from svae.training.optim import AdamW
from svae.training.session import State
from svae.training.tts.objective import Objective


@dataclass(kw_only=True)
class FlowState(State):
    """Everything a step of flow matching changes, plus what makes its latents."""

    model: nn.Module
    """What is trained: the network, or what is added to its weights."""
    optimizer: AdamW
    representation: Representation
    vocabulary: Vocabulary
    timings: Timings | None
    """When the phones are spoken, with `tokens: frame-phonemes`."""
    network: nn.Module
    """What computes, its gradients averaged over ranks in its backward pass."""
    objective: Objective
    teacher: Checkpoint | None = None
    """Of a student: its durations are the teacher's."""

    @abstractmethod
    def averaged(self) -> DiT:
        """Return the network with the averaged weights: what is validated and speaks."""

    def trained(self) -> list[nn.Parameter]:
        """Return what the optimizer changes."""
        return list(self.model.parameters())

    def parts(self) -> dict[str, nn.Module | torch.optim.Optimizer]:
        """See `State`."""
        return {"model": self.model, "optimizer": self.optimizer}


@dataclass(kw_only=True)
class TTSState(FlowState):
    """All of the network is trained."""

    model: DiT

    def averaged(self) -> DiT:
        """See `FlowState`."""
        return self.ema.module
