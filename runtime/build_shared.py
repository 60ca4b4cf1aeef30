"""What the runtime and svae have in common: modules of svae without torch, copied when the package is built.

So there is one source of them. In the package they are `svae_runtime.shared`, with imports renamed, and need no svae.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SHARED = (
    "errors.py",
    "runtime/text_files.py",
    "text/*.py",
    "models/tts/solver.py",
    "synthesis/types.py",
    "synthesis/durations.py",
    "synthesis/chunks.py",
    "synthesis/loudness.py",
)
"""Below svae/."""
_IMPORT = re.compile(r"^(\s*(?:from|import) )svae\.", re.MULTILINE)


def write_shared(folder: Path, svae: Path = HERE.parent / "svae") -> None:
    """Write the shared modules as the package `shared` into a folder, which is created."""
    for pattern in SHARED:
        for source in sorted(svae.glob(pattern)):
            target = folder / source.relative_to(svae)
            target.parent.mkdir(parents=True, exist_ok=True)
            text = source.read_text(encoding="utf-8")
            target.write_text(_IMPORT.sub(r"\1svae_runtime.shared.", text), encoding="utf-8")
    for inner in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
        package = inner / "__init__.py"
        if not package.exists():
            package.write_text('"""Modules of svae; see runtime/build_shared.py."""\n')


def stage(folder: Path) -> Path:
    """Write the whole package as it is installed into a folder; return that folder, for sys.path."""
    package = folder / "svae_runtime"
    shutil.copytree(
        HERE / "svae_runtime", package, ignore=shutil.ignore_patterns("__pycache__", "shared")
    )
    write_shared(package / "shared")
    return folder


try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ModuleNotFoundError:  # in tests, which stage the package without building it
    BuildHookInterface = object


class SharedModules(BuildHookInterface):  # type: ignore[misc, valid-type]
    """Adds the shared modules to the wheel and the source distribution."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write them beside the build; a source distribution has them already."""
        svae = HERE.parent / "svae"
        if not (svae / "errors.py").is_file():
            return
        self.work = tempfile.TemporaryDirectory()
        folder = Path(self.work.name) / "shared"
        write_shared(folder, svae)
        build_data["force_include"][str(folder)] = "svae_runtime/shared"
