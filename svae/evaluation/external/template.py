"""Placeholders such as {text} in what a user writes: in the words of a command, in the fields of a request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from string import Formatter

from svae.errors import ConfigError


@dataclass(frozen=True)
class Template:
    """A text with places that are filled for each utterance."""

    pieces: tuple[tuple[str, str | None], ...]
    """What stands there, and the name of what follows it."""

    @property
    def names(self) -> set[str]:
        """The placeholders in it."""
        return {name for _, name in self.pieces if name is not None}

    def fill(self, values: Mapping[str, str]) -> str:
        """Return the text with every placeholder replaced; nothing in a value is read again."""
        return "".join(
            before + ("" if name is None else values[name]) for before, name in self.pieces
        )


def parse_template(text: str, known: Iterable[str], *, option: str) -> Template:
    """Read a text with placeholders; {{ and }} stand for the characters themselves.

    Raises:
        ConfigError: a placeholder that is not known, or a single brace.
    """
    names = ", ".join(f"{{{name}}}" for name in known)
    advice = f"known are {names}; for the characters {'{'} and {'}'} themselves write them twice"
    try:
        parsed = list(Formatter().parse(text))
    except ValueError as error:
        raise ConfigError(f"{option}: {text!r}: {error}; {advice}") from None
    for _, name, form, conversion in parsed:
        if name is not None and (name not in known or form or conversion):
            shown = f"{name}{'!' + conversion if conversion else ''}{':' + form if form else ''}"
            raise ConfigError(f"{option}: unknown placeholder {{{shown}}}; {advice}")
    return Template(tuple((before, name) for before, name, _, _ in parsed))
