"""What a run says of itself at its end: paths and commands that can be pasted, wherever it lies."""

import shlex
import shutil
from pathlib import Path

import pytest

from mlplab.runs import facts
from mlplab.runs.record import Record


@pytest.mark.parametrize(
    ("folder", "logs"),
    [
        (".", "."), ("outputs/train/a", "outputs"), ("exp[bold]1", "exp[bold]1"), ("x[/y]", "x["),
        ("my runs/a b", "my runs"), ("it's", "it's"), ("a=1,b", "a=1,b"),
    ],
)  # fmt: skip
def test_the_last_lines_can_be_pasted(folder, logs, finished, tmp_path, monkeypatch, capsys):
    (tmp_path / folder / "tensorboard").mkdir(parents=True)
    shutil.copy(finished.folder / "result.json", tmp_path / folder)
    monkeypatch.chdir(tmp_path)
    facts.show(Record.read(Path.cwd() / folder))
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()[-2:])
    assert shlex.split(lines["tensorboard"]) == ["tensorboard", "--logdir", logs]
    assert shlex.split(lines["report"]) == ["python", "scripts/report.py", folder]
