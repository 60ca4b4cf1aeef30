"""What a text-to-speech training minimises: the flow-matching loss, or a student's distance to its teacher."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from svae.config import FlowConfig
from svae.models.tts.dit import DiT
from svae.models.tts.flow import (
    VALIDATION_TIMES,
    FlowDraw,
    Row,
    draw_training,
    flow_error,
    validation_error,
)


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


class Example(Protocol):
    """A batch with everything random about it drawn."""

    @property
    def count(self) -> Tensor:
        """() float32: how many numbers are learned in it."""
        ...

    @property
    def besides(self) -> dict[str, Tensor]:
        """What `error` has, unweighted, besides the squared error, as sums; for the log. Known after `error`."""
        ...

    def error(self, network: nn.Module, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the squared error of a network, added up, and `count`; `weights` as in `Objective`."""
        ...


class Objective(Protocol):
    """What is learned; chosen once, by the recipe's field `distill`."""

    weights: Tensor | None
    """(D, 1), of mean 1, how much a channel's error counts; None: all alike."""

    def draw(
        self,
        latents: Tensor,
        lengths: Tensor,
        tokens: Tensor,
        rows: Sequence[Row] | None = None,
        keys: Sequence[str] = (),
    ) -> Example:
        """Make a batch an example; what is random depends on its rows, see `svae.models.tts.flow.row_draws`.

        `keys` name the utterances, for what is stored of them.
        """
        ...

    def row(self, model: DiT, batches: Iterable[Known]) -> dict[str, float]:
        """Return what is logged of a network in eval mode; `loss/flow` is what `svae compare` draws."""
        ...

    @property
    def facts(self) -> dict[str, Any]:
        """Fields of the checkpoint's config.json."""
        ...


@dataclass
class FlowExample:
    """Utterances, part of each hidden, on their way from noise; see `Example`."""

    latents: Tensor
    lengths: Tensor
    tokens: Tensor
    drawn: FlowDraw
    besides: dict[str, Tensor] = field(default_factory=dict, kw_only=True)

    @property
    def count(self) -> Tensor:
        """See `Example`."""
        return (self.drawn.span.sum() * self.latents.shape[1]).float()

    def error(self, network: nn.Module, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """See `Example`."""
        return flow_error(
            network, self.latents, self.lengths, self.drawn, self.tokens, weights=weights
        )


@dataclass
class FlowMatching:
    """Learn the velocity from noise to data."""

    flow: FlowConfig
    weights: Tensor | None
    """(D, 1), how much a channel's error counts; None: all alike."""
    seed: int
    """Of noise and spans at validation."""

    def draw(
        self,
        latents: Tensor,
        lengths: Tensor,
        tokens: Tensor,
        rows: Sequence[Row] | None = None,
        keys: Sequence[str] = (),
    ) -> FlowExample:
        """See `Objective`."""
        drawn = draw_training(latents, lengths, self.flow, rows)
        return FlowExample(latents, lengths, tokens, drawn)

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
