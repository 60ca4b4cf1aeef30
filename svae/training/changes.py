"""What a resumed run may have otherwise than when it began, and the history of what was changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from svae import recipe
from svae.config import TTSTrainConfig, VAETrainConfig
from svae.errors import ConfigError

MAY_CHANGE = (
    *("trainer.", "loader.", "optimizer.", "ema.", "data."),
    *("vae", "vocoder", "init", "teacher.cache", "distill.teacher"),
    *("batch_size", "batch_frames", "min_seconds", "max_seconds", "spelled_words"),
    *("discriminator.window_seconds", "teacher.context_seconds"),
    *("validation_crops", "validation_utterances", "statistics_utterances", "patience"),
    *("loss.mel", "loss.feature_matching", "loss.adversarial", "loss.kl"),
    *(
        "loss.pitch",
        "flow.weighting",
        "loss.adversarial_start_step",
        "loss.alignment_form",
        "dit.dropout",
    ),
    *("flow.mask_ratio", "flow.drop_audio", "flow.drop_both", "flow.drop_text"),
)
"""Fields, and sections (with a full stop at the end), whose change leaves the weights their meaning."""

WHY_NOT = {
    "segment_seconds": "the networks have learned on crops of this length",
    "teacher.": "the latents have been aligned with this teacher",
    "loss.alignment": "the regulator is there only where latents are aligned",
    "freeze_encoder": "the optimizer's state belongs to the parameters that are trained",
    "tokens": "the text embedding has a row for each of these symbols",
    "representation": "the network generates this and nothing else",
    "distill.": "the student has learned other steps than these",
    "judges.": "scores of different judges do not compare, and the best point is chosen by them",
    "flow.posterior": "it decides which latents are learned",
    "": "it decides which weights there are or what they mean",
}
"""Why another field cannot change, by the field or its section; the first that fits is said."""

Changes = dict[str, dict[str, Any]]
"""Field, such as `trainer.seed`, to what it was (`before`) and is (`now`)."""


def changes_since(config: VAETrainConfig | TTSTrainConfig, stored: Path) -> Changes:
    """Return what a recipe has otherwise than the recipe.yaml of the run that it continues.

    Raises:
        ConfigError: something that would make the weights meaningless; each such field is named with the reason.
    """
    if not stored.is_file():
        return {}
    kind: type[Any] = type(config)
    before = _flatten(recipe.to_tree(recipe.load(kind, str(stored))))
    now = _flatten(recipe.to_tree(config))
    changes = {
        field: {"before": before.get(field), "now": now.get(field)}
        for field in sorted(before.keys() | now.keys())
        if before.get(field) != now.get(field)
    }
    refused = [
        f"  {field}: {change['before']!r} in the run, {change['now']!r} now: {_why_not(field)}"
        for field, change in changes.items()
        if not _may_change(field, change)
    ]
    if refused:
        raise ConfigError(
            f"{stored.parent}: holds a run with another recipe, so it cannot be continued with this one:\n"
            + "\n".join(refused)
            + "\nTake back these changes, or begin a run: another --out, with --init to start from these weights."
        )
    return changes


def describe(changes: Changes) -> list[str]:
    """Return a line for each change."""
    return [
        f"{field}: {change['before']!r} became {change['now']!r}"
        for field, change in changes.items()
    ]


def _may_change(field: str, change: dict[str, Any]) -> bool:
    if field == "loss.alignment":
        # Another weight is another weight; none is a network without a regulator.
        return None not in change.values()
    return any(_fits(field, name) for name in MAY_CHANGE)


def _why_not(field: str) -> str:
    return next(reason for name, reason in WHY_NOT.items() if name == "" or _fits(field, name))


def _fits(field: str, name: str) -> bool:
    return field.startswith(name) if name.endswith(".") else field == name


def _flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a nested recipe as one level of fields such as `trainer.steps`."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
