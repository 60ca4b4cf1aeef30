"""Carry the claim experiment to a machine without a network, and what came out back: files of at most 15 MB.

    claim_carry.py pack FOLDER --out out/claim --root ../shared/data/real-speech --teacher DIR   # what a piece on a GPU needs
    claim_carry.py take FOLDER --out out/claim                                                   # unpack what a piece packed

A piece packs, in this order and as long as there is room: results and markers, recordings that nobody has judged, weights of finished
runs, then the training state of runs that were stopped.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

PART_BYTES = 15_000_000
PARTS = 4
"""60 MB together."""
PREFIX = "claim-part-"
CARRIED = ("vae", "tts", "speak", "judge", "reconstruction", "inspect", "probe")
"""Stages whose markers travel: data are made again where they are needed."""
PACKED, SCALE = "encoder.int8.safetensors", ".scale"
SPEECH_MEGABYTES = 12.0
"""Of recordings carried to a machine without a network."""


def files_of(out: Path) -> Iterator[Path]:
    """Yield what is worth carrying, the most valuable first."""
    yield from sorted((out / "results").glob("*.json"))
    yield from (path for path in (out / "hours.jsonl", out / "say.jsonl") if path.is_file())
    yield from sorted((out / "voices").glob("*"))
    yield from (
        path for path in sorted((out / "done").glob("*")) if path.name.split("-")[0] in CARRIED
    )
    unjudged = [
        folder
        for folder in sorted((out / "said").glob("*"))
        if not (out / "results" / f"speech-{folder.name}.json").is_file()
        and not (out / "results" / f"{folder.name}.json").is_file()
    ]
    for folder in unjudged:
        yield from sorted(path for path in folder.rglob("*") if path.is_file())
    runs = [*sorted((out / "vae").glob("*")), *sorted((out / "tts").glob("*"))]
    for run in runs:
        yield from (path for path in sorted(run.glob("*")) if path.is_file())
        for checkpoint in sorted((run / "checkpoints").glob("step-*"))[-1:]:
            # A TTS has its VAE inside; that is in the VAE's own run.
            yield from sorted(path for path in checkpoint.glob("*") if path.is_file())
    for run in runs:
        for checkpoint in sorted((run / "checkpoints").glob("step-*"))[-1:]:
            yield from sorted(path for path in checkpoint.rglob("training/*") if path.is_file())
            yield from sorted(path for path in checkpoint.rglob("vae/*") if path.is_file())


def pack(out: Path, folder: Path) -> list[Path]:
    """Write parts into a folder and return what there was no room for."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(f"{PREFIX}*.tar"):
        old.unlink()
    sizes = [0] * PARTS
    contents: list[list[Path]] = [[] for _ in range(PARTS)]
    left_out = []
    for path in files_of(out):
        size = path.stat().st_size + 1536  # the archive's header and padding
        place = next((n for n in range(PARTS) if sizes[n] + size <= PART_BYTES), None)
        if place is None:
            left_out.append(path)
            continue
        sizes[place] += size
        contents[place].append(path)
    for number, paths in enumerate(contents):
        if paths:
            with tarfile.open(folder / f"{PREFIX}{number}.tar", "w") as archive:
                for path in paths:
                    archive.add(path, path.relative_to(out))
    print(f"packed {sum(map(len, contents))} files, {sum(sizes) / 1e6:.1f} MB, in {folder}")
    if left_out:
        print(f"no room for {len(left_out)} files, the first {left_out[0]}")
    return left_out


def take(folder: Path, out: Path) -> None:
    """Unpack the parts in a folder; files of the same name are replaced."""
    out.mkdir(parents=True, exist_ok=True)
    parts = sorted(folder.glob(f"{PREFIX}*.tar"))
    for part in parts:
        with tarfile.open(part) as archive:
            archive.extractall(out, filter="data")
    print(f"took {len(parts)} parts from {folder}")


def pack_teacher(source: Path, layer: int, out: Path) -> None:
    """Write the layers of a Whisper encoder that are listened to, 8 bits a weight: 18 MB of base. `whole_teacher` undoes it."""
    import torch
    from safetensors.torch import save_file
    from transformers import AutoFeatureExtractor, WhisperModel

    model = WhisperModel.from_pretrained(source)
    # One layer more: after its last one Whisper's encoder normalises.
    kept = min(layer + 1, model.config.encoder_layers)
    model.encoder.layers = model.encoder.layers[:kept]
    packed: dict[str, torch.Tensor] = {}
    for name, weight in model.encoder.state_dict().items():
        packed[name] = weight.half().contiguous()
        if weight.dim() > 1:
            scale = weight.abs().amax(dim=-1, keepdim=True).clamp_min(1e-12) / 127
            packed[name] = (weight / scale).round().to(torch.int8)
            packed[f"{name}{SCALE}"] = scale
    config = model.config
    config.encoder_layers, config.decoder_layers, config.vocab_size = kept, 0, 8
    config.pad_token_id = config.bos_token_id = config.eos_token_id = 0
    config.decoder_start_token_id = 0
    out.mkdir(parents=True, exist_ok=True)
    config.save_pretrained(out)
    AutoFeatureExtractor.from_pretrained(source).save_pretrained(out)
    save_file(packed, out / PACKED)


def whole_teacher(folder: Path, out: Path) -> Path:
    """Return a teacher's folder: itself, or where it was packed, OUT/teacher, which transformers can read."""
    if not (folder / PACKED).is_file():
        return folder
    import torch
    from safetensors.torch import load_file
    from transformers import AutoConfig, AutoFeatureExtractor, WhisperModel

    whole = out / "teacher"
    if (whole / "model.safetensors").is_file():
        return whole
    packed = load_file(folder / PACKED)
    weights = {
        name: value.float() * packed.get(f"{name}{SCALE}", torch.ones(()))
        for name, value in packed.items()
        if not name.endswith(SCALE)
    }
    model = WhisperModel(AutoConfig.from_pretrained(folder))
    model.encoder.load_state_dict(weights)
    model.save_pretrained(whole)
    AutoFeatureExtractor.from_pretrained(folder).save_pretrained(whole)
    return whole


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=("pack", "take"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path("out/claim"))
    parser.add_argument("--root", type=Path, help="people's recordings to carry along")
    parser.add_argument("--teacher", type=Path, help="a folder of Whisper to carry along")
    parser.add_argument("--layer", type=int, default=4)
    args = parser.parse_args()
    if args.action == "take":
        take(args.folder, args.out)
        return
    if args.root is not None:
        script = Path(__file__).parents[1] / "embedded" / "gpu_pack.py"
        options = ["--root", str(args.root), "--out", str(args.folder)]
        megabytes = ["--megabytes", str(SPEECH_MEGABYTES)]
        subprocess.run([sys.executable, str(script), *options, *megabytes], check=True)
    if args.teacher is not None:
        shutil.rmtree(args.folder / "teacher", ignore_errors=True)
        pack_teacher(args.teacher, args.layer, args.folder / "teacher")
    if args.root is None and args.teacher is None:
        pack(args.out, args.folder)


if __name__ == "__main__":
    main()
