"""`svae evaluate --command`: any program that writes a recording of a text."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import IO, Any

from svae.errors import ConfigError
from svae.evaluation.external.system import HEADER_BYTES, Request, SpeechFailed, Timing
from svae.evaluation.external.template import parse_template
from svae.runtime.files import file_sha256

PLACEHOLDERS = ("text", "ref", "ref_text", "out", "seed", "id", "language")
SHELLS = frozenset({"sh", "bash", "dash", "zsh", "ksh", "fish"})
LOOK_EVERY = 0.01
"""Seconds between two looks at a program and its file."""
TAIL = 300
"""Characters of what a failed program printed last."""


class Command:
    """A program that is called once for every recording, without a shell: a text is one argument, whatever is in it.

    Args:
        command: the program and its arguments, with placeholders; quoted as in a shell, but not run by one.
        timeout: seconds that one call may take.

    Raises:
        ConfigError: no such program, an unknown placeholder, none for the file, or one inside a shell's script.
    """

    def __init__(self, command: str, *, timeout: float) -> None:
        try:
            words = shlex.split(command)
        except ValueError as error:
            raise ConfigError(f"--command: {command!r}: {error}") from None
        if not words:
            raise ConfigError(
                "--command: empty; expected a program, e.g. 'flite -t {text} -o {out}'"
            )
        self._words = [parse_template(word, PLACEHOLDERS, option="--command") for word in words]
        self.names = set().union(*(word.names for word in self._words))
        if "out" not in self.names:
            raise ConfigError(
                f"--command: {command!r}: no {{out}}; that is the file which the program has to write"
            )
        if not self.names & {"text", "id"}:
            raise ConfigError(
                f"--command: {command!r}: no {{text}}; it would say the same each time"
            )
        if self._words[0].names:
            raise ConfigError(f"--command: {command!r}: the program itself is no placeholder")
        if Path(words[0]).name in SHELLS:
            self._refuse_scripts(words)
        program = shutil.which(words[0])
        if program is None:
            raise ConfigError(
                f"--command: no program {words[0]!r} on the path; install it, or give its path"
            )
        self._files = [Path(program), *(Path(word) for word in words[1:])]
        self._timeout = timeout
        self.title = Path(words[0]).name
        self.description: dict[str, Any] = {
            "command": command,
            "program": program,
            "program_sha256": file_sha256(Path(program)),
            "timeout_seconds": timeout,
        }

    def _refuse_scripts(self, words: list[str]) -> None:
        """A placeholder in a script would be run by the shell: a text with `$(…)` in it is a command there."""
        for option, script in zip(words[1:], self._words[2:], strict=False):
            is_script = option.startswith("-") and not option.startswith("--") and "c" in option
            if is_script and script.names:
                raise ConfigError(
                    f"--command: {words[0]} would run what stands in {{{min(script.names)}}}. Hand it over as an argument: "
                    'sh -c \'prog "$1" > "$2"\' sh {text} {out}'
                )

    @property
    def stamp(self) -> dict[str, Any]:
        """The command, and size and date of the program and of every argument that is a file."""
        files = {}
        for path in self._files:
            with contextlib.suppress(OSError, ValueError):
                found = path.stat()
                if path.is_file():
                    files[str(path)] = [found.st_size, found.st_mtime_ns]
        return {"command": self.description["command"], "files": files}

    def speak(self, request: Request, stop: threading.Event) -> Timing:
        """Call the program. Its first audio is there when its file holds more than a header."""
        words = [word.fill(request.values) for word in self._words]
        with tempfile.TemporaryFile() as printed:
            start = time.perf_counter()
            try:
                process = subprocess.Popen(
                    words,
                    stdin=subprocess.DEVNULL,
                    stdout=printed,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except (
                OSError,
                ValueError,
            ) as error:  # e.g. a text with a NUL, or longer than the system takes
                raise SpeechFailed(f"{self.title} cannot be called: {error}") from None
            first: float | None = None
            try:
                while process.poll() is None:
                    if first is None and _size(request.out) > HEADER_BYTES:
                        first = time.perf_counter() - start
                    if time.perf_counter() - start > self._timeout:
                        raise SpeechFailed(
                            f"{self.title} took more than {self._timeout:g} s{_said(printed)}"
                        )
                    if stop.wait(LOOK_EVERY):
                        raise SpeechFailed(f"{self.title} was stopped")
            finally:
                _end(process)
            spent = time.perf_counter() - start
            if process.returncode:
                raise SpeechFailed(
                    f"{self.title} ended with status {process.returncode}{_said(printed)}"
                )
            if not request.out.is_file():
                raise SpeechFailed(f"{self.title} wrote no {{out}}{_said(printed)}")
        return Timing(spent, spent if first is None else first)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a program that still runs, with all that it started."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _said(printed: IO[bytes]) -> str:
    """Return the end of what a program printed."""
    size = printed.seek(0, os.SEEK_END)
    printed.seek(max(0, size - 4 * TAIL))
    text = " ".join(printed.read().decode("utf-8", "replace").split())
    return f": {text[-TAIL:]}" if text else " and printed nothing"
