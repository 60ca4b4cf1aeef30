"""Train the embedded speaker judge: a small ECAPA-TDNN (speechbrain's class) on SYNTHETIC voices, on one CPU core.

    python recipes/embedded/train_speaker.py                      # makes data/speaker if missing, trains, writes the asset
    python recipes/embedded/train_speaker.py --steps 50 --out out/speaker      # a trial
    python recipes/embedded/train_speaker.py --score                           # only scores what is stored in --out, again

Writes `embedding_model.safetensors` (float16) and `config.json` with everything needed to rebuild the network and its
features. The equal error rate on voices that were never trained on is measured on the stored weights and written there.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import platform
import random
import shlex
import sys
import time
from pathlib import Path

import soundfile
import torch
from safetensors.torch import load_file, save_file
from speechbrain.lobes.features import Fbank
from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN, Classifier
from speechbrain.nnet.losses import AdditiveAngularMargin, LogSoftmaxWrapper
from torch import Tensor

from corpus import ASSETS, SAMPLE_RATE, deal, make_corpus
from svae.evaluation.statistics import CONFIDENCE, FEW_UNITS, group_numbers, resampling_counts
from voices import select_voices

MODEL = {
    "input_size": 80,
    "channels": [128, 128, 128, 128, 384],
    "kernel_sizes": [5, 3, 3, 3, 1],
    "dilations": [1, 2, 3, 4, 1],
    "attention_channels": 64,
    "res2net_scale": 4,
    "se_channels": 64,
    "lin_neurons": 96,
}
"""Arguments of `ECAPA_TDNN`."""
FEATURES = {
    "sample_rate": SAMPLE_RATE,
    "n_mels": 80,
    "n_fft": 400,
    "win_length": 25,
    "hop_length": 10,
}
"""Arguments of `Fbank`; the mean over time of each utterance is then subtracted."""

# ----------------------------------------------------------------------------------------------- data


def make_data(root: Path, per_voice: int, workers: int, *, wanted: tuple[str, ...]) -> None:
    """Make the corpora below `root`, `train` and `held-out-voices`, that are wanted and missing."""
    parts = {
        "train": ("train", "train", per_voice, 11),
        "held-out-voices": ("held-out", "held-out", 12, 12),
    }
    for name in wanted:
        group, texts, count, seed = parts[name]
        if not (root / name / "metadata.jsonl").exists():
            voices = select_voices(group)
            pairs = deal(voices, count * len(voices), texts=texts, seed=seed)
            seconds = make_corpus(root / name, pairs, seed=seed, workers=workers, suffix=".flac")
            print(f"{root / name}: {len(voices)} voices, {seconds / 3600:.2f} hours", flush=True)


def load_by_speaker(root: Path) -> dict[str, list[Tensor]]:
    """Read a corpus into memory: int16 samples (S,) of each utterance, by speaker."""
    speakers: dict[str, list[Tensor]] = {}
    for line in (root / "metadata.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        samples, rate = soundfile.read(root / row["audio"], dtype="int16")
        if rate != SAMPLE_RATE:
            raise ValueError(f"{root / row['audio']}: {rate} Hz, expected {SAMPLE_RATE}")
        speakers.setdefault(row["speaker"], []).append(torch.from_numpy(samples))
    return speakers


def draw_batch(
    speakers: dict[str, list[Tensor]], size: int, samples: int, rng: random.Random
) -> tuple[Tensor, Tensor]:
    """Draw crops (B, S) float32 of random utterances by `size` different random speakers, and their classes (B, 1)."""
    names = list(speakers)
    classes = rng.sample(range(len(names)), size)
    crops = torch.zeros(size, samples)
    for row, number in enumerate(classes):
        utterance = rng.choice(speakers[names[number]])
        start = rng.randint(0, max(0, len(utterance) - samples))
        piece = utterance[start : start + samples].float() / 32768
        crops[row] = piece.repeat(-(-samples // len(piece)))[:samples]
    return crops, torch.tensor(classes)[:, None]


def augment(waveform: Tensor) -> Tensor:
    """Add, each to a part of the crops (B, S): a room, a microphone's colour, noise or talkers; then any level."""
    count, samples = waveform.shape
    chosen = torch.rand(4, count, 1)
    seconds = torch.arange(4000) / SAMPLE_RATE
    decay = torch.exp(-6.9 * seconds / torch.empty(count, 1).uniform_(0.1, 0.5))
    room = 0.3 * torch.randn(count, 4000) * decay * torch.empty(count, 1).uniform_(0.05, 0.5)
    room[:, 0] = 1.0
    reverberant = convolve(waveform, room)
    colour = torch.zeros(count, 8)
    colour[:, 0] = 1.0
    colour[:, 1:] = torch.empty(count, 7).uniform_(-0.35, 0.35) * torch.linspace(1, 0.3, 7)
    waveform = torch.where(chosen[0] < 0.35, reverberant, waveform)
    waveform = torch.where(chosen[1] < 0.5, convolve(waveform, colour), waveform)
    rms = waveform.square().mean(1, keepdim=True).sqrt()
    noise = torch.randn(count, samples)
    noise = torch.where(
        torch.rand(count, 1) < 0.5, noise, noise.cumsum(1) - noise.cumsum(1).mean(1, keepdim=True)
    )
    noise = noise / noise.square().mean(1, keepdim=True).sqrt() * rms
    talkers = waveform.roll(1, 0) + waveform.roll(5, 0) + waveform.roll(11, 0)
    talkers = talkers / talkers.square().mean(1, keepdim=True).sqrt().clamp_min(1e-6) * rms
    added = torch.where(chosen[3] < 0.3, talkers, noise) * 10 ** (
        -torch.empty(count, 1).uniform_(8, 30) / 20
    )
    waveform = torch.where(chosen[2] < 0.5, waveform + added, waveform)
    return waveform * 10 ** (torch.empty(count, 1).uniform_(-15, 6) / 20)


