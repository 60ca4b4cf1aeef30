"""review.html: every segment of the recordings with its sound, its text and why it is left out. It asks no network.

What a person changes there is downloaded as a file for `--review`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

import svae
from svae.recordings.review import Entry
from svae.recordings.segments import CutRecording, audio_name
from svae.runtime.files import write_text

FILES = Path(__file__).parent / "page_files"


def write_page(
    path: Path, entries: Sequence[Entry], cut: Sequence[CutRecording], made_with: Mapping[str, Any]
) -> None:
    """Write the page; it links the segments beside it by relative paths."""
    seconds = {used: 0.0 for used in (True, False)}
    for entry in entries:
        seconds[entry.used] += entry.segment.end - entry.segment.start
    counts = Counter(reason for entry in entries for reason, _ in entry.reasons)
    asr = made_with["asr"] or {}
    # Every value is escaped by the template, except for `Markup`.
    environment = Environment(
        loader=FileSystemLoader(FILES), autoescape=True, undefined=StrictUndefined
    )
    page = environment.get_template("page.html").render(
        used=sum(entry.used for entry in entries),
        count=len(entries),
        minutes=seconds[True] / 60,
        left_out_minutes=seconds[False] / 60,
        reasons=counts.most_common(),
        unreadable=[
            {
                "source": each.recording.source,
                "problem": each.problem[1] if each.problem else "no speech in it",
            }
            for each in cut
            if not each.segments
        ],
        vad=f"{made_with['vad']['vad']} {made_with['vad']['version']}",
        asr=asr.get("spec") or asr.get("model") or "none",
        version=svae.__version__,
        css=Markup((FILES / "page.css").read_text(encoding="utf-8")),
        js=Markup((FILES / "page.js").read_text(encoding="utf-8")),
        data=htmlsafe_json_dumps(
            {"rows": [_row(entry) for entry in entries]},
            ensure_ascii=False,
            allow_nan=False,
            separators=(",", ":"),
        ),
    )
    write_text(path, page)


def _row(entry: Entry) -> dict[str, Any]:
    """Return what page.js shows of a segment."""
    judged, segment = entry.judged, entry.segment
    facts = [f"{segment.snr_db:.0f} dB"]
    if judged.agreement is not None:
        facts.append(f"{100 * judged.agreement:.0f} % agree")
    if judged.fit is not None:
        facts.append(f"fit {judged.fit:.0f}")
    if judged.distillmos is not None:
        facts.append(f"DistillMOS {judged.distillmos:.1f}")
    return {
        "key": segment.key,
        "audio": segment.audio,
        "link": f"segments/{quote(audio_name(segment.key))}",
        "source": segment.source,
        "speaker": segment.speaker,
        "start": segment.start,
        "seconds": round(segment.end - segment.start, 2),
        "text": judged.text or "",
        "from": judged.text_from,
        "heard": judged.heard if judged.heard != judged.text else None,
        "facts": facts,
        "reasons": [f"{reason}: {detail}" for reason, detail in entry.reasons],
        "used": entry.used,
        "decision": entry.decision.row,
    }
