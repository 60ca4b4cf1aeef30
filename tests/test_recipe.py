"""Recipes are read strictly, and every problem is named."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from annotated_types import Ge

from svae import recipe
from svae.config import EMAConfig, TTSTrainConfig, VAEConfig, VAETrainConfig
from svae.errors import ConfigError

MINIMAL = "data: {root: shards}\ntrainer: {steps: 10}\n"


@pytest.fixture
def write(tmp_path):
    def _write(text: str) -> str:
        path = tmp_path / "r.yaml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return _write


def test_a_recipe_says_only_what_differs_from_the_defaults(write):
    config = recipe.load(VAETrainConfig, write(MINIMAL))
    assert config.trainer.steps == 10
    assert config.vae == VAEConfig()


def test_the_resolved_recipe_reads_back_unchanged(write, tmp_path):
    for cls in (VAETrainConfig, TTSTrainConfig):
        config = recipe.load(cls, write(MINIMAL))
        assert recipe.load(cls, write(recipe.dump(config))) == config


def test_yaml_1_2_scalars(write):
    config = recipe.load(VAETrainConfig, write(MINIMAL + "optimizer: {learning_rate: 5e-4}\n"))
    assert config.optimizer.learning_rate == 5e-4
    assert (
        recipe.load(VAETrainConfig, write("data: {root: no}\ntrainer: {steps: 1}\n")).data.root
        == "no"
    )


def test_set_changes_a_field_through_the_same_checks(write):
    config = recipe.load(
        VAETrainConfig, write(MINIMAL), ["trainer.seed=0", "loss.alignment=null", "loss.kl=0"]
    )
    assert (config.trainer.seed, config.loss.alignment, config.loss.kl) == (0, None, 0)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("vae.latnt_dim=3", "did you mean `latent_dim`"),
        ("trainer.steps=ten", "trainer.steps"),
        ("trainer.steps=true", "trainer.steps"),
        ("trainer.steps=1.5", "trainer.steps"),
        ("trainer.steps=0", "greater than 0"),
        ("loss.mel=.nan", "finite"),
        ("loss.kl=-1", "negative"),
        ("vae.encoder_strides=[4,4,5]", "differs from the encoder's"),
        ("vae.latent_dim=48", "must divide"),
        ("nonsense", "expected key.path=value"),
        ("trainer=5", "trainer"),
        ("trainer.steps.x=5", "is a value, not a section"),
        ("data=null", "data"),
        ("vae.decoder.upsample_kernel_sizes=[9]", "one size per upsample rate"),
        ("vae.decoder.istft_hop=2", "differs from the encoder's"),
        ("vae.encoder_mel_hop=5", "encoder_mel_hop: must be 0 or an even number"),
        ("vae.decoder.istft_hop=5", "istft_hop: must be 0 or an even number"),
        ("vae.decoder.anti_aliasing=false", "anti_aliasing: only an inverse STFT"),
        ("vae.decoder.linear_path=true", "linear_path: adds to the magnitudes"),
        ("vae.decoder.linear_path=true", "set both or neither"),
        ("vae.encoder_linear_path=true", "encoder_linear_path: reads log-mel frames"),
        ("segment_seconds=0.01", "segment_seconds"),
    ],
)
def test_a_wrong_field_is_named(write, override, message):
    with pytest.raises(ConfigError, match="(?s)" + message.replace("[", r"\[")):
        recipe.load(VAETrainConfig, write(MINIMAL), [override])


def test_all_problems_are_listed_at_once(write):
    with pytest.raises(ConfigError) as error:
        recipe.load(
            VAETrainConfig,
            write("data: {rot: x}\ntrainer: {steps: ten, sed: 1}\nloss: {kl: many}\n"),
        )
    for part in ("data.rot", "trainer.steps", "trainer.sed", "loss.kl", "5 problems"):
        assert part in str(error.value)


@pytest.mark.parametrize("text", ["a: [", "- 1", "", "data: {root: a, root: b}", "\x00"])
def test_a_file_that_is_no_recipe_is_an_error(write, text):
    with pytest.raises(ConfigError):
        recipe.load(VAETrainConfig, write(text))


def test_an_unknown_name_lists_what_there_is():
    with pytest.raises(ConfigError, match="Did you mean 'tiny/vae'"):
        recipe.load(VAETrainConfig, "tiny/vea")


def test_a_mask_ratio_must_be_a_range(write):
    with pytest.raises(ConfigError, match="mask_ratio"):
        recipe.load(TTSTrainConfig, write(MINIMAL), ["flow.mask_ratio=[0.9,0.7]"])


ACROSS_FIELDS = "a check across fields in svae/recipe.py refuses what cannot be built"
ANY_NUMBER = "every finite number means something"
WITHOUT_BOUNDS = {
    "vae.encoder_mel_hop": ACROSS_FIELDS,
    "vae.initial_logvar": ANY_NUMBER,
    "vae.decoder.upsample_kernel_sizes": ACROSS_FIELDS,
    "vae.decoder.resblock_kernel_sizes": ACROSS_FIELDS,
    "vae.decoder.resblock_dilation_sizes": ACROSS_FIELDS + " (as many lists as kernel sizes)",
    "vae.decoder.istft_hop": ACROSS_FIELDS,
    "discriminator.periods": ACROSS_FIELDS,
    "discriminator.period_channels": ACROSS_FIELDS,
    "discriminator.fft_sizes": ACROSS_FIELDS,
    "discriminator.spectral_channels": ACROSS_FIELDS,
    "discriminator.bands": "pairs of fractions that nothing has checked so far",
    "teacher.layer": ANY_NUMBER + " (-1 is the last layer)",
}


def numbers_in(hint: Any) -> bool:
    return hint in (int, float) or any(numbers_in(part) for part in typing.get_args(hint))


def numeric_fields(cls: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    hints = typing.get_type_hints(cls, include_extras=True)
    for item in dataclasses.fields(cls):
        place, hint = f"{prefix}{item.name}", hints[item.name]
        if dataclasses.is_dataclass(hint):
            yield from numeric_fields(hint, f"{place}.")
        elif numbers_in(hint):
            yield place, hint


def test_every_number_of_a_recipe_has_a_bound_or_a_reason_for_none():
    fields = [pair for cls in (VAETrainConfig, TTSTrainConfig) for pair in numeric_fields(cls)]
    unbounded = {place for place, hint in fields if not recipe.bounds_of(hint)}
    assert len(fields) > 90
    assert unbounded == set(WITHOUT_BOUNDS)


def test_a_new_field_named_like_an_old_one_inherits_no_bound():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Louder(TTSTrainConfig):
        power: float = 1.0
        decay: Annotated[float, Ge(0)] = 0.5

    tree = {"data": {"root": "x"}, "trainer": {"steps": 1}, "power": -3.0, "decay": 7.0}
    config = recipe.build(Louder, tree, where="r")
    assert (config.power, config.decay) == (-3.0, 7.0)
    with pytest.raises(ConfigError, match="decay: must not be negative, got -1.0"):
        recipe.build(Louder, {**tree, "decay": -1.0}, where="r")
    with pytest.raises(ConfigError, match="ema.power: must lie between 0 and 1, got 7.0"):
        recipe.build(Louder, {**tree, "ema": {"power": 7.0}}, where="r")
    assert recipe.from_tree(EMAConfig, {"power": 1.0}).power == 1.0


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.accumulate=many", "trainer.accumulate: input should be a valid integer or 'auto', got 'many'"),
        ("trainer.accumulate=0", "trainer.accumulate: must be greater than 0 or 'auto', got 0"),
        ("teacher.layer=[1]", "teacher.layer: input should be a valid integer or 'average', got [1]"),
        ("vae.decoder.upsample_rates=[1,a]", "vae.decoder.upsample_rates.1: input should be a valid integer, got 'a'"),
        ("data.sources=[{root: 3}]", "data.sources.0.root: input should be a valid string, got 3"),
    ],
)  # fmt: skip
def test_a_value_of_no_kind_that_a_field_takes_is_one_problem_at_the_field(override, message):
    with pytest.raises(ConfigError) as caught:
        recipe.load(VAETrainConfig, "tiny/vae", [override])
    assert str(caught.value).splitlines()[1:] == [f"  {message}"]


def test_wrong_types_and_numbers_beyond_their_bounds_come_in_one_message(write):
    overrides = [
        "trainer.steps=ten",
        "trainer.seed=9223372036854775808",
        "ema.power=-0.5",
        "loss.kl=.inf",
        "loss.mel=.nan",
        "segment_seconds=-.inf",
        "vae.encoder_strides=[4,0,5,5]",
    ]
    with pytest.raises(ConfigError) as error:
        recipe.load(VAETrainConfig, write(MINIMAL), overrides)
    for part in (
        "7 problems",
        "trainer.steps: input should be a valid integer, got 'ten'",
        "trainer.seed: must be from 0 to 2^63 - 1, got 9223372036854775808",
        "ema.power: must lie between 0 and 1, got -0.5",
        "loss.kl: must be finite, got inf",
        "loss.mel: must be finite, got nan",
        "segment_seconds: must be finite, got -inf",
        "vae.encoder_strides.1: must be greater than 0, got 0",
    ):
        assert part in str(error.value)
