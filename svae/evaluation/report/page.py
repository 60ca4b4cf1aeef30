"""report.html: one file that a person opens from disk to see, sort and hear an evaluation. It asks no network."""

from __future__ import annotations

import base64
import io
import json
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup
from torch import Tensor

from svae.audio import encode_flac, log_mel
from svae.errors import DataError
from svae.evaluation.items import Item
from svae.evaluation.recordings import Recording
from svae.evaluation.report.charts import length_chart, speaker_chart
from svae.evaluation.report.tables import (
    COLUMNS,
    Metrics,
    describe_judges,
    intervals_in_words,
    systems_of,
    table_lines,
)
from svae.evaluation.rows import ORIGINALS, SIMILARITIES, Row, Scored, Systems
from svae.frames import ceil_div
from svae.runtime.files import write_text

FILES = Path(__file__).parent / "page_files"
FACTS = (
    ("wer", "WER", 100, 1, " %"),
    ("sim_ecapa", "sim_ecapa", 1, 3, ""),
    ("sim_o", "sim_o", 1, 3, ""),
    ("distillmos", "DistillMOS", 1, 2, ""),
    ("pesq_wb", "PESQ WB", 1, 2, ""),
    ("stoi", "STOI", 1, 3, ""),
    ("mcd", "MCD", 1, 2, " dB"),
)
"""Key, name, factor, digits and unit of what stands beside a player."""


def write_page(
    folder: Path,
    metrics: Metrics,
    rows: Sequence[Row],
    items: Sequence[Item],
    systems: Systems,
    normalize: Callable[[str], str],
    *,
    megabytes: int,
) -> None:
    """Write FOLDER/report.html.

    Audio and pictures of the worst utterances, up to so many megabytes, go into the file; the others are linked by a path
    relative to it, where they are files. `normalize` gives the words that are coloured.
    """
    names = metrics["system_recordings"]
    similarity = _similarity_column(rows)
    worst_first = sorted(
        range(len(rows)), key=lambda i: (-(rows[i].mean(names, "wer") or 0.0), rows[i].id)
    )
    shown = []
    media: dict[int, Markup] = {}
    left = megabytes * 1_000_000
    for place, i in enumerate(worst_first):
        shown.append(_page_row(rows[i], items[i], systems, names, folder, normalize, similarity))
        if left > 0:
            text = _json(_media(items[i], systems))
            if len(text) <= left:
                media[place] = text
            left -= len(text)
    # Every value is escaped by the template, except for `Markup`.
    environment = Environment(
        loader=FileSystemLoader(FILES), autoescape=True, undefined=StrictUndefined
    )
    page = environment.get_template("page.html").render(
        title=f"Evaluation: {metrics['system_name']}",
        metrics=metrics,
        css=Markup((FILES / "page.css").read_text(encoding="utf-8")),
        js=Markup((FILES / "page.js").read_text(encoding="utf-8")),
        systems=[name.strip() for name in systems_of(metrics)],
        summary=table_lines(metrics),
        charts=_charts(rows, names),
        similarity=similarity,
        facts=_facts(metrics),
        data=_json({"rows": shown}),
        media=media,
    )
    write_text(folder / "report.html", page)


def _page_row(
    row: Row,
    item: Item,
    systems: Systems,
    names: Sequence[str],
    folder: Path,
    normalize: Callable[[str], str],
    similarity: str,
) -> dict[str, Any]:
    """Return what page.js shows of an utterance."""
    system_first = [*names, *(name for name in systems if name not in names)]
    recordings = [
        {
            "name": name,
            "facts": _facts_beside_player(scored),
            "hypothesis": scored.hypothesis,
            "words": align(row.text, scored.hypothesis, normalize),
            "error": scored.error,
            "link": _link(systems[name].get(item.id), folder),
        }
        for name in system_first
        if (scored := row.recordings.get(name)) is not None
    ]
    original = row.recordings.get(ORIGINALS)
    return {
        "id": row.id,
        "speaker": row.speaker,
        "text": row.text,
        "seconds": _seconds(row, names),
        "wer": row.mean(names, "wer"),
        "originalWer": original.columns["wer"] if original else None,
        "similarity": row.mean(names, similarity),
        "failed": any(scored.error is not None for scored in row.recordings.values()),
        "prompt": None if item.prompt is None else {"link": _link(item.prompt, folder)},
        "promptText": item.prompt_text,
        "recordings": recordings,
    }


def _facts_beside_player(scored: Scored) -> list[str]:
    return [
        f"{label} {factor * value:.{digits}f}{unit}"
        for key, label, factor, digits, unit in FACTS
        if (value := scored.columns.get(key)) is not None
    ]


def _seconds(row: Row, names: Sequence[str]) -> float:
    """Return the length of the original; where there is none, of the longest recording of the system."""
    original = row.recordings.get(ORIGINALS)
    if original is not None and original.seconds:
        return original.seconds
    return max((scored.seconds for scored in row.of(names)), default=0.0)


