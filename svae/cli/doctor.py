"""`svae doctor`."""

from __future__ import annotations

from svae.cli.app import app, example
from svae.cli.options import Device


@app.command(
    epilog=example("""
        svae doctor
        svae doctor --device cuda
    """)
)
def doctor(device: Device = "auto") -> None:
    """Print what this machine has and lacks, and test whether its arithmetic is right."""
    from svae.analysis.doctor import doctor as run

    run(device)
