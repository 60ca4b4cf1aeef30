"""Steps, encoding, decoding and synthesis on a GPU that is not there: devices, types, and that the host waits nowhere.

Every kind of training in both precisions; every recipe that is shipped, with fewer and thinner layers, in those marked slow.
"""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_pieces import SPEAKER
from tiny_runs import VAE, vae_config
from tiny_teachers import write_w2v_bert, write_whisper
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode

from svae import recipe
from svae.checkpoint import open_checkpoint
from svae.config import TTSTrainConfig, VAEConfig, VAETrainConfig
from svae.data.batches import CropBatch, UtteranceBatch
from svae.models.mel import MelFrames
from svae.models.representation import Representation, load_representation
from svae.models.teacher import Teacher, load_teacher
from svae.models.tts.dit import DiT
from svae.models.tts.sampler import guided_velocity, sample_latents
from svae.models.tts.solver import integrate, time_grid
from svae.models.vae import streaming
from svae.models.vae.vae import SpeechVAE
from svae.runtime.distributed import World, send
from svae.runtime.fake_gpu import fake_gpu
from svae.text.phonemes import open_vocabulary
from svae.text.vocabulary import Vocabulary
from svae.training.adapt import run as adapt
from svae.training.adapt.base import open_base
from svae.training.memory_plan import on_fake_gpu
from svae.training.meter import Meter, StepResult
from svae.training.tts import step as tts
from svae.training.tts.build import build_state
from svae.training.tts.distill import recipe_of
from svae.training.tts.state import FlowState
from svae.training.vae import train as vae
from svae.training.vae.crops import context_samples, segment_samples
from svae.training.vae.losses import MultiScaleMelLoss
from svae.training.vae.step import train_step as vae_step

RECIPES = Path(__file__).parents[2] / "recipes"
TTSS = sorted(RECIPES.glob("*/tts*.yaml"))
VAES = sorted(RECIPES.glob("*/vae*.yaml"))
STUDENTS = [
    # 32 steps of its teacher are many operations.
    pytest.param(path, marks=[pytest.mark.slow] if path.parent.name == "libritts" else [])
    for path in sorted(RECIPES.glob("*/distill*.yaml"))
]
BOTH = ["fp32", pytest.param("bf16", marks=pytest.mark.slow)]
"""Where a step takes as long as many tests."""
PRECISIONS = pytest.mark.parametrize("precision", ["fp32", "bf16"])
QUIET = pytest.mark.filterwarnings("ignore")
SMALL_DIT = [
    "dit.dim=32",
    "dit.depth=1",
    "dit.heads=2",
    "dit.text_dim=16",
    "dit.text_conv_layers=1",
]


class Waits(TorchDispatchMode):
    """Notes what a host waits for: values on the GPU, shapes that depend on them, and copies that are not sent ahead."""

    asking = ("_local_scalar_dense", "item", "is_nonzero", "nonzero", "equal", "masked_select")

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = func.__name__.split(".")[0]
        if name in self.asking and args[0].device.type == "cuda":
            self.found.append(name)
        if name in ("_to_copy", "copy_") and isinstance(result, Tensor):
            source = args[1] if name == "copy_" else args[0]
            ahead = kwargs.get("non_blocking", args[2] if len(args) > 2 else False)
            came, went = source.device.type, result.device.type
            if (came, went) == ("cuda", "cpu") or (came, went) == ("cpu", "cuda") and not ahead:
                self.found.append(f"{name} {came} to {went}")
        return result


@contextmanager
def watched() -> Iterator[list[str]]:
    with Waits() as waits:
        yield waits.found


def crop_batch(config: VAETrainConfig, count: int, features: int | None) -> CropBatch:
    size, context = segment_samples(config), context_samples(config)
    frames = size // config.vae.hop_length
    return CropBatch(
        [str(i) for i in range(count)],
        torch.zeros(count, 1, size + 2 * context),
        torch.full((count,), size),
        torch.zeros(count, dtype=torch.int64),
        None if features is None else torch.zeros(count, frames, features),
    )


def utterance_batch(count: int, channels: int | None, frames: int, hop: int) -> UtteranceBatch:
    keys = [str(i) for i in range(count)]
    tokens = torch.zeros(count, 9, dtype=torch.int64)
    batch = UtteranceBatch(keys, tokens, torch.full((count,), 9))
    if channels is None:
        batch.waveform = torch.zeros(count, 1, frames * hop)
        batch.lengths = torch.full((count,), frames * hop)
    else:
        batch.latent_mean = torch.zeros(count, channels, frames)
        batch.latent_logvar = torch.zeros(count, channels, frames)
        batch.latent_lengths = torch.full((count,), frames)
    return batch


