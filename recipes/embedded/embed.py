"""Put a trained TTS run, with the VAE inside it, into svae/assets: float16 weights, no training state.

    python recipes/embedded/embed.py --tts runs/tiny-tts-embedded
    python recipes/embedded/embed.py --tts runs/embedded-student --vae runs/decoder

`--vae` names a VAE whose decoder was trained on after the TTS (`freeze_encoder`): its encoder must be the same, bit for bit.
The cards (README.md of both folders) are written by hand from the scores that `recipes/embedded/score.py` and `svae evaluate` print.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch

from svae.assets import asset_path
from svae.checkpoint import Checkpoint, open_checkpoint, write_checkpoint
from svae.config import VAEConfig
from svae.synthesis.adapter import STUDENT_FILE
from svae.synthesis.open_durations import DURATION_FILE, stored_durations
from svae.synthesis.types import STUDENT
from svae.training.warm_start import structure

ENCODER = ("encoder.", "projection.", "mean.", "logvar.", "linear_path.")
DESCRIPTION = "small, trained on a few hours of people's and synthetic speech"
OWN = {"num_steps": 4, "guidance": 1.0, "prompt_guidance": 1.0, "temperature": 0.7}
"""Defaults of `synthesize` for this model, chosen by the real judges (docs/embedded.md)."""
LIMITS = {"model.safetensors": 15e6, "vae/model.safetensors": 9e6, STUDENT_FILE: 2.3e6}
"""Bytes of the files that there are."""


def half(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors in float16, without what only training needs."""
    return {name: t.half() for name, t in state.items() if not name.startswith("regulator.")}


def same_encoder(a: Checkpoint, b: Checkpoint) -> bool:
    """Tell whether two VAEs encode alike."""
    first, second = a.model_state(), b.model_state()
    names = [name for name in first if name.startswith(ENCODER)]
    structures = [
        {k: v for k, v in structure(c, VAEConfig).items() if k != "decoder"} for c in (a, b)
    ]
    return structures[0] == structures[1] and all(
        torch.equal(first[name], second[name]) for name in names
    )


def embed(tts: Path, vae: Path | None, out: Path) -> None:
    """Write the asset; the cards stay."""
    model = open_checkpoint(tts, kind="tts")
    inner = open_checkpoint(model.folder / "vae", kind="vae")
    shape = inner.config["model"]
    # With the statistics that the TTS was trained with.
    weights = inner.model_state()
    steps = inner.config["step"]
    if vae is not None:
        other = open_checkpoint(vae, kind="vae")
        if not same_encoder(inner, other):
            raise SystemExit(
                f"{other.folder}: its encoder is not that of {inner.folder}; the TTS would not fit it"
            )
        weights = {name: t for name, t in weights.items() if not name.startswith("decoder.")}
        weights |= {
            name: t for name, t in other.model_state().items() if name.startswith("decoder.")
        }
        steps, shape = other.config["step"], other.config["model"]
    cards = {
        path: path.read_bytes()
        for path in (out / "README.md", out / "vae" / "README.md")
        if path.is_file()
    }
    with tempfile.TemporaryDirectory() as folder:
        config = {k: v for k, v in inner.config.items() if k not in ("files", "format")} | {
            "teacher_dim": None,
            "step": steps,
            "model": shape,
        }
        small = write_checkpoint(Path(folder) / "vae", config=config, model_state=half(weights))
        config = {k: v for k, v in model.config.items() if k not in ("files", "format")}
        own: dict[str, object] = {"description": DESCRIPTION}
        if STUDENT not in config:  # which has steps and guidance of its own
            own |= OWN
        config |= own | {"vae_hash": small.hash}
        durations = stored_durations(model)
        more = {} if durations is None else {DURATION_FILE: half(durations)}
        if STUDENT in config:
            more[STUDENT_FILE] = half(model.state(STUDENT_FILE))
        write_checkpoint(
            out,
            config=config,
            model_state=half(model.model_state()),
            vae_folder=small.folder,
            more=more,
        )
    for path, card in cards.items():
        path.write_bytes(card)
    for name, limit in LIMITS.items():
        if not (out / name).is_file():
            continue
        size = (out / name).stat().st_size
        print(f"{out / name}: {size / 1e6:.2f} MB (limit {limit / 1e6:.0f} MB)")
        if size > limit:
            raise SystemExit("too large to embed")


def main() -> None:
    """Read the command line and write the asset."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--tts", type=Path, required=True, help="run or checkpoint folder of train-tts"
    )
    parser.add_argument("--vae", type=Path, help="the same VAE with a decoder trained further")
    parser.add_argument("--out", type=Path, default=asset_path("tts"), help="folder to write")
    args = parser.parse_args()
    embed(args.tts, args.vae, args.out)


if __name__ == "__main__":
    main()
