"""`svae inspect`: what decides whether a flow model can learn a VAE's latents, as numbers and as a picture."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from svae.analysis.phone_probe import PhoneProbe, probe_of
from svae.checkpoint import Checkpoint, open_checkpoint
from svae.config import TeacherConfig
from svae.data.batches import read_latents, read_waveform
from svae.data.index import ShardIndex, read_index
from svae.data.samples import Sample
from svae.data.timings import Timings
from svae.errors import ConfigError, DataError
from svae.models.teacher import Teacher, load_teacher
from svae.models.vae import streaming
from svae.models.vae.vae import SpeechVAE, load_vae
from svae.precompute.latents import vae_of_latents
from svae.precompute.statistics import spread
from svae.runtime.distributed import describe_device, select_device
from svae.runtime.files import writable_folder, write_text
from svae.runtime.remote import is_url

DEAD_VARIANCE = 0.01
"""A channel whose posterior mean varies less than this over frames says nothing of the input; the usual threshold of
active units (Burda et al., arXiv 1509.00519, appendix C)."""
LAGS = (1, 2, 4, 8, 16, 32)


@dataclass(frozen=True)
class InspectOptions:
    """Options of `svae inspect`."""

    path: Path
    """Latent shards, or a VAE's run or checkpoint folder."""
    data: Path | None = None
    """Waveform shards: needed for a checkpoint, and for the teacher's cosine."""
    out: Path = Path("out/inspection")
    teacher: str | None = None
    """Hub id, folder or `embedded`; None: the one the checkpoint names."""
    layer: int | Literal["average"] | None = None
    """Of `teacher`; None: the usual one, or what the checkpoint names."""
    timings: Path | None = None
    """Times of phones of these utterances (`svae align`), for the phone probe; None: no probe."""
    limit: int = 200
    """Training utterances, spread over the shards."""
    device: str = "auto"


@dataclass
class Inspection:
    """The numbers; each list has one entry per channel."""

    mean: list[float]
    std: list[float]
    """Mean and deviation, over frames, of the posterior's mean."""
    posterior_std: list[float] | None
    """Root mean square of the posterior's own deviation; None where samples are stored."""
    kl: list[float] | None
    """Nats per frame."""
    dead_channels: list[int]
    effective_rank: float
    autocorrelation: dict[int, float]
    """Lag in frames → correlation within utterances, averaged over channels that are alive."""
    frames: int
    utterances: int
    teacher_cosine: float | None = None
    """Mean over frames between posterior mean and projected teacher features."""
    teacher: str | None = None
    phone_probe: PhoneProbe | None = None
    """How many frames a linear map names the phone of; None where no times of phones were given."""


# ----------------------------------------------------------------------------------------------- numbers


def effective_rank(covariance: Tensor) -> float:
    """Return exp of the entropy of the normalised eigenvalues of a covariance matrix (D, D): 1 to D.

    Source: Roy and Vetterli, The effective rank (EUSIPCO 2007).
    """
    values = torch.linalg.eigvalsh(covariance.double()).clamp_min(0)
    shares = values / values.sum().clamp_min(1e-300)
    return float(torch.special.entr(shares).sum().exp())


def autocorrelation(
    utterances: list[Tensor], mean: Tensor, lag: int, channels: Tensor
) -> float | None:
    """Return the correlation of frames `lag` apart within utterances (D, T), averaged over the chosen channels.

    Deviations are taken from the mean over all utterances, `mean` (D,). None where no utterance is long enough.
    """
    products, left, right = (torch.zeros(len(mean), dtype=torch.float64) for _ in range(3))
    for latents in utterances:
        x = latents.double() - mean[:, None]
        products += (x[:, :-lag] * x[:, lag:]).sum(dim=1)
        left += x[:, :-lag].square().sum(dim=1)
        right += x[:, lag:].square().sum(dim=1)
    scale = (left * right).sqrt()
    usable = channels & (scale > 0)
    return float((products / scale)[usable].mean()) if usable.any() else None


