"""report.html: one file that a person opens from disk to see, sort and hear an evaluation. It asks no network."""

from __future__ import annotations

import base64
import io
import json
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from torch import Tensor

from svae.audio import encode_flac, log_mel
from svae.errors import DataError
from svae.evaluation.items import Item
from svae.evaluation.recordings import Recording
from svae.evaluation.report.charts import length_chart, speaker_chart
from svae.evaluation.report.tables import (
    COLUMNS,
    describe_judges,
    footnotes,
    systems_of,
    table_rows,
)
from svae.evaluation.rows import ORIGINALS, SIMILARITIES, Rows, Systems
from svae.frames import ceil_div
from svae.runtime.files import write_text

FILES = Path(__file__).parent / "page_files"
FACTS = (
    ("wer", "WER", 100, 1, " %"),
    ("sim_ecapa", "sim_ecapa", 1, 3, ""),
    ("sim_o", "sim_o", 1, 3, ""),
)
FACTS += (("pesq_wb", "PESQ WB", 1, 2, ""), ("stoi", "STOI", 1, 3, ""), ("mcd", "MCD", 1, 2, " dB"))
"""Key, name, factor, digits and unit of what stands beside a player."""


def write_page(
    folder: Path,
    metrics: dict[str, Any],
    rows: Rows,
    items: Sequence[Item],
    systems: Systems,
    normalize: Callable[[str], str],
    *,
    megabytes: int,
) -> None:
    """Write FOLDER/report.html.

    Args:
        folder: of the results.
        metrics: what metrics.json holds.
        rows: of `score`.
        items: of the list, in the order of the rows.
        systems: the recordings.
        normalize: the protocol's, for the words that are coloured.
        megabytes: audio and pictures of the worst utterances up to this size go into the file; the others are linked
            by a path relative to it, where they are files.
    """
    names = metrics["system_recordings"]
    order = sorted(
        range(len(rows)), key=lambda i: (-(_mean(rows[i], names, "wer") or 0.0), rows[i]["id"])
    )
    shown, media = [], []
    left = megabytes * 1_000_000
    for place, i in enumerate(order):
        row = page_row(rows[i], items[i], systems, names, folder, normalize)
        shown.append(row)
        if left > 0:
            text = _json(_media(items[i], systems))
            if len(text) <= left:
                media.append(f'<script type="application/json" id="media-{place}">{text}</script>')
            left -= len(text)
    values = {
        "title": escape(f"Evaluation: {metrics['system_name']}"),
        "subtitle": _subtitle(metrics),
        "css": (FILES / "page.css").read_text(encoding="utf-8"),
        "js": (FILES / "page.js").read_text(encoding="utf-8"),
        "summary": _summary(metrics),
        "notes": _notes(metrics["notes"]),
        "charts": _charts(rows, names),
        "similarity": escape(_similarity_column(rows)),
        "facts": _facts(metrics),
        "data": _json({"rows": shown}),
        "media": "\n".join(media),
    }
    write_text(
        folder / "report.html", _fill((FILES / "page.html").read_text(encoding="utf-8"), values)
    )


def _fill(template: str, values: dict[str, str]) -> str:
    """Replace @name@; what a value contains is not looked at again."""
    parts = template.split("@")
    return "".join(values.get(part, part) if i % 2 else part for i, part in enumerate(parts))


def page_row(
    row: dict[str, Any],
    item: Item,
    systems: Systems,
    names: Sequence[str],
    folder: Path,
    normalize: Callable[[str], str],
) -> dict[str, Any]:
    """Return what the page knows of an utterance."""
    recordings = []
    for name in [
        *names,
        *(n for n in systems if n not in names),
    ]:  # the system first, then originals and others
        if name in row["recordings"]:
            entry = row["recordings"][name]
            facts = [
                f"{label} {factor * entry[key]:.{digits}f}{unit}"
                for key, label, factor, digits, unit in FACTS
                if entry.get(key) is not None
            ]
            recordings.append(
                {
                    "name": name,
                    "facts": facts,
                    "hypothesis": entry["hypothesis"],
                    "words": align(row["text"], entry["hypothesis"], normalize),
                    "error": entry.get("error"),
                    "link": _link(systems[name].get(item.id), folder),
                }
            )
    entries = [row["recordings"][name] for name in names if name in row["recordings"]]
    original = row["recordings"].get(ORIGINALS, {})
    return {
        "id": row["id"],
        "speaker": row["speaker"],
        "text": row["text"],
        "seconds": original.get("seconds") or max((e["seconds"] for e in entries), default=0.0),
        "wer": _mean(row, names, "wer"),
        "originalWer": original.get("wer"),
        "similarity": _mean(row, names, _similarity_column([row])),
        "failed": any("error" in entry for entry in row["recordings"].values()),
        "prompt": None if item.prompt is None else {"link": _link(item.prompt, folder)},
        "promptText": item.prompt_text,
        "recordings": recordings,
    }


