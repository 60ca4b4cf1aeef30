"""TF32 and cuDNN's trials are fields of a recipe, and what a recipe says is what a run does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import tts_config, vae_config, vae_of

from svae import recipe
from svae.config import TTSTrainConfig, VAETrainConfig
from svae.runtime.distributed import set_arithmetic
from svae.training.adapt import run as adapt
from svae.training.adapt.base import open_base
from svae.training.loop import TrainOptions
from svae.training.tts import train as tts
from svae.training.vae import train as vae

RECIPES = Path(__file__).parents[2] / "recipes"
ASKED = {"tf32": "none", "cudnn_benchmark": True}
"""Neither is the default."""


@pytest.fixture
def flags() -> Any:
    """Puts torch's flags back."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark
    yield lambda: (matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark)
    matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark = before


@pytest.mark.parametrize(
    ("tf32", "products", "convolutions"),
    [("none", False, False), ("convolutions", False, True), ("all", True, True)],
)
@pytest.mark.parametrize("trials", [False, True])
def test_what_each_value_switches(
    tf32: Any, products: bool, convolutions: bool, trials: bool, flags: Any
) -> None:
    set_arithmetic(tf32, trials)
    assert flags() == (products, convolutions, trials)


def test_the_default_is_torchs_own(flags: Any) -> None:
    """In a process that has set nothing; here a run may have."""
    config = vae_config("x").trainer
    set_arithmetic(config.tf32, config.cudnn_benchmark)
    assert flags() == (False, True, False)


class Reached(Exception):
    """The arithmetic was set: what comes after is not looked at."""


@pytest.mark.parametrize("command", ["train-vae", "train-tts", "adapt"])
def test_a_run_computes_as_its_recipe_says(
    command: str,
    tone_shards: Path,
    toy_tts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []

    def reached(*asked: Any) -> None:
        seen.append(asked)
        raise Reached

    out = tmp_path / "run"
    with monkeypatch.context() as patched, pytest.raises(Reached):
        for module in (vae, tts, adapt):
            patched.setattr(module, "set_arithmetic", reached)
        if command == "train-vae":
            config = vae_config(tone_shards)
            config = replace(config, trainer=replace(config.trainer, **ASKED))
            vae.train_vae(TrainOptions(config, out, device="cpu"))
        elif command == "train-tts":
            flow = tts_config(tone_shards, vae_of(toy_tts))
            flow = replace(flow, trainer=replace(flow.trainer, **ASKED))
            tts.train_tts(TrainOptions(flow, out, device="cpu"))
        else:
            patched.setattr(adapt, "_survey", lambda options: None)
            patched.setattr(adapt, "open_base", lambda model, device: open_base(toy_tts, device))
            settings = ["trainer.tf32=none", "trainer.cudnn_benchmark=true"]
            adapt.adapt(
                adapt.AdaptOptions(recordings=tmp_path, out=out, device="cpu", overrides=settings)
            )
    assert seen == [("none", True)]


@pytest.mark.parametrize(
    "path", sorted((RECIPES / "libritts").glob("*.yaml")), ids=lambda p: p.stem
)
def test_a_published_recipe_has_the_official_codes_choice_and_says_so(path: Path) -> None:
    of_vae = path.stem.startswith("vae")
    tree = recipe._read_yaml(path)
    config = recipe.build(VAETrainConfig if of_vae else TTSTrainConfig, tree, where=str(path))
    assert (config.trainer.tf32, config.trainer.cudnn_benchmark) == ("convolutions", of_vae)
    said = "as the official code; tf32 stays" if of_vae else "stay torch's defaults, as in F5-TTS's"
    assert said in path.read_text()