def check_devices(result: StepResult, *networks: torch.nn.Module) -> None:
    assert result.finite.device.type == "cuda"
    for value in result.values.values():
        assert isinstance(value, float) or value.device.type == "cuda"
    for network in networks:
        for name, parameter in network.named_parameters():
            assert parameter.device.type == "cuda" and parameter.dtype == torch.float32, name
            assert parameter.grad is None or parameter.grad.dtype == torch.float32, name


def named(path: Path) -> str:
    return f"{path.parent.name}-{path.stem}"


def twice(precision: str) -> list[str]:
    """Return settings of a precision; in one of them what a block keeps is computed twice."""
    again = "true" if precision == "bf16" else "false"
    return [f"trainer.precision={precision}", f"trainer.checkpoint_activations={again}"]


# ------------------------------------------------------------------------------------------- text-to-speech


@QUIET
@PRECISIONS
@pytest.mark.parametrize("path", TTSS, ids=named)
def test_a_tts_step_of_each_recipe(path: Path, precision: str) -> None:
    config = recipe.load(TTSTrainConfig, str(path), [*SMALL_DIT, *twice(precision)])
    assert tts_waits(config) == []


def tts_waits(config: TTSTrainConfig) -> list[str]:
    mel = config.representation == "mel"
    representation = MelFrames(num_bins=100 if mel else 64)
    pieces = two_pieces(representation, encoded=not mel)
    with fake_gpu() as device:
        world = World(0, 1, device)
        there = on_fake_gpu(representation, device)
        state = build_state(config, there, Vocabulary.from_characters("abcd"), world)
        return step_waits(state, pieces, config, world)


def two_pieces(representation: Representation, *, encoded: bool) -> list[UtteranceBatch]:
    """Return a step's batch, as it comes from a loader: on the host, real."""
    channels = representation.latent_dim if encoded else None
    return [utterance_batch(n, channels, 24, representation.hop_length) for n in (2, 1)]


def step_waits(
    state: FlowState, pieces: list[UtteranceBatch], config: TTSTrainConfig, world: World
) -> list[str]:
    """Take a step, and return what the host waited for."""
    with watched() as found:
        result = tts.train_step(state, pieces, config, world)
        Meter().add(result, 0.0)
    check_devices(result, state.model, state.ema.module)
    assert any(parameter.grad is not None for parameter in state.model.parameters())
    return found


@QUIET
@PRECISIONS
@pytest.mark.parametrize("path", STUDENTS, ids=named)
def test_a_step_of_each_student(path: Path, precision: str, folder: Path) -> None:
    teacher = open_checkpoint(folder, kind="tts")
    decided = [f"{place}={json.dumps(value)}" for place, value in recipe_of(teacher).items()]
    fields = [*decided, "data.timings=null", *twice(precision)]
    config = recipe.load(TTSTrainConfig, str(path), fields)
    vocabulary = open_vocabulary(teacher.config["vocabulary"])
    representation = load_representation(teacher, "cpu")
    pieces = two_pieces(representation, encoded=True)
    with fake_gpu() as device:
        world = World(0, 1, device)
        there = on_fake_gpu(representation, device)
        state = build_state(config, there, vocabulary, world, None, teacher)
        assert step_waits(state, pieces, config, world) == []


@QUIET
@PRECISIONS
def test_a_step_of_an_adaptation(precision: str, folder: Path, tmp_path: Path) -> None:
    base = open_base(folder, "cpu")
    options = adapt.AdaptOptions(
        recordings=tmp_path, out=tmp_path / "run", overrides=twice(precision)
    )
    config = adapt.make_config(options, base)
    pieces = two_pieces(base.representation, encoded=base.stored)
    with fake_gpu() as device:
        world = World(0, 1, device)
        there = replace(base, representation=on_fake_gpu(base.representation, device))
        state = adapt.build_state(config, there, world)
        assert step_waits(state, pieces, config, world) == []


# ------------------------------------------------------------------------------------------- VAE


THIN = [
    "vae.encoder_channels=4",
    "vae.decoder.initial_channels=64",
    "vae.decoder.resblock_kernel_sizes=[3]",
    "vae.decoder.resblock_dilation_sizes=[[1]]",
]
"""Of the recipes' structure, less; with what they leave a step takes as long as most tests together."""