def align(text: str, hypothesis: str, normalize: Callable[[str], str]) -> list[list[str]] | None:
    """Return words as [kind, said, heard], kind one of `=`, `s`, `d`, `i`; None for a text without words."""
    import jiwer

    if not normalize(text).strip():
        return None
    found = jiwer.process_words(normalize(text), normalize(hypothesis))
    said, heard = found.references[0], found.hypotheses[0]
    words: list[list[str]] = []
    for chunk in found.alignments[0]:
        a, b = (
            said[chunk.ref_start_idx : chunk.ref_end_idx],
            heard[chunk.hyp_start_idx : chunk.hyp_end_idx],
        )
        if chunk.type == "insert":
            words += [["i", "", word] for word in b]
        elif chunk.type == "delete":
            words += [["d", word, ""] for word in a]
        else:
            kind = "=" if chunk.type == "equal" else "s"
            words += [[kind, x, y] for x, y in zip(a, b, strict=True)]
    return words


def _mean(row: dict[str, Any], names: Sequence[str], key: str) -> float | None:
    values = [row["recordings"][n].get(key) for n in names if n in row["recordings"]]
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _similarity_column(rows: Rows) -> str:
    """Return `sim_o` where it was computed, as papers report it, else `sim_ecapa`."""
    found = any(
        entry.get("sim_o") is not None for row in rows for entry in row["recordings"].values()
    )
    return SIMILARITIES[1] if found else SIMILARITIES[0]


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
    image = Image.fromarray((255 * scaled.clip(0, 1)).astype(np.uint8))
    image = image.convert("P")
    image.putpalette(
        (255 * colormaps["magma"](np.linspace(0, 1, 256))[:, :3]).astype(np.uint8).tobytes()
    )
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()


def _json(value: Any) -> str:
    """Return JSON that cannot end the script element it stands in."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _subtitle(metrics: dict[str, Any]) -> str:
    protocol = metrics["protocol"]
    badge = ' <span class="badge modified">modified</span>' if protocol.get("modified") else ""
    items = metrics["list"]
    return f"Protocol {escape(protocol['name'])}{badge} · {items['utterances']} utterances · {escape(items['list'])}"


def _summary(metrics: dict[str, Any]) -> str:
    """Return the table of scores as HTML, readable without JavaScript."""
    heads = "".join(f"<th>{escape(name.strip())}</th>" for name in systems_of(metrics))
    lines = [f'<table id="summary"><thead><tr><th></th>{heads}</tr></thead><tbody>']
    for heading, cells in table_rows(metrics):
        marked = (
            ' class="headline" title="headline of the protocol"' if heading.endswith("*") else ""
        )
        lines.append(f"<tr{marked}><th>{escape(heading.rstrip('*'))}</th>")
        for text in cells:
            value, bracket, ends = text.partition(" [")
            extra = f'<span class="interval">[{escape(ends)}</span>' if bracket else ""
            lines.append(f'<td><span class="value">{escape(value)}</span>{extra}</td>')
        lines.append("</tr>")
    return "".join(lines) + "</tbody></table>"


def _notes(notes: Sequence[str]) -> str:
    return (
        '<ul class="notes">' + "".join(f"<li>{escape(note)}</li>" for note in notes) + "</ul>"
        if notes
        else ""
    )


def _charts(rows: Rows, names: Sequence[str]) -> str:
    """Return both charts, or a word where there is nothing to draw."""
    points: dict[str, list[tuple[float, float]]] = defaultdict(list)
    by_speaker: dict[str, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    for row in rows:
        original = row["recordings"].get(ORIGINALS, {})
        seconds = original.get("seconds") or max(e["seconds"] for e in row["recordings"].values())
        wer = _mean(row, names, "wer")
        for number, (name, value) in enumerate(
            (("system", wer), ("original", original.get("wer")))
        ):
            if value is not None:
                points[name].append((seconds, value))
                if row["speaker"] is not None:
                    by_speaker[row["speaker"]][number].append(value)
    rates = {
        speaker: (sum(a) / len(a), sum(b) / len(b) if b else None)
        for speaker, (a, b) in by_speaker.items()
        if a
    }
    return length_chart(points) + speaker_chart(rates) or "<p>No word error rates to draw.</p>"


def _facts(metrics: dict[str, Any]) -> str:
    """Return protocol, judges and environment as a description list."""
    environment = metrics.get("environment", {})
    protocol = metrics["protocol"]
    facts = {
        "Protocol": protocol["label"],
        "Source": protocol.get("source") or "—",
        "Headline": COLUMNS[metrics["headline"]][0],
        "Normaliser": protocol["normalizer"],
        "List": f"{metrics['list']['list']}, sha256 {metrics['list']['sha256']}",
        "Judges": "; ".join(describe_judges(metrics["judges"])),
        "Intervals": next((line[2:] for line in footnotes(metrics) if line.startswith("* ")), "—"),
        "System": json.dumps(metrics["settings"], ensure_ascii=False),
        "Software": ", ".join(
            f"{k} {environment[k]}"
            for k in ("svae", "revision", "python", "platform")
            if environment.get(k)
        ),
        "Packages": ", ".join(f"{k} {v}" for k, v in environment.get("packages", {}).items()),
        "Device": f"{environment.get('gpu') or environment.get('device')}, {environment.get('threads')} threads",
    }
    return "".join(
        f"<dt>{escape(key)}</dt><dd>{escape(str(value))}</dd>" for key, value in facts.items()
    )
