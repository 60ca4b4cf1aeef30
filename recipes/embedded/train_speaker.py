"""Train the embedded speaker judge, a small ECAPA-TDNN (speechbrain's class), on one CPU core: synthetic voices, then people.

    python recipes/embedded/train_speaker.py --out out/speaker-synthetic       # makes data/speaker if missing
    python recipes/embedded/train_speaker.py --people DIR --ge2e data/people/ge2e.npz --init out/speaker-synthetic
    python recipes/embedded/train_speaker.py --people DIR --ge2e data/people/ge2e.npz --score      # what is in --out, again

DIR is what speaker_people.py describes, and ge2e.npz what ge2e.py makes of its list. Writes `embedding_model.safetensors` (float16) and
`config.json` with everything needed to rebuild the network and its features. The scores of speaker_scores.py are measured on
the stored weights and written there.
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
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.linalg
import torch
from safetensors.torch import save_file
from speechbrain.lobes.features import Fbank
from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN, Classifier
from speechbrain.nnet.losses import AdditiveAngularMargin, LogSoftmaxWrapper
from torch import Tensor

from corpus import ASSETS, SAMPLE_RATE, deal, make_corpus
from speaker_data import (
    Source,
    Speakers,
    augment,
    draw_batch,
    load_by_speaker,
    read_ge2e,
    training_sources,
)
from speaker_people import Clip, people
from speaker_scores import FEATURES, embed_all, equal_error_rate, features, load, score_people
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
SPOILT = 0.7
"""Share of the crops that the last layer hears through rooms, microphones and noise."""
SHRINKAGE = 0.5
SAVE_EVERY = 50
"""Steps between printed losses, and between states by which a stopped run goes on."""
DATA = "LibriSpeech train-clean-100, speechocean762, Picovoice speech-to-intent and wake words; flite and espeak-ng"


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


def train(
    model: ECAPA_TDNN,
    sources: list[Source],
    check: Callable[[ECAPA_TDNN], object],
    args: argparse.Namespace,
) -> float:
    """Train by additive angular margin softmax over the speakers and, where GE2E was asked, by `disagreement` with it.

    Adam, warm-up, cosine down to zero. With `args.state` the run goes on where that file says it was.

    Returns:
        Minutes of computing on one core.
    """
    fbank = Fbank(**FEATURES)
    classifier = Classifier(MODEL["lin_neurons"], out_neurons=sum(s.classes for s in sources))
    parameters = [*model.parameters(), *classifier.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=args.learning_rate, weight_decay=1e-3)
    first, earlier, began = 0, 0.0, time.process_time()
    if args.state is not None and args.state.exists():
        stored = torch.load(args.state, weights_only=True)
        model.load_state_dict(stored["model"])
        classifier.load_state_dict(stored["classifier"])
        optimizer.load_state_dict(stored["optimizer"])
        first, earlier = stored["step"], stored["seconds"]
    recent = []
    for step in range(first, args.steps):
        # Of the step alone, so that a run that was stopped goes on as it would have.
        rng = random.Random(f"{args.seed}-{step}")
        torch.manual_seed(args.seed * 1_000_003 + step)
        progress = step / args.steps
        # Grows in, because a full margin from the start is hard to fit.
        margin = 0.2 * min(1.0, progress / 0.3)
        criterion = LogSoftmaxWrapper(AdditiveAngularMargin(margin=margin, scale=30))
        factor = min(1.0, (step + 1) / args.warmup) * (0.5 + 0.5 * math.cos(math.pi * progress))
        for settings in optimizer.param_groups:
            settings["lr"] = args.learning_rate * factor
        waveform, classes, targets = draw_batch(sources, int(args.crop_seconds * SAMPLE_RATE), rng)
        with torch.no_grad():
            inputs = features(fbank, augment(waveform))
        vectors = model(inputs)
        named = classes >= 0
        by_class = criterion(classifier(vectors[named]), classes[named][:, None])
        by_teacher = disagreement(vectors[:, 0], targets)
        (by_class + args.teacher_weight * by_teacher).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        optimizer.step()
        optimizer.zero_grad()
        recent.append((by_class.item(), by_teacher.item()))
        seconds = earlier + time.process_time() - began
        if (step + 1) % SAVE_EVERY == 0:
            speakers, teacher = np.mean(recent, 0)
            print(f"step {step + 1} {speakers:.3f} {teacher:.3f} {seconds:.0f} s", flush=True)
            recent = []
            if args.state is not None:
                save_state(args.state, model, classifier, optimizer, step + 1, seconds)
        if (step + 1) % args.check_every == 0:
            print(f"step {step + 1} {json.dumps(check(model))}", flush=True)
            model.train()
    return (earlier + time.process_time() - began) / 60


def hear(
    model: ECAPA_TDNN, sources: list[Source], args: argparse.Namespace
) -> tuple[Tensor, Tensor]:
    """Return what the last layer is given of `args.last_layer` batches (N, 768), and the classes of the crops (N,), -1: none."""
    fbank, given, numbers = Fbank(**FEATURES), [], []
    hook = model.fc.register_forward_pre_hook(lambda layer, inputs: given.append(inputs[0][..., 0]))
    model.eval()
    for batch in range(args.last_layer):
        rng = random.Random(f"last layer {args.seed}-{batch}")
        torch.manual_seed(args.seed * 1_000_003 + batch)
        waveform, classes, _ = draw_batch(sources, int(args.crop_seconds * SAMPLE_RATE), rng)
        spoilt = torch.rand(len(waveform), 1) < SPOILT
        with torch.no_grad():
            model(features(fbank, torch.where(spoilt, augment(waveform), waveform)))
        numbers.append(classes)
    hook.remove()
    return torch.cat(given), torch.cat(numbers)


def discriminants(vectors: Tensor, classes: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return weights (count, D) and bias (count,) of the directions that tell classes apart best (linear discriminants).

    The scatter within classes becomes the identity, so that what differs between recordings of one voice counts least; it
    is mixed with as much of a multiple of the identity, since D is large beside the crops.

    Args:
        vectors: (N, D).
        classes: (N,); those below 0 count for the scatter of all crops alone.
        count: how many directions.
    """
    middle = vectors.mean(0)
    centred = (vectors - middle).double()
    named = centred[classes >= 0]
    _, number = classes[classes >= 0].unique(return_inverse=True)
    sizes = torch.bincount(number)
    means = (
        named.new_zeros(len(sizes), named.shape[1]).index_add_(0, number, named) / sizes[:, None]
    )
    apart = named - means[number]
    within = apart.T @ apart / len(apart)
    everything = centred.T @ centred / len(centred)
    even = torch.eye(len(within), dtype=within.dtype) * within.diagonal().mean()
    within = (1 - SHRINKAGE) * within + SHRINKAGE * even
    size = len(within)
    _, found = scipy.linalg.eigh(
        everything.numpy(), within.numpy(), subset_by_index=[size - count, size - 1]
    )
    weight = torch.from_numpy(found.T.copy()).float()
    return weight, -(weight @ middle)


