"""The way of the imports is the way of the data: a module imports only from what stands above it."""

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "p2d"
# From the bottom up; modules of one line do not know each other, those of one folder may.
LAYERS = [
    ["p2d.errors", "p2d.log", "p2d.memory", "p2d.signals", "p2d.threads"],
    ["p2d.progress"],
    ["p2d.places"],
    ["p2d.fields", "p2d.runs"],
    ["p2d.formats"],
    ["p2d.leases"],
    ["p2d.lock"],
    ["p2d.events"],
    ["p2d.systems"],
    ["p2d.config"],
    ["p2d.pairwise"],
    ["p2d.observables"],
    ["p2d.snapshots"],
    ["p2d.training"],
    ["p2d.score"],
    ["p2d.flow"],
    ["p2d.discovery"],
    ["p2d.recipes"],
    ["p2d.evaluate"],
    ["p2d.show"],
    ["p2d.tracking"],
    ["p2d.cluster"],
    ["p2d.api", "p2d.pipeline"],
    ["p2d.bench"],
    ["p2d.help"],
    ["p2d.commands"],
    ["p2d.cli"],
]
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
ARROW = ("p2d/snapshots/", "p2d/formats/", "p2d/places.py")
ONLY = {"ray": "p2d/cluster/", "mlflow": "p2d/tracking/", "pyarrow": ARROW}
MODULES = sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")


@functools.cache
def imports(path):
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def layer_of(dotted):
    return next((name for name in RANK if dotted == name or dotted.startswith(name + ".")), None)


def dotted_name(path):
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)


@pytest.mark.parametrize("path", MODULES, ids=dotted_name)
def test_a_module_imports_only_from_above(path):
    here = layer_of(dotted_name(path))
    assert here is not None, f"{dotted_name(path)} has no place in the layers"
    for there in filter(None, map(layer_of, imports(path))):
        assert there == here or RANK[there] < RANK[here], f"{dotted_name(path)} imports {there}"


@pytest.mark.parametrize("path", MODULES, ids=dotted_name)
def test_ray_mlflow_and_pyarrow_stay_in_their_places(path):
    where = path.relative_to(PACKAGE.parent).as_posix()
    for package, place in ONLY.items():
        used = any(name == package or name.startswith(package + ".") for name in imports(path))
        assert not used or where.startswith(place), f"{where} imports {package}"


def test_the_layers_name_only_what_there_is():
    known = {dotted_name(p) for p in MODULES} | {f"p2d.{p.name}" for p in PACKAGE.iterdir() if p.is_dir()}
    assert set(RANK) <= known


def test_the_top_level_holds_nothing_else():
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=PACKAGE.parent, capture_output=True, text=True, check=True
    ).stdout.split()
    tops = {name.split("/")[0] for name in tracked}
    assert {t for t in tops if not t.startswith(".")} <= {
        "p2d",
        "jobs",
        "tests",
        "pyproject.toml",
        "README.md",
        "LICENSE",
    }


@pytest.mark.parametrize("heavy", ["torch", "ray", "mlflow", "pyarrow", "numba", "matplotlib", "scipy"])
def test_the_command_line_starts_without(heavy):
    code = f"import sys, p2d.cli; sys.exit({heavy!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
