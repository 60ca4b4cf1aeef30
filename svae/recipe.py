"""Recipes: YAML plus `--set` → a frozen dataclass of `svae.config`, or one `ConfigError` that lists every problem."""

from __future__ import annotations

import dataclasses
import difflib
import io
import json
import math
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from annotated_types import Ge, Gt, Le, Lt

from svae.config import (
    AdaptConfig,
    BigVGANConfig,
    DiTConfig,
    SourceFilterConfig,
    TTSTrainConfig,
    VAEConfig,
    VAETrainConfig,
)
from svae.errors import CheckpointError, ConfigError

Config = TypeVar("Config", VAETrainConfig, AdaptConfig, TTSTrainConfig)

BOUND_ERRORS = {"greater_than", "greater_than_equal", "less_than", "less_than_equal"}
"""Pydantic's names of the problems that `WORDS` says as a whole; pydantic names only the side that a number is beyond."""
WORDS = {
    frozenset({Gt(0)}): "must be greater than 0",
    frozenset({Ge(0)}): "must not be negative",
    frozenset({Ge(0), Le(1)}): "must lie between 0 and 1",
    frozenset({Ge(0), Lt(2**63)}): "must be from 0 to 2^63 - 1",
}
"""What a message says of a field with these bounds; other bounds are said in pydantic's words."""

HISTORY = "history"
"""The field of a run's recipe.yaml that lists what resumptions changed; no setting."""


def recipe_folders() -> list[Path]:
    """Return the folders searched for a recipe given by name: inside the wheel, then the source checkout."""
    package = Path(__file__).parent
    return [
        folder for folder in (package / "recipes", package.parent / "recipes") if folder.is_dir()
    ]


def recipe_names() -> list[str]:
    """Return the names of all shipped recipes, e.g. `tiny/vae`."""
    return sorted(
        {
            p.relative_to(f).with_suffix("").as_posix()
            for f in recipe_folders()
            for p in f.rglob("*.yaml")
        }
    )


def find_recipe(name: str) -> Path:
    """Return the file of a recipe given by path or by name.

    Raises:
        ConfigError: there is neither such a file nor such a recipe.
    """
    if Path(name).is_file():
        return Path(name)
    for folder in recipe_folders():
        candidate = folder / f"{name.removesuffix('.yaml')}.yaml"
        if candidate.is_file():
            return candidate
    close = difflib.get_close_matches(name, recipe_names(), n=1, cutoff=0.4)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise ConfigError(
        f"recipe {name!r}: no such file and no such recipe.{hint}\nShipped recipes: {', '.join(recipe_names())}"
    )


def load(cls: type[Config], name: str, overrides: Sequence[str] = ()) -> Config:
    """Read a recipe and apply `a.b=c` overrides.

    Args:
        cls: `VAETrainConfig` or `TTSTrainConfig`.
        name: path of a YAML file, or a name such as `tiny/vae`.
        overrides: `key.path=value`, the value in YAML syntax.

    Raises:
        ConfigError: unknown recipe, YAML that does not parse, unknown keys, wrong types, impossible values; all at once.
    """
    path = find_recipe(name)
    tree = _read_yaml(path)
    tree.pop(HISTORY, None)
    return build(cls, tree, where=f"recipe {path}", overrides=overrides)


def build(
    cls: type[Config], tree: dict[str, Any], *, where: str, overrides: Sequence[str] = ()
) -> Config:
    """Turn a plain tree (as read from YAML or JSON) into the dataclass; `where` starts the error message."""
    for override in overrides:
        _apply_override(tree, override)
    field_problems: list[str]
    config, field_problems = _validate(cls, tree)
    problems = [*_unknown_keys(cls, tree, ""), *_no_data(tree), *field_problems]
    if config is not None:
        # No bound refuses infinity, and some let NaN through.
        infinite = _infinite_numbers(dataclasses.asdict(config), "")
        values = [f"{place}: {problem}" for place, problem in infinite]
        problems += values or _cross_problems(config)  # the latter would only echo the former
    if problems or config is None:
        count = f"{len(problems)} problem{'s' if len(problems) != 1 else ''}"
        raise ConfigError(f"{where}: {count}\n" + "\n".join(f"  {p}" for p in problems))
    return config


