"""`svae doctor`: right arithmetic passes, wrong arithmetic is named."""

from __future__ import annotations

import pytest
import torch

from svae.analysis import doctor
from svae.config import BigVGANConfig, VAEConfig
from svae.errors import SvaeError

TINY = VAEConfig(
    encoder_channels=4, latent_dim=4, attention_heads=2, decoder=BigVGANConfig(initial_channels=64, resblock_kernel_sizes=(3,), resblock_dilation_sizes=((1, 3),))
)  # fmt: skip


def test_float32_is_close_to_float64_and_bfloat16_is_not():
    full, half = doctor.numerics(torch.device("cpu"), TINY, seconds=0.2)
    assert (full.precision, half.precision) == ("fp32", "bf16")
    assert full.right and max(full.encode, full.decode) < 1e-4
    assert half.encode > 10 * full.encode and half.decode > 10 * full.decode


def test_the_report_names_what_is_there_and_what_is_missing(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "SMALL", TINY)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(
        doctor, "numerics", lambda device: [doctor.Deviation("cpu", "fp32", 1e-6, 1e-6)]
    )
    doctor.doctor("cpu")
    printed = capsys.readouterr().out
    for expected in (
        "--asr pocketsphinx",
        "microsoft/wavlm-large",
        "not cached",
        "torch 2.11.0",
        "float64",
    ):
        assert expected in printed


def test_wrong_arithmetic_is_an_error(monkeypatch):
    monkeypatch.setattr(
        doctor, "numerics", lambda device: [doctor.Deviation("cuda:0", "fp32", float("inf"), 0.0)]
    )
    with pytest.raises(SvaeError, match="cuda:0 computes wrongly in fp32"):
        doctor.doctor("cpu")


def test_what_is_not_finite_is_infinitely_wrong():
    good = torch.ones(3)
    assert doctor.relative_error(torch.tensor([1.0, float("nan"), 1.0]), good) == float("inf")
    assert doctor.relative_error(1.01 * good, good) == pytest.approx(0.01, rel=1e-4)
