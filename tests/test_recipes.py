"""Every shipped recipe parses, and its networks build."""

from __future__ import annotations

import itertools
import shlex
from pathlib import Path

import pytest
import torch

from svae import recipe
from svae.config import TTSTrainConfig, VAETrainConfig
from svae.models.mel import MelFrames
from svae.models.tts.dit import DiT
from svae.models.vae.discriminators import Discriminators
from svae.models.vae.vae import SpeechVAE

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
    minimal = recipe.to_tree(
        recipe.build(cls, {"data": {"root": "x"}, "trainer": {"steps": 1}}, where="default")
    )
    always_said = {
        "data.root",
        "trainer.steps",
        "vae.sample_rate",
        "trainer.seed",
        "vae.latent_dim",
        "loss.alignment",
    }

    def repeated(part, default, prefix=""):
        for key, value in part.items():
            if isinstance(value, dict):
                if default[key] is None:  # a part that is not there by default
                    continue
                yield from repeated(value, default[key], f"{prefix}{key}.")
            elif value == default[key] and f"{prefix}{key}" not in always_said:
                yield f"{prefix}{key}"

    if not name.startswith("libritts/"):  # those spell the published numbers out on purpose
        assert not list(repeated(tree, minimal))


@pytest.mark.parametrize("size", ["small", "base"])
def test_the_controls_differ_in_the_representation_alone_and_hear_equally_much(size):
    latents, mel = (
        SpeechVAE(recipe.load(VAETrainConfig, "libritts/vae-semantic64").vae, None),
        MelFrames(),
    )
    seconds, rest = {}, {}
    for kind, frames in (("semantic64", latents), ("vanilla64", latents), ("mel", mel)):
        config = recipe.load(TTSTrainConfig, f"libritts/tts-{size}-{kind}")
        assert config.representation == ("mel" if kind == "mel" else "latents")
        seconds[kind] = config.batch_frames * frames.hop_length / frames.sample_rate
        tree = recipe.to_tree(config)
        for name in ("data", "representation", "batch_frames"):
            del tree[name]
        rest[kind] = tree
    assert rest["mel"] == rest["semantic64"] == rest["vanilla64"]
    assert seconds["mel"] == seconds["semantic64"] == seconds["vanilla64"] == 3276.8


def test_small_and_base_are_f5s_sizes_and_otherwise_equal():
    small, base = (
        recipe.to_tree(recipe.load(TTSTrainConfig, f"libritts/tts-{size}-mel"))
        for size in ("small", "base")
    )
    sizes = [
        (tree["dit"].pop("dim"), tree["dit"].pop("depth"), tree["dit"].pop("heads"))
        for tree in (small, base)
    ]
    assert sizes == [(768, 18, 12), (1024, 22, 16)] and small == base


ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("file", ["README.md", "recipes/demo.sh"])
def test_a_chain_of_commands_reads_what_earlier_ones_made(file):
    text = (ROOT / file).read_text().partition("svae prepare libritts")
    made: list[str] = []
    for line in "".join(text[1:]).split("```")[0].split("\nEND")[0].splitlines():
        _, command, *rest = shlex.split(line, comments=True)
        options = dict(itertools.pairwise(rest))
        rest = [word for word in rest if word != "…"]
        read = [options[name] for name in ("--vae", "--model") if name in options]
        if command == "prepare":
            made.append("data/shards/libritts")
            continue
        if command == "encode":
            read.append(rest[0])
            made.append(options["--out"])
        elif command.startswith("train-"):
            data = recipe.load(kind_of(rest[0]), rest[0]).data
            read += [data.root, getattr(data, "waveform_root", None) or data.root]
            made.append(f"runs/{rest[0].replace('/', '-')}")
        assert set(read) <= set(made), (line, made)
    assert any("tts" in name for name in made)
