"""`svae-speak`: a text and a recording to an audio file."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from svae_runtime.audio import check_output
from svae_runtime.shared.errors import SvaeError
from svae_runtime.shared.synthesis.loudness import TARGET_LUFS, parse_loudness
from svae_runtime.voice import Voice


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="svae-speak", description="Speak with a voice that `svae export` wrote."
    )
    parser.add_argument("folder", type=Path, help="folder of `svae export RUN --onnx DIR`")
    parser.add_argument("--text", required=True, help="what to say")
    parser.add_argument(
        "--out", type=Path, default=Path("out.wav"), help=".wav, .flac or .ogg (out.wav)"
    )
    parser.add_argument(
        "--ref",
        type=Path,
        help="recording of the voice; default: the model's own voice, if it has one",
    )
    parser.add_argument("--ref-text", help="what is said in the recording")
    parser.add_argument("--seed", type=int, default=0, help="another one speaks otherwise (0)")
    parser.add_argument("--speed", type=float, default=1.0, help="relative to the recording (1)")
    parser.add_argument("--steps", type=int, help="of the solver (the model's own)")
    parser.add_argument("--guidance", type=float, help="towards text and voice (the model's own)")
    parser.add_argument(
        "--temperature", type=float, help="of the noise: less is clearer (the model's own)"
    )
    parser.add_argument(
        "--language", default="en", help="in which numbers are spelled out; `none`: not at all (en)"
    )
    parser.add_argument(
        "--loudness", default=f"{TARGET_LUFS:g}", help="LUFS, or `keep` (%(default)s)"
    )
    parser.add_argument("--threads", type=int, default=0, help="of the processor; 0: all (0)")
    return parser


def main() -> None:
    """Run the command; errors of the user's become one message and exit status 2."""
    started = time.perf_counter()
    given = _parser().parse_args()
    try:
        check_output(given.out)
        voice = Voice.load(given.folder, threads=given.threads)
        speech = voice.speak(
            given.text,
            given.ref,
            given.ref_text,
            language=None if given.language == "none" else given.language,
            loudness=parse_loudness(given.loudness),
            seed=given.seed,
            speed=given.speed,
            num_steps=given.steps,
            guidance_scale=given.guidance,
            temperature=given.temperature,
        )
        speech.save(given.out)
    except SvaeError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    for note in speech.notes:
        print(f"note: {note}", file=sys.stderr)
    print(f"{given.out}: {speech.seconds:.2f} s of speech in {time.perf_counter() - started:.2f} s")


if __name__ == "__main__":
    main()
