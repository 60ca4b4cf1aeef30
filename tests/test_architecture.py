"""The rules of docs/architecture.md that a machine can check."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "svae"
LAYERS = {
    "svae.errors": 0,
    "svae.assets": 0,
    "svae.config": 1,
    "svae.recipe": 1,
    "svae.runtime": 2,
    "svae.audio": 2,
    "svae.frames": 2,
    "svae.checkpoint": 2,
    "svae.text": 3,
    "svae.data": 4,
    "svae.models": 4,
    "svae.importing": 5,
    "svae.judges": 5,
    "svae.precompute": 5,
    "svae.synthesis": 6,
    "svae.recordings": 6,
    "svae.serve": 7,
    "svae.training": 7,
    "svae.evaluation": 7,
    "svae.analysis": 8,
    "svae.hub": 8,
    "svae.export": 8,
    "svae.cli": 9,
}
SOURCES = sorted(PACKAGE.rglob("*.py"))


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(
        ".__init__"
    )


def layer(module: str) -> tuple[str, int] | None:
    for name in (".".join(module.split(".")[:2]), module):
        if name in LAYERS:
            return name, LAYERS[name]
    return None


def imports_of(path: Path) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return [name for name in names if name.startswith("svae.")]


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_every_module_has_a_layer_and_imports_only_its_own_or_lower_ones(path):
    own = layer(module_name(path))
    if module_name(path) in ("svae", "svae.__main__"):
        return
    assert own is not None, f"add {module_name(path)} to LAYERS"
    for name in imports_of(path):
        other = layer(name)
        assert other is not None, name
        assert other[1] <= own[1], (
            f"{module_name(path)} (layer {own[1]}) imports {name} (layer {other[1]})"
        )


def test_data_and_models_never_import_each_other():
    for path in SOURCES:
        module = module_name(path)
        for here, there in (("svae.data", "svae.models"), ("svae.models", "svae.data")):
            if module.startswith(here):
                assert not [name for name in imports_of(path) if name.startswith(there)], module


def test_no_module_needs_itself():
    """Imports inside functions count too: a circle that is hidden in a function is a circle."""
    modules = {module_name(path) for path in SOURCES}
    needs = {
        module_name(path): {name for name in imports_of(path) if name in modules}
        for path in SOURCES
    }
    assert not circles(needs)


def circles(needs: dict[str, set[str]]) -> list[list[str]]:
    """Return the groups of modules that need each other, directly or through others; a module alone only if it needs itself."""
    reachable: dict[str, set[str]] = {}
    for start in needs:
        seen: set[str] = set()
        waiting = list(needs[start])
        while waiting:
            module = waiting.pop()
            if module not in seen:
                seen.add(module)
                waiting += needs.get(module, ())
        reachable[start] = seen
    groups = {
        tuple(sorted(other for other in needs if other in reachable[a] and a in reachable[other]))
        for a in needs
        if a in reachable[a]
    }
    return [list(group) for group in sorted(groups)]


def test_a_circle_would_be_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [["b", "c"]]
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_few_modules_lie_outside_a_room():
    flat = [path.stem for path in PACKAGE.glob("*.py") if path.stem not in ("__init__", "__main__")]
    assert len(flat) <= 9, flat


def test_files_and_functions_stay_short():
    long_files = {
        module_name(p): n
        for p in SOURCES
        if (n := len(p.read_text(encoding="utf-8").splitlines())) > 600
    }
    assert not long_files
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                # A command's options are its signature; the rule is about what is done.
                first = node.body[0].lineno if "cli" in path.parts else node.lineno
                length = node.end_lineno - first + 1
                assert length <= 80, f"{module_name(path)}.{node.name} has {length} lines"


def test_no_pickle_can_come_from_a_file():
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                assert any(
                    k.arg == "weights_only" and ast.unparse(k.value) == "True"
                    for k in node.keywords
                ), path
        assert "import pickle" not in path.read_text(encoding="utf-8"), path


def test_the_command_line_starts_without_torch():
    code = "import sys, svae, svae.cli; sys.exit(any(m in sys.modules for m in ('torch', 'numpy', 'transformers')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
