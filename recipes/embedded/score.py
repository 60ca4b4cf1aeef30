"""Score a small TTS model on SYNTHETIC speech: held-out sentences, every flite voice, and voices it was never trained on.

    python recipes/embedded/score.py --corpus data/tiny                        # the embedded model
    python recipes/embedded/score.py --corpus data/tiny --model runs/tiny-tts-embedded --utterances 20

`--corpus` is the training corpus: from it come the training voices that a generated voice is told from. Writes into `--out`: the
list and its recordings (made with flite and espeak-ng), `known/` (the results of `svae evaluate`, whose report.html can be listened
to) and `scores.json`.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import soundfile
import torch
from torch import Tensor
from torch.nn.functional import normalize

from corpus import deal, make_corpus
from svae.evaluation.options import EvaluateOptions
from svae.evaluation.run import evaluate
from svae.judges.speaker import load_speaker_model
from svae.runtime.environment import environment
from voices import Voice, select_voices

PROMPT = "The old clock in the hall struck seven as the visitors arrived, and nobody said a word."
CLIPS_OF_A_VOICE = 6
MEANS = ("wer", "wer_corpus", "sim_ecapa")


def make_list(root: Path, voices: list[Voice], count: int, seed: int) -> Path:
    """Speak held-out sentences and one prompt in each voice; return the list of `svae evaluate`."""
    if not (root / "list.jsonl").is_file():
        make_corpus(
            root / "prompts", [(v, PROMPT) for v in voices], seed=seed, workers=2, suffix=".flac"
        )
        pairs = deal(voices, count, texts="held-out", seed=seed, wordnet=0.5)
        make_corpus(root / "originals", pairs, seed=seed, workers=2, suffix=".flac")
        prompts = {row["speaker"]: f"prompts/{row['audio']}" for row in rows_of(root / "prompts")}
        lines = [
            {
                "id": Path(row["audio"]).stem,
                "text": row["text"],
                "ref": prompts[row["speaker"]],
                "ref_text": PROMPT,
                "target": f"originals/{row['audio']}",
                "speaker": row["speaker"],
            }
            for row in rows_of(root / "originals")
        ]
        (root / "list.jsonl").write_text(
            "".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8"
        )
    return root / "list.jsonl"


def rows_of(corpus: Path) -> list[dict]:
    """Return a corpus' rows."""
    return [
        json.loads(line)
        for line in (corpus / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    ]


def embed(model, files: Iterable[Path]) -> Tensor:  # noqa: ANN001
    """Return embeddings (N, E) of unit length."""
    clips = [soundfile.read(path, dtype="float32") for path in files]
    return torch.cat([model.embed([torch.from_numpy(x)], rate) for x, rate in clips])


def centroids(model, corpus: Path) -> tuple[list[str], Tensor]:  # noqa: ANN001
    """Return the named voices of a corpus, not their random relatives, and the mean embedding of some clips of each (V, E)."""
    files = defaultdict(list)
    for row in rows_of(corpus):
        if row.get("varied"):
            continue
        files[row["speaker"]].append(corpus / row["audio"])
    names = sorted(files)
    return names, normalize(
        torch.stack([embed(model, files[n][:CLIPS_OF_A_VOICE]).mean(0) for n in names]), dim=-1
    )


def identified(
    model, listed: list[dict], wavs: list[Path], names: list[str], voices: Tensor
) -> dict:  # noqa: ANN001
    """Return the share of recordings whose nearest training voice is that of their prompt."""
    nearest = (embed(model, wavs) @ voices.T).argmax(dim=1)
    return share(names[i] == row["speaker"] for i, row in zip(nearest, listed, strict=True))


def share(hits: Iterable[bool]) -> dict[str, object]:
    """Return a share and its 95 % interval: Wilson's, which is one even where all of them hit."""
    hits = list(hits)
    count, p, z2 = len(hits), sum(hits) / len(hits), 1.96**2
    width = (z2 * (p * (1 - p) / count + z2 / (4 * count**2))) ** 0.5
    low, high = ((p + z2 / (2 * count) + side) / (1 + z2 / count) for side in (-width, width))
    return {
        "value": p,
        "interval": [round(max(low, 0.0), 4), round(min(high, 1.0), 4)],
        "of": count,
    }


def main() -> None:
    """Read the command line, score, print and write scores.json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=Path("embedded"))
    parser.add_argument("--corpus", type=Path, required=True, help="the training corpus")
    parser.add_argument("--utterances", type=int, default=100)
    parser.add_argument("--steps", type=int, help="solver steps; default: the model's own number")
    parser.add_argument("--out", type=Path, default=Path("out/score"))
    args = parser.parse_args()
    speaker = load_speaker_model("embedded")
    names, voices = centroids(speaker, args.corpus)
    scores: dict[str, object] = {
        "model": str(args.model),
        "steps": args.steps,
        "machine": environment(torch.device("cpu")),
    }
    held_out = [v for v in select_voices("held-out") if v.synthesizer == "espeak-ng"][:10]
    for kind, chosen, count in (
        ("known", select_voices("flite"), args.utterances),
        ("unknown", held_out, args.utterances // 5),
    ):
        listed = make_list(args.out / kind, chosen, count, seed=9)
        rows = [json.loads(line) for line in listed.read_text(encoding="utf-8").splitlines()]
        out = args.out / kind / "results"
        metrics = evaluate(
            EvaluateOptions(
                model=args.model,
                list_file=listed,
                seeds=(0,),
                steps=args.steps,
                out=out,
                report_megabytes=20,
            )
        )
        wavs = [out / "wavs" / "seed-0" / f"{row['id']}.wav" for row in rows]
        found: dict[str, object] = {
            who: {name: {"value": of[name], "interval": of["intervals"][name]} for name in MEANS}
            for who, of in (("system", metrics["system"]), ("originals", metrics["originals"]))
        }
        timings = json.loads((out / "timings.json").read_text(encoding="utf-8"))
        found |= {
            "settings": metrics["settings"],
            "real_time_factor": timings.get("real_time_factor"),
        }
        if kind == "known":
            found["identified"] = identified(speaker, rows, wavs, names, voices)
            originals = [listed.parent / row["target"] for row in rows]
            found["originals_identified"] = identified(speaker, rows, originals, names, voices)
        else:
            made, average = embed(speaker, wavs), normalize(voices.mean(0), dim=-1)
            own_names, own = centroids(speaker, listed.parent / "originals")
            to_own = torch.stack(
                [
                    m @ own[own_names.index(row["speaker"])]
                    for m, row in zip(made, rows, strict=True)
                ]
            )
            found["nearer_to_itself_than_to_the_average_voice"] = share(
                (to_own > made @ average).tolist()
            )
        scores[kind] = found
    (args.out / "scores.json").write_text(json.dumps(scores, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(scores, indent=2))


if __name__ == "__main__":
    main()
