"""The machine, the versions and the source that a run or a result was made with."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import svae


def environment(device: torch.device) -> dict[str, Any]:
    """Return versions, hardware and source revision, as stored with every run and result."""
    names = (
        "torch",
        "torchaudio",
        "transformers",
        "webdataset",
        "speechbrain",
        "jiwer",
        "numpy",
        "soundfile",
        "av",
        "pyloudnorm",
    )
    return {
        "svae": svae.__version__,
        "revision": _revision(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor_count": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": str(device),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "packages": {name: metadata.version(name) for name in names},
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _revision() -> str | None:
    """Return the git commit of a source checkout; None where svae is installed from a wheel."""
    root = Path(svae.__file__).parent.parent
    if not (root / ".git").exists():
        return None
    try:
        result = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return result.stdout.strip()
