"""What `svae adapt` and `svae distill` made, where it leaves the machine: as ONNX, and to the hub and back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from fake_hub import FakeHub, asked_hub
from rich.console import Console
from tiny_adapt import QUICK, options_of, put_judges, record, scripted
from tiny_runs import TTS as SETTINGS
from tiny_tts import PROMPT_TEXT, TEXT, speech, write_tts
from tiny_vae import TINY_VAE
from typer.testing import CliRunner

from svae.checkpoint import EMBEDDED, best_checkpoint, latest_checkpoint, open_checkpoint
from svae.cli import app
from svae.errors import CheckpointError, ConfigError
from svae.export.folder import ExportOptions, export
from svae.export.networks import TOLERANCE, networks, parity
from svae.hub.push import PushOptions, pull, push
from svae.synthesis.load import load_tts
from svae.synthesis.marks import read_mark
from svae.synthesis.types import Sampling
from svae.synthesis.voices import kept_voice, own_voice
from svae.training.adapt.prompt import check_consent_of_run
from svae.training.adapt.run import adapt

UNSEEN = (2, 63)
"""Frames that neither the exporter nor its own comparison sees."""
CONSENT = "Tone, by word of mouth: tests"
DISTIL = {
    **{name: value for name, value in SETTINGS.items() if name != "dit"},
    "trainer": SETTINGS["trainer"] | {"steps": 2},
    "batch_frames": 200,
    "flow": {"mask_ratio": [0.3, 0.9]},
    "distill": {
        "steps": 2,
        "teacher_steps": 3,
        "guidance": 1.5,
        "prompt_guidance": 0.5,
        "lora": {"rank": 2},
    },
}


@dataclass(frozen=True)
class Made:
    """Runs on one base, which is on the hub as `anna/base`."""

    hub: FakeHub
    base: Path
    commit: str
    """Of the base."""
    adapted: Path
    """Of `svae adapt --model anna/base --merge`."""
    student: Path
    """Of `svae distill`."""


@pytest.fixture(scope="module")
def made(tone_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    folder = tmp_path_factory.mktemp("made")
    base = write_tts(folder / "base", TINY_VAE)
    recipe = folder / "distil.yaml"
    recipe.write_text(json.dumps(DISTIL | {"data": {"root": str(tone_shards)}}))  # JSON is YAML
    command = ["distill", base, recipe, "--out", folder / "student", "--device", "cpu"]
    result = CliRunner().invoke(app, list(map(str, command)))
    assert result.exit_code == 0, result.output
    with pytest.MonkeyPatch.context() as patch, asked_hub(patch, folder / "cache") as hub:
        commit = hub.commit_folder("anna/base", base)
        put_judges(patch)
        scripted(patch, {0: 0.1, 2: 0.5})  # two steps make no better voice but by chance
        options = options_of(
            record(folder / "recordings"), Path("anna/base"), folder / "adapted", merge=True,
            consent=CONSENT, overrides=(*QUICK, "trainer.steps=2"),
        )  # fmt: skip
        yield Made(hub, base, commit, adapt(options), folder / "student")


def say(model: str | Path) -> torch.Tensor:
    """Say something with the voice that a model has, else with a recording."""
    tts = load_tts(model)
    if tts.prompt_file is None:
        prompt = tts.encode_prompt(speech(), PROMPT_TEXT)
    else:
        prompt = own_voice(tts, Console(quiet=True)).prompt
    return tts.speak([TEXT], [prompt], Sampling(seed=4))[0].waveform


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "training" not in path.relative_to(folder).parts
    }


# ----------------------------------------------------------------------------------------------- to the hub and back


@pytest.mark.parametrize("name", ["adapted", "merged", "student"])
def test_what_is_sent_comes_back_with_the_same_bytes_and_says_the_same(
    made: Made, name: str, tmp_path: Path
) -> None:
    run = made.adapted / "merged" if name == "merged" else getattr(made, name)
    commit = push(PushOptions(run=run, repo=f"anna/{name}", licence="cc-by-4.0"), Console(quiet=True))  # fmt: skip
    assert commit == made.hub.commits[f"anna/{name}"][-1][0]
    out = pull(f"anna/{name}@{commit}", tmp_path / "pulled", Console(quiet=True))
    folder = run
    if name != "merged":
        folder = best_checkpoint(run) or latest_checkpoint(run)
        assert folder is not None
    sent, came = bytes_of(folder), bytes_of(out)
    assert {file: came.get(file) for file in sent} == sent
    expected = say(run)
    for model in (out, f"anna/{name}"):
        assert torch.equal(say(model), expected), model


def card_of(run: Path, **more: object) -> str:
    options = PushOptions(run=run, repo="anna/x", licence="mit", dry_run=True, **more)
    console = Console(record=True, width=250)
    push(options, console)
    return console.export_text()


def test_cards_say_whose_voice_it_is_and_what_it_was_made_of(made: Made) -> None:
    for run in (made.adapted, made.adapted / "merged"):
        shown = card_of(run)
        assert f"kept with it and in every file made with it: {CONSENT}" in shown
        assert "prompt.safetensors holds a recording of the person" in shown
        assert 'svae synthesize --model anna/x --text "Good morning."' in shown
        assert "12 utterances" in shown and "recipe.yaml" in shown
    assert f"beside the weights of `anna/base@{made.commit}`" in card_of(made.adapted)
    assert "--ref voice.wav" in card_of(made.student)
    assert "## The voice" not in card_of(made.student)


def test_the_note_of_consent_stays_with_the_voice(made: Made) -> None:
    assert read_mark(made.adapted / "hello.wav")["consent"] == CONSENT
    samples = list(made.adapted.glob("samples/*/*.wav"))
    assert samples and {read_mark(path)["consent"] for path in samples} == {CONSENT}
    kept = {path: kept_voice(path).consent for path in made.adapted.rglob("prompt.safetensors")}
    assert len(kept) > 2 and set(kept.values()) == {CONSENT}
    assert check_consent_of_run(f" {CONSENT} ", next(iter(kept))) == CONSENT
    with pytest.raises(ConfigError, match="is kept with 'Tone, by word of mouth: tests'"):
        check_consent_of_run("Someone else", next(iter(kept)))


def test_the_python_of_a_card_runs(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    push(PushOptions(run=made.adapted, repo="anna/voice", licence="mit"), Console(quiet=True))
    card = made.hub.commits["anna/voice"][-1][1]["README.md"].decode()
    code = card.partition("```python\n")[2].partition("```")[0]
    said: dict[str, object] = {}
    exec(code, said)
    assert isinstance(said["waveform"], torch.Tensor) and said["waveform"].abs().max() > 0


def test_an_adapter_goes_only_where_its_base_can_be_had(made: Made, tmp_path: Path) -> None:
    adapter = best_checkpoint(made.adapted)
    assert adapter is not None
    config = json.loads((adapter / "config.json").read_text())
    assert config["base"]["model"] == f"anna/base@{made.commit}"
    sent = {}
    for base in (str(made.base), EMBEDDED):
        folder = shutil.copytree(adapter, tmp_path / Path(base).name)
        config["base"]["model"] = base
        (folder / "config.json").write_text(json.dumps(config))
        sent[base] = PushOptions(run=folder, repo="anna/other", licence="mit")
    with pytest.raises(CheckpointError, match="on this machine.*--merge.*--model user/repo"):
        push(sent[str(made.base)], Console(quiet=True))
    assert "anna/other" not in made.hub.commits
    assert push(sent[EMBEDDED], Console(quiet=True))


def test_an_adapters_base_is_the_commit_that_it_was_made_for(made: Made, tmp_path: Path) -> None:
    """What is on the hub later under the same name does no harm."""
    expected = say(made.adapted)
    other = write_tts(tmp_path / "other", TINY_VAE, seed=9)
    made.hub.commit_folder("anna/base", other)
    assert torch.equal(say(made.adapted), expected)


# ----------------------------------------------------------------------------------------------- as ONNX


@pytest.mark.parametrize(
    "name", ["adapted", pytest.param("merged", marks=pytest.mark.slow), "student"]
)
def test_the_graphs_are_those_of_what_speaks(made: Made, name: str, tmp_path: Path) -> None:
    run = made.adapted / "merged" if name == "merged" else getattr(made, name)
    folder = export(ExportOptions(run=run, folder=tmp_path / "voice"))
    tts = load_tts(run)
    parts = {part.name: part for part in networks(tts)}
    for part in parts.values():
        found = parity(part, (folder / f"{part.name}.onnx").read_bytes(), UNSEEN)
        assert max(found.values()) <= TOLERANCE, (part.name, found)
    about = json.loads((folder / "voice.json").read_text())
    assert about["model_hash"] == tts.identity["hash"]
    assert about["model_hash"] != open_checkpoint(made.base, kind="tts").hash
    has_voice = name != "student"
    assert (folder / "voice.npz").is_file() == has_voice
    assert about["consent"] == (CONSENT if has_voice else None)
    card = (folder / "README.md").read_text()
    assert ("--ref a.wav" in card) != has_voice and (CONSENT in card) == has_voice
    step = parts["step"]
    theirs = next(part for part in networks(load_tts(made.base)) if part.name == "step")
    inputs = step.example(40)
    difference = (step.module(*inputs) - theirs.module(*inputs)).abs().max()
    assert difference > 10 * TOLERANCE  # a graph of the base would be found out
