"""The `svae` command: parse, load the recipe, import what is needed, call. No torch until a command runs."""

from __future__ import annotations

from svae.cli import training, speech, evaluation, latents  # isort: skip  # the order of the help
from svae.cli.app import app

__all__ = ["app", "evaluation", "latents", "main", "speech", "training"]


def main() -> None:
    """Run the command line."""
    app(prog_name="svae")
