"""The architecture's rule: a file imports only from lower layers, and the files of one layer ignore each other."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "mlplab"

LAYERS = {
    "checks": 0,
    "data.types": 0,
    "record": 1,
    "targets": 1,
    "keys": 1,
    "memory": 0,
    "selection": 0,
    "combinations": 2,
    "rules": 3,
    "checkpoints": 1,
    "networks": 1,
    "losses": 1,
    "schedules": 1,
    "update": 1,
    "compiled": 2,
    "data.sources": 1,
    "data.image_folder": 2,  # caches as checkpoints are written
    "data.splits": 1,
    "data.augment": 1,
    "data.pictures": 1,
    "callbacks.gradient_noise": 1,
    "callbacks.guards": 1,
    "callbacks.monitors": 1,
    "callbacks.run_logs": 1,
    "callbacks.last_checkpoint": 2,  # raises as callbacks.guards does
    "signals": 0,
    "processes": 0,
    "callbacks.progress": 2,
    "callbacks.texts": 1,
    "callbacks.pruning": 1,
    "callbacks.moments": 1,
    "callbacks.outputs": 1,
    "callbacks.embedding": 2,  # of what callbacks.outputs sees
    "callbacks.tensorboard": 3,
    "callbacks.split_curve": 2,  # notes times as record does
    "callbacks.history": 3,  # notes what callbacks.gradient_noise and callbacks.split_curve measured
    "callbacks.layers": 4,  # logs at moments, to the boards that callbacks.tensorboard finds
    "figures.plane": 1,
    "figures.style": 2,  # with the colours of data.pictures
    "figures.images": 2,
    "figures.learning": 3,
    "figures.boundary": 3,
    "figures.classification": 3,
    "figures.network": 4,
    "callbacks.figures": 5,  # draws what callbacks.history and callbacks.layers noted
    "classifier": 3,  # performs updates as update and compiled do
    "data.inputs": 3,  # decodes as data.image_folder does
    "data.loader": 2,
    "resuming": 4,
    "result": 5,
    "passes": 3,
    "speed_tables": 0,
    "report.intervals": 1,
    "report.drawing": 1,
    "report.runs": 2,
    "report.words": 2,
    "report.page": 2,
    "report.provenance": 3,
    "report.settings": 3,
    "report.groups": 4,
    "report.study": 5,
    "report.curves": 5,
    "report.scores": 5,
    "report.tables": 6,
    "report.chosen_epochs": 6,
    "report.side_by_side": 6,
    "report.stills": 6,
    "report.answer": 6,
    "report.run_page": 6,
    "report.comparison": 7,
    "report": 8,
    "data.module": 3,
    "data.statistics": 3,
    "instantiation": 2,  # of targets that mlplab.targets has checked
    "build": 4,
    "training": 6,
    "evaluation": 5,
    "prediction": 5,
    "inspection": 5,
    "baselines": 4,
    "figure_cost": 6,
    "benchmark": 7,
    "overrides": 4,
    "command_line": 6,
    "tuning": 0,
    "tuning.search": 5,
    "tuning.study": 6,
    "tuning.trials": 7,
    "tuning.plots": 6,
    "tuning.report": 7,
    "tuning.tune": 8,
    "sweeps": 5,
    "sweep_progress": 6,
    "sweep_job": 7,
    "multirun": 9,
    "cli": 10,
    "": 9,  # mlplab itself, which offers load_run
    "data": 0,
    "callbacks": 0,
    "figures": 0,
}
"""Module of mlplab → layer (DESIGN: "The house"). A new file is entered here, as low as its imports allow."""

FILES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix("__init__").rstrip("."): path
    for path in sorted(SOURCE.rglob("*.py"))
}


def imports(path: Path, *, top_level: bool = False) -> Iterator[tuple[str, str]]:
    """(module, name) of each import, also those within functions; without those for type checkers only."""
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            waiting += node.orelse
        elif top_level and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import; write mlplab.… in full"
            yield from ((str(node.module), alias.name) for alias in node.names)
        else:
            waiting += ast.iter_child_nodes(node)


def modules_of_ours(path: Path) -> set[str]:
    """The modules of mlplab that a file imports, as in LAYERS."""
    found = set()
    for module, name in imports(path):
        if module.partition(".")[0] == "mlplab":
            inner = module.removeprefix("mlplab").lstrip(".")
            submodule = f"{inner}.{name}".lstrip(".")
            found.add(submodule if submodule in FILES else inner)
    return found


@pytest.mark.parametrize("module", FILES, ids=lambda module: module or "mlplab")
def test_a_file_imports_only_from_lower_layers(module):
    assert module in LAYERS, f"enter {module} into LAYERS"
    wrong = {name for name in modules_of_ours(FILES[module]) if LAYERS[name] >= LAYERS[module]}
    assert not wrong, f"{module} (layer {LAYERS[module]}) imports {wrong}"


def test_every_entry_of_the_table_is_a_file():
    assert set(LAYERS) == set(FILES)


def test_the_reader_of_imports_sees_what_it_must(tmp_path):
    (tmp_path / "file.py").write_text(
        "import os, mlplab.record\n"
        "from typing import TYPE_CHECKING\n"
        "from mlplab import build, load_run\n"
        "from mlplab.data import splits\n"
        "if TYPE_CHECKING:\n"
        "    from mlplab.cli import command\n"
        "def function():\n"
        "    from mlplab.data.module import DataModule\n"
        "class Thing:\n"
        "    if os.name == 'nt':\n"
        "        import mlplab.training\n"
    )
    assert modules_of_ours(tmp_path / "file.py") == {"record", "build", "", "data.splits", "data.module", "training"}


def test_one_file_knows_hydras_instantiate():
    knowing = {name for name, path in FILES.items() if ("hydra.utils", "instantiate") in set(imports(path))}
    assert knowing == {"instantiation"}


@pytest.mark.parametrize(
    "module", [name for name in FILES if name.startswith(("data", "callbacks")) or name in ("networks", "losses")]
)
def test_networks_data_and_callbacks_take_plain_values(module):
    packages = {name.partition(".")[0] for name, _ in imports(FILES[module])}
    assert not packages & {"hydra", "omegaconf"}


@pytest.mark.parametrize(
    "path", [ROOT / "train.py", ROOT / "eval.py", *sorted((ROOT / "scripts").glob("*.py"))], ids=lambda path: path.name
)
def test_entry_points_are_thin(path):
    assert set(imports(path, top_level=True)) == {("omegaconf", "DictConfig"), ("mlplab.cli", "command")}
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 20


def test_what_answers_at_once_does_not_import_torch():
    program = (
        "import sys\n"
        "for name in ('', '.checks', '.targets', '.keys', '.rules', '.build', '.multirun', '.cli'):\n"
        "    __import__(f'mlplab{name}')\n"
        "    heavy = {'torch', 'torchvision', 'lightning', 'sklearn', 'matplotlib'} & set(sys.modules)\n"
        "    assert not heavy, f'{name} imports {heavy}'\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