def measure(means: list[Tensor], logvars: list[Tensor] | None) -> Inspection:
    """Compute everything that needs no teacher from posterior means and log-variances, (D, T) per utterance."""
    frames = torch.cat(means, dim=1).double()
    mean, variance = frames.mean(dim=1), frames.var(dim=1, correction=0)
    dead = variance < DEAD_VARIANCE
    posterior_std = kl = None
    if logvars is not None:
        logvar = torch.cat(logvars, dim=1).double()
        posterior_std = logvar.exp().mean(dim=1).sqrt().tolist()
        kl = (0.5 * (frames.square() + logvar.exp() - 1 - logvar)).mean(dim=1).tolist()
    correlations = {lag: autocorrelation(means, mean, lag, ~dead) for lag in LAGS}
    return Inspection(
        mean=mean.tolist(),
        std=variance.sqrt().tolist(),
        posterior_std=posterior_std,
        kl=kl,
        dead_channels=dead.nonzero()[:, 0].tolist(),
        effective_rank=effective_rank(torch.atleast_2d(torch.cov(frames))),
        autocorrelation={lag: value for lag, value in correlations.items() if value is not None},
        frames=frames.shape[1],
        utterances=len(means),
    )


@torch.inference_mode()
def teacher_cosine(vae: SpeechVAE, teacher: Teacher, waveform: Tensor, mean: Tensor) -> Tensor:
    """Return the cosine (T,) of the posterior mean (D, T) to the projected teacher features of the whole utterance.

    Of a long one the beginning counts, as much as the teacher hears at once (`Teacher.max_samples`): T is less then.
    """
    frames = mean.shape[1]
    if teacher.max_samples is not None:
        frames = min(frames, teacher.max_samples // vae.hop_length)
    padded = F.pad(waveform[None], (0, frames * vae.hop_length - waveform.shape[-1]))
    teacher_features = teacher.aligned_features(
        padded.to(vae.latent_mean.device), 0, frames, vae.hop_length
    )
    assert vae.regulator is not None
    projected = vae.regulator(teacher_features, frames)[0].cpu()
    return F.cosine_similarity(projected, mean[: len(projected), :frames], dim=0)


# ----------------------------------------------------------------------------------------------- the command


def inspect(options: InspectOptions) -> Inspection:
    """Measure, print, and write inspection.json and inspection.png; see `svae inspect --help`.

    Raises:
        ConfigError, DataError, CheckpointError: the folder is neither latents nor a VAE, or the data do not fit.
    """
    if options.layer is not None and options.teacher is None:
        raise ConfigError(
            f"--layer {options.layer}: is a layer of --teacher, which is not given; pass both, or neither for the layer that "
            "this VAE was trained with"
        )
    console, device = Console(), select_device(options.device)
    latents, data, checkpoint = _open(options)
    out = writable_folder(options.out, option="--out")
    vae = load_vae(checkpoint.folder, device)
    console.print(f"VAE {checkpoint.folder} ({checkpoint.hash[:12]}…) on {describe_device(device)}")
    teacher, why_not = _open_teacher(options, checkpoint, vae, data, console)
    index = latents if latents is not None else data
    assert index is not None
    timings = None
    if options.timings is not None:
        timings = Timings(options.timings)
        index = timings.select(index)
    samples = spread(index.train, options.limit)
    means, logvars, cosines = [], [], []
    for sample in track(samples, "Inspecting", console=console, transient=True):
        mean, logvar = _posterior(vae, latents, data, sample)
        means.append(mean)
        logvars.append(logvar)
        if teacher is not None:
            assert data is not None  # a teacher is opened only with waveforms to listen to
            waveform = read_waveform(data, _same(data, sample))
            cosines.append(teacher_cosine(vae, teacher, waveform, mean))
    stored_samples = latents is not None and latents.latent_content == "sample"
    found = measure(means, None if stored_samples else logvars)
    if teacher is not None:
        found.teacher_cosine, found.teacher = float(torch.cat(cosines).mean()), teacher.description
    if timings is not None:
        by_key = dict(zip([sample.key for sample in samples], means, strict=True))
        found.phone_probe = probe_of(
            samples, timings, vae.sample_rate, vae.hop_length, lambda sample: by_key[sample.key]
        )
    text = {
        "path": str(options.path),
        "vae_hash": checkpoint.hash,
        "data": str(index.root),
        **asdict(found),
    }
    write_text(out / "inspection.json", json.dumps(text, indent=1) + "\n")
    draw(out / "inspection.png", found, cosines, vae.sample_rate / vae.hop_length)
    _show(console, found, why_not)
    console.print(f"Written: {out}/inspection.json, {out}/inspection.png", soft_wrap=True)
    return found


def _open(options: InspectOptions) -> tuple[ShardIndex | None, ShardIndex | None, Checkpoint]:
    """Return latent shards, waveform shards (each where there are any) and the VAE."""
    data = None if options.data is None else read_index(options.data)
    if data is not None and data.kind != "waveforms":
        raise DataError(
            f"--data {options.data}: holds {data.kind}; expected waveform shards from `svae prepare`"
        )
    # Of a URL it can be nothing but shards: checkpoints lie on this machine.
    if is_url(options.path) or (options.path / "index.json").is_file():
        index = read_index(options.path)
        return index, data, vae_of_latents(index, None)
    checkpoint = open_checkpoint(options.path, kind="vae")
    if data is None:
        raise ConfigError(
            f"{options.path}: a VAE's latents are measured on speech: pass --data DIR, waveform shards from "
            "`svae prepare` (for a first look, `svae prepare sample` writes data/shards/sample)"
        )
    if data.sample_rate != checkpoint.config["sample_rate"]:
        raise ConfigError(
            f"{data.root}: audio at {data.sample_rate} Hz, but the VAE works at {checkpoint.config['sample_rate']} Hz"
        )
    return None, data, checkpoint


def _open_teacher(
    options: InspectOptions,
    checkpoint: Checkpoint,
    vae: SpeechVAE,
    data: ShardIndex | None,
    console: Console,
) -> tuple[Teacher | None, str]:
    """Return the teacher, or None and the reason why there is no cosine."""
    if vae.regulator is None:
        known = checkpoint.config.get("teacher")
        if known is None:
            return None, "this VAE was trained without a teacher"
        return (
            None,
            f"what projects this VAE's latents to its teacher, {known['model']}, is not in the checkpoint",
        )
    if data is None:
        why_not = "the teacher listens to waveforms: pass --data with the shards that were encoded"
        return None, why_not
    if options.teacher is not None:
        cfg = TeacherConfig(model=options.teacher)
        if options.layer is not None:
            cfg = replace(cfg, layer=options.layer)
    elif checkpoint.config.get("teacher") is not None:
        cfg = checkpoint.section(TeacherConfig, "teacher")
    else:
        return None, "the checkpoint does not name its teacher: pass --teacher and --layer"
    teacher = load_teacher(cfg, vae.latent_mean.device, sample_rate=vae.sample_rate)
    if teacher.feature_dim != vae.teacher_dim:
        raise ConfigError(
            f"--teacher {cfg.model}: {teacher.feature_dim} features, but this VAE was trained with {vae.teacher_dim}"
        )
    console.print(f"Teacher: {teacher.description}")
    return teacher, ""


def _same(data: ShardIndex, sample: Sample) -> Sample:
    """Return the utterance of the waveform shards that a latent stands for."""
    found = next((other for other in data.samples if other.key == sample.key), None)
    if found is None or found.num_samples != sample.num_samples:
        raise DataError(f"{data.root}: has no utterance {sample.key!r} of {sample.num_samples} samples; pass the shards that were encoded")  # fmt: skip
    return found


@torch.inference_mode()
def _posterior(
    vae: SpeechVAE, latents: ShardIndex | None, data: ShardIndex | None, sample: Sample
) -> tuple[Tensor, Tensor]:
    """Return mean and log-variance (D, T) on the CPU: stored, or encoded now."""
    if latents is not None:
        return read_latents(latents, sample, vae.hop_length)
    assert data is not None
    posterior = streaming.encode(vae, read_waveform(data, sample)[None].to(vae.latent_mean.device))
    return posterior.mean[0].cpu(), posterior.logvar[0].cpu()


def _show(console: Console, found: Inspection, why_not: str) -> None:
    """Print the summary."""
    width = len(found.mean)
    table = Table(show_header=False)
    rows = [
        ("measured on", f"{found.utterances} utterances, {found.frames} frames"),
        ("channels", f"{width}, {len(found.dead_channels)} dead (variance < {DEAD_VARIANCE})"),
        ("effective rank", f"{found.effective_rank:.1f} of {width}"),
        ("mean of a channel", _range(found.mean)),
        ("deviation of a channel", _range(found.std)),
    ]
    if found.kl is not None and found.posterior_std is not None:
        rows.append(("posterior deviation", _range(found.posterior_std)))
        rows.append(("KL", f"{sum(found.kl):.2f} nats a frame, {_range(found.kl)} a channel"))
    lags = ", ".join(f"{lag}: {value:.2f}" for lag, value in found.autocorrelation.items())
    rows.append(("autocorrelation at lag", lags or "no channel is alive"))
    cosine = why_not if found.teacher_cosine is None else f"{found.teacher_cosine:.3f}"
    rows.append(("teacher cosine", cosine))
    probe = "pass --timings" if found.phone_probe is None else _probed(found.phone_probe)
    rows.append(("phone of a frame, linear", probe))
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _probed(probe: PhoneProbe) -> str:
    return (
        f"{probe.accuracy:.1%} of {probe.frames} frames of other utterances "
        f"({probe.phones} phones, the commonest {probe.commonest:.1%})"
    )


def _range(values: list[float]) -> str:
    return f"{min(values):.3f} to {max(values):.3f}"


def draw(path: Path, found: Inspection, cosines: list[Tensor], frame_rate: float) -> None:
    """Draw deviations, KL, autocorrelation, and the teacher's cosine over the time of the first utterances."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7), layout="constrained")
    ((deviation, kl), (correlation, cosine)) = figure.subplots(2, 2)
    channels = range(len(found.mean))
    order = sorted(channels, key=lambda channel: -found.std[channel])
    deviation.errorbar(
        channels, [found.mean[c] for c in order], yerr=[found.std[c] for c in order], fmt=".", lw=1
    )
    deviation.set(title="mean ± deviation over frames", xlabel="channel, by deviation")
    if found.kl is not None and found.posterior_std is not None:
        kl.bar(channels, [found.kl[c] for c in order], label="KL, nats a frame")
        kl.plot(
            channels, [found.posterior_std[c] for c in order], "k.", label="posterior deviation"
        )
        kl.legend()
    kl.set(
        title=f"KL and noise ({len(found.dead_channels)} dead channels)",
        xlabel="channel, same order",
    )
    lags = list(found.autocorrelation)
    correlation.plot(
        [1000 * lag / frame_rate for lag in lags], list(found.autocorrelation.values()), "o-"
    )
    correlation.set(
        title=f"autocorrelation (effective rank {found.effective_rank:.1f})",
        xlabel="lag, ms",
        ylim=(-0.2, 1),
    )
    for values in cosines[:3]:
        cosine.plot(torch.arange(len(values)) / frame_rate, values, lw=1)
    mean = "not measured" if found.teacher_cosine is None else f"mean {found.teacher_cosine:.3f}"
    cosine.set(title=f"teacher cosine, first utterances ({mean})", xlabel="seconds", ylim=(-1, 1))
    figure.savefig(path, dpi=110)
