"""What a step of each `libritts/*` recipe takes of one card, and in how many pieces: planned, no GPU and no data needed.

    python benchmarks/recipe_plans.py --out benchmarks/results/recipe_plans.json

The networks of the recipes, their batches, utterances of 30 s (the longest that the recipes take), the teachers of WavLM-large's size.
The plan is that of `svae … --dry-run --memory`, which does the same for the data at hand; benchmarks/memory_plan.py says how
far such plans are from real steps on the CPU. Nothing here was compared with a GPU.
"""

from __future__ import annotations

import argparse
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from common import describe, write
from torch import Tensor

from svae import recipe
from svae.checkpoint import Checkpoint
from svae.config import DiTConfig, TrainerConfig, TTSTrainConfig, VAETrainConfig
from svae.data.index import ShardIndex
from svae.data.samples import Sample, Samples
from svae.models.mel import MelFrames
from svae.models.teacher import Teacher
from svae.models.tts.dit import DiT
from svae.runtime.distributed import World
from svae.text.vocabulary import Vocabulary
from svae.training.memory_plan import GIB, StepPlans
from svae.training.pieces import fewest_that_fit, parse_memory
from svae.training.tts import memory as tts_memory
from svae.training.tts.distill import recipe_of
from svae.training.tts.utterances import fewest_pieces, limits_of, most_pieces
from svae.training.vae import train as vae

WORLD = World(0, 1, torch.device("cpu"))
VOCABULARY = Vocabulary.from_characters("".join(chr(33 + i) for i in range(77)))
CHARACTERS_PER_SECOND = 15
LATENTS = 64


@dataclass(frozen=True)
class Case:
    """A recipe and the plans of its step on one card."""

    trainer: TrainerConfig
    plans: StepPlans
    fewest: int
    """Pieces that a step has at least."""
    most: int


class Untrained(Checkpoint):
    """A teacher of DiT Small's size that nobody has trained, without memory for its weights."""

    def model_state(self) -> dict[str, Tensor]:
        """Return them; where tensors are fake, these are too."""
        return DiT(DiTConfig(), len(VOCABULARY), LATENTS).state_dict()


def longest_utterances(kind: str, sample_rate: int, seconds: float) -> ShardIndex:
    """Return shards that are not there: as many utterances as a batch can have, all of the greatest length."""
    samples = round(sample_rate * seconds)
    text = "x" * round(CHARACTERS_PER_SECOND * seconds)
    rows = [Sample(str(i), 0, seconds, samples, "s", "en", text, {}, {}) for i in range(64)]
    files = cast("Any", None)  # nothing is read
    return ShardIndex(Path("."), kind, sample_rate, {"validation": []}, [], Samples.of(rows), files)


def wavlm_large(config: VAETrainConfig) -> Teacher | None:
    """Return a teacher of the published size, without memory for its weights; None where the recipe has none."""
    if config.loss.alignment is None:
        return None
    from transformers import Wav2Vec2FeatureExtractor, WavLMConfig, WavLMModel

    size = {"hidden_size": 1024, "num_attention_heads": 16, "intermediate_size": 4096}
    layers = int(config.teacher.layer)
    with torch.device("meta"):
        model = WavLMModel(
            WavLMConfig(
                **size,
                num_hidden_layers=layers,
                do_stable_layer_norm=True,
                feat_extract_norm="layer",
            )
        )
    extractor = Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True)
    return Teacher(model.eval().requires_grad_(False), extractor, "WavLM-large, not trained")


def case_of(name: str) -> Case:
    """Return what is planned of a recipe."""
    kind = name.split("/")[-1].split("-")[0]
    if kind == "vae":
        config = recipe.load(VAETrainConfig, name)
        plans = vae.step_plans(config, WORLD, teacher=wavlm_large(config))
        return Case(config.trainer, plans, 1, config.batch_size)
    fields, teacher = [], None
    if kind == "distill":
        described = {"kind": "tts", "model": recipe.to_tree(DiTConfig()), "latent_dim": LATENTS}
        described |= {"vocabulary": VOCABULARY.to_json(), "files": {"model.safetensors": "0" * 64}}
        teacher = Untrained(Path("teacher"), described)
        fields = [f"{place}={value!r}" for place, value in recipe_of(teacher).items()]
    asked = recipe.load(TTSTrainConfig, name, fields)
    mel = asked.representation == "mel"
    representation = MelFrames() if mel else MelFrames(num_bins=LATENTS)
    rate, hop = (24000, representation.hop_length) if mel else (16000, 400)
    index = longest_utterances("waveforms" if mel else "latents", rate, asked.max_seconds)
    limits = limits_of(asked, hop)
    plans = tts_memory.step_plans(asked, representation, VOCABULARY, index, limits, WORLD, teacher)
    most = most_pieces(index, limits, asked, WORLD)
    return Case(asked.trainer, plans, fewest_pieces(asked, WORLD), most)


def row_of(name: str, case: Case, card: str) -> dict[str, Any]:
    """Return in how many pieces a step fits into a card, and what it takes."""
    available, twice = parse_memory(card), case.trainer.checkpoint_activations
    needs = functools.cache(lambda pieces: case.plans(pieces, twice))
    pieces = fewest_that_fit(lambda n: needs(n).total, available, case.fewest, case.most)
    plan = needs(pieces)
    fits = plan.total <= available
    row = {"recipe": name, "card": card, "accumulate": case.trainer.accumulate, "fits": fits}
    return row | {"pieces": pieces, "total_bytes": plan.total, "parts": plan.parts}


def main() -> None:
    """Plan, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [name for name in recipe.recipe_names() if name.startswith("libritts/")]
    parser.add_argument("recipes", nargs="*", default=names)
    parser.add_argument("--cards", nargs="+", default=["16G", "24G", "80G"])
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    machine = describe(WORLD.device)
    rows = []
    print(
        "| recipe | card | pieces of a step | planned, GiB | of it activations |\n|---|---|---|---|---|"
    )
    for name in args.recipes:
        case = case_of(name)
        for card in args.cards:
            row = row_of(name, case, card)
            rows.append(row)
            said = str(row["pieces"]) if row["fits"] else "does not fit"
            print(
                f"| {name} | {card} | {said} | {row['total_bytes'] / GIB:.1f} | "
                f"{row['parts']['activations'] / GIB:.1f} |",
                flush=True,
            )
    write(args.out, machine, rows=rows)


if __name__ == "__main__":
    main()
