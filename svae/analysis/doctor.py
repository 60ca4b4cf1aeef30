"""`svae doctor`: what this machine has, what works on it, and whether its arithmetic is right."""

from __future__ import annotations

import contextlib
import copy
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import Tensor

import svae
from svae.assets import asset_path
from svae.config import BigVGANConfig, VAEConfig
from svae.errors import SvaeError
from svae.models.cpu import private_ops
from svae.models.vae.vae import SpeechVAE
from svae.runtime.distributed import describe_device, select_device
from svae.runtime.environment import environment
from svae.runtime.pretrained import revision

HUB_MODELS = {
    "teacher": ("microsoft/wavlm-large", "facebook/hubert-large-ll60k", "facebook/w2v-bert-2.0"),
    "ASR judge": ("openai/whisper-large-v3", "facebook/hubert-large-ls960-ft"),
    "speaker judge": ("speechbrain/spkrec-ecapa-voxceleb",),
}
"""What recipes and protocols name; looked for in the local hub cache, never downloaded here."""
LIMITS = {"fp32": 1e-3, "tf32": 2e-2, "bf16": 0.2}
"""Relative error that still counts as right."""
SMALL = VAEConfig(
    encoder_channels=16,
    latent_dim=16,
    decoder=BigVGANConfig(initial_channels=128),
)
"""The published structure at a quarter of the width, so that the test takes seconds on a CPU."""


# ----------------------------------------------------------------------------------------------- numerics


@dataclass(frozen=True)
class Deviation:
    """How far a device and precision are from float64 on the CPU: error norm over signal norm."""

    device: str
    precision: str
    encode: float
    decode: float

    @property
    def right(self) -> bool:
        """Whether both lie within what the precision explains."""
        return max(self.encode, self.decode) <= LIMITS[self.precision]


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Return ||found - expected|| / ||expected||; infinite where anything found is not finite."""
    found, expected = found.double().cpu(), expected.double().cpu()
    if not torch.isfinite(found).all():
        return float("inf")
    return float((found - expected).norm() / expected.norm().clamp_min(1e-30))


@torch.inference_mode()
def numerics(
    device: torch.device, config: VAEConfig = SMALL, *, seconds: float = 0.5
) -> list[Deviation]:
    """Encode and decode noise with random weights on a device in every precision, against float64 on the CPU.

    The CPU's own float32 is always the first row. The decoder gets the reference's latents, so that the two errors
    are separate.
    """
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    model = SpeechVAE(config).eval()
    waveform = 0.1 * torch.randn(1, 1, int(seconds * config.sample_rate), generator=generator)
    double = copy.deepcopy(model).double()
    whole = torch.nn.functional.pad(waveform, (0, -waveform.shape[-1] % model.hop_length)).double()
    posterior = double.projection(double.encoder(whole).transpose(1, 2))
    mean = double.mean(posterior).transpose(1, 2)
    audio = double.decoder(mean)
    rows = []
    devices = [torch.device("cpu")] if device.type == "cpu" else [torch.device("cpu"), device]
    for each in devices:
        for precision in ("fp32", "bf16") if each.type != "cuda" else ("fp32", "tf32", "bf16"):
            if each.type == "cpu" and device.type != "cpu" and precision != "fp32":
                continue
            moved = copy.deepcopy(model).to(each)
            with arithmetic(each, precision):
                encoded = moved.encode(waveform.to(each)).mean
                decoded = moved.decode(mean.float().to(each))
            errors = relative_error(encoded, mean), relative_error(decoded, audio)
            rows.append(Deviation(str(each), precision, *errors))
    return rows


@contextlib.contextmanager
def arithmetic(device: torch.device, precision: str) -> Iterator[None]:
    """Compute in float32, with TensorFloat-32 matrix products, or under bfloat16 autocast."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    try:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


# ----------------------------------------------------------------------------------------------- what is there


@dataclass(frozen=True)
class Resource:
    """One line of the list of what can be used."""

    kind: str
    name: str
    there: bool
    note: str = ""


