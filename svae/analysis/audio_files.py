"""`svae doctor FILE…`: what audio files say of how they were made."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from svae.audio import audio_seconds
from svae.synthesis.credentials import read_credentials
from svae.synthesis.marks import read_mark, read_tags


def describe_files(files: Sequence[Path], console: Console | None = None) -> None:
    """Print of each file how long it is, whether it says that it is synthetic, by what it was made, and its other tags.

    Raises:
        DataError: one cannot be read as audio.
    """
    console = console or Console()
    for path in files:
        tags, mark = read_tags(path), read_mark(path)
        lines = [f"[bold]{escape(str(path))}[/]: {audio_seconds(path):.2f} s"]
        if mark is None:
            lines.append(
                "  Nothing in it says how it was made; that does not tell that a person spoke."
            )
        else:
            lines.append("  AI-generated speech, as it says itself:")
            lines += [f"    {name}: {escape(str(value))}" for name, value in mark.items()]
        credentials = read_credentials(path)
        if credentials is not None:
            problems = (
                f" ({', '.join(map(str, credentials['problems']))})"
                if credentials["problems"]
                else ""
            )
            lines.append(
                f"  Content credentials (C2PA): {credentials['state']}{problems}, signed by {escape(str(credentials['signed_by']))}"
            )
            lines += [
                f"    {escape(label)}: {escape(json.dumps(data, ensure_ascii=False))}"
                for label, data in credentials["assertions"].items()
            ]
        others = {name: value for name, value in tags.items() if name != "comment" or mark is None}
        lines += [f"  tag {escape(name)}: {escape(value)}" for name, value in others.items()]
        console.print("\n".join(lines), highlight=False, soft_wrap=True)
