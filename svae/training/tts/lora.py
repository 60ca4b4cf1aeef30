"""The network of an adaptation or of a student: a frozen transformer whose linear layers got two thin matrices each, which are trained."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svae.config import LoRAConfig
from svae.errors import ConfigError
from svae.models.cpu.linear import Linear
from svae.models.tts.adapter import melted
from svae.models.tts.dit import DiT
from svae.training.tts.state import FlowState

NOT_ADAPTED = ("text_tower.", "time.")
"""A voice is not in how words are read, nor in what a moment of the flow is called."""
ADAPTER_NAME = "default"
"""What peft calls the only adapter of a network."""


def adapted_layers(network: nn.Module) -> list[str]:
    """Return the names of the linear layers that are adapted."""
    return [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) and not name.startswith(NOT_ADAPTED)
    ]


def inject(network: DiT, config: LoRAConfig) -> nn.Module:
    """Give a network's linear layers their matrices, by peft; freeze everything else.

    Returns:
        A module that holds the matrices alone, under the names that `svae.models.tts.adapter` knows.

    Raises:
        ConfigError: peft is not installed.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
        from peft.tuners import lora
    except ImportError as error:
        raise ConfigError(
            f"svae adapt, svae distill: need peft ({error}); try: pip install 'svae[adapt]'"
        ) from None

    class GELULinear(lora.Linear):
        """The adapted form of a layer that is asked for its activation too."""

        def gelu(self, x: Tensor) -> Tensor:
            return F.gelu(self(x), approximate="tanh")

    settings = LoraConfig(
        r=config.rank,
        lora_alpha=config.scale * config.rank,  # type: ignore[arg-type]  # only divided by the rank
        # A list would also take layers whose names only end alike.
        target_modules="|".join(map(re.escape, adapted_layers(network))),
    )
    settings._register_custom_module({Linear: GELULinear})
    inject_adapter_in_model(settings, network, adapter_name=ADAPTER_NAME)
    adapter = nn.Module()
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            *folders, leaf = name.replace(f".{ADAPTER_NAME}.", ".").split(".")
            place = adapter
            for part in folders:
                if part not in place._modules:
                    place.add_module(part, nn.Module())
                place = place.get_submodule(part)
            place.register_parameter(leaf, parameter)
    return adapter


@dataclass(kw_only=True)
class AdapterState(FlowState):
    """The matrices are trained; what speaks is a whole network into which their average is melted."""

    base: Mapping[str, Tensor]
    """Weights of the network without them."""
    scale: float
    speaking: DiT
    """Gets the melted weights when it is asked for."""
    student: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]] | None = None
    """Of a base that has a student: makes one of the adapted weights, as synthesis will."""

    @torch.no_grad()
    def averaged(self) -> DiT:
        """See `FlowState`; the network is the same object at every call."""
        weights: Mapping[str, Tensor] = melted(
            self.base, self.ema.module.state_dict(), self.scale, Path("adapter")
        )
        if self.student is not None:
            weights = self.student(weights)
        self.speaking.load_state_dict(weights)
        return self.speaking


def copies(network: DiT) -> tuple[DiT, dict[str, Tensor]]:
    """Return a network for speaking, and the weights of the base."""
    speaking = copy.deepcopy(network).eval().requires_grad_(False)
    return speaking, {name: value.clone() for name, value in network.state_dict().items()}
