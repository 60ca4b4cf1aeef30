"""Make a SYNTHETIC English corpus with the installed flite and espeak-ng programs.

    python recipes/embedded/corpus.py --out data/tiny --utterances 2000 --voices train --texts train --workers 2
    python recipes/embedded/corpus.py --sample            # makes svae/assets/sample and svae/assets/references again

Writes `audio/*.flac` (or .ogg, Opus) at 16 kHz and `metadata.jsonl`, one object a line: audio, text, speaker,
language, synthesizer, synthetic, duration_seconds; and `coverage.json`: how well the texts cover English. The same
options and program versions give the same bytes, however many workers there are. Needs: apt-get install flite espeak-ng,
and with --wordnet: wordnet-base
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import random
import shutil
import struct
import subprocess
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile
import torch
import torchaudio.functional

from recording import record
from text_coverage import coverage, describe
from texts import FOLDER, composed_sentences, lines, own_sentences, wordnet_sentences
from voices import Voice, select_voices, varied

SAMPLE_RATE = 16000
ASSETS = FOLDER.parents[1] / "svae" / "assets"
SAMPLE_COUNTS = {
    "flite-rms": 30, "flite-slt": 30, "flite-awb": 26, "flite-kal16": 22, "espeak-f2": 12, "espeak-edward": 12,
}  # fmt: skip
OPUS_LEVEL = 0.905
"""libsndfile's compression level; this one gives about 32 kbit/s."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One utterance to make."""

    path: Path
    text: str
    voice: Voice
    tempo: float
    """Speaking rate, 1 = the synthesizer's own."""
    recording: str | None = None
    """Seed of the microphone and room that it is heard through (`recording.record`); None: none."""


# ----------------------------------------------------------------------------------------------- one utterance


def synthesize(
    text: str, voice: Voice, tempo: float = 1.0
) -> tuple[np.ndarray, list[tuple[str, float]]]:
    """Speak one sentence.

    Args:
        text: The sentence.
        voice: Who speaks.
        tempo: Speaking rate, 1 = the synthesizer's own.

    Returns:
        Mono float32 samples at 16 kHz, silence trimmed to 60 ms at both ends, RMS -23 dBFS; and the phones that were
        spoken with their ends in seconds, where the synthesizer tells them (flite does, espeak-ng does not).
    """
    rate = tempo / voice.warp  # resampling by the warp will speed the speech up by the warp
    with tempfile.TemporaryDirectory() as folder:
        wav = f"{folder}/speech.wav"
        if voice.synthesizer == "flite":
            options = [
                "-voice",
                voice.voice,
                "--setf",
                f"duration_stretch={1 / rate:.4f}",
                "-psdur",
            ]
            options += ["--setf", f"f0_shift={voice.shift:.4f}"] if voice.shift != 1 else []
            command = ["flite", *options, "-t", text, "-o", wav]
        else:
            words_per_minute = str(max(80, round(165 * rate)))
            command = [
                "espeak-ng",
                "-v",
                voice.voice,
                "-p",
                str(voice.pitch),
                "-s",
                words_per_minute,
                "-w",
                wav,
                text,
            ]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        samples, source_rate = soundfile.read(wav, dtype="float32")
    # A round number keeps the resampling kernel small.
    played_at = 20 * round(source_rate * voice.warp / 20)
    resampled = torchaudio.functional.resample(
        torch.from_numpy(samples), played_at, SAMPLE_RATE
    ).numpy()
    start, end = _speech_bounds(resampled)
    phones = (
        [piece.rsplit(":", 1) for piece in printed.split()] if voice.synthesizer == "flite" else []
    )
    timed = [(phone, float(until) / voice.warp - start / SAMPLE_RATE) for phone, until in phones]
    return _level(resampled[start:end]), [
        (phone, round(until, 3)) for phone, until in timed if until > 0
    ]


