"""The run folder's record: atomic, honest about NaN, and clear about what is damaged."""

import hashlib
import json
import math
import os
import re
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from mlplab.errors import ConfigError
from mlplab.files import now
from mlplab.runs.record import Record, is_in_use

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


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot write to the run folder .*file"):
        begin(tmp_path / "file" / "run", {})


def test_numbers_that_json_lacks_become_texts(tmp_path):
    others = {"a": [1, 2.5, True, None, "NaN"], "b": {"c": []}}
    begin(tmp_path, {"metrics": {"loss": math.nan, "rows": [math.inf, (-math.inf, 1.5)]}} | others)
    assert on_disk(tmp_path) == {"metrics": {"loss": "nan", "rows": ["inf", ["-inf", 1.5]]}} | others


def test_texts_beyond_ascii_survive_any_locale(tmp_path, monkeypatch):
    begin(tmp_path, {"overrides": ["name=naïve ≥"]})
    read = Path.read_text
    monkeypatch.setattr(Path, "read_text", lambda path, encoding=None: read(path, encoding=encoding or "ascii"))
    assert Record.read(tmp_path).values["overrides"] == ["name=naïve ≥"]


@pytest.mark.parametrize("damage", [b"", b"{", b'{"status": "fini', b"\xff\xfe\x00", b"[1, 2]", b"null"])
def test_a_damaged_result_is_named(tmp_path, damage):
    begin(tmp_path, {})
    (tmp_path / "result.json").write_bytes(damage)
    with pytest.raises(ConfigError, match=r"result\.json cannot be read: "):
        Record.read(tmp_path)


@pytest.mark.parametrize("damage", [b"", b"a: [1", b"- 1\n- 2", b"text", b"\xff\xfe\x00", b"a: ${b}", b"base: 4"])
def test_a_damaged_config_is_named(tmp_path, damage):
    record = begin(tmp_path, {})
    (tmp_path / "config.yaml").write_bytes(damage)
    with pytest.raises(ConfigError, match=r"config\.yaml cannot be read: it is damaged or was edited"):
        Record.read(tmp_path).config()
    if damage != b"base: 4":
        record.update(config_digest=hashlib.sha256(damage).hexdigest())
        with pytest.raises(ConfigError, match=r"config\.yaml cannot be read: "):
            Record.read(tmp_path).config()


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


def test_a_locked_folder_is_refused_until_its_process_ends(tmp_path):
    program = f"""
import sys, time
from pathlib import Path
from mlplab.runs.record import Record
record = Record(Path({str(tmp_path)!r}), {{}})
record.lock()
print("locked", flush=True)
time.sleep(60)
"""
    other = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "locked\n"
    assert is_in_use(tmp_path)
    with pytest.raises(ConfigError, match="written by another process"):
        Record(tmp_path, {}).lock()
    other.kill()
    other.wait()
    assert not is_in_use(tmp_path)
    record = Record(tmp_path, {})
    record.lock()
    assert is_in_use(tmp_path)
    with pytest.raises(ConfigError, match="written by another process"):
        Record(tmp_path, {}).lock()
    record.release()
    assert not is_in_use(tmp_path)


def test_checkpoints_are_found_or_those_there_are_listed(tmp_path):
    record = begin(tmp_path, {})
    with pytest.raises(ConfigError, match=r"no checkpoint .*; there are: none"):
        record.checkpoint("best")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    assert record.checkpoint("last") == tmp_path / "checkpoints" / "last.ckpt"
    with pytest.raises(ConfigError, match="there are: last"):
        record.checkpoint("best")


def test_now_is_local_time_with_its_offset():
    moment = datetime.fromisoformat(now())
    assert moment.microsecond == 0
    assert abs((datetime.now().astimezone() - moment).total_seconds()) < 5
