"""What the claim experiment measures of a representation itself, and how its judges are asked.

    claim_speech.py reconstruct --say say.jsonl --model VAE --out FOLDER     # the readers' recordings, there and back
    claim_speech.py probe --shards DIR --timings DIR --what mel --out mel.json
    claim_speech.py retime --shards DIR --timings DIR --of DIR --out DIR     # phone times of shards `of` for the same recordings at another rate
    claim_speech.py speak --say say.jsonl --run RUN --steps 400 800 --out FOLDER   # what a model says at each of these steps
    claim_speech.py judge --say say.jsonl --wavs FOLDER [FOLDER …] --judges COMMAND --out scores.json
    claim_speech.py offline LIST.jsonl --json OUT.json                       # judges that need nothing, as COMMAND

COMMAND is called as `COMMAND LIST.jsonl --json OUT.json` with {wav, text, ref} a line, and writes {"rows": [{mos, wer, sim}, …]}.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from claim_list import Row, read_rows, write_rows
from svae.analysis.inspect_latents import effective_rank
from svae.analysis.phone_probe import probe_of
from svae.audio import load_audio, save_audio
from svae.checkpoint import open_checkpoint
from svae.data.batches import read_waveform
from svae.data.features import FeatureCache
from svae.data.index import read_index
from svae.data.timings import DESCRIPTION, Timings
from svae.judges.asr import load_asr
from svae.judges.speaker import load_speaker_model
from svae.judges.wer import word_errors
from svae.models.mel import MelFrames
from svae.models.representation import Representation, VAELatents
from svae.precompute.statistics import spread
from svae.runtime.files import atomic_folder, write_text
from svae.text.phonemes import as_heard

GRIFFIN_LIM = "griffin-lim"
JUDGE_RATE = 16000
MEL = "mel"
GUIDANCE = "1"
"""Of speaking; beyond it small models lose in naturalness (docs/embedded.md)."""
PROBED = 200
"""Utterances, as `svae inspect`."""


def open_representation(model: str) -> Representation:
    """Return mel frames, or the latents of a VAE."""
    if model == MEL:
        return MelFrames(GRIFFIN_LIM).load("cpu")
    return VAELatents(open_checkpoint(Path(model), kind="vae")).load("cpu")


@torch.inference_mode()
def reconstruct(say: Path, model: str, out: Path) -> None:
    """Write each reader's recording as the representation gives it back, and the recordings themselves into `originals`."""
    representation = open_representation(model)
    out.mkdir(parents=True, exist_ok=True)
    (out / "originals").mkdir(exist_ok=True)
    for row in readers(say):
        waveform = heard(row["ref"], representation.sample_rate)
        back = representation.decode(representation.encode(waveform[None]).mean)[0]
        save_audio(
            out / f"{row['id']}.wav", back[:, : waveform.shape[-1]], representation.sample_rate
        )
        save_audio(
            out / "originals" / f"{row['id']}.wav", heard(row["ref"], JUDGE_RATE), JUDGE_RATE
        )


def heard(path: str, rate: int) -> Tensor:
    """Return a recording (1, S) at a rate."""
    return load_audio(path, sample_rate=rate)[0]


def readers(say: Path) -> list[Row]:
    """Return a row of each recording in say.jsonl, with what is said in it as its text."""
    found: dict[str, Row] = {}
    for row in read_rows(say):
        found.setdefault(row["ref"], {**row, "text": row["ref_text"]})
    return list(found.values())


