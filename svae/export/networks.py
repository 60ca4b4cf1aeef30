"""The networks of a text-to-speech model as ONNX graphs of any length, compared with torch.

torch's older exporter, which records one run, writes them: its newer one (`dynamo=True`) gives graphs as exact and takes ten
times as long (torch 2.11: half a minute for the smallest). What a recorded run cannot show, a shape that became a number, the
comparison finds: it is made at lengths that the recording did not have.
"""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from svae.errors import ConfigError
from svae.models.representation import VAELatents
from svae.models.tts.dit import DiT
from svae.models.tts.durations import DurationPredictor, PhoneDurations
from svae.models.vae.source_filter import SourceFilterDecoder
from svae.synthesis.durations import PhoneRule, TextRule
from svae.synthesis.model import TTS
from svae.text.vocabulary import PADDING_ID

OPSET = 18
EXAMPLE_FRAMES = 48
"""Length of the run that is recorded."""
CHECKED_FRAMES = (1, 37, 160)
"""Lengths at which graphs are compared with torch."""
TOLERANCE = 1e-4
"""Difference from torch, on a scale on which the greatest output is 1 where it is greater; see `Network.has_phase`."""


class CentredNorm(nn.LayerNorm):
    """LayerNorm of centred numbers: the same, where a runtime takes the variance as the difference of two great sums."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply to x (..., C)."""
        return super().forward(x - x.mean(dim=-1, keepdim=True))


def exportable(module: nn.Module) -> nn.Module:
    """Return a copy of a network in which layers have the form that other runtimes compute exactly."""
    module = copy.deepcopy(module)
    for child in list(module.modules()):
        if type(child) is nn.LayerNorm:
            child.__class__ = CentredNorm
    return module.eval().requires_grad_(False)


class TextTower(nn.Module):
    """Tokens to what the transformer hears of the text."""

    def __init__(self, model: DiT) -> None:
        super().__init__()
        self.tower = model.text_tower

    def forward(self, tokens: Tensor, drop: Tensor) -> Tensor:
        """Map tokens (1, T), -1 where there is none, to (1, T, C); `drop` (1,): without the text."""
        return self.tower(tokens, tokens.shape[1], None, drop)


class Step(nn.Module):
    """One evaluation of the velocity."""

    def __init__(self, model: DiT) -> None:
        super().__init__()
        self.model = model

    def forward(self, noisy: Tensor, condition: Tensor, t: Tensor, text: Tensor) -> Tensor:
        """Map noisy and condition (B, D, T), t (1,), text (B, T, C) to the velocity (B, D, T)."""
        return self.model(noisy, condition, t, text_features=text)


class Encoder(nn.Module):
    """A waveform to normalised latents: the posterior's mean."""

    def __init__(self, representation: VAELatents) -> None:
        super().__init__()
        self.vae = representation.vae

    def forward(self, waveform: Tensor) -> Tensor:
        """Map (1, 1, T * hop) to (1, D, T)."""
        return self.vae.normalize(self.vae.encode(waveform).mean)


class Decoder(nn.Module):
    """Normalised latents to a waveform."""

    def __init__(self, representation: VAELatents) -> None:
        super().__init__()
        self.vae = representation.vae

    def forward(self, latents: Tensor) -> Tensor:
        """Map (1, D, T) to (1, 1, T * hop)."""
        return self.vae.decode(self.vae.denormalize(latents))


@dataclass(frozen=True)
class Network:
    """What becomes one file."""

    name: str
    module: nn.Module
    inputs: Mapping[str, Mapping[int, str]]
    """Of each input the dimensions that may have any size, by what they are called."""
    output: str
    example: Callable[[int], tuple[Tensor, ...]]
    """Inputs of so many frames."""
    has_phase: bool = False
    """Whether rounding adds up in a phase, so that a sample on the edge of a pulse differs by more than all others: then the
    difference is the root mean square, not the greatest."""


