"""`svae fetch`: what published protocols need, lists and judges, fetched and checked; offline it says what to copy where.

Sums: of the list those of the file as F5-TTS's protocol was written with it; of the judges' files those that several projects check
them by (GitHub), at the revisions that the protocols name; of HuBERT's weights the one that VoiceHub (GitHub) checks their safetensors
by. A file whose sum nobody publishes is trusted at first: its sum is printed and kept in `SEEN` beside it, and compared from then on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from svae.data.archives import Archive, Published
from svae.data.download import archive_urls, fetch_archive
from svae.data.unpack import unpack
from svae.errors import ConfigError, DataError
from svae.evaluation.protocols import (
    ECAPA,
    FASTER_WHISPER_LARGE_V3,
    LIBRISPEECH_PC_SHA256,
    OMNIASR,
    WHISPER_LARGE_V3,
)
from svae.judges.omnilingual import INSTALL
from svae.runtime.files import atomic_folder, file_sha256, folder_lock, writable_folder, write_text

HUB = "https://huggingface.co"
GITHUB = "https://raw.githubusercontent.com"
RELEASES = "https://github.com"
PACKED = ".tar.gz"
UNKNOWN_SIZE = "size unknown until its server says it"
SEEN = "first-seen.json"
"""In the folder of an entry: the sums of files that nobody publishes a sum of, as they were when they came."""


@dataclass(frozen=True)
class Entry:
    """A list or a judge."""

    licence: str
    source: str
    """Where its authors publish it."""
    use: str
    """How it is given to `svae evaluate`; `{folder}` is where it lies."""
    files: tuple[Archive, ...] = ()
    """A .tar.gz among them is unpacked beside itself. Empty: nothing is to be fetched."""
    note: str = ""
    """What else to know."""


def _file(host: str, path: str, size: int | None, sha256: str | None) -> Archive:
    return Archive((host,), path, f"sha256:{sha256}" if sha256 else "", size, size or 0)


def _hub_files(spec: str, rows: str) -> tuple[Archive, ...]:
    """Return files of a repository; a row is a name, bytes and sum, `-` where one is not known."""
    repository, _, revision = spec.rpartition(":")[2].partition("@")
    files = []
    for row in rows.strip().splitlines():
        name, size, sha256 = (None if word == "-" else word for word in row.split())
        path = f"/{repository}/resolve/{revision}/{name}"
        files.append(_file(HUB, path, int(size) if size else None, sha256))
    return tuple(files)


_K2_DATA = "datasets/k2-fsa/TTS_eval_datasets@699beb854ab40a8a38bd48285e67e22697fc6e63"
LISTS: Mapping[str, Entry] = {
    "librispeech-pc": Entry(
        "MIT (F5-TTS); its texts CC BY 4.0 (LibriSpeech-PC)",
        "github.com/SWivid/F5-TTS",
        "--protocol f5-librispeech-pc --list {folder}/librispeech_pc_test_clean_cross_sentence.lst --audio-root "
        "LibriSpeech/test-clean (svae download librispeech --subset test-clean)",
        (
            _file(
                GITHUB,
                "/SWivid/F5-TTS/ff690b7ffb82b92e42b6a2bb4e5b16c5b9046d14/data/librispeech_pc_test_clean_cross_sentence.lst",
                222318,
                LIBRISPEECH_PC_SHA256,
            ),
        ),
    ),
    "seed-tts": Entry(
        "see its page (recordings of Common Voice and DiDiSpeech-2)",
        "github.com/BytedanceSpeech/seed-tts-eval; this pack: huggingface.co/datasets/k2-fsa/TTS_eval_datasets",
        "--protocol seed-tts-en --list {folder}/seedtts_testset/seedtts_testset/en/meta.lst",
        _hub_files(_K2_DATA, "seedtts_testset.tar.gz - -"),
        "The authors' own archive is on Google Drive (file 1GlSjVfSHkW3-leKKBlfrjuuTGqQ_xaLP), which no program can fetch "
        "reliably. Where the pack has no meta.lst, unpack theirs there, or take the pack's test.tsv by a YAML with "
        "list_format: zipvoice.",
    ),
    "minimax-multilingual": Entry(
        "CC BY-SA 4.0",
        "huggingface.co/datasets/MiniMaxAI/TTS-Multilingual-Test-Set; this pack: huggingface.co/datasets/k2-fsa/TTS_eval_datasets",
        "--protocol minimax-multilingual-LANGUAGE --list {folder}/minimax_multilingual_24.jsonl --audio-root "
        "{folder}/minimax_multilingual_24",
        _hub_files(
            _K2_DATA,
            "minimax_multilingual_24.jsonl - -\nminimax_multilingual_24.tar.gz - -",
        ),
    ),
    "fleurs": Entry(
        "CC BY 4.0",
        "huggingface.co/datasets/google/fleurs; this pack: huggingface.co/datasets/k2-fsa/TTS_eval_datasets",
        "--protocol fleurs-LANGUAGE --list {folder}/fleurs_multilingual_102.jsonl --audio-root "
        "{folder}/fleurs_multilingual_102",
        _hub_files(
            _K2_DATA,
            "fleurs_multilingual_102.jsonl - -\nfleurs_multilingual_102.tar.gz - -",
        ),
    ),
}
_HUBERT = "facebook/hubert-large-ls960-ft@ba42e7f7a888fd65f7af7849c452e3e7d5216aad"
JUDGES: Mapping[str, Entry] = {
    "faster-whisper-large-v3": Entry(
        "MIT",
        "huggingface.co/Systran/faster-whisper-large-v3",
        "--asr faster-whisper:{folder}",
        _hub_files(FASTER_WHISPER_LARGE_V3, """
            config.json 2394 a9306624f5ec14270a014b647e5c316b6e03a662c369758d1b90697a7b0655b9
            model.bin 3087284237 69f74147e3334731bc3a76048724833325d2ec74642fb52620eda87352e3d4f1
            preprocessor_config.json 340 7ccc62c6f2765af1f3b46c00c9b5894426835a05021c8b9c01eecb6dfb542711
            tokenizer.json 2480617 6d8cbd7cd0d8d5815e478dac67b85a26bbe77c1f5e0c6d76d1ce2abc0e5f21ca
            vocabulary.json 1068114 c69260f2ab26d659b7c398f9a2b2b48ed0df16c3b47d7326782fd9cba71690c1
        """),
    ),
    "whisper-large-v3": Entry(
        "Apache-2.0",
        "huggingface.co/openai/whisper-large-v3",
        "--asr whisper:{folder}",
        _hub_files(WHISPER_LARGE_V3, """
            config.json 1272 ad0e8d1e46f4d01f7861a21509e5d0f977d6cc1f367a370603c92541d819807b
            generation_config.json 3903 fbdfa70135de9b1d31553393f14e80aaeb1936ea36576b2ba864055943c09d23
            preprocessor_config.json 340 7ccc62c6f2765af1f3b46c00c9b5894426835a05021c8b9c01eecb6dfb542711
            tokenizer.json 2480617 6d8cbd7cd0d8d5815e478dac67b85a26bbe77c1f5e0c6d76d1ce2abc0e5f21ca
            tokenizer_config.json - 844b642c73a91359722f47b35705f7174686df33d252695d8572cf9ac03a6389
            special_tokens_map.json - 1c70773c078cb2ca96e0fcff113102f1d3e2b1504272c3bb63b035d4a6700d87
            vocab.json - e2aa043ef015641d363d8288e7c241c85e36a5c761fb303598e0710233344387
            merges.txt - 2df2990a395e35e8dfbc7511e08c12d56018d8d04691e0133e5d63b21e154dc6
            normalizer.json - bf1c507dc8724ca9cf9903640dacfb69dae2f00edee4f21ceba106a7392f26dd
            added_tokens.json - 3c51f66c4c21f9e126970078f11ae77a78c74aee8df606ee9daba86e467108e0
            model.safetensors 3087130976 a8e94b85976e5864ba3e9525c7e6c83b2a1eca42d4b797a0c7c24d778e40fd95
        """),
        "The protocols fetch it by themselves where there is a network; a folder is another `--asr`, and the result says so.",
    ),
    "hubert-large-ls960": Entry(
        "Apache-2.0",
        "huggingface.co/facebook/hubert-large-ls960-ft, its safetensors",
        "--asr ctc:{folder}",
        _hub_files(_HUBERT, """
            model.safetensors - 1fefcd85b08c83451afd1df872bc11b92333dc4b5393506def29a20baa69c4ed
            config.json - -
            preprocessor_config.json - -
            special_tokens_map.json - -
            tokenizer_config.json - -
            vocab.json - -
        """),
        "The protocols fetch it by themselves where there is a network; a folder is another `--asr`, and the result says so.",
    ),
    "ecapa-voxceleb": Entry(
        "Apache-2.0",
        "huggingface.co/speechbrain/spkrec-ecapa-voxceleb",
        "--speaker ecapa:{folder}",
        _hub_files(ECAPA, """
            embedding_model.ckpt 83316686 0575cb64845e6b9a10db9bcb74d5ac32b326b8dc90352671d345e2ee3d0126a2
            hyperparams.yaml - 6f78854fa04ba59e761437b76a2575d3aba5e5016de3e9b69f0c9a5077fb1a41
        """),
    ),
    "wavlm-sv": Entry(
        "CC BY-SA 3.0, the LICENSE of github.com/microsoft/UniSpeech; nothing is said of the weights alone",
        "github.com/microsoft/UniSpeech, downstreams/speaker_verification (Google Drive); the same bytes: "
        "huggingface.co/bezzam/wavlm_large_finetune_seed_tts_eval",
        "--sim-o {folder}/wavlm_large_finetune.pth",
        _hub_files(
            "bezzam/wavlm_large_finetune_seed_tts_eval@f127f699a44abb1c6e05f03522bd1b8c48be3184",
            "wavlm_large_finetune.pth 1301926579 51f07e3b94d9e0262a6a675ef5a087be3dd09e8c62e9d886827f44f82fe7f94b",
        ),
    ),
    "utmos": Entry(
        "MIT",
        "github.com/sarulab-speech/UTMOS22, as github.com/tarepan/SpeechMOS republishes its strong learner",
        "--utmos FILE.onnx, exported from {folder}/utmos22_strong_step7459_v1.pt where you trust its code (docs/protocols.md)",
        (
            _file(
                RELEASES,
                "/tarepan/SpeechMOS/releases/download/v1.0.0/utmos22_strong_step7459_v1.pt",
                411179119,
                "38aa51ab79e2a4e09a1449758a4b37e9cbb2e8235a49662a732d33a9ba1e9bff",
            ),
        ),
    ),
    "omnilingual": Entry(
        "Apache-2.0",
        "package omnilingual-asr; its models: dl.fbaipublicfiles.com/mms",
        f"--asr {OMNIASR}",
        note=f"{INSTALL}; it downloads the model that is named",
    ),
    "dnsmos": Entry(
        "MIT", "package speechmos", "--dnsmos speechmos", note="pip install 'svae[mos]' brings it"
    ),
    "distillmos": Entry(
        "MIT", "package distillmos", "--distillmos", note="pip install 'svae[mos]' brings it"
    ),
}  # fmt: skip
KINDS = {"lists": LISTS, "judges": JUDGES}
_NOT_PACKED = Published({}, "", "", 0.0, "")


def fetch(kind: str, name: str | None, *, to: Path, mirrors: tuple[str, ...] = ()) -> Path | None:
    """Fetch a list or a judge into TO/KIND/NAME, or go on with it; without a name, show what there is.

    Returns:
        The folder; None where nothing was to be fetched.

    Raises:
        ConfigError: no such kind or name, or one that comes another way (the message says which).
        DataError: no network, or a file that is not the one that was meant; says what to copy where.
    """
    console = Console()
    if kind not in KINDS:
        raise ConfigError(f"fetch {kind}: expected one of {', '.join(KINDS)}")
    entries = KINDS[kind]
    if name is None:
        for each, entry in entries.items():
            _say(console, _about(each, entry, to / kind / each))
        return None
    if name not in entries:
        raise ConfigError(f"fetch {kind} {name}: unknown; expected one of {', '.join(entries)}")
    entry = entries[name]
    folder = to / kind / name
    if not entry.files:
        raise ConfigError(f"fetch {kind} {name}: {entry.note}.\nUse: {entry.use}")
    writable_folder(folder, option="--to")
    with folder_lock(folder):
        for file in entry.files:
            path = folder / file.name
            if not path.exists():
                try:
                    fetch_archive(file, archive_urls(file, mirrors), path, _NOT_PACKED, console)
                except DataError as error:
                    raise DataError(f"{error}\n{_by_copying(entry, folder)}") from None
            _check(path, file, console)
            if path.name.endswith(PACKED):
                _unpack(path)
    _say(console, f"{folder}: whole. Licence: {entry.licence}\n{_how(entry, folder)}")
    return folder


def _check(path: Path, file: Archive, console: Console) -> None:
    """Compare a file's sum with the published one, or with the one it had when it came.

    Raises:
        DataError: it is another.
    """
    found = file_sha256(path)
    known, words = file.digest.partition(":")[2], "published"
    if not known:
        seen_path = path.parent / SEEN
        seen: dict[str, str] = (
            json.loads(seen_path.read_text("utf-8")) if seen_path.exists() else {}
        )
        known, words = seen.setdefault(path.name, found), "the one it had when it first came"
        if found == known:
            write_text(seen_path, json.dumps(seen, indent=1) + "\n")
            words += f"; no sum of it is published, this one is kept in {seen_path}"
    if found != known:
        raise DataError(
            f"{path}: its sha256 is {found}, expected {known}, {words}: another file, or damaged. Delete it."
        )
    _say(console, f"{path.name}: sha256 {found}, {words}")


def _unpack(archive: Path) -> None:
    """Unpack an archive to a folder of its name, unless it is there."""
    folder = archive.with_name(archive.name.removesuffix(PACKED))
    if not folder.exists():
        with atomic_folder(folder) as work:
            unpack(archive, work, lambda count: None)


def _by_copying(entry: Entry, folder: Path) -> str:
    lines = [
        "Without a network: fetch these elsewhere, copy them here, and run the same command; it checks them."
    ]
    for file in entry.files:
        if not (folder / file.name).exists():
            lines.append(
                f"  {archive_urls(file, ())[0]}\n    to {folder / file.name} ({_size(file)}, {_sum(file)})"
            )
    return "\n".join([*lines, *([entry.note] if entry.note else [])])


def _about(name: str, entry: Entry, folder: Path) -> str:
    """Return what is shown of an entry."""
    size = sum(file.about for file in entry.files)
    unknown = sum(file.size is None for file in entry.files)
    state = f"{size / 1e6:,.1f} MB" if size else UNKNOWN_SIZE
    if size and unknown:
        state += f" and {unknown} file{'s' * (unknown > 1)} of unknown size"
    if all((folder / file.name).is_file() for file in entry.files):
        state = "there" if entry.files else "a package"
    head = f"{name} ({state}; {entry.licence})"
    files = [f"    {file.name}: {_size(file)}, {_sum(file)}" for file in entry.files]
    return "\n".join([head, f"  From {entry.source}", *files, f"  {_how(entry, folder)}"])


def _how(entry: Entry, folder: Path) -> str:
    use = f"Use: {entry.use.format(folder=folder)}"
    return f"{use}\n  {entry.note}" if entry.note else use


def _size(file: Archive) -> str:
    return f"{file.size:,} bytes" if file.size is not None else UNKNOWN_SIZE


def _sum(file: Archive) -> str:
    return file.digest or "sha256 not published, kept at the first fetch"


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)