@torch.inference_mode()
def probe(shards: Path, timings: Path, what: str, out: Path) -> None:
    """Probe mel frames, or stored features of a teacher, as `svae inspect` does latents, and write the numbers."""
    known = Timings(timings)
    index = known.select(read_index(shards))
    samples = spread(index.train, PROBED)
    frames: dict[str, Tensor] = {}
    if what == MEL:
        mel = MelFrames(GRIFFIN_LIM).load("cpu")
        hop = mel.hop_length
        for sample in samples:
            frames[sample.key] = mel.encode(read_waveform(index, sample)[None]).mean[0]
    else:
        stored = read_index(what)
        cache = FeatureCache(stored)
        hop = cache.description["hop_length"]
        for sample in samples:
            count = -(-sample.num_samples // hop)
            frames[sample.key] = cache.read(sample.key, 0, count, hop).T
    found = probe_of(samples, known, index.sample_rate, hop, lambda sample: frames[sample.key])
    everything = torch.cat(list(frames.values()), dim=1).double()
    numbers = {"phone_probe": asdict(found), "effective_rank": effective_rank(everything.cov())}
    numbers |= {"frames": everything.shape[1], "mean": everything.mean(dim=1).tolist()}
    write_json(out, numbers)


def retime(shards: Path, timings: Path, of: Path, out: Path) -> None:
    """Write the times of phones in shards `of`, which are in seconds, as those of shards of the same recordings at another rate."""
    index, other = read_index(shards), read_index(of)
    Timings(timings).select(other)  # refuses times of other shards
    if {sample.key for sample in index.samples} != {sample.key for sample in other.samples}:
        sys.exit(f"retime: {shards} and {of} do not hold the same recordings")
    with atomic_folder(out) as partial:
        shutil.copytree(timings, partial, dirs_exist_ok=True)
        description = json.loads((partial / DESCRIPTION).read_text(encoding="utf-8"))
        write_json(partial / DESCRIPTION, description | {"source": index.source_hashes})


def speak(
    say: Path, run: Path, steps: list[int], out: Path, solver_steps: int, device: str
) -> None:
    """Have the checkpoints of a run say everything, into FOLDER/STEP; a folder that is whole is left alone."""
    rows = read_rows(say)
    for step in steps:
        folder = out / str(step)
        if (folder / "whole").is_file():
            continue
        names = ("ref", "ref_text", "text")
        wanted = [{name: row[name] for name in names} | {"out": f"{row['id']}.wav"} for row in rows]
        write_rows(folder / "batch.jsonl", wanted)
        checkpoint = run / "checkpoints" / f"step-{step:08d}"
        options = ["--steps", str(solver_steps), "--guidance", GUIDANCE, "--device", device]
        command = [sys.executable, "-m", "svae", "synthesize", "--model", str(checkpoint)]
        command += ["--batch", str(folder / "batch.jsonl"), "--out", str(folder), *options]
        subprocess.run(command, check=True)
        (folder / "whole").touch()


def judge(say: Path, wavs: list[Path], command: str, out: Path, *, recordings: bool) -> None:
    """Have all wavs of several folders judged at once, and write the rows by folder.

    Rows get `words`, how many words their text has, so that corpus word error rates can be had. `recordings`: what was said in
    the recordings is the text, and one row a recording is judged.
    """
    rows = readers(say) if recordings else read_rows(say)
    asked = [
        {
            "wav": str((folder / f"{row['id']}.wav").absolute()),
            "text": row["text"],
            "ref": row["ref"],
        }
        for folder in wavs
        for row in rows
    ]
    missing = [each["wav"] for each in asked if not Path(each["wav"]).is_file()]
    if missing:
        sys.exit(f"judge: {len(missing)} wavs are not there, the first {missing[0]}")
    listed, answered = out.with_suffix(".list.jsonl"), out.with_suffix(".answers.json")
    write_rows(listed, asked)
    subprocess.run([*shlex.split(command), str(listed), "--json", str(answered)], check=True)
    answers = json.loads(answered.read_text(encoding="utf-8"))["rows"]
    if len(answers) != len(asked):
        sys.exit(f"judge: {len(asked)} wavs, {len(answers)} answers by {command}")
    found: dict[str, list[Row]] = {}
    for number, folder in enumerate(wavs):
        own = answers[number * len(rows) : (number + 1) * len(rows)]
        found[folder.name] = [
            {name: answer.get(name) for name in ("mos", "wer", "sim")}
            | {"id": row["id"], "words": len(row["text"].split())}
            for row, answer in zip(rows, own, strict=True)
        ]
    write_json(out, {"judges": command, "rows": found})
    listed.unlink()
    answered.unlink()


@torch.inference_mode()
def offline(listed: Path, out: Path) -> None:
    """Answer as real judges do, by those that svae carries: pocketsphinx and the embedded speaker model; no naturalness."""
    asr, speaker = load_asr("pocketsphinx"), load_speaker_model("embedded")
    rows = []
    for row in read_rows(listed):
        spoken, ref = (heard(row[name], JUDGE_RATE)[0] for name in ("wav", "ref"))
        said = asr.transcribe([spoken])[0]
        errors = word_errors(as_heard(row["text"], said), said)
        voices = speaker.embed([spoken, ref])
        similarity = float(voices[0] @ voices[1])
        rows.append({"mos": None, "wer": errors.rate, "sim": similarity, "heard": said})
    write_json(out, {"rows": rows})


def write_json(path: Path, content: Any) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(content, indent=1) + "\n")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    actions = parser.add_subparsers(dest="action", required=True)
    for name in ("reconstruct", "probe", "retime", "speak", "judge", "offline"):
        action = actions.add_parser(name)
        if name == "offline":
            action.add_argument("list", type=Path)
            action.add_argument("--json", type=Path, required=True)
            continue
        action.add_argument("--out", type=Path, required=True)
        if name in ("probe", "retime"):
            for option in ("--shards", "--timings"):
                action.add_argument(option, type=Path, required=True)
            if name == "probe":
                action.add_argument("--what", required=True, help="mel, or a folder of features")
            else:
                action.add_argument("--of", type=Path, required=True, help="the times' own shards")
            continue
        action.add_argument("--say", type=Path, required=True)
        if name == "reconstruct":
            action.add_argument("--model", required=True, help="mel, or a VAE's run")
        if name == "speak":
            action.add_argument("--run", type=Path, required=True)
            action.add_argument("--steps", type=int, nargs="+", required=True)
            action.add_argument("--solver-steps", type=int, default=16)
            action.add_argument("--device", default="cpu")
        if name == "judge":
            action.add_argument("--wavs", type=Path, nargs="+", required=True)
            action.add_argument("--judges", required=True)
            action.add_argument("--recordings", action="store_true")
    args = parser.parse_args()
    if args.action == "reconstruct":
        reconstruct(args.say, args.model, args.out)
    elif args.action == "probe":
        probe(args.shards, args.timings, args.what, args.out)
    elif args.action == "retime":
        retime(args.shards, args.timings, args.of, args.out)
    elif args.action == "speak":
        speak(args.say, args.run, args.steps, args.out, args.solver_steps, args.device)
    elif args.action == "judge":
        judge(args.say, args.wavs, args.judges, args.out, recordings=args.recordings)
    else:
        offline(args.list, args.json)


if __name__ == "__main__":
    main()