def align(text: str, hypothesis: str, normalize: Callable[[str], str]) -> list[list[str]] | None:
    """Return words as [kind, said, heard], kind one of `=`, `s`, `d`, `i`; None for a text without words."""
    import jiwer

    if not normalize(text).strip():
        return None
    found = jiwer.process_words(normalize(text), normalize(hypothesis))
    said, heard = found.references[0], found.hypotheses[0]
    words: list[list[str]] = []
    for chunk in found.alignments[0]:
        a = said[chunk.ref_start_idx : chunk.ref_end_idx]
        b = heard[chunk.hyp_start_idx : chunk.hyp_end_idx]
        if chunk.type == "insert":
            words += [["i", "", word] for word in b]
        elif chunk.type == "delete":
            words += [["d", word, ""] for word in a]
        else:
            kind = "=" if chunk.type == "equal" else "s"
            words += [[kind, x, y] for x, y in zip(a, b, strict=True)]
    return words


def _similarity_column(rows: Sequence[Row]) -> str:
    """Return `sim_o` where it was computed, as papers report it, else `sim_ecapa`."""
    sim_ecapa, sim_o = SIMILARITIES
    found = any(
        scored.columns.get(sim_o) is not None for row in rows for scored in row.recordings.values()
    )
    return sim_o if found else sim_ecapa


def _link(recording: Recording | None, folder: Path) -> str | None:
    """Return a relative URL of a recording that is a file of its own."""
    if recording is None or recording.name != str(recording.path):
        return None
    return quote(Path(os.path.relpath(recording.path, folder)).as_posix())


def _media(item: Item, systems: Systems) -> dict[str, dict[str, str]]:
    """Return audio and mel picture as data URIs by the name of the system; the prompt's under an empty name."""
    found = {name: of_item[item.id] for name, of_item in systems.items() if item.id in of_item}
    if item.prompt is not None:
        found[""] = item.prompt
    media = {}
    for name, recording in found.items():
        try:
            waveform, rate = recording.load_native()
        except DataError:
            continue  # its row says why
        media[name] = {
            "audio": _data_uri("audio/flac", encode_flac(waveform, rate)),
            "mel": _data_uri("image/png", mel_png(waveform, rate)),
        }
    return media


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def mel_png(waveform: Tensor, sample_rate: int) -> bytes:
    """Draw the log-mel spectrogram of a waveform (S,), low bands below, at most 600 pixels wide."""
    from matplotlib import colormaps
    from PIL import Image  # comes with matplotlib

    mel = log_mel(
        waveform, sample_rate=sample_rate, n_fft=1024 if sample_rate <= 24000 else 2048
    ).numpy()
    step = ceil_div(mel.shape[1], 600)
    mel = mel[::-1, ::step]
    low = max(float(mel.max()) - 9.0, float(mel.min()))  # 78 dB below the peak is black
    scaled = (mel - low) / max(float(mel.max()) - low, 1e-6)
    colours = 255 * colormaps["magma"](np.linspace(0, 1, 256))[:, :3]
    image = Image.fromarray((255 * scaled.clip(0, 1)).astype(np.uint8)).convert("P")
    image.putpalette(colours.astype(np.uint8).tobytes())
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()


def _json(value: Any) -> Markup:
    """Return JSON that cannot end the script element it stands in."""
    return htmlsafe_json_dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _charts(rows: Sequence[Row], names: Sequence[str]) -> Markup:
    """Return both charts; nothing where there is nothing to draw."""
    points: dict[str, list[tuple[float, float]]] = {"system": [], "original": []}
    by_speaker: dict[str, dict[str, list[float]]] = defaultdict(
        lambda: {"system": [], "original": []}
    )
    for row in rows:
        rates = {"system": row.mean(names, "wer"), "original": row.mean([ORIGINALS], "wer")}
        for name, rate in rates.items():
            if rate is not None:
                points[name].append((_seconds(row, list(row.recordings)), rate))
                if row.speaker is not None:
                    by_speaker[row.speaker][name].append(rate)
    means = {}
    for speaker, found in by_speaker.items():
        system, original = found["system"], found["original"]
        if system:
            original_mean = sum(original) / len(original) if original else None
            means[speaker] = (sum(system) / len(system), original_mean)
    return length_chart(points) + speaker_chart(means)


def _facts(metrics: Metrics) -> dict[str, str]:
    """Return protocol, judges and environment for the foot of the page."""
    environment = metrics.get("environment", {})
    protocol = metrics["protocol"]
    return {
        "Protocol": protocol["label"],
        "Source": protocol.get("source") or "—",
        "Headline": COLUMNS[metrics["headline"]][0],
        "Normaliser": protocol["normalizer"],
        "List": f"{metrics['list']['list']}, sha256 {metrics['list']['sha256']}",
        "Judges": "; ".join(describe_judges(metrics["judges"])),
        "Intervals": intervals_in_words(metrics) or "—",
        "System": json.dumps(metrics["settings"], ensure_ascii=False),
        "Software": ", ".join(
            f"{k} {environment[k]}"
            for k in ("svae", "revision", "python", "platform")
            if environment.get(k)
        ),
        "Packages": ", ".join(f"{k} {v}" for k, v in environment.get("packages", {}).items()),
        "Device": f"{environment.get('gpu') or environment.get('device')}, {environment.get('threads')} threads",
    }
