"""Score the embedded teacher on SYNTHETIC speech: error rates with intervals, and what a frame of each layer knows of phones.

    python recipes/embedded/score_teacher.py                       # makes data/teacher if missing, scores the shipped teacher
    python recipes/embedded/score_teacher.py --model out/teacher

`train_teacher.py` does the same at its end. The scores are written to the folder's config.json, field `svae`.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path

import jiwer
import numpy as np
import torch
from transformers import Wav2Vec2ForCTC

from corpus import ASSETS
from svae.evaluation.statistics import Ratio, interval, resampling_counts
from teacher_data import PHONES, SYMBOLS, batches, collate, load_corpus, make_data
from voices import select_voices


@torch.no_grad()
def transcribe(model: Wav2Vec2ForCTC, group: list) -> list[str]:
    """Decode a batch greedily, without any language model."""
    waveform, mask = collate(group)
    best = model(waveform, attention_mask=mask).logits.argmax(-1)
    frames = model._get_feat_extract_output_lengths(mask.sum(1))
    texts = []
    for row, length in zip(best, frames, strict=True):
        ids = [i for i, _ in itertools.groupby(row[:length].tolist()) if i != 0]
        texts.append("".join(" " if SYMBOLS[i] == "|" else SYMBOLS[i] for i in ids))
    return texts


def error_rates(model: Wav2Vec2ForCTC, items: list) -> dict:
    """Return corpus character and word error rates over these utterances, with 95 % bootstrap intervals."""
    model.eval()
    references, hypotheses = [], []
    for group in batches(items, 60, None):
        references += [text for _, text, *_ in group]
        hypotheses += transcribe(model, group)
    scores: dict = {
        "utterances": len(items),
        "example": {"said": references[0], "read": hypotheses[0]},
    }
    draws = resampling_counts(len(items))
    for name, rate, length in (
        ("cer", jiwer.cer, len),
        ("wer", jiwer.wer, lambda text: len(text.split())),
    ):
        lengths = np.array([float(length(text)) for text in references])
        errors = lengths * [
            rate(said, read) for said, read in zip(references, hypotheses, strict=True)
        ]
        ratio = Ratio(errors, lengths)
        scores[name] = round(ratio.value, 4)
        scores[f"{name}_interval"] = [round(end, 4) for end in interval(ratio, draws)]
    return scores


@torch.no_grad()
def phone_accuracy_by_layer(model: Wav2Vec2ForCTC, fitted: list, tested: list) -> list[float]:
    """Tell how well a linear map of one frame of each hidden state names flite's phone: which layer to align with.

    The map is a ridge regression to one-hot phones, in closed form, on some training utterances.
    """
    layers = model.config.num_hidden_layers + 1
    size = model.config.hidden_size + 1
    grams, products = torch.zeros(layers, size, size), torch.zeros(layers, size, len(PHONES))
    right, frames, maps = torch.zeros(layers), 0, None
    for part in (fitted, tested):
        for samples, *_, phones in part:
            states = model(samples[None].float() / 32768, output_hidden_states=True).hidden_states
            states = torch.stack(
                [torch.nn.functional.pad(state[0], (0, 1), value=1.0) for state in states]
            )
            count = min(states.shape[1], len(phones))
            states, targets = states[:, :count], phones[:count]
            if maps is None:
                grams += states.transpose(1, 2) @ states
                products += (
                    states.transpose(1, 2)
                    @ torch.nn.functional.one_hot(targets, len(PHONES)).float()
                )
            else:
                right += ((states @ maps).argmax(-1) == targets).sum(1)
                frames += count
        if maps is None:
            scale = torch.diagonal(grams, dim1=1, dim2=2).mean(1)[:, None, None]
            maps = torch.linalg.solve(grams + 1e-4 * scale * torch.eye(size), products)
    return [round(float(value), 4) for value in right / frames]


def edit_config(folder: Path, **fields: object) -> None:
    """Set fields of the folder's config.json."""
    path = folder / "config.json"
    path.write_text(
        json.dumps(json.loads(path.read_text()) | fields, indent=2, sort_keys=True) + "\n"
    )


def write_scores(folder: Path, data: Path) -> dict:
    """Score a stored model and write the scores into its config.json.

    Args:
        folder: The model.
        data: The corpora of `make_data`.

    Returns:
        Error rates on held-out sentences by seen and by held-out voices, and what its layers know of phones.
    """
    model = Wav2Vec2ForCTC.from_pretrained(folder)
    items, texts, voices = (
        load_corpus(data / part) for part in ("train", "held-out-texts", "held-out-voices")
    )
    by_flite = [item for item in texts if item[2] in {v.name for v in select_voices("flite")}]
    known = [item for item in items if len(item[3])][:300]
    scores = {
        "held_out_sentences": error_rates(model, texts),
        "held_out_sentences_flite_voices": error_rates(model, by_flite),
        "held_out_voices": error_rates(model, voices),
        "phone_accuracy_by_hidden_state": phone_accuracy_by_layer(
            model, known, [i for i in texts if len(i[3])]
        ),
    }
    stored = json.loads((folder / "config.json").read_text()).get("svae", {})
    edit_config(
        folder,
        svae=stored | {"held_out_cer": scores["held_out_sentences"]["cer"], "scores": scores},
    )
    return scores


def main() -> None:
    """Read the command line, make the data if missing, score."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, default=Path("data/teacher"), help="corpora, made if missing"
    )
    parser.add_argument(
        "--utterances", type=int, default=5000, help="of the training corpus, if it is made"
    )
    parser.add_argument("--model", type=Path, default=ASSETS / "teacher")
    parser.add_argument("--workers", type=int, default=2, help="processes that make the corpora")
    args = parser.parse_args()
    torch.set_flush_denormal(True)
    make_data(args.data, args.utterances, args.workers)
    print(json.dumps(write_scores(args.model, args.data), indent=2))


if __name__ == "__main__":
    main()