def _speech_bounds(
    samples: np.ndarray, *, margin: int = 960, threshold: float = 0.01
) -> tuple[int, int]:
    loud = np.flatnonzero(np.abs(samples) > threshold * np.abs(samples).max())
    return max(0, loud[0] - margin), loud[-1] + margin


def _level(samples: np.ndarray, *, rms: float = 10 ** (-23 / 20), peak: float = 0.9) -> np.ndarray:
    gain = rms / np.sqrt(np.mean(np.square(samples)))
    return samples * min(gain, peak / np.abs(samples).max())


def _make(job: Job) -> tuple[float, list[tuple[str, float]]]:
    torch.set_num_threads(1)
    samples, phones = synthesize(job.text, job.voice, job.tempo)
    if job.recording is not None:
        rng = np.random.default_rng(int.from_bytes(hashlib.sha256(job.recording.encode()).digest()))
        samples = _level(record(samples, SAMPLE_RATE, rng))
    if job.path.suffix == ".ogg":
        soundfile.write(
            job.path,
            samples,
            SAMPLE_RATE,
            format="OGG",
            subtype="OPUS",
            compression_level=OPUS_LEVEL,
        )
        job.path.write_bytes(with_ogg_serial(job.path.read_bytes(), 1))
    else:
        soundfile.write(job.path, samples, SAMPLE_RATE, subtype="PCM_16")
    return len(samples) / SAMPLE_RATE, phones


def with_ogg_serial(stream: bytes, serial: int) -> bytes:
    """Return an Ogg stream with this serial number in every page: libsndfile draws a random one.

    Source: RFC 3533, section 6 (page header) and its CRC-32 with polynomial 0x04c11db7, neither reflected nor inverted.
    """
    pages, start = [], 0
    while start < len(stream):
        segments = stream[start + 26]
        table_end = start + 27 + segments
        end = table_end + sum(stream[start + 27 : table_end])
        page = bytearray(stream[start:end])
        page[14:18] = struct.pack("<I", serial)
        page[22:26] = bytes(4)
        crc = 0
        for byte in page:
            crc = (crc << 8 & 0xFFFFFFFF) ^ _crc_table()[crc >> 24 ^ byte]
        page[22:26] = struct.pack("<I", crc)
        pages.append(bytes(page))
        start = end
    return b"".join(pages)


@lru_cache
def _crc_table() -> list[int]:
    table = []
    for value in range(256):
        crc = value << 24
        for _ in range(8):
            crc = (crc << 1) ^ (0x04C11DB7 if crc & 0x80000000 else 0)
        table.append(crc & 0xFFFFFFFF)
    return table


# ----------------------------------------------------------------------------------------------- a corpus


