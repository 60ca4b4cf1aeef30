"""Recipes are read strictly, and every problem is named."""

from __future__ import annotations

import pytest

from svae import recipe
from svae.config import TTSTrainConfig, VAEConfig, VAETrainConfig
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
