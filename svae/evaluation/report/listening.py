"""What listeners said, joined to the report of an evaluation."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from svae.runtime.files import write_text

BEGIN, END = "<!-- listening -->", "<!-- /listening -->"
"""Where report.html has it."""
FILE = "listening.json"
NAMES = {"mos": "MOS", "similarity": "Similarity MOS"}


def join_report(folder: Path, name: str, result: dict[str, Any]) -> bool:
    """Write FOLDER/listening.json and put its section into FOLDER/report.html; False where no result of an evaluation lies.

    A page that is written again (`svae evaluate` into the same folder) has no such section until the test is scored again:
    the recordings may be others.
    """
    if not (folder / "metrics.json").is_file():
        return False
    own = {
        "test": result["test"],
        "name": name,
        "listeners": sum(found["counted"] for found in result["listeners"].values()),
        "opinions": {
            kind: scored["systems"][name]
            for kind, scored in result["scores"].items()
            if name in scored.get("systems", {})
        },
        "preferences": [
            pair
            for pair in result["scores"].get("preference", {}).get("pairs", ())
            if name in (pair["first"], pair["second"])
        ],
        "agreement": {kind: scored["agreement"] for kind, scored in result["scores"].items()},
    }
    write_text(folder / FILE, json.dumps(own, indent=1, ensure_ascii=False) + "\n")
    page = folder / "report.html"
    if page.is_file():
        text = page.read_text(encoding="utf-8")
        section = f"{BEGIN}{_section(own)}{END}"
        found = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
        write_text(page, found.sub(lambda _: section, text, count=1))
    return True


def _section(own: dict[str, Any]) -> Markup:
    """Return the section; every text is escaped."""
    rows = []
    for kind, found in own["opinions"].items():
        rows.append((NAMES[kind], found, f"{found['answers']} answers"))
    for pair in own["preferences"]:
        turned = pair["second"] == own["name"]
        other = pair["first"] if turned else pair["second"]
        ends = pair["interval"]
        if turned:
            ends = None if ends is None else [-ends[1], -ends[0]]
        value = {"mean": -pair["mean"] if turned else pair["mean"], "interval": ends}
        rows.append(
            (f"CMOS over {other}", value, f"{pair['answers']} answers, p = {pair['p_holm']:.4f}")
        )
    body = Markup()
    for heading, found, remark in rows:
        ends = found["interval"]
        interval = "" if ends is None else f"[{ends[0]:.2f}, {ends[1]:.2f}]"
        body += Markup(
            '<tr><th>{}</th><td><span class="value">{:.2f}</span><span class="interval">{}</span></td><td>{}</td></tr>'
        ).format(heading, found["mean"], interval, remark)
    alphas = ", ".join(
        f"{kind} {found['krippendorff_alpha']:.2f}"
        for kind, found in own["agreement"].items()
        if found["krippendorff_alpha"] is not None
    )
    said = escape(
        f"{own['listeners']} listeners; agreement (Krippendorff's alpha): {alphas or 'not known'}"
    )
    return Markup(
        '<section id="listening"><h2>Listening test</h2><div class="scroll"><table><tbody>{}</tbody></table></div><p>{}</p></section>'
    ).format(body, said)
