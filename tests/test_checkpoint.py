"""Checkpoints are written whole, and damage is found."""

from __future__ import annotations

import json

import pytest
import torch

from svae.checkpoint import (
    REQUIRED,
    checkpoint_folder,
    copy_weights,
    latest_checkpoint,
    load_strict,
    open_checkpoint,
    publish,
    write_checkpoint,
)
from svae.config import DiTConfig
from svae.errors import CheckpointError, ConfigError
from svae.runtime.files import writable_folder


def write(folder, kind="vae", step=3, training=True):
    return write_checkpoint(
        folder,
        config={"kind": kind, "step": step, "model": {"a": 1}, **dict.fromkeys(REQUIRED[kind])},
        model_state={"w": torch.arange(6.0).reshape(2, 3)},
        training_state={"step": step, "w": torch.ones(2)} if training else None,
    )


def test_what_is_written_is_read_back_exactly(tmp_path):
    written = write(tmp_path / "c")
    read = open_checkpoint(tmp_path / "c", kind="vae")
    assert read.config == written.config and read.step == 3
    assert torch.equal(read.model_state()["w"], torch.arange(6.0).reshape(2, 3))
    assert torch.equal(read.training_state()["w"], torch.ones(2))


def test_writing_leaves_no_temporary_folder_and_replaces_an_old_one(tmp_path):
    write(tmp_path / "c", step=1)
    write(tmp_path / "c", step=2)
    assert [p.name for p in tmp_path.iterdir()] == ["c"]
    assert open_checkpoint(tmp_path / "c", kind="vae").step == 2


def test_the_vae_in_a_checkpoint_is_what_its_config_lists(tmp_path):
    vae = write(tmp_path / "vae")
    (vae.folder / "notes.txt").write_text("beside it")
    config = {"kind": "tts", "step": 1, "model": {}, **dict.fromkeys(REQUIRED["tts"])}
    made = write_checkpoint(
        tmp_path / "c", config=config, model_state={"w": torch.ones(1)}, vae_folder=vae.folder
    )
    inner = sorted(path.name for path in (made.folder / "vae").rglob("*"))
    assert inner == ["config.json", "model.safetensors"]
    tree = json.loads((vae.folder / "config.json").read_text())
    for name in ("../outside", "/etc/passwd", "vae/inside"):
        listed = tree | {"files": tree["files"] | {name: "0"}}
        (vae.folder / "config.json").write_text(json.dumps(listed))
        with pytest.raises(CheckpointError, match="not in its folder"):
            copy_weights(vae.folder, tmp_path / "d")
    assert not (tmp_path / "outside").exists()


def test_a_run_folder_stands_for_its_latest_checkpoint_and_old_ones_go(tmp_path):
    for step in (1, 2, 3):
        write(checkpoint_folder(tmp_path, step), step=step)
        publish(tmp_path, step, keep=2)
    assert open_checkpoint(tmp_path, kind="vae").step == 3
    assert len(list((tmp_path / "checkpoints").glob("step-*"))) == 2


def test_a_folder_without_config_is_no_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match="no vae checkpoint here"):
        open_checkpoint(tmp_path, kind="vae")
    write(checkpoint_folder(tmp_path, 1))
    publish(tmp_path, 1, keep=1)
    (checkpoint_folder(tmp_path, 1) / "config.json").unlink()
    with pytest.raises(CheckpointError, match="'step-00000001', which is no checkpoint"):
        open_checkpoint(tmp_path, kind="vae")


def test_the_other_kind_is_refused_by_name(tmp_path):
    write(tmp_path / "c", kind="tts")
    with pytest.raises(CheckpointError, match="this is a tts checkpoint"):
        open_checkpoint(tmp_path / "c", kind="vae")


@pytest.mark.parametrize("damage", ["flip", "truncate", "json", "missing", "format", "no_files"])
def test_damage_is_found(tmp_path, damage):
    folder = write(tmp_path / "c").folder
    weights, config = folder / "model.safetensors", folder / "config.json"
    if damage == "flip":
        data = bytearray(weights.read_bytes())
        data[-1] ^= 1
        weights.write_bytes(data)
    elif damage == "truncate":
        weights.write_bytes(weights.read_bytes()[:-4])
    elif damage == "missing":
        weights.unlink()
    elif damage == "json":
        config.write_text(config.read_text()[:20])
    else:
        tree = json.loads(config.read_text())
        tree["format"] = 99 if damage == "format" else tree.pop("files") and 1
        config.write_text(json.dumps(tree))
    with pytest.raises(CheckpointError, match=r".+"):
        open_checkpoint(folder, kind="vae").model_state()


def test_resuming_without_the_training_folder_is_explained(tmp_path):
    checkpoint = write(tmp_path / "c", training=False)
    with pytest.raises(CheckpointError, match="cannot be resumed"):
        checkpoint.training_state()


def test_weights_that_do_not_fit_are_named(tmp_path):
    module = torch.nn.Linear(2, 3)
    with pytest.raises(
        CheckpointError, match=r"(?s)missing.*bias.*unexpected.*extra.*shape.*weight"
    ):
        load_strict(module, {"weight": torch.zeros(1, 1), "extra": torch.zeros(1)}, tmp_path)


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        ({"dim": 0}, "dim: .*greater than 0, got 0"),
        ({"depth": "many"}, "depth: .*got 'many'"),
        ({"dropout": -0.5}, "dropout: .*got -0.5"),
        ("wide", "got 'wide'"),
        (None, "got None"),
    ],
)
def test_a_section_that_its_settings_do_not_take_names_the_file(tmp_path, model, problem):
    checkpoint = write(tmp_path / "c")
    checkpoint.config["model"] = model
    with pytest.raises(CheckpointError, match=f"c/config.json: damaged: .*{problem}"):
        checkpoint.section(DiTConfig)


def test_a_path_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot write there"):
        writable_folder(tmp_path / "file" / "run", option="--out")


def test_a_damaged_training_state_is_one_short_message(tmp_path):
    checkpoint = write(tmp_path / "c")
    (checkpoint.folder / "training" / "state.pt").write_bytes(b"garbage")
    with pytest.raises(CheckpointError, match="cannot resume from it") as error:
        checkpoint.training_state()
    assert len(str(error.value).splitlines()) <= 3


def test_a_pointer_to_nothing_is_an_error_and_not_a_new_beginning(tmp_path):
    assert latest_checkpoint(tmp_path) is None
    whole = checkpoint_folder(tmp_path, 2)
    write(whole)
    pointer = tmp_path / "checkpoints" / "latest"
    for content in (b"step-00000009", b"", b"\xff\xfe"):
        pointer.write_bytes(content)
        with pytest.raises(CheckpointError, match="is no checkpoint .*step-00000002"):
            latest_checkpoint(tmp_path)


@pytest.mark.parametrize("field", ["sample_rate", "latent_mean", "kind"])
def test_a_config_without_a_field_is_damaged(tmp_path, field):
    folder = tmp_path / "checkpoint"
    write(folder)
    config = json.loads((folder / "config.json").read_text())
    del config[field]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="damaged or not a svae checkpoint"):
        open_checkpoint(folder, kind="vae")
