"""Loads are plain data: what the source code may call to read a file. What hostile files can do: test_hostile."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "mlplab"
FILES = sorted(SOURCE.rglob("*.py"))

MUST_PASS = {
    "torch.load": "weights_only=True", "np.load": "allow_pickle=False", "numpy.load": "allow_pickle=False",
    "yaml.load": "LOADER",
}  # fmt: skip
NEVER = {
    "eval", "exec", "compile", "__import__", "pickle.load", "pickle.loads", "torch.hub.load", "torch.jit.load",
    "load_state_dict_from_url", "load_from_checkpoint",
}  # fmt: skip
NOT_IMPORTED = {"dill", "cloudpickle", "joblib", "shelve", "marshal"}
IN_MEMORY = {"config/overrides.py": ["pickle.loads(with_files)"], "sweeps/slurm.py": ["cloudpickle"]}
"""Bytes that mlplab itself has made: of a config, in the same process; of a launcher, within what submitit pickles."""


def broken_promises(code: str) -> list[str]:
    """Each call or import that could unpickle, or run, what a file holds."""
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = getattr(node, "module", None)
            names = {alias.name for alias in node.names}
            found += [name for name in {module} | names if str(name).partition(".")[0] in NOT_IMPORTED]
            found += [f"{module}.{name}" for name in names if f"{module}.{name}" in NEVER | set(MUST_PASS)]
        elif isinstance(node, ast.Call):
            called, passed = ast.unparse(node.func), ast.unparse(node).replace("SafeLoader", "LOADER")
            resumes = any(word.arg == "ckpt_path" and ast.unparse(word.value) != "None" for word in node.keywords)
            needed = MUST_PASS.get(called, "weights_only=True" if resumes else "")
            if {called, called.rpartition(".")[2] if "_" in called else called} & NEVER or needed not in passed:
                found.append(passed)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_every_load_reads_plain_data(path):
    assert broken_promises(path.read_text(encoding="utf-8")) == IN_MEMORY.get(path.relative_to(SOURCE).as_posix(), [])


@pytest.mark.parametrize(
    "code",
    ["torch.load(path)", "torch.load(path, weights_only=flag)", "np.load(path, allow_pickle=True)", "eval('1')",
     "Net.load_from_checkpoint(path)", "import joblib", "trainer.fit(model, ckpt_path=path)", "pickle.loads(data)",
     "from pickle import load", "yaml.load(text)", "yaml.load(text, Loader=yaml.Loader)", "torch.hub.load(a, b)"],
)  # fmt: skip
def test_the_search_sees_what_it_must(code):
    assert broken_promises(code)
