"""Every shipped recipe parses, and its networks build."""

from __future__ import annotations

import pytest
import torch

from svae import recipe
from svae.config import TTSTrainConfig, VAETrainConfig
from svae.models.discriminators import Discriminators
from svae.models.dit import DiT
from svae.models.vae import SpeechVAE

NAMES = recipe.recipe_names()


def kind_of(name: str) -> type:
    return VAETrainConfig if name.split("/")[-1].startswith("vae") else TTSTrainConfig


def test_the_default_recipes_are_there():
    assert {"tiny/vae", "tiny/tts"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_recipe_builds_its_networks(name):
    config = recipe.load(kind_of(name), name)
    with torch.device("meta"):
        if isinstance(config, VAETrainConfig):
            SpeechVAE(config.vae, teacher_dim=1024)
            Discriminators(config.discriminator, config.vae.sample_rate)
        else:
            DiT(config.dit, vocab_size=80, latent_dim=64)


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_recipe_says_nothing_that_is_a_default(name):
    tree = recipe._read_yaml(recipe.find_recipe(name))
    cls = kind_of(name)
    minimal = recipe.to_tree(recipe.build(cls, {"data": {"root": "x"}, "trainer": {"steps": 1}}, where="default"))
    always_said = {"data.root", "trainer.steps", "vae.sample_rate", "trainer.seed", "vae.latent_dim", "loss.alignment"}

    def repeated(part, default, prefix=""):
        for key, value in part.items():
            if isinstance(value, dict):
                yield from repeated(value, default[key], f"{prefix}{key}.")
            elif value == default[key] and f"{prefix}{key}" not in always_said:
                yield f"{prefix}{key}"

    if not name.startswith("libritts/"):  # those spell the published numbers out on purpose
        assert not list(repeated(tree, minimal))
