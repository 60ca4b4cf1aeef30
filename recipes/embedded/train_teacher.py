"""Train the embedded teacher: a small wav2vec2 with CTC on characters, on SYNTHETIC speech, on one CPU core.

The defaults are the command that made the shipped teacher. CTC alone learns its first filters slowly; with
`--phone-weight 1` a linear layer on the output of transformer layer `PHONE_LAYER` also learns, frame by frame, the phones
that flite says it spoke (espeak-ng tells none), and is dropped at the end. No run with it has been finished yet.

    python recipes/embedded/train_teacher.py                       # makes data/teacher if missing, trains, writes the asset
    python recipes/embedded/train_teacher.py --steps 300 --out out/teacher     # a trial

The result is an ordinary transformers folder (`AutoModel`, `AutoModelForCTC`, `AutoProcessor`): 16 kHz in, 50 feature
vectors a second out. `score_teacher.py` then measures the stored float16 weights.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
import math
import platform
import random
import shlex
import sys
import time
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, ctc_loss
from transformers import (
    Wav2Vec2Config,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
)

from corpus import ASSETS, SAMPLE_RATE
from score_teacher import edit_config, error_rates, write_scores
from teacher_data import PHONES, SYMBOLS, batches, collate, load_corpus, make_data

PHONE_LAYER = 3
"""Index into `hidden_states`: the output of the third of four layers."""


# ----------------------------------------------------------------------------------------------- model


def augment(waveform: Tensor, mask: Tensor) -> Tensor:
    """Change the level by -14 to +6 dB and add white noise, 10 to 50 dB below speech, to half of the utterances."""
    count = len(waveform)
    gain = 10 ** (torch.empty(count, 1).uniform_(-14, 6) / 20)
    rms = (waveform.square().sum(1, keepdim=True) / mask.sum(1, keepdim=True)).sqrt()
    noise = 10 ** (-torch.empty(count, 1).uniform_(10, 50) / 20) * (torch.rand(count, 1) < 0.5)
    return (waveform + noise * rms * torch.randn_like(waveform)) * gain * mask


def build_model() -> Wav2Vec2ForCTC:
    """Build the network: layer norms only, so that padded batches equal single utterances; no dropout, no masking."""
    config = Wav2Vec2Config(
        vocab_size=len(SYMBOLS), pad_token_id=0, bos_token_id=None, eos_token_id=None,
        hidden_size=192, num_hidden_layers=4, num_attention_heads=4, intermediate_size=640,
        conv_dim=(64,) * 7, conv_kernel=(10, 3, 3, 3, 3, 2, 2), conv_stride=(5, 2, 2, 2, 2, 2, 2), conv_bias=True,
        feat_extract_norm="layer", do_stable_layer_norm=True,
        num_conv_pos_embeddings=32, num_conv_pos_embedding_groups=16,
        hidden_dropout=0.0, activation_dropout=0.0, attention_dropout=0.0, feat_proj_dropout=0.0, final_dropout=0.0,
        layerdrop=0.0, apply_spec_augment=False, mask_time_prob=0.0, mask_feature_prob=0.0,
    )  # fmt: skip
    return Wav2Vec2ForCTC(config)


def losses_of(
    model: Wav2Vec2ForCTC, phone_head: torch.nn.Linear, group: list
) -> tuple[Tensor, Tensor]:
    """Return the CTC loss per character and the phone cross entropy per known frame of a batch."""
    waveform, mask = collate(group)
    output = model(augment(waveform, mask), attention_mask=mask, output_hidden_states=True)
    log_probs = output.logits.float().log_softmax(-1).transpose(0, 1)
    frames = model._get_feat_extract_output_lengths(mask.sum(1))
    targets = [[SYMBOLS.index("|" if c == " " else c) for c in text] for _, text, *_ in group]
    target_lengths = torch.tensor([len(target) for target in targets])
    flat = torch.tensor(list(itertools.chain(*targets)))
    total = ctc_loss(
        log_probs, flat, frames, target_lengths, blank=0, reduction="sum", zero_infinity=True
    )
    phone_logits = phone_head(output.hidden_states[PHONE_LAYER])
    phones = torch.full(phone_logits.shape[:2], -100)
    for row, (*_, known) in enumerate(group):
        length = min(len(known), int(frames[row]))
        phones[row, :length] = known[:length]
    known_frames = (phones >= 0).sum().clamp_min(1)
    phone_loss = (
        cross_entropy(phone_logits.transpose(1, 2), phones, ignore_index=-100, reduction="sum")
        / known_frames
    )
    return total / target_lengths.sum(), phone_loss


def train(model: Wav2Vec2ForCTC, items: list, held_out: list, args: argparse.Namespace) -> None:
    """Run AdamW for `args.steps` steps: linear warm-up, then a cosine down to zero."""
    phone_head = torch.nn.Linear(model.config.hidden_size, len(PHONES))
    parameters = [*model.parameters(), *phone_head.parameters()]
    decayed = [p for p in parameters if p.ndim > 1]
    others = [p for p in parameters if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.02}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98))

    def factor(step: int) -> float:
        if step < args.warmup:
            return (step + 1) / args.warmup
        return 0.5 + 0.5 * math.cos(
            math.pi * (step - args.warmup) / max(1, args.steps - args.warmup)
        )

    rng, step, started, recent = random.Random(args.seed), 0, time.time(), []
    while step < args.steps:
        for group in batches(
            items, args.batch_seconds, None if args.short_first and step == 0 else rng
        ):
            for settings in optimizer.param_groups:
                settings["lr"] = args.learning_rate * factor(step)
            ctc, phone = losses_of(model, phone_head, group)
            (ctc + args.phone_weight * phone).backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            recent.append([ctc.item(), phone.item()])
            step += 1
            if step % 50 == 0:
                means = [sum(values) / len(values) for values in zip(*recent, strict=True)]
                print(
                    f"step {step} ctc {means[0]:.3f} phone {means[1]:.3f} {time.time() - started:.0f} s",
                    flush=True,
                )
                recent = []
            if step % 400 == 0:
                scores = error_rates(model, held_out[:64])
                model.train()
                print(
                    f"step {step} held-out CER {scores['cer']:.3f} {scores['example']}", flush=True
                )
            if step >= args.steps:
                return


# ----------------------------------------------------------------------------------------------- the folder


def save(model: Wav2Vec2ForCTC, folder: Path) -> None:
    """Write a transformers folder: float16 weights, which the config says to load as float32, and the processor."""
    folder.mkdir(parents=True, exist_ok=True)
    model.half().save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)  # written readable by its owner only
    (folder / "vocab.json").write_text(
        json.dumps({s: i for i, s in enumerate(SYMBOLS)}, indent=1) + "\n"
    )
    Wav2Vec2CTCTokenizer(folder / "vocab.json", bos_token=None, eos_token=None).save_pretrained(
        folder
    )
    extractor = Wav2Vec2FeatureExtractor(
        sampling_rate=SAMPLE_RATE, do_normalize=False, return_attention_mask=True
    )
    extractor.save_pretrained(folder)
    edit_config(folder, dtype="float32", architectures=["Wav2Vec2ForCTC"])


def main() -> None:
    """Read the command line, make the data if missing, train, save, score what was saved."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, default=Path("data/teacher"), help="corpora, made if missing"
    )
    parser.add_argument(
        "--utterances", type=int, default=5000, help="of the training corpus, if it is made"
    )
    parser.add_argument("--out", type=Path, default=ASSETS / "teacher")
    parser.add_argument("--steps", type=int, default=3400)
    parser.add_argument("--warmup", type=int, default=200)
    parser.add_argument("--batch-seconds", type=float, default=16.0)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument(
        "--phone-weight",
        type=float,
        default=0.0,
        help="of an auxiliary frame-level loss on flite's phones; 0: CTC alone",
    )
    parser.add_argument(
        "--short-first",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="first epoch from short to long",
    )
    parser.add_argument("--workers", type=int, default=2, help="processes that make the corpora")
    parser.add_argument("--threads", type=int, default=1, help="of the training")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(args.seed)
    make_data(args.data, args.utterances, args.workers)
    items, texts = (load_corpus(args.data / part) for part in ("train", "held-out-texts"))
    model = build_model()
    print(
        f"{sum(p.numel() for p in model.parameters())} parameters, {len(items)} utterances",
        flush=True,
    )
    started = time.time()
    train(model, items, texts, args)
    minutes = (time.time() - started) / 60

    save(model, args.out)
    training = {
        "data": "synthetic speech by flite and espeak-ng (recipes/embedded/corpus.py)",
        "utterances": len(items),
        "hours": round(sum(len(samples) for samples, *_ in items) / SAMPLE_RATE / 3600, 2),
        "voices": len({speaker for _, _, speaker, _ in items}),
        "steps": args.steps,
        "minutes": round(minutes, 1),
        "hardware": f"{args.threads} CPU thread(s), {platform.machine()}",
        "date": datetime.date.today().isoformat(),
        "command": shlex.join(["python", "recipes/embedded/train_teacher.py", *sys.argv[1:]]),
    }
    edit_config(args.out, svae={"training": training})
    del items, texts  # read again
    scores = write_scores(args.out, args.data)
    print(json.dumps({"scores": scores, "training": training}, indent=2))


if __name__ == "__main__":
    main()
