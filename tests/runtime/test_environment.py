"""What is stored with every run and result about where it was made."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import torch

from svae.runtime.environment import environment

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs a git checkout")
def test_the_commit_of_a_checkout_is_named():
    command = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    commit = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    assert environment(torch.device("cpu"))["revision"] == commit