@pytest.mark.slow
@QUIET
@PRECISIONS
@pytest.mark.parametrize("path", VAES, ids=named)
def test_a_vae_step_of_each_recipe(path: Path, precision: str) -> None:
    config = recipe.load(VAETrainConfig, str(path), [*THIN, *twice(precision)])
    aligned = config.loss.alignment is not None
    assert vae_waits(config, features=24 if aligned else None) == []


@QUIET
@pytest.mark.parametrize("precision", BOTH)
def test_a_vae_step(precision: str) -> None:
    """With the teacher that comes with svae, computed in the step."""
    loss = {"alignment": 1.0, "adversarial_start_step": 1}
    teacher = {"model": "embedded", "layer": 2}
    config = vae_config("x", loss=loss, teacher=teacher, segment_seconds=0.4)
    settings = replace(
        config.trainer, precision=precision, checkpoint_activations=precision == "bf16"
    )
    config = replace(config, trainer=settings)
    assert vae_waits(config, teacher=load_teacher(config.teacher)) == []


@QUIET
@pytest.mark.parametrize("write", [write_whisper, write_w2v_bert])
def test_a_vae_step_whose_teacher_hears_log_mel_frames_made_on_the_host(
    write: Callable[[Path], nn.Module], tmp_path: Path
) -> None:
    write(tmp_path)
    loss = {"alignment": 1.0, "adversarial_start_step": 1}
    teacher = {"model": str(tmp_path), "layer": 2}
    config = vae_config("x", loss=loss, teacher=teacher, segment_seconds=0.4)
    assert vae_waits(config, teacher=load_teacher(config.teacher)) == []


def vae_waits(
    config: VAETrainConfig, teacher: Teacher | None = None, features: int | None = None
) -> list[str]:
    """Take a step of two pieces in which everything is learned, and return what the host waited for."""
    with torch.device("meta"):  # filters are made once, where numbers are
        SpeechVAE(config.vae, features)
    MultiScaleMelLoss(config.vae.sample_rate)
    batches = [crop_batch(config, count, features) for count in (2, 1)]
    with fake_gpu() as device:
        world = World(0, 1, device)
        heard = None if teacher is None else vae.teacher_on_fake_gpu(teacher, device)
        state = vae.build_state(config, None, world, teacher=heard, teacher_dim=features)
        state.step = max(1, config.loss.adversarial_start_step)
        with watched() as found:
            result = vae_step(state, batches, config, world)
            Meter().add(result, 0.0)
        assert {"loss/discriminator", "loss/adversarial"} <= result.values.keys()
        check_devices(result, state.model, state.discriminator, state.ema.module)
    return found


class Asked(TorchDispatchMode):
    """Notes the values of results that a host asks for, on real tensors: lengths, which are whole numbers, are its own."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__.split(".")[0]
        if name in Waits.asking and (args[0].is_floating_point() or args[0].dtype == torch.bool):
            self.found.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("pulses", [False, True])
def test_a_vae_step_asks_for_no_value(pulses: bool) -> None:
    """On real tensors: what fake ones cannot tell, as a value that is asked for of a host's."""
    config = vae_config("x", **({"vae": VAE["vae"] | SPEAKER} if pulses else {}))
    world = World(0, 1, torch.device("cpu"))
    state = vae.build_state(config, None, world)
    state.step = 1
    batches = [crop_batch(config, 1, None) for _ in range(2)]
    with Asked() as asked:
        Meter().add(vae_step(state, batches, config, world), 0.0)
        assert asked.found == []
        float(state.model.mean.weight.detach().sum())
    assert asked.found == ["_local_scalar_dense"]


@QUIET
@pytest.mark.parametrize("bf16", [False, True])
def test_encoding_decoding_and_synthesis(tiny_vae_config: VAEConfig, bf16: bool) -> None:
    cfg = recipe.load(TTSTrainConfig, "tiny/tts", SMALL_DIT).dit
    vae_model, network = SpeechVAE(tiny_vae_config).eval(), DiT(cfg, 4, 8).eval()
    audio, totals = torch.zeros(2, 1, 4000), torch.tensor([9, 8])
    with (
        fake_gpu() as device,
        torch.autocast("cuda", torch.bfloat16, enabled=bf16),
        torch.no_grad(),
    ):
        model, dit = on_fake_gpu(vae_model, device), on_fake_gpu(network, device)
        posterior = model.encode(send(audio, device))
        tokens = torch.zeros(2, 9, dtype=torch.int64, device=device)
        velocity = guided_velocity(dit, posterior.mean, tokens, posterior.lengths, 2.0, 0.5)
        waveform = model.decode(integrate(velocity, posterior.mean, time_grid(2)))
        prompt = posterior.mean[..., :4]
        kept = torch.full((2,), 4, device=device)
        said = sample_latents(dit, prompt, kept, tokens, totals, num_steps=2, prompt_guidance=0.5)
        long = send(torch.zeros(1, 1, 40000), device)
        coded = streaming.encode(model, long, chunk_seconds=0.5)
        spoken = streaming.decode(model, coded.mean, chunk_seconds=0.5)
    assert coded.mean.device == spoken.device == device and spoken.shape == long.shape
    assert waveform.device == device and waveform.shape == (2, 1, 4000)
    assert said.device == device and said.shape == (2, tiny_vae_config.latent_dim, 9)
    assert waveform.dtype == posterior.mean.dtype == torch.float32


