"""Loads are plain data: what the source code may call to read a file, and what hostile files can then do: nothing."""

import ast
import re
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "mlplab"
FILES = sorted(SOURCE.rglob("*.py"))

PROMISES = {"load": {"torch": ("weights_only", True), "np": ("allow_pickle", False), "numpy": ("allow_pickle", False)}}
"""Name of a call → by whom → the argument that must be passed, and its value."""

RUN_CODE = {"eval", "exec", "compile", "__import__"}
NOT_IMPORTED = {"dill", "cloudpickle", "joblib", "shelve", "marshal"}
YAML = {"YAMLError", "AliasEvent", "CollectionEndEvent", "CollectionStartEvent", "parse"}
YAML |= {"load", "SafeLoader", "safe_dump", "safe_load"}
ALLOWED_OF = {
    "pickle": {"UnpicklingError"},
    "yaml": YAML,
}


def broken_promises(code: str) -> list[str]:
    """One line for each call or import that could unpickle, or run, what a file holds."""
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = node.module if isinstance(node, ast.ImportFrom) else None
            names = {alias.name for alias in node.names}
            packages = {str(name).partition(".")[0] for name in ([module] if module else names)}
            found += [f"import of {name}" for name in packages & NOT_IMPORTED]
            if module in ALLOWED_OF:
                found += [f"{module}.{name}" for name in names - ALLOWED_OF[module]]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id in ALLOWED_OF and node.attr not in ALLOWED_OF[node.value.id]:
                found.append(f"{node.value.id}.{node.attr}")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in RUN_CODE:
            found.append(node.func.id)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            passed = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            name, owner = node.func.attr, ast.unparse(node.func.value)
            if name in PROMISES and owner in PROMISES[name]:
                argument, value = PROMISES[name][owner]
                if passed.get(argument) != str(value):
                    found.append(f"{owner}.{name} without {argument}={value}")
            reads = (
                name in ("load_from_checkpoint", "load_state_dict_from_url")
                or passed.get("ckpt_path", "None") != "None"
            )
            if reads and passed.get("weights_only") != "True":
                found.append(f"{name} without weights_only=True")
            if (owner, name) == ("yaml", "load") and not re.search("SafeLoader|, LOADER", ast.unparse(node)):
                found.append("yaml.load without SafeLoader")
            if owner in ("torch.hub", "torch.jit") and name.startswith("load"):
                found.append(f"{owner}.{name}")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_every_load_reads_plain_data(path):
    assert broken_promises(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "code",
    [
        "torch.load(path)", "torch.load(path, weights_only=False)", "torch.load(path, weights_only=flag)", "eval('1')",
        "np.load(path)", "np.load(path, allow_pickle=True)", "Net.load_from_checkpoint(path)", "import joblib",
        "trainer.fit(model, ckpt_path=path)", "trainer.test(model, ckpt_path='best', weights_only=False)",
        "import pickle\npickle.loads(data)", "from pickle import load", "import yaml\nyaml.load(text)",
        "from yaml import unsafe_load",
        "yaml.load(text, Loader=yaml.Loader)", "torch.hub.load(a, b)", "torch.jit.load(path)",
        "exec(text)", "import dill.source",
    ],
)  # fmt: skip
def test_the_search_sees_what_it_must(code):
    assert len(broken_promises(code)) >= 1


def test_the_search_lets_plain_loads_pass():
    assert broken_promises(
        "import pickle, json\nfrom yaml import YAMLError\ntorch.load(path, weights_only=True)\nmodel.eval()\n"
        "np.load(path, allow_pickle=False)\njson.load(file)\ntrainer.fit(model, ckpt_path=path, weights_only=True)\n"
        "trainer.fit(model, ckpt_path=None)\nexcept_ = pickle.UnpicklingError\nmodel.compile()"
    ) == []  # fmt: skip
