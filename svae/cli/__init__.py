"""The `svae` command: each command parses, loads its recipe, imports what it needs, and calls one run function."""

from __future__ import annotations

from importlib import import_module

from svae.cli.app import app

__all__ = ["app", "main"]

COMMANDS = (
    "download",
    "fetch",
    "prepare",
    "prepare_recordings",
    "train_vae",
    "train_tts",
    "distill",
    "compare",
    "synthesize",
    "serve",
    "adapt",
    "evaluate",
    "leaderboard",
    "listen",
    "encode",
    "decode",
    "cache_teacher",
    "align",
    "inspect",
    "doctor",
    "voice",
    "import_",
    "push",
    "export",
)
"""The modules of this folder that hold a command, in the order in which `svae --help` lists them."""

for _name in COMMANDS:
    import_module(f"svae.cli.{_name}")  # the module registers its command with `app`


def main() -> None:
    """Run the command line."""
    app(prog_name="svae")
