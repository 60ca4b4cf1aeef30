"""`svae fetch`: what published protocols need, lists and judges, fetched and checked; offline it says what to copy where.

Sums: of the list those of the file as F5-TTS's protocol was written with it; of the judges' files those that several projects check
them by (GitHub), at the revisions that the protocols name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from svae.data.archives import Archive, Published
from svae.data.download import archive_urls, fetch_archive
from svae.errors import ConfigError, DataError
from svae.evaluation.protocols import ECAPA, FASTER_WHISPER_LARGE_V3, LIBRISPEECH_PC_SHA256
from svae.runtime.files import folder_lock, writable_folder

HUB = "https://huggingface.co"
GITHUB = "https://raw.githubusercontent.com"


@dataclass(frozen=True)
class Entry:
    """A list or a judge."""

    licence: str
    use: str
    """How it is given to `svae evaluate`; `{folder}` is where it lies."""
    files: tuple[Archive, ...] = ()
    """Empty: it cannot be fetched with a sum to check it by."""
    by_hand: str = ""
    """Where it is published, and what to do with it."""


def _hub_file(spec: str, name: str, sha256: str, size: int | None, about: int) -> Archive:
    repository, _, revision = spec.partition(":")[2].partition("@")
    path = f"/{repository}/resolve/{revision}/{name}"
    return Archive((HUB,), path, f"sha256:{sha256}", size, about)


def _whisper_file(name: str, sha256: str, size: int) -> Archive:
    return _hub_file(FASTER_WHISPER_LARGE_V3, name, sha256, size, size)


LISTS: Mapping[str, Entry] = {
    "librispeech-pc": Entry(
        "MIT (F5-TTS); its texts CC BY 4.0 (LibriSpeech-PC)",
        "--protocol f5-librispeech-pc --list {folder}/librispeech_pc_test_clean_cross_sentence.lst --audio-root "
        "LibriSpeech/test-clean (svae download librispeech --subset test-clean)",
        (
            Archive(
                (GITHUB,),
                "/SWivid/F5-TTS/ff690b7ffb82b92e42b6a2bb4e5b16c5b9046d14/data/librispeech_pc_test_clean_cross_sentence.lst",
                f"sha256:{LIBRISPEECH_PC_SHA256}",
                222318,
                222318,
            ),
        ),
    ),
    "seed-tts": Entry(
        "see its page",
        "--protocol seed-tts-en --list {folder}/en/meta.lst",
        by_hand="github.com/BytedanceSpeech/seed-tts-eval links its archive (Google Drive, no published sum); unpack it there",
    ),
    "minimax-multilingual": Entry(
        "see its page",
        "not a protocol here: its recognisers and normalisers are not published to the last setting",
        by_hand="huggingface.co/datasets/MiniMaxAI/TTS-Multilingual-Test-Set; write its texts as JSONL for --list",
    ),
    "fleurs": Entry(
        "CC BY 4.0",
        "not a protocol here: papers choose prompts and normalisers differently",
        by_hand="huggingface.co/datasets/google/fleurs; write its texts as JSONL for --list",
    ),
}
JUDGES: Mapping[str, Entry] = {
    "faster-whisper-large-v3": Entry(
        "MIT",
        "--asr faster-whisper:{folder}",
        (
            _whisper_file(
                "config.json",
                "a9306624f5ec14270a014b647e5c316b6e03a662c369758d1b90697a7b0655b9",
                2394,
            ),
            _whisper_file(
                "model.bin",
                "69f74147e3334731bc3a76048724833325d2ec74642fb52620eda87352e3d4f1",
                3087284237,
            ),
            _whisper_file(
                "preprocessor_config.json",
                "7ccc62c6f2765af1f3b46c00c9b5894426835a05021c8b9c01eecb6dfb542711",
                340,
            ),
            _whisper_file(
                "tokenizer.json",
                "6d8cbd7cd0d8d5815e478dac67b85a26bbe77c1f5e0c6d76d1ce2abc0e5f21ca",
                2480617,
            ),
            _whisper_file(
                "vocabulary.json",
                "c69260f2ab26d659b7c398f9a2b2b48ed0df16c3b47d7326782fd9cba71690c1",
                1068114,
            ),
        ),
    ),  # fmt: skip
    "ecapa-voxceleb": Entry(
        "Apache-2.0",
        "--speaker ecapa:{folder}",
        (
            _hub_file(
                ECAPA,
                "embedding_model.ckpt",
                "0575cb64845e6b9a10db9bcb74d5ac32b326b8dc90352671d345e2ee3d0126a2",
                83316686,
                83316686,
            ),
            _hub_file(
                ECAPA,
                "hyperparams.yaml",
                "6f78854fa04ba59e761437b76a2575d3aba5e5016de3e9b69f0c9a5077fb1a41",
                None,
                2000,
            ),
        ),
    ),  # fmt: skip
    "dnsmos": Entry("MIT", "--dnsmos speechmos", by_hand="pip install 'svae[mos]' brings it"),
    "distillmos": Entry("MIT", "--distillmos", by_hand="pip install 'svae[mos]' brings it"),
    "wavlm-sv": Entry(
        "see its page",
        "--sim-o {folder}/wavlm_large_finetune.pth",
        by_hand="github.com/microsoft/UniSpeech, downstreams/speaker_verification, links it (Google Drive, no published sum)",
    ),
    "utmos": Entry(
        "MIT",
        "--utmos {folder}/utmos.onnx",
        by_hand="github.com/sarulab-speech/UTMOS22; export it to ONNX where you trust it (docs/protocols.md)",
    ),
    "whisper-large-v3": Entry(
        "Apache-2.0",
        "--asr whisper:openai/whisper-large-v3, as the protocols name it",
        by_hand="comes by itself from the hub; offline: huggingface-cli download on another machine, and its folder",
    ),
    "hubert-large-ls960": Entry(
        "Apache-2.0",
        "--asr ctc:facebook/hubert-large-ls960-ft, as the protocol names it",
        by_hand="comes by itself from the hub; offline: huggingface-cli download on another machine, and its folder",
    ),
}
KINDS = {"lists": LISTS, "judges": JUDGES}
_NOT_PACKED = Published({}, "", "", 0.0, "")


def fetch(kind: str, name: str | None, *, to: Path, mirrors: tuple[str, ...] = ()) -> Path | None:
    """Fetch a list or a judge into TO/KIND/NAME, or go on with it; without a name, show what there is.

    Returns:
        The folder; None where nothing was to be fetched.

    Raises:
        ConfigError: no such kind or name, or one that has to be fetched by hand (the message says where).
        DataError: no network, or a file that is not the one that was meant; says what to copy where.
    """
    console = Console()
    if kind not in KINDS:
        raise ConfigError(f"fetch {kind}: expected one of {', '.join(KINDS)}")
    entries = KINDS[kind]
    if name is None:
        _show(console, entries, to / kind)
        return None
    if name not in entries:
        raise ConfigError(f"fetch {kind} {name}: unknown; expected one of {', '.join(entries)}")
    entry = entries[name]
    folder = to / kind / name
    use = entry.use.format(folder=folder)
    if not entry.files:
        raise ConfigError(f"fetch {kind} {name}: {entry.by_hand}.\nUse: {use}")
    writable_folder(folder, option="--to")
    with folder_lock(folder):
        for file in entry.files:
            path = folder / file.name
            if path.exists():
                _check(path, file)
                continue
            try:
                fetch_archive(file, archive_urls(file, mirrors), path, _NOT_PACKED, console)
            except DataError as error:
                raise DataError(f"{error}\n{_by_copying(entry, folder)}") from None
    console.print(
        f"{folder}: whole and checked. Licence: {entry.licence}\nUse: {use}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    return folder


def _check(path: Path, file: Archive) -> None:
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if f"sha256:{found}" != file.digest:
        raise DataError(
            f"{path}: its sha256 is {found}, expected {file.digest.partition(':')[2]}: another file, or damaged. Delete it."
        )


def _by_copying(entry: Entry, folder: Path) -> str:
    lines = [
        "Without a network: fetch these elsewhere, copy them here, and run the same command; it checks them."
    ]
    for file in entry.files:
        if not (folder / file.name).exists():
            lines.append(
                f"  {archive_urls(file, ())[0]}\n    to {folder / file.name} ({file.about:,} bytes, {file.digest})"
            )
    return "\n".join(lines)


def _show(console: Console, entries: Mapping[str, Entry], folder: Path) -> None:
    for name, entry in entries.items():
        size = sum(file.about for file in entry.files)
        here = entry.files and all((folder / name / file.name).is_file() for file in entry.files)
        state = "there" if here else f"{size / 1e6:,.1f} MB" if entry.files else "by hand"
        lines = [
            f"{name} ({state}; {entry.licence})",
            f"  {entry.use.format(folder=folder / name)}",
        ]
        lines += [f"  {entry.by_hand}"] if entry.by_hand else []
        console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)