def convolve(waveform: Tensor, response: Tensor) -> Tensor:
    """Filter each row of (B, S) by its own causal response (B, R); the length stays."""
    size = waveform.shape[1] + response.shape[1]
    spectrum = torch.fft.rfft(waveform, size) * torch.fft.rfft(response, size)
    return torch.fft.irfft(spectrum, size)[:, : waveform.shape[1]]


# ----------------------------------------------------------------------------------------------- model


def features(fbank: Fbank, waveform: Tensor) -> Tensor:
    """Return log-mel features (B, frames, 80) of (B, S), each utterance's mean over time subtracted."""
    values = fbank(waveform)
    return values - values.mean(1, keepdim=True)


def train(model: ECAPA_TDNN, speakers: dict, held_out: dict, args: argparse.Namespace) -> None:
    """Train with additive angular margin softmax over the speakers; Adam, warm-up, cosine down to zero."""
    fbank, rng = Fbank(**FEATURES), random.Random(args.seed)
    classifier = Classifier(MODEL["lin_neurons"], out_neurons=len(speakers))
    parameters = [*model.parameters(), *classifier.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=args.learning_rate, weight_decay=1e-3)
    started, recent = time.time(), []
    for step in range(args.steps):
        progress = step / args.steps
        # Grows in, because a full margin from the start is hard to fit.
        margin = 0.2 * min(1.0, progress / 0.3)
        criterion = LogSoftmaxWrapper(AdditiveAngularMargin(margin=margin, scale=30))
        factor = min(1.0, (step + 1) / args.warmup) * (0.5 + 0.5 * math.cos(math.pi * progress))
        for settings in optimizer.param_groups:
            settings["lr"] = args.learning_rate * factor
        waveform, classes = draw_batch(
            speakers, args.batch_size, int(args.crop_seconds * SAMPLE_RATE), rng
        )
        with torch.no_grad():
            inputs = features(fbank, augment(waveform))
        loss = criterion(classifier(model(inputs)), classes)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        optimizer.step()
        optimizer.zero_grad()
        recent.append(loss.item())
        if (step + 1) % 50 == 0:
            print(
                f"step {step + 1} loss {sum(recent) / len(recent):.3f} {time.time() - started:.0f} s",
                flush=True,
            )
            recent = []
        if (step + 1) % 250 == 0:
            print(
                f"step {step + 1} held-out {equal_error_rate(*embed_all(model, held_out))}",
                flush=True,
            )
            model.train()


@torch.no_grad()
def embed_all(model: ECAPA_TDNN, speakers: dict[str, list[Tensor]]) -> tuple[Tensor, Tensor]:
    """Embed whole utterances one by one: unit vectors (N, D) and speaker numbers (N,)."""
    model.eval()
    fbank, vectors, numbers = Fbank(**FEATURES), [], []
    for number, utterances in enumerate(speakers.values()):
        for samples in utterances:
            vectors.append(model(features(fbank, samples[None].float() / 32768))[0, 0])
            numbers.append(number)
    return torch.nn.functional.normalize(torch.stack(vectors), dim=1), torch.tensor(numbers)


def equal_error_rate(vectors: Tensor, numbers: Tensor, families: list[str] | None = None) -> dict:
    """Score all pairs by cosine: the rate at which as many different as same pairs are mistaken, and its threshold.

    Args:
        vectors: (N, D), of unit length.
        numbers: (N,), which voice each is.
        families: Of each voice (V,): adds a 95 % bootstrap interval over families, None for too few of them.
    """
    rows, columns = torch.triu_indices(len(numbers), len(numbers), offset=1)
    scores = (vectors @ vectors.T)[rows, columns]
    same = numbers[rows] == numbers[columns]
    order = scores.argsort()
    is_same, first, second = same[order], numbers[rows][order], numbers[columns][order]

    def at_equality(weights: Tensor) -> tuple[float, int]:
        """Return the rate and where in the order it is reached; `weights` (V,): how often each voice counts."""
        of_same = weights[first] * is_same
        of_different = weights[first] * weights[second] * ~is_same
        missed = of_same.cumsum(0) / of_same.sum()
        accepted = 1 - of_different.cumsum(0) / of_different.sum()
        at = int((missed - accepted).abs().argmin())
        return float((missed[at] + accepted[at]) / 2), at

    voices = numbers.unique()
    eer, at = at_equality(torch.ones(int(numbers.max()) + 1))
    bounds = {}
    if families is not None:
        own = [families[int(voice)] for voice in voices]
        bounds["eer_interval"] = None
        if len(set(own)) >= FEW_UNITS:
            weights = torch.zeros(len(families), dtype=torch.float64)
            draws = torch.from_numpy(resampling_counts(len(set(own)))[:, group_numbers(own)])
            rates = torch.tensor(
                [at_equality(weights.index_copy(0, voices, draw))[0] for draw in draws]
            )
            ends = rates.quantile(torch.tensor([0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2]))
            bounds["eer_interval"] = [round(float(end), 4) for end in ends]
    return {
        "eer": round(eer, 4),
        **bounds,
        "threshold": round(float(scores[order][at]), 4),
        "same_cosine": round(float(scores[same].mean()), 4),
        "different_cosine": round(float(scores[~same].mean()), 4),
        "voices": len(voices),
        "pairs": {"same": int(same.sum()), "different": int((~same).sum())},
    }


