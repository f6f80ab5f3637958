"""Without a terminal: about ten plain lines, whatever the number of epochs."""

import io
import itertools
import logging
import re
from unittest import mock

import pytest

from mlplab.callbacks.progress import ProgressBar

ONLY_BAR = (
    "~callbacks.tensorboard", "~callbacks.gradient_noise", "~callbacks.update_monitor",
    "logger=none", "test=false", "data.batch_size=full", "trainer.enable_model_summary=false",
)  # fmt: skip


@pytest.fixture
def lines(launch_full, caplog, monkeypatch):
    """The lines that a run logs for each number of epochs or updates."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: False)

    def run(*overrides):
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="mlplab"):
            launch_full(*ONLY_BAR, *overrides)
        return [record.getMessage() for record in caplog.records if record.name == "mlplab.callbacks.progress"]

    return run


@pytest.mark.parametrize("epochs", [1, 2, 9, 19, 50])
@pytest.mark.parametrize("limit", ["trainer.max_epochs={0}", "trainer.max_epochs=-1 trainer.max_steps={0}"])
def test_a_run_logs_about_ten_lines_with_epoch_update_and_scores(epochs, limit, lines):
    logged = lines(*limit.format(epochs).split())
    assert min(epochs, 8) <= len(logged) <= 12
    assert logged[0].startswith(f"epoch 1/{epochs} ")
    scores = r"train/loss \d\.\d{4}  val/loss \d\.\d{4}  val/acc \d\.\d{4}"
    assert re.fullmatch(rf"epoch {epochs}/{epochs}  update {epochs}  {scores}", logged[-1])


def test_nothing_has_control_codes_without_a_terminal(lines, capsys):
    lines("trainer.max_epochs=3", "test=true")
    printed = capsys.readouterr()
    assert "(linear_1): Linear(in_features=2, out_features=16, bias=True)" in printed.out
    assert "193 parameters" in printed.out
    assert "test (best checkpoint)" in printed.out
    assert not {"\x1b", "\r"} & set(printed.out + printed.err)


@pytest.mark.parametrize(("is_terminal", "kind"), [(True, "xterm"), (True, "dumb"), (False, "xterm")])
def test_only_a_terminal_gets_the_bar(is_terminal, kind, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: is_terminal)
    monkeypatch.setenv("TERM", kind)
    assert ProgressBar().is_enabled == (is_terminal and kind == "xterm")


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_bar_shows_updates_and_their_rate_a_few_times_a_second(launch_full, monkeypatch, caplog):
    """A clock that goes on 1 ms with every group: 112 updates, one by one, are drawn at most twice in an epoch."""
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    clock = itertools.count(0, 0.001)
    monkeypatch.setattr("mlplab.callbacks.progress.monotonic", lambda: next(clock))
    drawing = mock.patch.object(ProgressBar, "_draw", autospec=True, side_effect=ProgressBar._draw)
    with drawing as drawn:
        launch_full(*ONLY_BAR, "data.batch_size=1", "steps_per_execution=1", "trainer.max_epochs=2",
                    "callbacks.progress_bar.draws_per_second=20")  # fmt: skip
    assert 2 <= drawn.call_count - 1 <= 112 / 49
    shown = terminal.getvalue()
    assert re.search(r"epoch 2/2 .*\d+/112 .*updates/s .*train/loss \d\.\d{4}  val/loss", shown)
    assert not [record for record in caplog.records if record.name == "mlplab.callbacks.progress"]
