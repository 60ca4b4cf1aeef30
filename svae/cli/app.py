"""The application that the commands register with; it turns errors of the user's into messages."""

from __future__ import annotations

import errno
import os
import sys
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

import svae
from svae.errors import SvaeError

DISK_ERRORS = frozenset(
    {errno.ENOSPC, errno.EACCES, errno.EPERM, errno.EROFS, errno.EDQUOT, errno.ENOTDIR, errno.EIO}
)


class Commands(TyperGroup):
    """Turns errors that are the user's into one message on stderr and exit status 2."""

    def invoke(self, ctx: Any) -> Any:  # typer keeps the type of its context private
        """Run the command; see the class."""
        try:
            return super().invoke(ctx)
        except SvaeError as error:
            _fail(str(error))
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                _fail(
                    f"{str(error.filename)[:100]}…: {error.strerror}. Expected at most 255 bytes a name and 4095 a path; "
                    "choose a shorter one."
                )
            if error.errno not in DISK_ERRORS:
                raise
            _fail(
                f"{error.filename or 'disk'}: {error.strerror}. Choose another folder or make room."
            )
        except KeyboardInterrupt:
            print(
                "\nInterrupted. Finished parts are kept; the same command continues.",
                file=sys.stderr,
            )
            raise typer.Exit(130) from None


def _fail(message: str) -> NoReturn:
    several = os.environ.get("WORLD_SIZE", "1") != "1" and "RANK" in os.environ
    rank = f" (rank {os.environ['RANK']})" if several else ""
    print(f"error{rank}: {message}", file=sys.stderr)
    raise typer.Exit(2) from None


app = typer.Typer(
    cls=Commands,
    help="Speech synthesis over semantically aligned latents: prepare, train-vae, train-tts, synthesize, evaluate.",
    epilog="Start with: svae prepare sample, then svae train-vae",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _show_version(value: bool) -> None:
    if value:
        print(f"svae {svae.__version__}")
        raise typer.Exit


@app.callback()
def main_options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Hold the options before the command."""


def example(text: str) -> str:
    """Return a command's epilog: examples that can be copied, also where a terminal has 80 columns."""
    lines = []
    for line in text.strip().splitlines():
        line = line.strip()
        while len(line) > 76 and (cut := line.rfind(" --", 1, 74)) > 0:
            lines.append(f"{line[:cut]} \\")  # a shell takes it together with the next line
            line = line[cut + 1 :]
        lines.append(line)
    return "[bold]Examples[/]\n\n" + "\n\n".join(lines)
