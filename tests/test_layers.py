"""The architecture's rule: rooms stand in one order, and each imports only from those before it."""

import ast
import graphlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "mlplab"

ROOMS = (
    "errors", "files", "cluster", "signals", "config", "figures", "data", "models", "callbacks", "runs", "report",
    "sweeps", "tuning", "cli",
)  # fmt: skip
"""Each imports only from those before it."""

FILES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix("__init__").rstrip("."): path
    for path in sorted(SOURCE.rglob("*.py"))
}


def imports(path: Path, *, top_level: bool = False) -> Iterator[tuple[str, str]]:
    """(module, name) of each import; `top_level` leaves out those within functions and classes."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body if top_level else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import; write mlplab.… in full"
            yield from ((str(node.module), alias.name) for alias in node.names)


def modules_of_ours(path: Path) -> set[str]:
    """The modules of mlplab that a file imports, as in FILES."""
    found = set()
    for module, name in imports(path):
        if module.partition(".")[0] == "mlplab":
            inner = module.removeprefix("mlplab").lstrip(".")
            submodule = f"{inner}.{name}".lstrip(".")
            found.add(submodule if submodule in FILES else inner)
    return found


def room(module: str) -> str:
    return module.partition(".")[0]


@pytest.mark.parametrize("module", [module for module in FILES if module])
def test_a_room_imports_only_from_rooms_before_it(module):
    others = {room(name) for name in modules_of_ours(FILES[module])} - {room(module)}
    before = set(ROOMS[: ROOMS.index(room(module))])
    assert others <= before, f"{module} imports {others - before}"


def test_inside_a_room_the_imports_make_no_circle():
    graph = {module: {name for name in modules_of_ours(path) if name != module} for module, path in FILES.items()}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError


def test_one_file_imports_what_a_library_keeps_private():
    names = {module: {name for name, _ in imports(path)} for module, path in FILES.items()}
    private = {module for module, of_file in names.items() if any("._" in name for name in of_file)}
    assert private == {"models.compiled"}  # which says why; models.loops knows Lightning's private attributes


def test_one_file_knows_hydras_instantiate():
    knowing = {name for name, path in FILES.items() if ("hydra.utils", "instantiate") in set(imports(path))}
    assert knowing == {"runs.build"}


@pytest.mark.parametrize("module", [name for name in FILES if room(name) in ("figures", "data", "models", "callbacks")])
def test_networks_data_and_callbacks_take_plain_values(module):
    packages = {name.partition(".")[0] for name, _ in imports(FILES[module])}
    assert not packages & {"hydra", "omegaconf"}


@pytest.mark.parametrize("name", ["train.py", "eval.py", "scripts/predict.py", "scripts/report.py", "scripts/tune.py"])
def test_entry_points_are_thin(name):
    path = ROOT / name
    assert set(imports(path, top_level=True)) == {("typing", "Any"), ("mlplab.cli", "command")}
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 20


@pytest.mark.parametrize(("theirs", "policy"), [({}, "passive"), ({"OMP_WAIT_POLICY": "active"}, "active")])
def test_waiting_threads_sleep_unless_the_user_says_otherwise(theirs, policy, monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    script = "import os, sys, mlplab; print('torch' in sys.modules, os.environ['OMP_WAIT_POLICY'])"
    environment = os.environ | theirs
    run = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", policy]
