"""What a text-to-speech training minimises: the flow-matching loss, or a student's distance to its teacher."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from svae.config import FlowConfig
from svae.models.tts.dit import DiT
from svae.models.tts.flow import VALIDATION_TIMES, flow_matching_loss, validation_error


class Known(NamedTuple):
    """Held-out utterances."""

    latents: Tensor
    """(B, D, T), normalised."""
    lengths: Tensor
    """(B,)."""
    tokens: Tensor
    """(B, L)."""
    keys: Sequence[str]
    """On which noise and spans depend."""


class Objective(Protocol):
    """What is learned; chosen once, by the recipe's field `distill`."""

    weights: Tensor | None
    """(D, 1), of mean 1, how much a channel's error counts; None: all alike."""

    def error(
        self, network: nn.Module, latents: Tensor, lengths: Tensor, tokens: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return a batch's squared error and the number of elements behind it, as `svae.models.tts.flow.flow_error`."""
        ...

    def row(self, model: DiT, batches: Iterable[Known]) -> dict[str, float]:
        """Return what is logged of a network in eval mode; `loss/flow` is what `svae compare` draws."""
        ...

    @property
    def facts(self) -> dict[str, Any]:
        """Fields of the checkpoint's config.json."""
        ...


@dataclass
class FlowMatching:
    """Learn the velocity from noise to data."""

    flow: FlowConfig
    weights: Tensor | None
    """(D, 1), how much a channel's error counts; None: all alike."""
    seed: int
    """Of noise and spans at validation."""

    def error(
        self, network: nn.Module, latents: Tensor, lengths: Tensor, tokens: Tensor
    ) -> tuple[Tensor, Tensor]:
        """See `Objective`; noise, times, spans and drops are drawn from the global generator."""
        return flow_matching_loss(network, latents, lengths, tokens, self.flow, self.weights)

    def row(self, model: DiT, batches: Iterable[Known]) -> dict[str, float]:
        """Return the loss at fixed times and its mean."""
        sums = torch.zeros(len(VALIDATION_TIMES), dtype=torch.float64)
        count = torch.zeros((), dtype=torch.float64)
        for known in batches:
            part, elements = validation_error(model, *known, self.flow, seed=self.seed)
            sums += part.cpu()
            count += elements.cpu()
        by_time = (sums / count.clamp_min(1)).tolist()
        row = {"loss/flow": sum(by_time) / len(by_time)}
        for time, value in zip(VALIDATION_TIMES, by_time, strict=True):
            row[f"loss/t={time:g}"] = value
        return row

    @property
    def facts(self) -> dict[str, Any]:
        """Nothing: the checkpoint's structure says it all."""
        return {}