def bounds_of(hint: Any) -> list[Any]:
    """Return the bounds (`Gt(0)` and the like) in a field's type, also those of a tuple's elements."""
    bounds = list(getattr(hint, "__metadata__", ()))
    for part in typing.get_args(hint):
        bounds += bounds_of(part)
    return bounds


def to_tree(config: Any) -> dict[str, Any]:
    """Return the resolved configuration as plain dicts, lists and scalars."""
    tree: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return tree


def dump(config: Any, history: Sequence[dict[str, Any]] = ()) -> str:
    """Return the resolved configuration as YAML text that `load` reads back unchanged.

    The history of a run, if it has one, is added as the field `history`, which `load` passes over.
    """
    buffer = io.StringIO()
    tree = to_tree(config)
    if history:
        tree[HISTORY] = list(history)
    _yaml().dump(tree, buffer)
    return buffer.getvalue()


def read_history(path: Path) -> list[dict[str, Any]]:
    """Return the changes that a run's recipe.yaml lists: step, date and changed fields of each resumption."""
    return _read_yaml(path).get(HISTORY, []) if path.is_file() else []


def from_tree(cls: type, tree: Any, *, where: str | Path = "config.json") -> Any:
    """Rebuild a section (e.g. `VAEConfig`) from a checkpoint's config.json.

    Raises:
        CheckpointError: `where` is damaged: something is missing, of another type, or out of bounds.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(cls).validate_json(json.dumps(tree))
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, item['loc'])) or cls.__name__}: {item['msg'].lower()}, got {item['input']!r}"
            for item in error.errors()
        ]
        raise CheckpointError(f"{where}: damaged: {'; '.join(problems)[:300]}") from None


def _yaml() -> Any:
    from ruamel.yaml import YAML

    yaml: Any = YAML(typ="safe", pure=True)  # pure = YAML 1.2: 5e-4 is a number, `no` is text
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False
    return yaml


def _read_yaml(path: Path) -> dict[str, Any]:
    from ruamel.yaml.error import YAMLError

    try:
        tree = _yaml().load(path.read_text(encoding="utf-8"))
    except (YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"recipe {path}: not valid YAML\n{error}") from None
    if not isinstance(tree, dict):
        raise ConfigError(
            f"recipe {path}: expected a mapping of sections, got {type(tree).__name__}"
        )
    return tree


def _apply_override(tree: dict[str, Any], override: str) -> None:
    from ruamel.yaml.error import YAMLError

    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(
            f"--set {override!r}: expected key.path=value, e.g. --set trainer.steps=100"
        )
    try:
        value = _yaml().load(text) if text.strip() else None
    except YAMLError as error:
        raise ConfigError(f"--set {override!r}: the value is not valid YAML\n{error}") from None
    *parents, leaf = key.strip().split(".")
    for parent in parents:
        child = tree.setdefault(parent, {})
        if not isinstance(child, dict):
            raise ConfigError(f"--set {override!r}: {parent!r} is a value, not a section")
        tree = child
    tree[leaf] = value


def _unknown_keys(cls: type, tree: dict[str, Any], prefix: str) -> Iterator[str]:
    hints = typing.get_type_hints(cls)
    names = [f.name for f in dataclasses.fields(cls)]
    for key, value in tree.items():
        if key not in names:
            close = difflib.get_close_matches(str(key), names, n=1, cutoff=0.5)
            advice = f"did you mean `{close[0]}`?" if close else f"known here: {', '.join(names)}"
            yield f"{prefix}{key}: unknown key; {advice}"
        elif (section := _section(hints[key])) is not None and isinstance(value, dict):
            yield from _unknown_keys(section, value, f"{prefix}{key}.")
        elif section is not None and isinstance(value, list):
            for number, each in enumerate(value):
                if isinstance(each, dict):
                    yield from _unknown_keys(section, each, f"{prefix}{key}.{number}.")


def _no_data(tree: dict[str, Any]) -> Iterator[str]:
    """Yield the problem of a recipe that names nothing to train on: neither of two fields is required alone."""
    data = tree.get("data")
    if isinstance(data, dict) and data.get("root") is None and not data.get("sources"):
        yield "data.root: field required: a folder of shards (or data.sources: several)"


def _section(hint: Any) -> type | None:
    """Return the dataclass of a field that holds a section, also of one that may be null."""
    kinds = [kind for kind in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(kind)]
    return typing.cast(type, kinds[0]) if kinds else None


def _validate(cls: type[Config], tree: dict[str, Any]) -> tuple[Config | None, list[str]]:
    from pydantic import TypeAdapter, ValidationError

    try:
        text = json.dumps(tree)
    except (TypeError, ValueError) as error:  # e.g. a YAML timestamp
        return None, [f"a value is neither number, text, list nor mapping: {error}"]
    try:
        return TypeAdapter(cls).validate_json(text, strict=True), []
    except ValidationError as error:
        infinite = dict(_infinite_numbers(tree, ""))
        expectations: dict[str, list[str]] = {}  # of a field, one for each kind that it may be of
        given: dict[str, str] = {}
        for item in error.errors():
            parts, hint = _field(cls, item["loc"])
            name = ".".join(part for part in parts if isinstance(part, str))
            if item["type"] in BOUND_ERRORS and name in infinite:
                continue
            infinite.pop(name, None)
            place = ".".join(map(str, parts))
            expected = item["msg"].lower()
            if item["type"] in BOUND_ERRORS:
                expected = WORDS.get(frozenset(bounds_of(hint)), expected)
            expectations.setdefault(place, []).append(expected)
            given[place] = "" if item["type"] == "missing" else f", got {item['input']!r}"
        problems = [
            f"{place}: {_alternatives(expected)}{given[place]}"
            for place, expected in expectations.items()
        ]
        problems += [f"{place}: {problem}" for place, problem in infinite.items()]
        return None, problems


def _field(cls: type, place: Sequence[str | int]) -> tuple[list[str | int], Any]:
    """Return where a problem is, and the type of the field there.

    It is pydantic's place without the names that pydantic gives to the kinds of value that a field may have.
    """
    path: list[str | int] = []
    hint: Any = cls
    for part in place:
        section = _section(hint)
        known = {} if section is None else typing.get_type_hints(section, include_extras=True)
        if isinstance(part, int):
            path.append(part)
        elif part in known:
            path.append(part)
            hint = known[part]
    return path, hint


def _alternatives(expected: list[str]) -> str:
    """Return `input should be a valid integer or 'auto'` of what each kind of value says."""
    first, *others = dict.fromkeys(expected)
    return " or ".join([first, *(other.removeprefix("input should be ") for other in others)])


def _infinite_numbers(tree: dict[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    """Yield the place and the problem of every number, alone or in a list, that is infinite or not a number."""
    for name, value in tree.items():
        place = f"{prefix}{name}"
        if isinstance(value, dict):
            yield from _infinite_numbers(value, f"{place}.")
            continue
        numbers = value if isinstance(value, list | tuple) else (value,)
        for n, number in enumerate(numbers):
            if isinstance(number, dict):
                yield from _infinite_numbers(number, f"{place}.{n}.")
            if isinstance(number, float) and not math.isfinite(number):
                yield place, f"must be finite, got {value!r}"
                break


def _data_problems(config: VAETrainConfig | TTSTrainConfig) -> Iterator[str]:
    data = config.data
    if data.root is not None and data.sources:
        yield (
            f"data.root: {data.root!r} beside data.sources; expected one of them. Leave out the other: root: null (with --data, "
            "sources: [])"
        )
    weighted = [source.weight is not None for source in data.sources]
    if any(weighted) and not all(weighted):
        yield f"data.sources.{weighted.index(False)}.weight: missing; give every source a weight, or none"
    if data.temperature != 1 and not data.sources:
        yield f"data.temperature: {data.temperature} without data.sources, whose weights it changes"


def _timings_problems(config: TTSTrainConfig) -> Iterator[str]:
    data, wanted = config.data, config.tokens == "frame-phonemes"
    places = {f"data.sources.{n}.timings": source.timings for n, source in enumerate(data.sources)}
    if not data.sources or data.timings is not None:
        places["data.timings"] = data.timings
    if data.sources and data.timings is not None:
        yield "data.timings: with data.sources every source has its own `timings`"
        return
    if data.validation_root is not None or data.validation_timings is not None:
        places["data.validation_timings"] = data.validation_timings
    if data.validation_timings is not None and data.validation_root is None:
        yield "data.validation_timings: without data.validation_root, of whose utterances it has the times"
        return
    for place, timings in places.items():
        if wanted != (timings is not None):
            expected = "a folder of `svae align`" if wanted else "tokens: frame-phonemes"
            yield f"{place}: {timings!r} with tokens: {config.tokens}; expected {expected}"


def _cross_problems(config: VAETrainConfig | TTSTrainConfig) -> Iterator[str]:
    yield from _data_problems(config)
    if isinstance(config, VAETrainConfig):
        if config.teacher.cache is not None and config.data.sources:
            yield "teacher.cache: holds the features of one folder; leave it null with data.sources"
        yield from _vae_problems(config.vae)
        yield from _bottleneck_problems(config)
        yield from _discriminator_problems(config)
        yield from _start_problems(config)
        if config.segment_seconds * config.vae.sample_rate < config.vae.hop_length:
            yield "segment_seconds: shorter than one latent frame"
        longest_fft = 2048  # of the multi-scale mel loss, padded by reflection
        if config.segment_seconds * config.vae.sample_rate <= longest_fft // 2:
            yield f"segment_seconds: the mel loss needs more than {longest_fft // 2} samples"
        return
    yield from dit_problems(config.dit)
    low, high = config.flow.mask_ratio
    if low > high:
        yield f"flow.mask_ratio: the lower bound {low} is above the upper bound {high}"
    if config.representation == "mel" and config.vae is not None:
        yield f"vae: mel frames come from no VAE; leave out {config.vae!r} or set representation: latents"
    if config.representation == "mel" and config.flow.posterior != "mean":
        yield f"flow.posterior: mel frames have no posterior to draw from, got {config.flow.posterior!r}"
    yield from _timings_problems(config)
    yield from _student_problems(config)
    yield from _hidden_alignment_problems(config)
    if config.min_seconds >= config.max_seconds:
        yield f"min_seconds: must be below max_seconds ({config.max_seconds}), got {config.min_seconds}"


def _student_problems(config: TTSTrainConfig) -> Iterator[str]:
    if config.distill is None:
        return
    if config.init is not None:
        yield f"init: a student starts from its teacher; leave out {config.init!r}"


def _hidden_alignment_problems(config: TTSTrainConfig) -> Iterator[str]:
    layer, depth = config.loss.hidden_layer, config.dit.depth
    if layer is not None and layer > depth:
        yield f"loss.hidden_layer: there are {depth} blocks (dit.depth), got {layer}"
    if not config.loss.hidden_alignment:
        return
    if config.teacher.cache is None:
        yield "loss.hidden_alignment: reads stored features; set teacher.cache to a folder of `svae cache-teacher`"
    if config.representation != "latents":
        yield "loss.hidden_alignment: is for latents, whose frames are the teacher's moments; set it to 0 with mel frames"
    if config.data.sources:
        yield "loss.hidden_alignment: teacher.cache holds the features of one folder; set it to 0 with data.sources"
    if config.distill is not None or isinstance(config, AdaptConfig):
        yield "loss.hidden_alignment: is of a training of the whole network; set it to 0 for a student or an adapter"


def _vae_problems(vae: VAEConfig) -> Iterator[str]:
    decoder: BigVGANConfig = vae.decoder
    encoder_hop, decoder_hop = vae.hop_length, (vae.source_filter or decoder).hop_length
    width = vae.encoder_channels * 2 ** len(vae.encoder_strides)
    if encoder_hop != decoder_hop:
        name, product = (
            ("source_filter", "hop times rate")
            if vae.source_filter
            else ("decoder", "product of upsample_rates, times istft_hop")
        )
        yield f"vae.{name}: hop {decoder_hop} ({product}) differs from the encoder's, {encoder_hop}"
    if vae.encoder_mel_hop < 0 or vae.encoder_mel_hop % 2:
        yield f"vae.encoder_mel_hop: must be 0 or an even number, got {vae.encoder_mel_hop}"
    if decoder.istft_hop < 0 or decoder.istft_hop % 2:
        yield f"vae.decoder.istft_hop: must be 0 or an even number, got {decoder.istft_hop}"
    if decoder.linear_path and not decoder.istft_hop:
        yield "vae.decoder.linear_path: adds to the magnitudes of an inverse STFT; set vae.decoder.istft_hop"
    if not decoder.anti_aliasing and not decoder.istft_hop:
        yield "vae.decoder.anti_aliasing: only an inverse STFT can do without it; set vae.decoder.istft_hop"
    if vae.encoder_linear_path and not vae.encoder_mel_hop:
        yield "vae.encoder_linear_path: reads log-mel frames; set vae.encoder_mel_hop"
    if vae.encoder_pitch_window < 0 or vae.encoder_pitch_window % 2:
        yield f"vae.encoder_pitch_window: must be 0 or an even number, got {vae.encoder_pitch_window}"
    if vae.encoder_pitch_window and not vae.encoder_mel_hop:
        yield "vae.encoder_pitch_window: is read at the hops of log-mel frames; set vae.encoder_mel_hop"
    if not 0 <= vae.encoder_linear_latents <= vae.latent_dim:
        yield f"vae.encoder_linear_latents: must lie between 0 and latent_dim ({vae.latent_dim}), got {vae.encoder_linear_latents}"
    if vae.source_filter is not None:
        yield from _source_filter_problems(vae.source_filter, vae.sample_rate)
    elif vae.encoder_linear_path != decoder.linear_path:
        yield "vae.encoder_linear_path and vae.decoder.linear_path: start from the same components; set both or neither"
    if len(decoder.upsample_rates) != len(decoder.upsample_kernel_sizes):
        yield "vae.decoder.upsample_kernel_sizes: needs one size per upsample rate"
    elif any(
        (k - r) % 2 or k < r
        for k, r in zip(decoder.upsample_kernel_sizes, decoder.upsample_rates, strict=True)
    ):
        yield "vae.decoder.upsample_kernel_sizes: each must be its rate plus an even number"
    if not decoder.resblock_kernel_sizes or any(
        size < 1 or size % 2 == 0 for size in decoder.resblock_kernel_sizes
    ):
        yield f"vae.decoder.resblock_kernel_sizes: each must be odd, got {list(decoder.resblock_kernel_sizes)}"
    if len(decoder.resblock_kernel_sizes) != len(decoder.resblock_dilation_sizes):
        yield "vae.decoder.resblock_dilation_sizes: needs one list per resblock kernel size"
    if decoder.initial_channels % 2 ** len(decoder.upsample_rates):
        yield "vae.decoder.initial_channels: must be divisible by 2 for every upsampling stage"
    if width % vae.attention_heads:
        yield f"vae.attention_heads: must divide the encoder's output width {width}, got {vae.attention_heads}"
    if width % vae.latent_dim and vae.latent_dim % width:
        yield f"vae.latent_dim: must divide the encoder's output width {width} (or be a multiple of it), got {vae.latent_dim}"


def _bottleneck_problems(config: VAETrainConfig) -> Iterator[str]:
    vae, loss = config.vae, config.loss
    if vae.latent_noise is not None and loss.kl:
        yield f"loss.kl: with vae.latent_noise there is no learned posterior to compare; set it to 0, got {loss.kl}"
    if not vae.anchored_latents:
        return
    if vae.anchored_latents >= vae.latent_dim:
        yield f"vae.anchored_latents: must be below latent_dim ({vae.latent_dim}), so that a residue is left, got {vae.anchored_latents}"
    if loss.alignment is None and not config.freeze_encoder:
        yield "vae.anchored_latents: say what the teacher says; set loss.alignment to a weight"
    if loss.alignment_form != "mse":
        yield f"loss.alignment_form: must be mse with vae.anchored_latents, got {loss.alignment_form!r}"
    if vae.latent_noise is not None:
        yield "vae.anchored_latents: are not brought to unit deviation frame by frame; leave out vae.latent_noise"


def _source_filter_problems(cfg: SourceFilterConfig, sample_rate: int) -> Iterator[str]:
    if cfg.hop < 2 or cfg.hop % 2:
        yield f"vae.source_filter.hop: must be an even number, got {cfg.hop}"
    if cfg.rate < 2 or cfg.rate % 2:
        yield f"vae.source_filter.rate: must be an even number, got {cfg.rate}"
    if cfg.kernel_size < 1 or cfg.kernel_size % 2 == 0:
        yield f"vae.source_filter.kernel_size: must be odd, got {cfg.kernel_size}"
    if cfg.pitch_bins < 8:
        yield f"vae.source_filter.pitch_bins: must be at least 8, got {cfg.pitch_bins}"
    if not 20 <= cfg.pitch_range[0] < cfg.pitch_range[1] <= sample_rate / 8:
        yield f"vae.source_filter.pitch_range: must rise between 20 Hz and an eighth of the sample rate, got {list(cfg.pitch_range)}"


def _start_problems(config: VAETrainConfig) -> Iterator[str]:
    if config.freeze_encoder and config.init is None:
        yield "freeze_encoder: needs `init`, a VAE whose encoder is worth keeping; pass --init DIR"
    if config.freeze_encoder and config.loss.alignment is not None:
        yield "freeze_encoder: latents that do not change cannot be aligned; pass --set loss.alignment=null"


def _discriminator_problems(config: VAETrainConfig) -> Iterator[str]:
    cfg = config.discriminator
    if any(period < 1 for period in cfg.periods):
        yield f"discriminator.periods: each must be at least 1, got {list(cfg.periods)}"
    if not cfg.period_channels or any(width < 1 for width in cfg.period_channels):
        yield f"discriminator.period_channels: needs widths of at least 1, got {list(cfg.period_channels)}"
    if any(size < 16 or size & (size - 1) for size in cfg.fft_sizes):
        yield f"discriminator.fft_sizes: each must be a power of two from 16 up, got {list(cfg.fft_sizes)}"
    if not cfg.periods and not cfg.fft_sizes:
        yield "discriminator: needs periods or fft_sizes"
    if cfg.spectral_channels < 1:
        yield f"discriminator.spectral_channels: must be at least 1, got {cfg.spectral_channels}"


def dit_problems(dit: DiTConfig) -> Iterator[str]:
    """Yield which sizes of a DiT do not fit together."""
    if dit.dim % dit.heads or (dit.dim // dit.heads) % 2:
        yield f"dit.heads: dim / heads must be a whole even number, got {dit.dim} / {dit.heads}"
    if dit.dim % dit.conv_pos_groups:
        yield f"dit.conv_pos_groups: must divide dim {dit.dim}, got {dit.conv_pos_groups}"
    if dit.conv_pos_kernel % 2 == 0:
        yield f"dit.conv_pos_kernel: must be odd, got {dit.conv_pos_kernel}"
    if dit.text_dim % 2:
        yield f"dit.text_dim: must be even, got {dit.text_dim}"
