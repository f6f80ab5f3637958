"""The run folder's record: atomic, honest about NaN, and clear about what is damaged."""

import json
import math
import os
import re

import pytest

from mlplab.errors import ConfigError
from mlplab.runs.record import Record

CONFIG = "base: 3\ncopy: 3\ntext: naïve ≥\n"
PLAIN = {"base": 3, "copy": 3, "text": "naïve ≥"}


def begin(folder, values, config=CONFIG):
    record = Record(folder, values)
    record.create(config)
    return record


def on_disk(folder):
    """What was put into the record, without the digests that it adds."""
    values = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return {key: value for key, value in values.items() if key not in ("digest", "config_digest")}


def test_values_are_on_disk_as_soon_as_they_are_set(tmp_path):
    folder = tmp_path / "deep" / "run"
    record = begin(folder, {"status": "running", "seed": 0})
    assert on_disk(folder) == {"status": "running", "seed": 0}
    assert sorted(path.name for path in folder.iterdir()) == [".lock", "config.yaml", "result.json"]
    record.update(status="finished", metrics={"val/acc": 0.5})
    assert on_disk(folder) == {"status": "finished", "seed": 0, "metrics": {"val/acc": 0.5}}
    assert Record.read(folder).values.items() >= on_disk(folder).items()
    assert Record.read(folder).config() == record.plain_config() == PLAIN


def test_a_folder_with_a_run_is_refused_and_left_alone(tmp_path):
    begin(tmp_path, {"status": "finished"})
    with pytest.raises(ConfigError, match="holds a run already; continue it with resume="):
        begin(tmp_path, {"status": "running"}, config="other: 1\n")
    assert on_disk(tmp_path) == {"status": "finished"}
    assert Record.read(tmp_path).config() == PLAIN
    begin(tmp_path / "a [b]", {"status": "finished"})
    with pytest.raises(ConfigError, match=re.escape(f"with 'resume={tmp_path}/a [b]', or")):
        begin(tmp_path / "a [b]", {"status": "running"})


def test_numbers_that_json_lacks_become_texts(tmp_path):
    others = {"a": [1, 2.5, True, None, "NaN"], "b": {"c": []}}
    begin(tmp_path, {"metrics": {"loss": math.nan, "rows": [math.inf, (-math.inf, 1.5)]}} | others)
    assert on_disk(tmp_path) == {"metrics": {"loss": "nan", "rows": ["inf", ["-inf", 1.5]]}} | others


def test_missing_things_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"no run folder .*nowhere; runs are in outputs/train"):
        Record.read(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"is not a run folder: it has no result\.json"):
        Record.read(tmp_path)
    with pytest.raises(ConfigError, match=r"config\.yaml cannot be read"):
        Record(tmp_path, {}).config()
    os.mkfifo(tmp_path / "config.yaml")  # which nobody writes to
    with pytest.raises(ConfigError, match=r"config\.yaml cannot be read"):
        Record(tmp_path, {}).config()


def test_checkpoints_are_found_or_those_there_are_listed(tmp_path):
    record = begin(tmp_path, {})
    with pytest.raises(ConfigError, match=r"no checkpoint .*; there is none"):
        record.checkpoint("best")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    assert record.checkpoint("last") == tmp_path / "checkpoints" / "last.ckpt"
    with pytest.raises(ConfigError, match="there is checkpoint=last"):
        record.checkpoint("best")
