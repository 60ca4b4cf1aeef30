"""SIM-o's network: the checkpoint's names find their places, and the arithmetic is that of the published description."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from svae.errors import ConfigError
from svae.judges.speaker import load_speaker_model
from svae.judges.wavlm_speaker import WavLMSpeaker, load_ecapa_over_wavlm


@pytest.fixture
def clip():
    return 0.2 * torch.randn(1, 8000, generator=torch.Generator().manual_seed(1))


def test_a_checkpoint_loads_every_tensor_by_its_original_name(network, checkpoint, clip):
    loaded = load_ecapa_over_wavlm(checkpoint)
    assert loaded.state_dict().keys() == network.state_dict().keys()
    assert all(
        torch.equal(a, b)
        for a, b in zip(loaded.state_dict().values(), network.state_dict().values(), strict=True)
    )
    with torch.no_grad():
        assert torch.equal(loaded(clip), network(clip))


def test_the_arithmetic_is_that_of_the_description(network, clip):
    """Pooling, Res2 chain, gates and norms once more, from the tensors, without the classes."""
    p = dict(network.state_dict())

    def conv_relu_norm(name, x, **settings):
        y = F.relu(F.conv1d(x, p[f"{name}.conv.weight"], p[f"{name}.conv.bias"], **settings))
        return norm(f"{name}.bn", y)

    def norm(name, y):
        shape = (1, -1, 1) if y.ndim == 3 else (1, -1)
        mean, var, weight, bias = (
            p[f"{name}.{k}"].view(shape) for k in ("running_mean", "running_var", "weight", "bias")
        )
        return (y - mean) / (var + 1e-5).sqrt() * weight + bias

    with torch.no_grad():
        normal = (clip - clip.mean()) / (clip.var(correction=0) + 1e-5).sqrt()
        states = network.wavlm(normal, output_hidden_states=True).hidden_states
        weights = p["feature_weight"].exp() / p["feature_weight"].exp().sum()
        x = sum(w * s for w, s in zip(weights, states, strict=True)).transpose(1, 2) + 1e-6
        x = (x - x.mean(2, keepdim=True)) / (x.var(2, correction=0, keepdim=True) + 1e-5).sqrt()
        x = conv_relu_norm("layer1", x, padding=2)
        outputs = []
        for name, dilation in (("layer2", 2), ("layer3", 3), ("layer4", 4)):
            y = conv_relu_norm(f"{name}.reduce", x)
            groups, previous = list(y.split(2, dim=1)), 0
            for i in range(7):
                weight, bias = p[f"{name}.res2.convs.{i}.weight"], p[f"{name}.res2.convs.{i}.bias"]
                previous = F.relu(
                    F.conv1d(
                        groups[i] + previous, weight, bias, padding=dilation, dilation=dilation
                    )
                )
                previous = groups[i] = norm(f"{name}.res2.bns.{i}", previous)
            y = conv_relu_norm(f"{name}.expand", torch.cat(groups, 1))
            gate = F.relu(
                F.linear(y.mean(2), p[f"{name}.squeeze.weight"], p[f"{name}.squeeze.bias"])
            )
            gate = F.linear(gate, p[f"{name}.excite.weight"], p[f"{name}.excite.bias"]).sigmoid()
            x = x + y * gate[..., None]
            outputs.append(x)
        y = F.relu(F.conv1d(torch.cat(outputs, 1), p["conv.weight"], p["conv.bias"]))
        score = F.conv1d(
            torch.tanh(F.conv1d(y, p["attention.0.weight"], p["attention.0.bias"])),
            p["attention.2.weight"],
            p["attention.2.bias"],
        )
        score = score.exp() / score.exp().sum(2, keepdim=True)
        mean = (score * y).sum(2)
        deviation = ((score * (y - mean[..., None]) ** 2).sum(2)).clamp_min(1e-9).sqrt()
        expected = F.linear(
            norm("bn", torch.cat([mean, deviation], 1)), p["linear.weight"], p["linear.bias"]
        )
        assert torch.allclose(network(clip), expected, atol=2e-4, rtol=1e-3)


def test_embeddings_are_unit_vectors_and_do_not_depend_on_neighbours(checkpoint, clip):
    model = load_speaker_model(f"wavlm-ecapa:{checkpoint}")
    assert isinstance(model, WavLMSpeaker) and len(model.description["sha256"]) == 64
    vectors = model.embed([clip[0], clip[0, :100]])
    assert vectors.shape == (2, 10) and torch.allclose(
        vectors.norm(dim=1), torch.ones(2), atol=1e-5
    )
    assert torch.equal(model.embed([clip[0]])[0], vectors[0])


def test_another_file_is_refused(tmp_path, checkpoint):
    with pytest.raises(ConfigError, match="no such file"):
        load_ecapa_over_wavlm(tmp_path / "none.pth")
    (tmp_path / "text.pth").write_text("hello")
    torch.save({"model": {"a": torch.zeros(1)}}, tmp_path / "other.pth")
    for name in ("text.pth", "other.pth"):
        with pytest.raises(ConfigError, match="not a WavLM"):
            load_ecapa_over_wavlm(tmp_path / name)
    state = torch.load(checkpoint, weights_only=True)["model"]
    del state["bn.running_mean"]
    torch.save({"model": state}, tmp_path / "short.pth")
    with pytest.raises(ConfigError, match=r"1 tensors are missing, e\.g\. bn\.running_mean"):
        load_ecapa_over_wavlm(tmp_path / "short.pth")
