"""Official Semantic-VAE checkpoints: equal numbers, strict keys, wrong files refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from svae.checkpoint import open_checkpoint
from svae.errors import CheckpointError
from svae.importing.semantic_vae import convert_semantic_vae, read_semantic_vae, semantic_vae_config
from svae.models.vae.vae import SpeechVAE, load_vae
from svae.runtime.files import file_sha256
from svae.training.vae.losses import MultiScaleMelLoss, alignment_loss, kl_loss


@pytest.fixture(scope="module")
def official(shared) -> Path:
    return shared / "reference" / "semantic_vae_small"


@pytest.fixture(scope="module")
def reference(official) -> dict[str, torch.Tensor]:
    return load_file(official / "io.safetensors")


@pytest.fixture
def copy(official, tmp_path) -> Path:
    return Path(shutil.copytree(official, tmp_path / "official"))


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("ema", [True, False])
def test_imported_weights_give_the_official_numbers(official, reference, ema):
    imported = read_semantic_vae(official, ema=ema)
    vae = SpeechVAE(imported.config, imported.teacher_dim).eval()
    vae.load_state_dict(imported.state)
    with torch.no_grad():
        posterior = vae.encode(reference["waveform"])
        close(posterior.mean.transpose(1, 2), reference["mean"])
        close(posterior.logvar.transpose(1, 2), reference["logvar"])
        decoded = vae.decode(reference["mean"].transpose(1, 2))
        close(decoded, reference["decoded_from_mean"])
        projected = vae.regulator(reference["guidance"], 41)
        close(projected.transpose(1, 2), reference["projected_guidance"])
        close(alignment_loss(posterior.mean, projected)[None], reference["alignment_loss_on_mean"])
        close(kl_loss(posterior.mean, posterior.logvar)[None], reference["kl_loss"])
        mel = MultiScaleMelLoss(16000)(decoded, reference["padded"])
        close(mel[None], reference["mel_loss_decoded_vs_padded"])


def test_published_key_list_is_exactly_what_is_expected(shared):
    """With every shape of the published vae64: nothing missing, nothing left over."""
    lines = (shared / "facts" / "semantic_vae_keys.txt").read_text().splitlines()
    rows = [
        line.split("\t")
        for line in lines
        if line.startswith(("encoder.", "pre_block.", "fc_", "decoder.", "proj"))
    ]
    state = {
        row[0]: torch.zeros(tuple(int(n) for n in row[1].strip("()").split(",") if n))
        for row in rows
    }
    assert len(state) == 938
    metainfo = json.loads(
        (shared / "reference" / "semantic_vae_small" / "metainfo.json").read_text()
    )
    metainfo["DAC"].update(encoder_dim=64, vae_dim=64)
    metainfo["Decoder"].update(num_mels=64, upsample_initial_channel=1024)
    config, teacher_dim = semantic_vae_config(metainfo)
    from svae.models.vae.layers import kaiser_sinc_taps

    for key in state:
        if key.endswith("filter"):
            state[key] = kaiser_sinc_taps().view(1, 1, 12)
    converted = convert_semantic_vae(state, config, teacher_dim)
    assert len(converted) == 719
    del state["fc_mu.bias"]
    state["fc_extra.bias"] = torch.zeros(1)
    with pytest.raises(
        CheckpointError, match=r"(?s)missing \(1\): fc_mu.bias.*unexpected \(1\): fc_extra.bias"
    ):
        convert_semantic_vae(state, config, teacher_dim)


def rewrite(folder: Path, change) -> None:
    path = folder / "dac" / "weights.pth"
    state = torch.load(path, weights_only=True)
    change(state)
    torch.save(state, path)


def test_wrong_shapes_values_and_filters_are_named(copy):
    def change(state):
        state["fc_mu.bias"] = torch.zeros(3)
        state["fc_var.bias"] = torch.full((16,), float("nan"))
        state["decoder.activation_post.upsample.filter"] += 0.01

    rewrite(copy, change)
    with pytest.raises(CheckpointError) as caught:
        read_semantic_vae(copy, ema=False)
    for expected in (
        "fc_mu.bias: (3,), expected (16,)",
        "fc_var.bias: NaN",
        "activation_post.upsample.filter: not the",
    ):
        assert expected in str(caught.value)


def test_damaged_files_are_refused(copy):
    weights = copy / "dac" / "weights.pth"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="truncated, damaged"):
        read_semantic_vae(copy, ema=False)
    weights.write_text("not a checkpoint")
    with pytest.raises(CheckpointError, match="truncated, damaged"):
        read_semantic_vae(copy, ema=False)
    torch.save({"model": [1, 2]}, weights)
    with pytest.raises(CheckpointError, match="bare state dict"):
        read_semantic_vae(copy, ema=False)
    shutil.copy(copy / "dac" / "ema_state_dict.pth", weights)
    with pytest.raises(CheckpointError, match="unexpected.*ema_model"):
        read_semantic_vae(copy, ema=False)
    weights.write_bytes(whole)
    shutil.copy(weights, copy / "dac" / "ema_state_dict.pth")
    with pytest.raises(CheckpointError, match="starting with 'ema_model.'"):
        read_semantic_vae(copy)
    weights.unlink()
    with pytest.raises(CheckpointError, match="missing"):
        read_semantic_vae(copy, ema=False)


def test_the_command_writes_a_checkpoint_that_everything_reads(official, reference, tmp_path):
    from typer.testing import CliRunner

    from svae.cli import app

    out = tmp_path / "runs" / "imported"
    result = CliRunner().invoke(app, ["import", "semantic-vae", str(official), "--out", str(out)])
    assert result.exit_code == 0, result.output
    vae = load_vae(out)
    close(vae.encode(reference["waveform"]).mean.transpose(1, 2), reference["mean"])
    close(vae.decode(reference["mean"].transpose(1, 2)), reference["decoded_from_mean"])
    config = open_checkpoint(out, kind="vae").config
    assert config["imported"]["sha256"] == file_sha256(official / "dac" / "ema_state_dict.pth")
    again = CliRunner().invoke(
        app, ["import", "semantic-vae", str(official), "--out", str(out), "--no-ema"]
    )
    assert again.exit_code == 2 and "not empty" in again.output
    elsewhere = CliRunner().invoke(
        app, ["import", "semantic-vae", str(tmp_path), "--out", str(tmp_path / "new")]
    )
    assert elsewhere.exit_code == 2 and "metainfo.json: No such file" in elsewhere.output
    assert not (tmp_path / "new").exists()


class Code:
    """A pickle that would run code."""

    def __reduce__(self):
        return (Path("executed").touch, ())


def test_code_in_a_checkpoint_is_not_run(copy, monkeypatch):
    monkeypatch.chdir(copy)
    torch.save({"weights": Code()}, copy / "dac" / "weights.pth")
    with pytest.raises(CheckpointError, match="not a file of plain tensors"):
        read_semantic_vae(copy, ema=False)
    assert not (copy / "executed").exists()


@pytest.mark.parametrize(
    ("section", "change", "message"),
    [
        ("DAC", {"encoder_rates": [4, 4, 5]}, "hop 400 .* the encoder.s, 80"),
        ("DAC", {"latent_dim": 999}, "latent_dim 999"),
        ("DAC", {"sample_rate": "fast"}, "sample_rate"),
        ("Decoder", {"attn_proj": True}, "attn_proj"),
        ("Decoder", {"num_mels": 64}, "num_mels 64 is not vae_dim"),
        ("Decoder", {"activation": "relu"}, "activation"),
    ],
)
def test_impossible_or_unsupported_metainfo_is_refused(official, section, change, message):
    metainfo = json.loads((official / "metainfo.json").read_text())
    metainfo[section].update(change)
    with pytest.raises(CheckpointError, match=message):
        semantic_vae_config(metainfo)


def test_missing_or_foreign_metainfo_is_refused(copy, tmp_path):
    with pytest.raises(CheckpointError, match="metainfo.json: No such file"):
        read_semantic_vae(tmp_path)
    (copy / "metainfo.json").write_text("{")
    with pytest.raises(CheckpointError, match="not valid JSON"):
        read_semantic_vae(copy)
    (copy / "metainfo.json").write_text('{"DAC": {}, "Decoder": {}}')
    with pytest.raises(CheckpointError, match="'sample_rate' is missing"):
        read_semantic_vae(copy)
    (copy / "metainfo.json").write_text("[]")
    with pytest.raises(CheckpointError, match="not the structure"):
        read_semantic_vae(copy)


@pytest.mark.parametrize(
    "change",
    [
        {"resblock": "2"},
        {"activation": "snake"},
        {"use_bias_at_final": True},
        {"resblock_kernel_sizes": [3, 7]},
    ],
)
def test_variants_map_one_to_one(official, change):
    metainfo = json.loads((official / "metainfo.json").read_text())
    metainfo["Decoder"].update(change)
    if "resblock_kernel_sizes" in change:
        metainfo["Decoder"]["resblock_dilation_sizes"] = [[1, 3], [1, 3]]
    config, teacher_dim = semantic_vae_config(metainfo)
    from svae.importing.semantic_vae import _constants, _official_key

    vae = SpeechVAE(config, teacher_dim)
    ours = vae.state_dict()
    names = {key: _official_key(key, config) for key in ours}
    assert len(set(names.values())) == len(names)
    assert not any(
        "stages" in n or "dilated" in n or "plain" in n or "snake" in n for n in names.values()
    )
    official_state = {name: ours[key] for key, name in names.items()} | _constants(vae, config)
    converted = convert_semantic_vae(official_state, config, teacher_dim)
    assert all(torch.equal(converted[key], value) for key, value in ours.items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_imported_and_foreign_filters_are_still_named(copy, dtype):
    rewrite(copy, lambda state: state.update({k: v.to(dtype) for k, v in state.items()}))
    read_semantic_vae(copy, ema=False)
    key = "decoder.activation_post.upsample.filter"
    rewrite(copy, lambda state: state.update({key: state[key] + 0.02}))
    with pytest.raises(CheckpointError, match=r"upsample.filter: not the"):
        read_semantic_vae(copy, ema=False)