def replace_last_layer(model: ECAPA_TDNN, vectors: Tensor, classes: Tensor) -> None:
    """Put linear discriminants of what the last layer is given in its place."""
    weight, bias = discriminants(vectors, classes, MODEL["lin_neurons"])
    with torch.no_grad():
        model.fc.conv.weight.copy_(weight[..., None])
        model.fc.conv.bias.copy_(bias)


def save_state(
    path: Path,
    model: ECAPA_TDNN,
    classifier: Classifier,
    optimizer: torch.optim.Optimizer,
    step: int,
    seconds: float,
) -> None:
    """Write what a stopped run needs to go on; the file is whole or the one before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = {"model": model, "classifier": classifier, "optimizer": optimizer}
    state = {name: part.state_dict() for name, part in parts.items()}
    torch.save(state | {"step": step, "seconds": seconds}, f"{path}.partial")
    Path(f"{path}.partial").replace(path)


def disagreement(vectors: Tensor, targets: Tensor) -> Tensor:
    """Return 1 minus the correlation of the cosines within a batch with those that GE2E gives; 0 where it was asked about fewer than three.

    The correlation leaves scale and offset free: GE2E calls strangers 0.56 alike, margin softmax 0.

    Args:
        vectors: (B, E).
        targets: (B, 256), of unit length; zeros where GE2E was not asked.
    """
    known = targets.any(1)
    rows, columns = torch.triu_indices(int(known.sum()), int(known.sum()), offset=1)
    if len(rows) < 3:  # of fewer there is no correlation
        return vectors.new_zeros(())
    units = torch.nn.functional.normalize(vectors[known], dim=1)
    own = (units @ units.T)[rows, columns]
    wanted = (targets[known] @ targets[known].T)[rows, columns]
    return 1 - torch.corrcoef(torch.stack([own, wanted]))[0, 1]


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


def write_scores(
    folder: Path, held_out: Speakers, clips: list[Clip], ge2e: dict[str, Tensor]
) -> dict:
    """Score a stored network on voices that it was not trained on; return the scores, also written to its config.json."""
    model = load(folder)
    vectors, numbers = embed_all(model, held_out)
    family_of = {voice.name: voice.family for voice in select_voices("all")}
    families = [family_of[name] for name in held_out]
    scores = score_people(model, clips, ge2e) if clips else {}
    scores["held_out_synthetic_voices"] = equal_error_rate(vectors, numbers, families)
    path = folder / "config.json"
    main = scores.get("librispeech_test_other", scores["held_out_synthetic_voices"])
    config = json.loads(path.read_text()) | {"held_out_eer": main["eer"], "scores": scores}
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
    parser.add_argument(
        "--people",
        type=Path,
        help="recordings of people (speaker_people.py); without: synthetic voices alone",
    )
    parser.add_argument("--ge2e", type=Path, help="what ge2e.py says of them")
    parser.add_argument("--init", type=Path, help="folder of a stored network to begin with")
    parser.add_argument(
        "--teacher-weight", type=float, default=2.0, help="of the disagreement with GE2E"
    )
    parser.add_argument(
        "--last-layer",
        type=int,
        default=0,
        help="batches whose discriminants become the last layer",
    )
    parser.add_argument("--out", type=Path, default=ASSETS / "speaker")
    parser.add_argument("--state", type=Path, help="file by which a stopped run goes on")
    parser.add_argument("--check-every", type=int, default=250, help="steps between scores")
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--warmup", type=int, default=50)
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
    ge2e = {} if args.ge2e is None else read_ge2e(args.ge2e)
    clips = [] if args.people is None else people(args.people)
    if args.score:
        print(json.dumps(write_scores(args.out, held_out, clips, ge2e), indent=2))
        return
    sources = training_sources(load_by_speaker(args.data / "train"), args.people, ge2e)
    model = ECAPA_TDNN(**MODEL) if args.init is None else load(args.init)
    voices = sum(source.named * len(source.speakers) for source in sources)
    print(
        f"{sum(p.numel() for p in model.parameters())} parameters, {voices} voices",
        flush=True,
    )
    development = [clip for clip in clips if clip.part in ("dev", "dev-halves", "held-out")]

    def check(model: ECAPA_TDNN) -> dict:
        if not development:
            return equal_error_rate(*embed_all(model, held_out))
        return score_people(model, development, ge2e, intervals=False)

    minutes = train(model.train(), sources, check, args)
    if args.last_layer:
        replace_last_layer(model, *hear(model, sources, args))
    seconds = sum(len(u.samples) for s in sources for us in s.speakers.values() for u in us)
    training = {
        "data": DATA if args.people else "synthetic speech by flite and espeak-ng (corpus.py)",
        "voices": voices,
        "hours": round(seconds / SAMPLE_RATE / 3600, 2),
        "steps": args.steps,
        "minutes": round(minutes, 1),
        "hardware": f"{args.threads} CPU thread(s), {platform.machine()}",
        "date": datetime.date.today().isoformat(),
        "command": shlex.join(["python", "recipes/embedded/train_speaker.py", *sys.argv[1:]]),
    }
    people_of = sum(source.named * len(source.speakers) for source in sources[:-1])
    whom = (
        f"{people_of} people and {voices - people_of} synthetic voices"
        if args.people
        else f"{voices} synthetic voices"
    )
    note = f"small; trained on {whom}; not comparable with published similarities"
    save(model, args.out, note=note, training=training)
    scores = write_scores(args.out, held_out, clips, ge2e)
    print(json.dumps({"scores": scores, "training": training}, indent=2))


if __name__ == "__main__":
    main()