# ------------------------------------------------------------------------------------------- it can fail


@QUIET
def test_a_tensor_on_the_wrong_device_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "svae.models.tts.dit.length_mask",
        lambda lengths, size: torch.arange(size)[None] < lengths.cpu()[:, None],
    )
    config = recipe.load(TTSTrainConfig, "tiny/tts", SMALL_DIT)
    with pytest.raises(RuntimeError, match="two different devices"):
        tts_waits(config)


@QUIET
def test_a_host_that_waits_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    config = recipe.load(TTSTrainConfig, "tiny/tts", SMALL_DIT)
    update = tts.update

    def waiting(optimizer: Any, parameters: Any, *rest: Any) -> Any:
        parameters[0].sum().cpu()
        return update(optimizer, parameters, *rest)

    monkeypatch.setattr(tts, "update", waiting)
    assert tts_waits(config) == ["_to_copy cuda to cpu"]

    def asking(optimizer: Any, parameters: Any, *rest: Any) -> Any:
        float(parameters[0].sum())
        return update(optimizer, parameters, *rest)

    monkeypatch.setattr(tts, "update", asking)
    with pytest.raises(DataDependentOutputException):
        tts_waits(config)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_step_on_a_gpu_waits_nowhere() -> None:
    device = torch.device("cuda", 0)
    config = recipe.load(TTSTrainConfig, "tiny/tts", SMALL_DIT)
    world = World(0, 1, device)
    representation = MelFrames(num_bins=64).to(device)
    state = build_state(config, representation, Vocabulary.from_characters("abcd"), world)
    pieces = [utterance_batch(n, 64, 24, 400).pin_memory() for n in (2, 1)]
    tts.train_step(state, pieces, config, world)  # what happens once may be waited for
    torch.cuda.set_sync_debug_mode("error")
    try:
        tts.train_step(state, pieces, config, world)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_weights_are_read_from_a_file_as_anywhere(tmp_path):
    weights = {"a": torch.arange(5.0), "b": torch.ones(2, 3, dtype=torch.float16)}
    save_file(weights, tmp_path / "x.safetensors")
    with fake_gpu():
        found = load_file(tmp_path / "x.safetensors")
    assert not any(isinstance(tensor, FakeTensor) for tensor in found.values())
    assert all(torch.equal(found[name], weights[name]) for name in weights)


def test_libraries_that_make_tensors_are_imported_before_tensors_are_fake() -> None:
    """In a process of its own, where nobody has imported them before; peft's damaged the heap when it was inside."""
    code = """
import sys
from svae.runtime.fake_gpu import IMPORTED_BEFORE, fake_gpu
assert IMPORTED_BEFORE and not set(IMPORTED_BEFORE) & set(sys.modules)
with fake_gpu():
    assert set(IMPORTED_BEFORE) <= set(sys.modules)
"""
    pytest.importorskip("peft", reason="pip install 'svae[adapt]'")
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_a_copy_is_one_storage_whoever_looks_at_it() -> None:
    """Else the average of the weights would be counted again at every look."""
    with fake_gpu() as device:
        network = torch.nn.Linear(3, 3).to(device)
        network.register_buffer("table", torch.zeros(5, device=device))
        network.again = network.weight
        copied = copy.deepcopy(network)
        assert copied.again is copied.weight and isinstance(copied.weight, torch.nn.Parameter)
        for one, other in zip(
            network.state_dict().values(), copied.state_dict().values(), strict=True
        ):
            assert one.shape == other.shape and one.device == other.device == device
            assert one.untyped_storage()._cdata != other.untyped_storage()._cdata
        for tensor in (*copied.parameters(), *copied.buffers()):
            assert tensor.detach().untyped_storage()._cdata == tensor.untyped_storage()._cdata