def networks(tts: TTS) -> list[Network]:
    """Return the networks that speak for a model.

    Raises:
        ConfigError: one of them cannot be exported.
    """
    representation = _exportable_representation(tts)
    model, draw = tts.model, torch.Generator().manual_seed(0)
    width, channels, symbols = model.cfg.text_dim, representation.latent_dim, len(tts.vocabulary)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw)

    def ids(frames: int) -> Tensor:
        return torch.randint(0, symbols, (1, frames), generator=draw)

    def tokens(frames: int) -> Tensor:
        return ids(frames).masked_fill(torch.arange(frames) >= frames - frames // 3, PADDING_ID)

    def wave(frames: int) -> Tensor:
        return _hum(frames * tts.hop_length, tts.sample_rate, normal)

    def step(frames: int) -> tuple[Tensor, ...]:
        noisy, condition = normal(2, channels, frames), normal(2, channels, frames)
        return noisy, condition, torch.tensor([0.3]), normal(2, frames, width)

    encoder, decoder = exportable(Encoder(representation)), exportable(Decoder(representation))

    def latents(frames: int) -> tuple[Tensor, ...]:
        """Return what an encoder gives: of anything else a decoder with a source has no clear pitch."""
        with torch.no_grad():
            return (encoder(wave(frames)),)

    def text(frames: int) -> tuple[Tensor, ...]:
        return tokens(frames), torch.tensor([frames == CHECKED_FRAMES[1]])

    has_phase = isinstance(representation.vae.decoder, SourceFilterDecoder)
    frames, batch = {1: "frames"}, {0: "batch", 2: "frames"}
    steps = {"noisy": batch, "condition": batch, "t": {}, "text": {0: "batch", 1: "frames"}}
    found = [
        Network(
            "text", exportable(TextTower(model)), {"tokens": frames, "drop": {}}, "features", text
        ),
        Network("step", exportable(Step(model)), steps, "velocity", step),
        Network("encoder", encoder, {"waveform": {2: "samples"}}, "latents", lambda n: (wave(n),)),
        Network("decoder", decoder, {"latents": {2: "frames"}}, "waveform", latents, has_phase),
    ]
    own = tts.planner.own
    if isinstance(own, PhoneRule) and isinstance(own.predictor, PhoneDurations):
        axes = {"tokens": frames, "durations": frames, "known": frames}

        def phones(n: int) -> tuple[Tensor, ...]:
            return ids(n), normal(1, n).abs(), torch.arange(n)[None] < n // 2

        found.append(Network("durations", exportable(own.predictor), axes, "log_frames", phones))
    if isinstance(own, TextRule) and isinstance(own.predictor, DurationPredictor):
        axes = {"tokens": frames, "prompt_tokens": {1: "prompt"}, "prompt_frames": {}}

        def texts(n: int) -> tuple[Tensor, ...]:
            return ids(n), ids(9 + n // 2), torch.tensor([80])

        found.append(Network("durations", exportable(own.predictor), axes, "log_frames", texts))
    return found


def _exportable_representation(tts: TTS) -> VAELatents:
    """Return what a model generates. Raises ConfigError where that, or what it reads, cannot be exported."""
    where, representation = tts.identity.get("path"), tts.representation
    if not isinstance(representation, VAELatents):
        raise ConfigError(
            f"{where}: generates {representation.plural}, whose vocoder is not svae's and cannot be exported; "
            "export a model of a VAE's latents (`representation: latents`)"
        )
    if tts.vocabulary.tokens not in ("characters", "phonemes", "frame-phonemes"):
        raise ConfigError(
            f"{where}: reads `tokens: {tts.vocabulary.tokens}`, for which the runtime has no reader; "
            "export a model of characters or English phonemes"
        )
    return representation


def _hum(samples: int, sample_rate: int, normal: Callable[..., Tensor]) -> Tensor:
    """Return something like a voice (1, 1, S): harmonics of a gliding tone and a little noise."""
    time = torch.arange(samples).double() / sample_rate
    phase = (140.0 * time + 20.0 * (3.0 * time).sin()).frac() - 0.5
    return (0.2 * phase.float() + 0.02 * normal(samples))[None, None]


def write(network: Network) -> bytes:
    """Return a network as ONNX, checked by onnx.

    Raises:
        ConfigError: the package onnx is missing.
    """
    try:
        import onnx
    except ModuleNotFoundError:
        raise ConfigError(
            "svae export needs onnx and onnxruntime: pip install 'svae[onnx]'"
        ) from None
    # The older exporter writes into a file object, though its signature does not say so.
    file: Any = io.BytesIO()
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()), torch.no_grad():
        # That it is the older exporter, and which sizes it takes for constants: the comparison decides.
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                network.module,
                network.example(EXAMPLE_FRAMES),
                file,
                input_names=list(network.inputs),
                output_names=[network.output],
                dynamic_axes={name: dict(axes) for name, axes in network.inputs.items() if axes},
                opset_version=OPSET,
                dynamo=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            raise ConfigError(
                f"`{network.name}` cannot be exported: {' '.join(str(error).split())[:300]}"
            ) from None
    graph = onnx.load_from_string(file.getvalue())
    onnx.checker.check_model(graph, full_check=True)
    return file.getvalue()


def session(graph: bytes) -> Any:
    """Return what runs a graph on one thread of the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def parity(
    network: Network, graph: bytes, lengths: Sequence[int] = CHECKED_FRAMES
) -> dict[int, float]:
    """Return, by the number of frames, how far a graph's output is from torch's; see `TOLERANCE`."""
    running = session(graph)
    names = [each.name for each in running.get_inputs()]
    found = {}
    for frames in lengths:
        given = network.example(frames)
        with torch.no_grad():
            expected = network.module(*given).numpy()
        # An input that a network has no use for is not in its graph.
        fed = {
            name: value.numpy()
            for name, value in zip(network.inputs, given, strict=True)
            if name in names
        }
        got = running.run(None, fed)[0]
        if got.shape != expected.shape:
            found[frames] = float("inf")
            continue
        apart = np.abs(got - expected)
        difference = np.sqrt(np.square(apart).mean()) if network.has_phase else apart.max()
        found[frames] = float(difference / max(1.0, np.abs(expected).max()))
    return found
