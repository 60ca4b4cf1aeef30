"""What a text-to-speech training consists of: the network, its optimizer, what it minimises."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from svae.checkpoint import Checkpoint
from svae.config import TTSTrainConfig
from svae.data.features import FeatureCache
from svae.data.timings import Timings
from svae.models.recompute import recompute_activations
from svae.models.representation import Representation
from svae.models.tts.dit import DiT
from svae.runtime.distributed import World, data_parallel
from svae.text.vocabulary import Vocabulary
from svae.training.optim import ExponentialMovingAverage, build_optimizer
from svae.training.tts.distill import build_student
from svae.training.tts.hidden_alignment import AlignedNetwork, AlignedState, align
from svae.training.tts.objective import FlowMatching
from svae.training.tts.state import FlowState, TTSState


def build_state(
    config: TTSTrainConfig,
    representation: Representation,
    vocabulary: Vocabulary,
    world: World,
    timings: Timings | None = None,
    teacher: Checkpoint | None = None,
    features: FeatureCache | None = None,
) -> FlowState:
    """Build the network and its optimizer; what is new in it depends on the seed only.

    `features` are what `loss.hidden_alignment` aligns with; None: nothing.
    """
    if teacher is not None:
        weights = channel_weights(representation, config, world.device)
        student = build_student(config, teacher, representation, vocabulary, weights, world)
        student.timings = timings
        return student
    torch.manual_seed(config.trainer.seed)
    model = DiT(config.dit, vocab_size=len(vocabulary), latent_dim=representation.latent_dim).to(
        world.device
    )
    ema = ExponentialMovingAverage(model, config.ema)
    if config.trainer.checkpoint_activations:
        recompute_activations(model)
    if config.trainer.compile:
        model.compile()
    objective = flow_matching(representation, config, world.device)
    common: dict[str, Any] = {
        "step": 0,
        "model": model,
        "ema": ema,
        "representation": representation,
        "vocabulary": vocabulary,
        "timings": timings,
    }
    if features is not None:
        layer, width = config.loss.hidden_layer, features.description["feature_dim"]
        aligned = AlignedNetwork(model, layer, width).to(world.device)
        return AlignedState(
            **common,
            aligned=aligned,
            optimizer=build_optimizer(config.optimizer, aligned.parameters(), world.device),
            network=data_parallel(aligned, world),
            objective=align(objective, features, representation, config),
        )
    return TTSState(
        **common,
        optimizer=build_optimizer(config.optimizer, model.parameters(), world.device),
        network=data_parallel(model, world),
        objective=objective,
    )


def flow_matching(
    representation: Representation, config: TTSTrainConfig, device: torch.device
) -> FlowMatching:
    """Return the objective of a training on data."""
    weights = channel_weights(representation, config, device)
    return FlowMatching(config.flow, weights, config.trainer.seed)


def channel_weights(
    representation: Representation, config: TTSTrainConfig, device: torch.device
) -> Tensor | None:
    """Return what `flow.weighting` says: None, or weights (D, 1) of mean 1 in proportion to the channels' variances.

    What `normalize` does to a channel is undone by its deviation, so the error of the loss becomes that of the frames
    themselves: a channel that hardly varies does not take as much of the network as one that carries the loudness.
    """
    if config.flow.weighting == "equal":
        return None
    zero = torch.zeros(1, representation.latent_dim, 1, device=device)
    deviation = representation.denormalize(zero + 1) - representation.denormalize(zero)
    variance = deviation[0].square()
    return variance / variance.mean()
