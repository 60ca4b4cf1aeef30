"""Models by their hub ids, to the hub and back, against a stub of its API on the loopback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from fake_hub import FakeHub
from rich.console import Console
from tiny_runs import TTS, VAE, vae_of
from tiny_tts import PROMPT_TEXT, TEXT, speech, write_tts
from typer.testing import CliRunner

import svae
from svae.assets import asset_path
from svae.checkpoint import open_checkpoint
from svae.cli.app import app
from svae.config import VAEConfig
from svae.errors import CheckpointError, ConfigError, DataError
from svae.hub.push import PushOptions, pull, push
from svae.runtime.hub import HubModel, cached_models, fetch, hub_model


@pytest.fixture
def model(tmp_path: Path, tiny_vae_config: VAEConfig) -> Path:
    return write_tts(tmp_path / "model", tiny_vae_config)


def files_of(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_what_is_a_name_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert hub_model("anna/small-voice") == HubModel("anna/small-voice")
    assert hub_model("anna/small.voice@v1.0") == HubModel("anna/small.voice", "v1.0")
    assert hub_model("anna/x@feature/new") == HubModel("anna/x", "feature/new")
    assert hub_model(Path("hf://anna/x")) == HubModel("anna/x")
    for path in ("embedded", "./a/b", "../a/b", "/a/b", "a/b/c", "~/b", "a", "a b/c", ""):
        assert hub_model(path) is None
    (tmp_path / "runs").mkdir()
    assert hub_model("runs/mistyped") is None  # not asked for on the hub
    assert hub_model("hf://runs/mistyped") == HubModel("runs/mistyped")
    with pytest.raises(CheckpointError, match="no tts checkpoint here"):
        open_checkpoint("runs/mistyped", kind="tts")


def test_models_are_opened_by_name_and_kept(hub: FakeHub, model: Path) -> None:
    first = hub.commit_folder("anna/voice", model)
    hub.commit_folder("anna/vae", model / "vae")
    tts = svae.load_tts("anna/voice")
    assert tts.identity["hash"] == open_checkpoint(model, kind="tts").hash
    assert svae.load_vae("anna/vae").latent_dim == tts.representation.latent_dim
    assert cached_models() == ["anna/vae", "anna/voice"]
    hub.requests.clear()
    assert open_checkpoint(f"anna/voice@{first}", kind="tts").folder.name == first
    assert not hub.requests  # a commit never changes
    second = hub.commit("anna/voice", {"README.md": b"new"})
    hub.tags["v1"] = first
    assert open_checkpoint("anna/voice", kind="tts").folder.name == second
    assert open_checkpoint("anna/voice@v1", kind="tts").folder.name == first


def test_trainings_begin_from_names_on_the_hub(
    hub: FakeHub, toy_tts: Path, tone_shards: Path, tmp_path: Path
) -> None:
    vae, tts = open_checkpoint(vae_of(toy_tts), kind="vae"), open_checkpoint(toy_tts, kind="tts")
    commits = [
        hub.commit_folder("anna/vae", vae.folder),
        hub.commit_folder("anna/tts", tts.folder),
    ]
    recipes = {
        "vae": VAE | {"trainer": VAE["trainer"] | {"steps": 1}},
        "tts": TTS | {"trainer": TTS["trainer"] | {"steps": 1}},
    }
    data = {"data": {"root": str(tone_shards)}}
    for name, tree in recipes.items():
        (tmp_path / f"{name}.yaml").write_text(json.dumps(tree | data))  # JSON is YAML
    for kind, options in (
        ("vae", ["--init", f"anna/vae@{commits[0]}"]),
        ("tts", ["--vae", "anna/vae", "--init", "anna/tts"]),
    ):
        out = tmp_path / kind
        command = [f"train-{kind}", str(tmp_path / f"{kind}.yaml"), *options, "--out", str(out)]
        result = CliRunner().invoke(app, [*command, "--device", "cpu"])
        assert result.exit_code == 0, result.output
        assert open_checkpoint(out, kind=kind).step == 1
    assert open_checkpoint(vae_of(tmp_path / "tts"), kind="vae").hash == vae.hash


def test_without_a_network_the_cache_is_used_and_said(
    hub: FakeHub, model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = hub.commit_folder("anna/voice", model)
    open_checkpoint("anna/voice", kind="tts")
    hub.refuses = 503
    assert open_checkpoint("anna/voice", kind="tts").folder.name == commit
    assert f"taken from the cache: commit {commit[:12]}" in capsys.readouterr().err
    with pytest.raises(CheckpointError, match=r"cannot be reached.*\nIn the cache: anna/voice"):
        open_checkpoint("anna/other", kind="tts")
    hub.requests.clear()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert open_checkpoint("anna/voice", kind="tts").folder.name == commit and not hub.requests


def test_a_cache_in_which_others_left_a_part_is_filled(hub: FakeHub, model: Path) -> None:
    from huggingface_hub import hf_hub_download

    commit = hub.commit_folder("anna/voice", model)
    hf_hub_download("anna/voice", "config.json", revision=commit)
    found = svae.load_tts(f"anna/voice@{commit}")
    assert found.identity["hash"] == open_checkpoint(model, kind="tts").hash


def test_what_the_cache_has_is_listed_as_it_can_be_asked_for(
    hub: FakeHub, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = hub.commit_folder("anna/voice", model)
    open_checkpoint(f"anna/voice@{commit}", kind="tts")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match=f"In the cache: anna/voice@{commit}"):
        open_checkpoint("anna/voice", kind="tts")
    assert open_checkpoint(f"anna/voice@{commit}", kind="tts").folder.name == commit


def test_what_is_wrong_on_the_hub_is_named(hub: FakeHub, model: Path) -> None:
    hub.commit_folder("anna/voice", model)
    hub.commit("anna/other", {"pytorch_model.bin": b"x"})
    with pytest.raises(
        CheckpointError, match="--model anna/nothing: no such folder here.*no such model"
    ):
        open_checkpoint("anna/nothing", kind="tts")
    with pytest.raises(CheckpointError, match="no branch, tag or commit 'v9'"):
        open_checkpoint("anna/voice@v9", kind="tts")
    with pytest.raises(CheckpointError, match="no checkpoint of svae.*svae import"):
        open_checkpoint("anna/other", kind="tts")
    with pytest.raises(CheckpointError, match="a tts checkpoint"):
        open_checkpoint("anna/voice", kind="vae")
    hub.commit("anna/voice", {"model.safetensors": b"other bytes"})
    with pytest.raises(CheckpointError, match="damaged: sha256"):
        svae.load_tts("anna/voice")


def test_a_model_comes_back_as_it_was_sent(
    hub: FakeHub, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (model / "training").mkdir()
    (model / "training" / "state.pt").write_bytes(b"of no use to others")
    (tmp_path / "LICENCE.txt").write_text("Do what you like.")
    (tmp_path / "notes.md").write_text("A model that says nothing.")
    options = PushOptions(
        run=model, repo="anna/voice", licence="cc-by-4.0", licence_file=tmp_path / "LICENCE.txt",
        notes=tmp_path / "notes.md", samples=[_sample(tmp_path)],
    )  # fmt: skip
    commit = push(options)
    assert commit == hub.commits["anna/voice"][-1][0]
    assert f"Next: svae pull anna/voice@{commit} --out FOLDER" in capsys.readouterr().out
    out = pull("anna/voice", tmp_path / "pulled")
    sent, came = files_of(model), files_of(out)
    assert {name: came[name] for name in sent if not name.startswith("training")} == {
        name: data for name, data in sent.items() if not name.startswith("training")
    }
    assert came["LICENSE"] == b"Do what you like."
    assert not any(name.startswith("training") for name in came)
    assert came == hub.commits["anna/voice"][-1][1] and "samples/said.wav" in came
    card = came["README.md"].decode()
    assert card.startswith('---\nlicense: "cc-by-4.0"\n')
    assert "A model that says nothing." in card and 'svae.load_tts("anna/voice")' in card
    assert open_checkpoint(model, kind="tts").hash in card
    a, b = (
        svae.load_tts(each).synthesize(TEXT, speech(), PROMPT_TEXT, num_steps=1)
        for each in (model, out)
    )
    assert torch.equal(a, b)
    with pytest.raises(ConfigError, match="holds something"):
        pull("anna/voice", out)


def test_only_what_a_checkpoint_is_made_of_is_sent(hub: FakeHub, model: Path) -> None:
    made = set(files_of(model))
    assert made >= {"config.json", "model.safetensors", "vae/config.json", "vae/model.safetensors"}
    strays = ("passwords.txt", ".git/config", "vae/notes.txt", "vae/training/state.pt", "more/x.safetensors")  # fmt: skip
    for name in strays:
        (model / name).parent.mkdir(exist_ok=True)
        (model / name).write_text("nobody else's business")
    push(PushOptions(run=model, repo="anna/voice", licence="mit"), Console(quiet=True))
    assert set(hub.commits["anna/voice"][-1][1]) == made | {"README.md"}


def test_of_the_embedded_checkpoint_every_file_is_sent(hub: FakeHub) -> None:
    push(PushOptions(run=Path("embedded"), repo="anna/voice", licence="mit"), Console(quiet=True))
    sent, there = hub.commits["anna/voice"][-1][1], files_of(asset_path("tts"))
    assert {name: data for name, data in sent.items() if name != "README.md"} == {
        name: data for name, data in there.items() if not name.endswith("README.md")
    }
    assert "duration.safetensors" in sent


def _sample(folder: Path) -> Path:
    from svae.audio import save_audio

    save_audio(folder / "said.wav", speech(), 16000)
    return folder / "said.wav"


def test_a_dry_run_shows_the_card_and_sends_nothing(
    hub: FakeHub, toy_tts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = tmp_path / "results"
    results.mkdir()
    (results / "table.md").write_text("| WER | 2.1 % [1.8, 2.4] |\n")
    (results / "metrics.json").write_text(json.dumps({"protocol": {"name": "f5-librispeech-pc"}}))
    monkeypatch.setenv("COLUMNS", "200")
    arguments = [
        "push",
        str(toy_tts),
        "anna/toy",
        "--license",
        "mit",
        "--results",
        str(results),
        "--dry-run",
    ]
    shown = CliRunner().invoke(app, arguments)
    assert shown.exit_code == 0, shown.output
    for words in (
        "license: \"mit\"", "language: [\"en\"]", "tones: 8 utterances", "2 speakers", "| steps | 2 |", "hours of running",
        "| hardware | 1 × cpu |", "### f5-librispeech-pc", "[1.8, 2.4]", "recipe.yaml", "pipeline_tag: text-to-speech",
    ):  # fmt: skip
        assert words in shown.output, words
    assert "Nothing was sent" in shown.output and not hub.requests
    vae = CliRunner().invoke(
        app, [*arguments[:1], str(toy_tts.parent / "vae"), *arguments[2:5], "--dry-run"]
    )
    assert "svae.load_vae" in vae.output and "None were given" in vae.output


def test_what_cannot_be_sent_is_refused(hub: FakeHub, model: Path, tmp_path: Path) -> None:
    good = {"run": model, "repo": "anna/voice", "licence": "mit"}
    (tmp_path / "latin-1.md").write_bytes("Für alle.".encode("latin-1"))
    wrong = [
        ({"repo": "voice"}, ConfigError, "user/name"),
        ({"licence": "My Licence"}, ConfigError, "--license"),
        ({"samples": [tmp_path / "absent.wav"]}, ConfigError, "--sample"),
        ({"notes": tmp_path / "absent.md"}, ConfigError, "--notes"),
        ({"notes": tmp_path / "latin-1.md"}, DataError, "latin-1.md: not UTF-8 at byte 1"),
        ({"results": [tmp_path]}, DataError, "--results"),
        ({"run": tmp_path / "absent"}, CheckpointError, "absent"),
    ]
    for changes, error, words in wrong:
        with pytest.raises(error, match=words):
            push(PushOptions(**{**good, **changes}), Console(quiet=True))
    assert not hub.requests
    hub.refuses = 403
    with pytest.raises(CheckpointError, match="the hub did not take it.*hf auth login"):
        push(PushOptions(**good), Console(quiet=True))
    (model / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="missing or damaged"):
        push(PushOptions(**good), Console(quiet=True))


def test_pull_leaves_nothing_of_what_is_wrong(hub: FakeHub, model: Path, tmp_path: Path) -> None:
    hub.commit_folder("anna/voice", model)
    hub.commit("anna/voice", {"vae/model.safetensors": b"other bytes"})
    hub.commit("anna/other", {"a.bin": b"x"})
    out = tmp_path / "out"
    for name, error in (
        ("anna/voice", CheckpointError), ("anna/other", CheckpointError), ("anna/none", CheckpointError), ("anna", ConfigError),
    ):  # fmt: skip
        with pytest.raises(error):
            pull(name, out, Console(quiet=True))
        assert not out.exists()


# ----------------------------------------------------------------------------------------- official checkpoints


def test_the_files_of_an_official_f5_are_found(hub: FakeHub) -> None:
    from svae.importing.from_hub import f5_files

    official = {
        "F5TTS_Base/model_1200000.safetensors": b"v0", "E2TTS_Base/model_1200000.pt": b"e2",
        "F5TTS_v1_Base/model_1200000.safetensors": b"old", "F5TTS_v1_Base/model_1250000.safetensors": b"v1",
        "F5TTS_v1_Base/vocab.txt": b" \na\n", "F5TTS_Base/vocab.txt": b" \nb\n", "README.md": b"F5-TTS",
    }  # fmt: skip
    hub.commit("SWivid/F5-TTS", official)
    weights, vocab = f5_files(HubModel("SWivid/F5-TTS"), None)
    assert weights.read_bytes() == b"v1" and vocab is not None and vocab.read_bytes() == b" \na\n"
    asked = [request for request in hub.requests if "resolve" in request]
    assert not any("F5TTS_Base/" in request or "E2TTS" in request for request in asked)
    weights, vocab = f5_files(HubModel("SWivid/F5-TTS"), "F5TTS_Base/model_1200000.safetensors")
    assert weights.read_bytes() == b"v0" and vocab is not None and vocab.read_bytes() == b" \nb\n"
    hub.commit("me/tuned", {"a.safetensors": b"1", "b.pt": b"2", "vocab.txt": b" \n"})
    with pytest.raises(CheckpointError, match="a.safetensors, b.pt.*--file"):
        f5_files(HubModel("me/tuned"), None)
    with pytest.raises(CheckpointError, match="--file c.pt: not there"):
        f5_files(HubModel("me/tuned"), "c.pt")
    hub.commit("me/nothing", {"README.md": b"hi"})
    with pytest.raises(CheckpointError, match="no weights"):
        f5_files(HubModel("me/nothing"), None)


def test_official_checkpoints_are_imported_by_name(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folders that the importers get are those of the hub; what they make of them is tested in tests/importing."""
    seen: dict[str, object] = {}
    monkeypatch.setattr(
        "svae.importing.f5_tts.import_f5_tts",
        lambda source, vocab, out, **_: seen.update(f5=(source, vocab)),
    )
    monkeypatch.setattr(
        "svae.importing.semantic_vae.import_semantic_vae",
        lambda source, out, ema: seen.update(vae=source),
    )
    hub.commit("a/f5", {"model.pt": b"w", "vocab.txt": b" \n"})
    hub.commit(
        "a/vae", {"ckpts/semantic_vae/metainfo.json": b"{}", "ckpts/semantic_vae/dac/ema_state_dict.pth": b"w", "big.bin": b"-"}
    )  # fmt: skip
    for command in (["f5-tts", "a/f5"], ["semantic-vae", "a/vae"]):
        result = CliRunner().invoke(app, ["import", *command, "--out", str(tmp_path / command[0])])
        assert result.exit_code == 0, result.output
    source, vocab = seen["f5"]  # type: ignore[misc]
    assert (source.name, vocab.name) == ("model.pt", "vocab.txt")
    folder = seen["vae"]
    assert isinstance(folder, Path) and sorted(files_of(folder)) == [
        "dac/ema_state_dict.pth",
        "metainfo.json",
    ]
    assert not any("big.bin" in request for request in hub.requests if "resolve" in request)
    (tmp_path / "w.pt").write_bytes(b"w")
    result = CliRunner().invoke(
        app, ["import", "f5-tts", str(tmp_path / "w.pt"), "--out", str(tmp_path / "o")]
    )
    assert result.exit_code == 2 and "--vocab" in result.output
    with pytest.raises(CheckpointError):
        fetch(HubModel("a/gone"), option="svae import")
