"""Two pictures of an evaluation as inline SVG: WER against length, and by speaker."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from markupsafe import Markup, escape

WIDTH, HEIGHT = 520, 300
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 10, 40
MOST_SPEAKERS = 24
BINS = 6


def length_chart(points: Mapping[str, Sequence[tuple[float, float]]]) -> Markup:
    """Return WER in per cent against seconds: a dot for each utterance, a line through means of equal-sized groups.

    `points` are (seconds, WER) of each utterance: of `system` and, where there are any, `original`.
    """
    everything = [p for found in points.values() for p in found]
    if not everything:
        return Markup()
    longest = max(x for x, _ in everything) or 1.0
    highest = min(max(max(y for _, y in everything), 0.05), 1.5)
    x_ticks, y_ticks = _ticks(longest), _ticks(100 * highest)
    top_x, top_y = max(longest, x_ticks[-1]), max(100 * highest, y_ticks[-1])

    def place(x: float, y: float) -> tuple[float, float]:
        across = LEFT + x / top_x * (WIDTH - LEFT - RIGHT)
        return across, HEIGHT - BOTTOM - min(100 * y, top_y) / top_y * (HEIGHT - TOP - BOTTOM)

    parts = [_grid(place, x_ticks, y_ticks, "seconds of speech", "WER %")]
    for name in ("original", "system"):
        found = points.get(name, ())
        for x, y in found:
            across, up = place(x, y)
            parts.append(f'<circle class="dot {name}" cx="{across:.1f}" cy="{up:.1f}" r="3"/>')
    for name in ("original", "system"):
        found = sorted(points.get(name, ()))
        if len(found) >= 2 * BINS:
            means = [np.mean(group, axis=0) for group in np.array_split(np.array(found), BINS)]
            line = " ".join("{:.1f},{:.1f}".format(*place(float(x), float(y))) for x, y in means)
            parts.append(
                f'<polyline class="trend{" o" if name == "original" else ""}" points="{line}"/>'
            )
    return _figure("WER against length", parts, HEIGHT, legend="original" in points)


def speaker_chart(rates: Mapping[str, tuple[float, float | None]]) -> Markup:
    """Return WER in per cent by speaker, worst first, of (system, originals)."""
    worst = sorted(rates.items(), key=lambda item: (-item[1][0], item[0]))
    chosen = worst[:MOST_SPEAKERS]
    if len(chosen) < 2:
        return Markup()
    top = max([0.05, *(r for _, pair in chosen for r in pair if r is not None)])
    step, start = 22, TOP + 4
    room = WIDTH - 110 - 54
    parts = []
    for number, (name, (system, original)) in enumerate(chosen):
        y = start + number * step
        label = name if len(name) <= 15 else name[:14] + "…"
        parts.append(f'<text x="102" y="{y + 12}" text-anchor="end">{escape(label)}</text>')
        parts.append(
            f'<rect class="system" x="110" y="{y}" width="{room * system / top:.1f}" height="9" rx="2"/>'
        )
        parts.append(
            f'<text x="{110 + room * system / top + 6:.1f}" y="{y + 10}">{100 * system:.1f}</text>'
        )
        if original is not None:
            width = room * original / top
            parts.append(
                f'<rect class="original" x="110" y="{y + 10}" width="{width:.1f}" height="5" rx="2"/>'
            )
    shown = f", the worst {len(chosen)} of {len(rates)}" if len(rates) > len(chosen) else ""
    has_originals = any(original is not None for _, (_, original) in chosen)
    return _figure(
        f"WER % by speaker{shown}", parts, start + len(chosen) * step + 6, legend=has_originals
    )


def _figure(title: str, parts: Sequence[str], height: float, *, legend: bool) -> Markup:
    """Return a figure around parts in which every text is escaped."""
    key = (
        '<span><i></i>system</span><span><i class="original"></i>originals</span>' if legend else ""
    )
    body = "".join(parts)
    return Markup(
        f'<div><h2>{escape(title)}</h2><p class="legend">{key}</p>'
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title)}">{body}</svg></div>'
    )


def _grid(
    place: Callable[[float, float], tuple[float, float]],
    x_ticks: list[float],
    y_ticks: list[float],
    x_name: str,
    y_name: str,
) -> str:
    parts = []
    for tick in y_ticks:
        _, y = place(0, tick / 100)
        parts.append(
            f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in x_ticks:
        x, _ = place(tick, 0)
        parts.append(
            f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{tick:g}</text>'
        )
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 4}" text-anchor="end">{x_name}</text>')
    parts.append(f'<text x="{LEFT - 36}" y="{HEIGHT - 4}">{y_name} ↑</text>')
    return "".join(parts)


def _ticks(highest: float) -> list[float]:
    """Return about five round numbers from 0 to the highest value or just above it."""
    raw = highest / 4
    power = 10.0 ** np.floor(np.log10(raw))
    step = next(float(m * power) for m in (1, 2, 2.5, 5, 10) if m * power >= raw - 1e-12)
    return [round(i * step, 10) for i in range(int(np.ceil(highest / step - 1e-9)) + 1)]
