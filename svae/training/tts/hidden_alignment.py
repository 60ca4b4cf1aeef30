"""`loss.hidden_alignment`: a block's output, projected, is to look like a teacher's features of the same moment.

Sources: REPA (arXiv 2410.06940), for images; A-DMA (arXiv 2505.19595), speech-guided alignment, for F5-TTS. The projector is trained with the
network and is in no checkpoint but the training's own state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svae.config import TTSTrainConfig
from svae.data.features import FeatureCache, open_cache
from svae.data.index import ShardIndex
from svae.frames import ceil_div
from svae.models.representation import Representation
from svae.models.tts.dit import DiT
from svae.models.tts.flow import Row, flow_error
from svae.runtime.distributed import send
from svae.training.tts.objective import FlowExample, FlowMatching
from svae.training.tts.state import TTSState

HIDDEN_ALIGNMENT = "hidden_alignment"


class AlignedNetwork(nn.Module):
    """A DiT with the projector of one of its blocks; in training it stands for the DiT.

    Args:
        model: The network.
        layer: Whose output is projected, counted from 1; None: a third of the blocks from below, as REPA found best of 28.
        feature_dim: Of the teacher.
    """

    def __init__(self, model: DiT, layer: int | None, feature_dim: int) -> None:
        super().__init__()
        self.model = model
        self.layer = ceil_div(model.cfg.depth, 3) if layer is None else layer
        dim = model.cfg.dim
        self.projector = nn.Sequential(
            nn.Linear(dim, dim),
            nn.SiLU(),
            nn.Linear(dim, dim),
            nn.SiLU(),
            nn.Linear(dim, feature_dim),
        )

    def forward(self, *inputs: Any, **options: Any) -> tuple[Tensor, Tensor]:
        """Return the velocity (B, D, T), and the projected output of the block (B, T, C)."""
        taps: dict[int, Tensor] = {}
        velocity = self.model(*inputs, **options, taps=taps)
        return velocity, self.projector(taps[self.layer])


@dataclass(kw_only=True)
class AlignedState(TTSState):
    """A training whose network has a projector."""

    aligned: AlignedNetwork

    def trained(self) -> list[nn.Parameter]:
        """See `FlowState`."""
        return [*self.model.parameters(), *self.aligned.projector.parameters()]

    def parts(self) -> dict[str, nn.Module | torch.optim.Optimizer]:
        """See `State`."""
        return super().parts() | {"projector": self.aligned.projector}


@dataclass
class AlignedExample(FlowExample):
    """As its base, with the teacher's features."""

    features: Tensor
    """(B, T, C), zero at padding."""
    weight: float

    def error(self, network: nn.Module, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """See `Example`; per hidden frame the weighted distance counts as one frame's mean error would."""
        projected: list[Tensor] = []

        def velocity(*inputs: Any, **options: Any) -> Tensor:
            out, aligned = network(*inputs, **options)
            projected.append(aligned)
            return out

        latents, drawn = self.latents, self.drawn
        error, count = flow_error(
            velocity, latents, self.lengths, drawn, self.tokens, weights=weights
        )
        cosine = F.cosine_similarity(projected[0].float(), self.features, dim=2, eps=1e-8)
        distance = -(cosine * drawn.span).sum() * latents.shape[1]
        self.besides[HIDDEN_ALIGNMENT] = distance.detach()
        return error + self.weight * distance, count


@dataclass
class AlignedFlowMatching(FlowMatching):
    """Flow matching with a block that follows a teacher; see `Objective`."""

    cache: FeatureCache
    hop_length: int
    weight: float

    def draw(
        self,
        latents: Tensor,
        lengths: Tensor,
        tokens: Tensor,
        rows: Sequence[Row] | None = None,
        keys: Sequence[str] = (),
    ) -> AlignedExample:
        """See `Objective`."""
        plain = super().draw(latents, lengths, tokens, rows)
        width = self.cache.description["feature_dim"]
        features = torch.zeros(len(latents), latents.shape[2], width)
        for number, key in enumerate(keys):
            # All are there (`open_features`), but those made up to try the longest batch.
            if key in self.cache:
                whole = self.cache.read_whole(key, self.hop_length)[: latents.shape[2]]
                features[number, : len(whole)] = whole
        there = send(features, latents.device)
        return AlignedExample(
            latents, lengths, tokens, plain.drawn, features=there, weight=self.weight
        )


def open_features(config: TTSTrainConfig, index: ShardIndex) -> FeatureCache | None:
    """Return the stored features that the recipe names, or None where nothing is aligned.

    Raises:
        DataError: the folder is missing or damaged.
        ConfigError: it holds features of other data or of another teacher.
    """
    if not config.loss.hidden_alignment:
        return None
    teacher = config.teacher
    assert teacher.cache is not None  # the recipe has seen to it
    return open_cache(teacher.cache, index, model=teacher.model, layer=teacher.layer)


def align(
    objective: FlowMatching,
    cache: FeatureCache,
    representation: Representation,
    config: TTSTrainConfig,
) -> AlignedFlowMatching:
    """Return the objective with the alignment added."""
    return AlignedFlowMatching(
        objective.flow,
        objective.weights,
        objective.seed,
        cache=cache,
        hop_length=representation.hop_length,
        weight=config.loss.hidden_alignment,
    )