# ----------------------------------------------------------------------------------------------- the folder


def save(model: ECAPA_TDNN, folder: Path, **extra: object) -> None:
    """Write the float16 weights and config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    weights = folder / "embedding_model.safetensors"
    save_file({k: v.contiguous() for k, v in state.items()}, weights)
    weights.chmod(0o644)  # written readable by its owner only
    config = {
        "class": "speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN",
        "model": MODEL,
        "features": {"class": "speechbrain.lobes.features.Fbank", **FEATURES},
        "normalization": "sentence_mean",
        "sample_rate": SAMPLE_RATE,
        "embedding_dim": MODEL["lin_neurons"],
        "stored_dtype": "float16",
        **extra,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def load(folder: Path) -> ECAPA_TDNN:
    """Read the stored network back as float32, in evaluation mode."""
    model = ECAPA_TDNN(**json.loads((folder / "config.json").read_text())["model"])
    state = load_file(folder / "embedding_model.safetensors")
    model.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
    return model.eval()


def write_scores(folder: Path, held_out: dict[str, list[Tensor]]) -> dict:
    """Score a stored network on voices that it was not trained on; return the scores, also written to its config.json."""
    vectors, numbers = embed_all(load(folder), held_out)
    flite = torch.tensor([name.startswith("flite") for name in held_out])[numbers]
    family_of = {voice.name: voice.family for voice in select_voices("all")}
    families = [family_of[name] for name in held_out]
    scores = {
        "held_out_voices": equal_error_rate(vectors, numbers, families),
        "held_out_espeak_voices": equal_error_rate(vectors[~flite], numbers[~flite], families),
        "held_out_moved_flite_voices": equal_error_rate(vectors[flite], numbers[flite], families),
    }
    path = folder / "config.json"
    config = json.loads(path.read_text()) | {
        "held_out_eer": scores["held_out_voices"]["eer"],
        "scores": scores,
    }
    path.write_text(json.dumps(config, indent=2) + "\n")
    return scores


def main() -> None:
    """Read the command line, make the data if missing, train, save, score what was saved."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, default=Path("data/speaker"), help="corpora, made if missing"
    )
    parser.add_argument(
        "--per-voice", type=int, default=30, help="training utterances a voice, when they are made"
    )
    parser.add_argument("--out", type=Path, default=ASSETS / "speaker")
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--warmup", type=int, default=50)
    parser.add_argument("--batch-size", type=int, default=48)
    parser.add_argument("--crop-seconds", type=float, default=1.8)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--workers", type=int, default=2, help="processes that make the corpora")
    parser.add_argument("--threads", type=int, default=1, help="of the training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--score", action="store_true", help="train nothing, score what is in --out"
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(args.seed)
    make_data(
        args.data,
        args.per_voice,
        args.workers,
        wanted=("held-out-voices", *(() if args.score else ("train",))),
    )
    held_out = load_by_speaker(args.data / "held-out-voices")
    if args.score:
        print(json.dumps(write_scores(args.out, held_out), indent=2))
        return
    speakers = load_by_speaker(args.data / "train")
    model = ECAPA_TDNN(**MODEL)
    print(
        f"{sum(p.numel() for p in model.parameters())} parameters, {len(speakers)} voices",
        flush=True,
    )
    started = time.time()
    train(model, speakers, held_out, args)
    minutes = (time.time() - started) / 60

    training = {
        "data": "synthetic speech by flite and espeak-ng (recipes/embedded/corpus.py)",
        "voices": len(speakers),
        "hours": round(sum(len(s) for us in speakers.values() for s in us) / SAMPLE_RATE / 3600, 2),
        "steps": args.steps,
        "minutes": round(minutes, 1),
        "hardware": f"{args.threads} CPU thread(s), {platform.machine()}",
        "date": datetime.date.today().isoformat(),
        "command": shlex.join(["python", "recipes/embedded/train_speaker.py", *sys.argv[1:]]),
    }
    save(model, args.out, training=training)
    print(json.dumps({"scores": write_scores(args.out, held_out), "training": training}, indent=2))


if __name__ == "__main__":
    main()
