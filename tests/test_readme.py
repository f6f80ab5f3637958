"""What the README promises: its own data set and network, followed step by step; its commands; its table of groups."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from hydra import initialize_config_dir

from mlplab.cli.arguments import in_grammar, read
from mlplab.cli.launch import check
from mlplab.config.check import CONF, config_faults
from mlplab.tuning.search import read_search

ROOT = CONF.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def named_files() -> dict[str, str]:
    """The code blocks that follow the name of a file: path → content."""
    pattern = r"`((?:src|conf)/[\w/.]+\.(?:py|yaml))`[^`]*?:\n\n```(?:python|yaml)\n(.*?)```"
    return dict(re.findall(pattern, README, flags=re.DOTALL))


def commands() -> list[list[str]]:
    """All `python train.py …` of the README as lists of arguments, those with placeholders left out."""
    found = re.findall(r"^(?:\.venv/bin/)?python train\.py([^#\n]*)", README, flags=re.MULTILINE)
    return [shlex.split(line) for line in found if "<" not in line and "…" not in line]


def test_following_the_readme_adds_a_data_set_and_a_network(tmp_path):
    files = named_files()
    assert set(files) == {
        "src/mlplab/data/circles.py", "conf/data/circles.yaml", "src/mlplab/models/maxout.py", "conf/model/maxout.yaml",
    }  # fmt: skip
    for folder in ("src", "conf"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copy(ROOT / "train.py", tmp_path)
    for path, content in files.items():
        (tmp_path / path).write_text(content, encoding="utf-8")

    process = subprocess.run(
        [sys.executable, "train.py", "data=circles", "model=maxout", "trainer.max_epochs=20", "trainer=cpu",
         "hydra.run.dir=run"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(tmp_path / "src")}, capture_output=True, text=True,
    )  # fmt: skip

    assert process.returncode == 0, process.stderr
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["samples"] == {"train": 350, "val": 75, "test": 75}
    assert result["metrics"]["test/acc"] > 0.9
    assert Path(tmp_path / "run" / "figures" / "decision_boundary.png").is_file()


def test_every_training_command_of_the_readme_is_without_fault():
    lines = commands()
    assert len(lines) >= 8
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for arguments in lines:
            check("train", read(arguments))


def test_what_a_shell_would_read_as_its_own_is_quoted():
    """zsh looks for files named by [256,128], and for the home of a user by ~callbacks."""
    lines = re.findall(r"^(?:\.venv/bin/)?python ([^#\n]+)|`python ([^`]+)`", README, flags=re.MULTILINE)
    assert len(lines) >= 20
    for line in ("".join(pair) for pair in lines):
        assert not re.search(r"[\[~{]", re.sub(r"'[^']*'|\"[^\"]*\"", "", line)), line


def test_every_tuning_command_of_the_readme_is_without_fault(composed):
    lines = re.findall(r"^`?python scripts/tune\.py([^#`\n]*)", README, flags=re.MULTILINE)
    assert len(lines) >= 2
    for line in lines:
        config = composed("tune", *map(in_grammar, shlex.split(line)))
        assert config_faults(config) == []
        assert read_search(config).space


def test_the_table_of_groups_names_every_choice_and_the_default_in_bold():
    text = (CONF / "train.yaml").read_text(encoding="utf-8")
    for group in ("data", "model", "batching", "regularization", "optimizer", "scheduler", "loss", "trainer",
                  "callbacks", "logger", "experiment", "without", "study", "debug"):  # fmt: skip
        row = next(line for line in README.splitlines() if line.startswith(f"| `{group}` |"))
        named = set(re.findall(r"`(\w+)`", row.split("|")[2]))
        default = set(re.findall(rf"^  - {group}: (?!null)(\w+)", text, flags=re.MULTILINE))
        assert set(re.findall(r"\*\*`(\w+)`\*\*", row)) == default, group
        assert named == {path.stem for path in (CONF / group).glob("*.yaml")} - {"base"}, group