def embedded_items() -> Iterator[Resource]:
    """Yield what travels in the package, and the offline recogniser."""
    both = "people's and synthetic speech"
    for kind, folder, name, note in (
        ("voice", "tts", "--model embedded", f"small, learned from {both}"),
        ("sample corpus", "sample", "svae prepare sample", "small, synthetic speech"),
        ("reference clips", "references", "svae synthesize --ref", both),
        ("teacher", "teacher", "teacher.model: embedded", "small, learned from synthetic speech"),
        ("speaker judge", "speaker", "--speaker embedded", f"small, learned from {both}"),
    ):
        yield Resource(kind, name, asset_path(folder).is_dir(), note)
    for name, formats in (
        ("soundfile", "WAV, FLAC, MP3, Ogg, AIFF"),
        ("av", "M4A, MP4, WebM, WMA"),
    ):
        yield Resource("audio", name, find_spec(name) is not None, f"reads {formats}")
    yield Resource("ASR judge", "--asr pocketsphinx", find_spec("pocketsphinx") is not None, "weak")


def hub_items() -> Iterator[Resource]:
    """Yield the models of the paper's scale, whether they lie in the local hub cache."""
    for kind, names in HUB_MODELS.items():
        for name in names:
            file = "hyperparams.yaml" if name.startswith("speechbrain/") else "config.json"
            found = revision(name, file)
            note = f"revision {found[:12]}" if found else "not cached"
            yield Resource(kind, name, found is not None, note)


def optional_items() -> Iterator[Resource]:
    """Yield what makes svae faster or more comfortable."""
    yield Resource(
        "curves",
        "tensorboard",
        find_spec("tensorboard") is not None,
        "pip install 'svae[tensorboard]'",
    )
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    yield Resource(
        "trainer.compile", "C compiler", compiler is not None, compiler or "apt-get install gcc"
    )
    yield Resource(
        "trainer.compile", "triton", find_spec("triton") is not None, "of torch's CUDA build"
    )
    why_not = private_ops.missing()
    packed = "faster linear layers on a CPU by private operators of torch"
    yield Resource("CPU inference", "packed weights", why_not is None, why_not or packed)
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    names = ", ".join(torch.cuda.get_device_name(i) for i in range(count))
    yield Resource(
        "GPU", f"{count} x CUDA", count > 0, names or f"torch {torch.__version__} sees none"
    )


def doctor(device_name: str) -> None:
    """Print everything: what is there, and whether the arithmetic is right.

    Raises:
        SvaeError: something that svae cannot do without is missing or wrong.
    """
    console, device = Console(), select_device(device_name)
    found = environment(device)
    console.print(
        f"svae {found['svae']}, Python {found['python']}, {found['platform']}\n"
        + ", ".join(f"{name} {version}" for name, version in found["packages"].items())
        + f"\nDevice: {describe_device(device)}; package in {Path(svae.__file__).parent}",
        highlight=False,
        soft_wrap=True,
    )
    embedded = list(embedded_items())
    _show_items(console, "Works offline", embedded)
    _show_items(
        console,
        "Paper scale (what is not cached needs a network once, or a local folder)",
        list(hub_items()),
    )
    _show_items(console, "Optional", list(optional_items()))
    rows = numerics(device)
    title = "Relative error against float64 on the CPU"
    table = Table("device", "precision", "encode", "decode", "", title=title)
    for row in rows:
        errors = f"{row.encode:.1e}", f"{row.decode:.1e}"
        table.add_row(row.device, row.precision, *errors, "ok" if row.right else "WRONG")
    console.print(table)
    problems = [f"{item.name} is missing: reinstall svae" for item in embedded if not item.there]
    problems += [
        f"{row.device} computes wrongly in {row.precision}" for row in rows if not row.right
    ]
    if problems:
        raise SvaeError("this machine is not ready: " + "; ".join(problems))
    console.print("Everything needed is there. Next: svae prepare sample")


def _show_items(console: Console, title: str, items: list[Resource]) -> None:
    console.print(f"\n[bold]{title}[/]")
    width = max(len(item.name) for item in items)
    for item in items:
        mark = "[green]yes[/]" if item.there else "[yellow]no [/]"
        line = f"  {item.kind:<16} {item.name:<{width}}  {item.note}"
        console.print(mark + escape(line.rstrip()), highlight=False, soft_wrap=True)
