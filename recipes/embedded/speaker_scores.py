"""How well a speaker model tells voices apart that it was not trained on, and how far it agrees with GE2E.

python recipes/embedded/speaker_scores.py svae/assets/speaker --people DIR --ge2e data/people/ge2e.npz
python recipes/embedded/speaker_scores.py ge2e --people DIR --ge2e data/people/ge2e.npz      # GE2E itself, beside it
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import scipy.stats
import torch
from safetensors.torch import load_file
from speechbrain.lobes.features import Fbank
from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN
from torch import Tensor

from speaker_data import Speakers, load_people, read_ge2e
from speaker_people import SAMPLE_RATE, Clip, people
from svae.evaluation.statistics import CONFIDENCE, FEW_UNITS, group_numbers, resampling_counts

FEATURES = {
    "sample_rate": SAMPLE_RATE,
    "n_mels": 80,
    "n_fft": 400,
    "win_length": 25,
    "hop_length": 10,
}
"""Arguments of `Fbank`; the mean over time of each utterance is then subtracted."""


def features(fbank: Fbank, waveform: Tensor) -> Tensor:
    """Return log-mel features (B, frames, 80) of (B, S), each utterance's mean over time subtracted."""
    values = fbank(waveform)
    return values - values.mean(1, keepdim=True)


def load(folder: Path) -> ECAPA_TDNN:
    """Read the stored network back as float32, in evaluation mode."""
    model = ECAPA_TDNN(**json.loads((folder / "config.json").read_text())["model"])
    state = load_file(folder / "embedding_model.safetensors")
    model.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
    return model.eval()


@torch.no_grad()
def embed_all(model: ECAPA_TDNN, speakers: Speakers) -> tuple[Tensor, Tensor]:
    """Embed whole utterances one by one: unit vectors (N, D) and speaker numbers (N,)."""
    model.eval()
    fbank, vectors, numbers = Fbank(**FEATURES), [], []
    for number, utterances in enumerate(speakers.values()):
        for utterance in utterances:
            waveform = utterance.samples[None].float() / 32768
            vectors.append(model(features(fbank, waveform))[0, 0])
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


def rank_correlation(
    vectors: Tensor,
    numbers: Tensor,
    targets: Tensor,
    *,
    strangers: bool,
    intervals: bool = True,
) -> dict:
    """Compare cosines with those of GE2E: Spearman's correlation over pairs, with a 95 % bootstrap interval over speakers.

    Args:
        vectors: (N, E), of unit length.
        numbers: (N,), who speaks.
        targets: (N, 256), of unit length.
        strangers: only pairs of different speakers.
        intervals: false: none, which is quicker.
    """
    own, wanted = (vectors @ vectors.T).numpy(), (targets @ targets.T).numpy()
    place = [np.flatnonzero(numbers.numpy() == number) for number in numbers.unique()]

    def at(drawn: np.ndarray) -> float:
        chosen = np.concatenate([place[voice] for voice in drawn])
        copy = np.repeat(np.arange(len(drawn)), [len(place[voice]) for voice in drawn])
        rows, columns = np.triu_indices(len(chosen), 1)
        first, second = chosen[rows], chosen[columns]
        # Two copies of one speaker are neither strangers nor another pair of recordings.
        same = numbers.numpy()[first] == numbers.numpy()[second]
        kept = ~same if strangers else ~same | (copy[rows] == copy[columns])
        pairs = first[kept], second[kept]
        return float(scipy.stats.spearmanr(own[pairs], wanted[pairs]).statistic)

    rng = np.random.default_rng(0)
    everyone = np.arange(len(place))
    found = {"spearman": round(at(everyone), 4), "interval": None, "voices": len(place)}
    if intervals and len(place) >= FEW_UNITS:
        draws = [at(rng.choice(everyone, len(everyone))) for _ in range(1000)]
        low, high = np.quantile(draws, [0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2])
        found["interval"] = [round(float(low), 4), round(float(high), 4)]
    return found


def score_people(
    model: ECAPA_TDNN | None,
    clips: list[Clip],
    ge2e: dict[str, Tensor],
    *,
    intervals: bool = True,
) -> dict:
    """Score a network, or GE2E itself (None), on people that it was not trained on."""
    scores: dict[str, dict] = {}
    parts = {
        "librispeech_test_other": ("librispeech-test-other", "judge"),
        "held_out_adults": ("speechocean762-adult", "held-out"),
        "held_out_children": ("speechocean762-child", "held-out"),
        "dev_readers": ("librispeech-train-clean-100", "dev"),
        "dev_readers_halves": ("librispeech-train-clean-100", "dev-halves"),
    }
    for name, (corpus, part) in parts.items():
        speakers = load_people((c for c in clips if (c.corpus, c.part) == (corpus, part)), ge2e)
        if not speakers:
            continue
        everything = [u for utterances in speakers.values() for u in utterances]
        if model is None:
            numbers = torch.cat(
                [torch.full((len(us),), i) for i, us in enumerate(speakers.values())]
            )
            vectors = torch.stack([u.ge2e for u in everything])
        else:
            vectors, numbers = embed_all(model, speakers)
        found = scores[name] = {}
        paired = len(numbers) > len(speakers)
        if paired:
            found |= equal_error_rate(vectors, numbers, list(speakers) if intervals else None)
        # Of readers only: the others number their pairs by ten thousands, and GE2E itself errs on children.
        asked = corpus.startswith("librispeech") and all(u.ge2e is not None for u in everything)
        if model is not None and asked:
            targets = torch.stack([u.ge2e for u in everything])
            # Strangers alone first: among them no label helps.
            for label, strangers in (("strangers", True), *([("all_pairs", False)] * paired)):
                found[f"rank_correlation_{label}"] = rank_correlation(
                    vectors, numbers, targets, strangers=strangers, intervals=intervals
                )
    return scores


def main() -> None:
    """Read the command line, score, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="folder of a stored network, or ge2e")
    parser.add_argument(
        "--people", type=Path, required=True, help="recordings of people (speaker_people.py)"
    )
    parser.add_argument("--ge2e", type=Path, required=True, help="what ge2e.py says of them")
    args = parser.parse_args()
    model = None if args.model == "ge2e" else load(Path(args.model))
    print(json.dumps(score_people(model, people(args.people), read_ge2e(args.ge2e)), indent=2))


if __name__ == "__main__":
    main()