def make_corpus(
    out: Path,
    pairs: list[tuple[Voice, str]],
    *,
    seed: int,
    workers: int,
    suffix: str,
    phones: bool = False,
    vary: float = 0.0,
) -> float:
    """Speak every (voice, sentence) pair into a new folder.

    Args:
        out: Folder to make. It is built beside its place under another name and renamed, so it is whole or absent.
        pairs: Who says what.
        seed: Draws each utterance's tempo, 0.9 to 1.15.
        workers: Processes; the result does not depend on their number.
        suffix: `.flac` or `.ogg`.
        phones: Give flite's rows a field `phones`: [phone, end in seconds], in order.
        vary: Share of the utterances for which a random relative of the voice speaks, into a random microphone; each
            has its own speaker's name and a field `varied`.

    Returns:
        Seconds of speech.

    Raises:
        FileExistsError: `out` holds something.
    """
    if out.exists() and any(out.iterdir()):
        raise FileExistsError(f"{out} is not empty: delete it or choose another folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f"{out.name}.partial-", dir=out.parent))
    (building / "audio").mkdir()
    jobs = _jobs(building / "audio", pairs, seed=seed, suffix=suffix, vary=vary)
    with ProcessPoolExecutor(workers) as pool:
        made = list(pool.map(_make, jobs, chunksize=16))
    rows = [
        {
            "audio": str(job.path.relative_to(building)),
            "text": job.text,
            "speaker": job.voice.name,
            "language": "en",
            "synthesizer": f"{job.voice.synthesizer} {job.voice.voice}",
            "synthetic": True,
            "duration_seconds": round(duration, 3),
        }
        | ({"varied": True} if job.recording is not None else {})
        | ({"phones": segments} if phones and segments else {})
        for job, (duration, segments) in zip(jobs, made, strict=True)
    ]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (building / "metadata.jsonl").write_text(lines, encoding="utf-8")
    covered = json.dumps(coverage(text for _, text in pairs), indent=2)
    (building / "coverage.json").write_text(covered + "\n", encoding="utf-8")
    building.chmod(0o755)
    building.rename(out)
    return sum(duration for duration, _ in made)


def _jobs(
    folder: Path, pairs: list[tuple[Voice, str]], *, seed: int, suffix: str, vary: float
) -> list[Job]:
    jobs, counts = [], {}
    for voice, text in pairs:
        counts[voice.name] = number = counts.get(voice.name, 0) + 1
        name = f"{voice.name}-{number:04d}"
        tempo = random.Random(f"tempo-{seed}-{voice.name}-{number}").uniform(0.9, 1.15)
        job = Job(path=folder / f"{name}{suffix}", text=text, voice=voice, tempo=tempo)
        rng = random.Random(f"vary-{seed}-{name}")
        if rng.random() < vary:
            job = replace(
                job, voice=varied(voice, rng, name=name), recording=f"recording-{seed}-{name}"
            )
        jobs.append(job)
    return jobs


def deal(
    voices: list[Voice],
    utterances: int,
    *,
    texts: str,
    seed: int,
    wordnet: float = 0.0,
    flite: float = 0.0,
) -> list[tuple[Voice, str]]:
    """Give each voice in turn a text, in a seeded order.

    Args:
        voices: Who speaks, in turn.
        utterances: How many.
        texts: `train`, `held-out` or `all`.
        seed: Draws the texts and the order.
        wordnet: Share of texts that are WordNet's examples; the others are the project's own and composed ones.
        flite: Share of utterances that the natural flite voices among `voices` speak in turn, beyond their own turns.
    """
    from_wordnet = (
        wordnet_sentences(round(wordnet * utterances), seed=seed, part=texts) if wordnet else []
    )
    own = own_sentences(texts)
    others = (own + composed_sentences(utterances, seed=seed, part=texts))[
        : utterances - len(from_wordnet)
    ]
    sentences = from_wordnet + others
    rng = random.Random(f"deal-{seed}")
    rng.shuffle(sentences)
    favoured = (
        [voice for voice in voices if voice.synthesizer == "flite" and voice.warp == 1]
        if flite
        else []
    )
    turns, extra = itertools.cycle(voices), itertools.cycle(favoured)
    return [
        (next(extra) if favoured and rng.random() < flite else next(turns), text)
        for text in sentences
    ]


def make_sample() -> None:
    """Write the embedded sample corpus and the two reference clips into svae/assets."""
    sentences = own_sentences()
    random.Random("sample").shuffle(sentences)
    speakers = [name for name, count in SAMPLE_COUNTS.items() for _ in range(count)]
    random.Random("speakers").shuffle(speakers)
    voices = {v.name: v for v in select_voices("sample")}
    pairs = [(voices[name], text) for name, text in zip(speakers, sentences, strict=False)]
    twice = [text for text in lines("sample_only.txt") for _ in range(2)]
    pairs += [
        (voices[name], text)
        for name, text in zip(itertools.cycle(SAMPLE_COUNTS), twice, strict=False)
    ]
    made = ASSETS / "sample" / "new"
    seconds = make_corpus(made, pairs, seed=0, workers=1, suffix=".ogg")
    for part in ("audio", "metadata.jsonl"):  # the card, written by hand, stays
        old = ASSETS / "sample" / part
        if old.is_dir():
            shutil.rmtree(old)
        (made / part).replace(old)
    shutil.rmtree(made)
    print(f"{ASSETS / 'sample'}: {len(pairs)} utterances, {seconds:.0f} s")

    folder = ASSETS / "references"
    folder.mkdir(parents=True, exist_ok=True)
    clips = [line.split("\t") for line in lines("references.txt")]
    described = folder / "references.json"
    references = []
    for name, text in clips:
        soundfile.write(
            folder / f"{name}.wav", synthesize(text, voices[name])[0], SAMPLE_RATE, subtype="PCM_16"
        )
        references.append(
            {
                "audio": f"{name}.wav",
                "text": text,
                "speaker": name,
                "language": "en",
                "synthetic": True,
            }
        )
    if described.is_file():  # recordings of people stay
        kept = json.loads(described.read_text(encoding="utf-8"))
        references += [row for row in kept if not row["synthetic"]]
    described.write_text(json.dumps(references, indent=2) + "\n", encoding="utf-8")
    print(f"{folder}: {len(references)} clips")


def main() -> None:
    """Read the command line and make the corpus."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="folder to write")
    parser.add_argument("--utterances", type=int, default=2000)
    parser.add_argument(
        "--voices",
        default="train",
        help="all, train, held-out, flite, espeak, sample, or names a,b,c",
    )
    parser.add_argument(
        "--texts", default="train", choices=("train", "held-out", "all"), help="which sentences"
    )
    parser.add_argument(
        "--wordnet",
        type=float,
        default=0.0,
        help="share of texts from the installed WordNet's examples",
    )
    parser.add_argument(
        "--flite",
        type=float,
        default=0.0,
        help="share of utterances for flite's four natural voices",
    )
    parser.add_argument(
        "--vary",
        type=float,
        default=0.0,
        help="share of utterances by random relatives of the voices, as if recorded",
    )
    parser.add_argument(
        "--format", default="flac", choices=("flac", "ogg"), help="FLAC, or Opus in Ogg"
    )
    parser.add_argument("--seed", type=int, default=0, help="other sentences and tempos")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument(
        "--phones",
        action="store_true",
        help="write flite's phones and their ends into metadata.jsonl",
    )
    parser.add_argument(
        "--sample", action="store_true", help="remake the embedded sample and references instead"
    )
    args = parser.parse_args()
    missing = [program for program in ("flite", "espeak-ng") if shutil.which(program) is None]
    if missing:
        parser.error(f"not installed: {', '.join(missing)}; try: apt-get install flite espeak-ng")
    if args.sample:
        return make_sample()
    if args.out is None:
        parser.error("--out FOLDER is needed")
    if not 0 <= args.vary <= 1:
        parser.error(f"--vary {args.vary}: expected a share from 0 to 1")
    if args.utterances < 1:
        parser.error(f"--utterances {args.utterances}: expected 1 or more")
    try:
        voices = select_voices(args.voices)
        shares = {"wordnet": args.wordnet, "flite": args.flite}
        pairs = deal(voices, args.utterances, texts=args.texts, seed=args.seed, **shares)
        options = {"seed": args.seed, "workers": args.workers, "suffix": f".{args.format}"}
        seconds = make_corpus(args.out, pairs, phones=args.phones, vary=args.vary, **options)
    except (ValueError, FileExistsError) as error:
        parser.error(str(error))
    speaking = len({voice.name for voice, _ in pairs})
    relatives = f", {args.vary:.0%} of them by random relatives of these" if args.vary else ""
    print(
        f"{args.out}: {len(pairs)} synthetic utterances, {speaking} voices{relatives}, {seconds / 3600:.2f} hours"
    )
    print(
        f"Coverage: {describe(json.loads((args.out / 'coverage.json').read_text(encoding='utf-8')))}"
    )


if __name__ == "__main__":
    main()
