"""Tuning: a study of tiny runs, resumed, shared, interrupted; its best command; the test set, which nobody touches."""

import csv
import json
import re
import shlex
import signal
import time
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from mlplab.config.overrides import composed
from mlplab.data.module import DataModule
from mlplab.errors import ConfigError, RunFailed
from mlplab.runs import train as training
from mlplab.runs.record import Record
from mlplab.signals import Stopped
from mlplab.tuning import report, trials
from mlplab.tuning import study as studies
from mlplab.tuning.search import Search
from mlplab.tuning.study import finished_trials, open_study
from mlplab.tuning.trials import tune

TINY = (
    "data.num_samples=80", "trainer=cpu", "trainer.max_epochs=2", "logger=none", "monitor=val/loss", "monitor_mode=min",
)  # fmt: skip
SPACE = {
    "optimizer.lr": {"low": 0.01, "high": 1.0, "log": True},
    "model.hidden_sizes": {"choices": [[4, 4], [8, 4]]},
    "data.batch_size": {"choices": [8, "full"]},
    "data.eval_batch_size": {"low": 30, "high": 32},
}


def make_search(n_trials=4, **options):
    values = {"name": "test", "space": SPACE, "overrides": TINY, "monitor": "val/loss", "mode": "min",
              "pruner": {"_target_": "optuna.pruners.NopPruner"}, "storage": None}  # fmt: skip
    return Search(n_trials=n_trials, **values | options)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def train_quickly(monkeypatch):
    """Put a function of the config in place of training, and draw nothing; gives the configs it was called with."""
    monkeypatch.setattr(report, "FIGURES", {})

    def replace(function=lambda config: {"best/val/loss": config.optimizer.lr}):
        called = []

        def train(config, *, overrides, callbacks):
            called.append(config)
            return function(config)

        monkeypatch.setattr(training, "train", train)
        return called

    return replace


def states(study):
    return [trial.state.name for trial in study.get_trials()]


def rows(search):
    return list(csv.DictReader((search.folder / "trials.csv").open(encoding="utf-8")))


def test_a_study_from_the_first_trial_to_the_best_command(here, monkeypatch, capsys):
    def refuse(self):
        raise AssertionError("the test set was asked for")

    search = make_search()
    with monkeypatch.context() as patch:
        patch.setattr(DataModule, "test_dataloader", refuse)
        tune(search)
    printed = capsys.readouterr().out

    # the trials
    study = open_study(search)
    assert states(study) == ["COMPLETE"] * 4
    for trial in study.trials:
        result = Record.read(search.folder / "trials" / str(trial.number)).values
        assert result["status"] == "finished"
        assert result["metrics"]["best/val/loss"] == trial.value == min(trial.intermediate_values.values())
        assert "test/acc" not in result["metrics"]
        assert result["test_evaluations"] == []
        assert result["command"] == shlex.join(["train.py", *trial.user_attrs["overrides"], "test=false"])
    lines = printed.splitlines()
    assert len([line for line in lines if re.match(r"trial \d  val/loss \d", line)]) == 4
    assert all(re.search(r"optimizer\.lr=[\d.e-]{1,9} ", line) for line in lines if line.startswith("trial "))
    assert not any("run folder" in line for line in lines)  # nothing of the runs themselves

    # what is written
    assert [int(row["trial"]) for row in rows(search)] == [0, 1, 2, 3]
    assert float(rows(search)[2]["val/loss"]) == study.trials[2].value
    page = (search.folder / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg") >= 4
    assert "4 trials: 4 complete" in printed

    # the best command
    command = lines[-1].strip()
    assert command in page.replace("&#39;", "'")
    words = shlex.split(command)
    assert words[:2] == ["python", "train.py"]
    metrics = training.train(composed("train", [*words[2:], "folder=again", "figures=none"]))
    assert metrics["best/val/loss"] == study.best_value
    again, best = (
        Record.read(folder).values["weights_digest"]
        for folder in (Path("again"), search.folder / "trials" / str(study.best_trial.number))
    )
    assert again == best


def test_the_same_command_changes_nothing_and_a_larger_number_goes_on(here, train_quickly, capsys):
    called = train_quickly()
    tune(make_search(3))
    tune(make_search(3))
    assert len(called) == 3
    tune(make_search(5))
    assert [config.folder.rpartition("/")[2] for config in called] == ["0", "1", "2", "3", "4"]
    assert "study test: 3 of 5 trials" in capsys.readouterr().out
    assert all(0.01 <= config.optimizer.lr <= 1 for config in called)
    assert {tuple(config.model.hidden_sizes) for config in called} <= {(4, 4), (8, 4)}
    assert {config.data.batch_size for config in called} <= {8, "full"}
    assert {str(config.data.eval_batch_size) for config in called} <= {"30", "31", "32"}  # whole


@pytest.mark.parametrize(
    "other", [{"space": {"optimizer.lr": {"low": 0.1, "high": 1.0}}}, {"overrides": ("data=moons",)}, {"mode": "max"}]
)
def test_another_search_of_the_same_name_is_refused(other, here, train_quickly):
    train_quickly()
    tune(make_search(1))
    with pytest.raises(ConfigError, match=r"name=test: .* choose another name"):
        tune(make_search(2, **other))
    assert len(open_study(make_search()).trials) == 1


def test_trials_are_given_up_as_the_pruner_says(here, capsys):
    search = make_search(2, **pruner("optuna.pruners.ThresholdPruner", upper=0.0, n_warmup_steps=1))
    with pytest.raises(RunFailed, match="no trial of test was completed"):
        tune(search)
    study = open_study(search)
    assert states(study) == ["PRUNED", "PRUNED"]
    assert [len(trial.intermediate_values) for trial in study.trials] == [1, 1]
    assert "pruned after 1 validations" in capsys.readouterr().out


@pytest.mark.parametrize(("mode", "best"), [("max", 0.9), ("min", 0.5)])
def test_a_pruned_trial_is_listed_with_its_best_value_as_a_complete_one_is(mode, best):
    study = optuna.create_study()
    study.add_trial(optuna.create_trial(state=TrialState.PRUNED, intermediate_values={1: 0.7, 2: 0.9, 3: 0.5, 4: 0.6}))
    study.add_trial(optuna.create_trial(state=TrialState.COMPLETE, value=0.8))
    table = report.trials_table(study, make_search(mode=mode))
    assert table["val/loss"].tolist() == [best, 0.8]


def test_data_that_cannot_be_had_are_refused_before_any_trial(here):
    missing = ("data=csv", "data.path=missing.csv", "data.label=passed")
    with pytest.raises(ConfigError, match=r"missing\.csv"):
        tune(make_search(3, overrides=missing, space={"optimizer.lr": SPACE["optimizer.lr"]}))
    assert list(here.iterdir()) == []


def test_failed_trials_are_recorded_with_their_reason_and_end_nothing(here, train_quickly, capsys):
    def fail_twice(config):
        number = int(config.folder.rpartition("/")[2])
        if number == 0:
            raise RuntimeError("the roof fell in")
        return {"best/val/loss": float("nan") if number == 1 else 0.5}

    train_quickly(fail_twice)
    search = make_search(3)
    tune(search)
    assert states(open_study(search)) == ["FAIL", "FAIL", "COMPLETE"]
    assert [row["error"] for row in rows(search)] == ["the roof fell in", "the best val/loss is nan", ""]
    assert "failed: the roof fell in" in capsys.readouterr().out


def test_a_diverging_run_and_a_refused_one_are_failed_trials(here):
    search = make_search(2, space={"optimizer.lr": {"choices": [1e38]}, "data.train_size": {"choices": [40, 5000]}})
    study = open_study(search)
    study.enqueue_trial({"optimizer.lr": 1e38, "data.train_size": 40})
    study.enqueue_trial({"optimizer.lr": 1e38, "data.train_size": 5000})
    with pytest.raises(RunFailed, match=r"no trial of test was completed; the last: data.train_size must be at most"):
        tune(search)
    assert rows(search)[0]["error"].startswith("diverged: the loss of update")
    assert json.loads((search.folder / "trials" / "0" / "result.json").read_text())["status"] == "diverged"


def test_an_interrupted_trial_is_repeated_by_the_next_call(here, train_quickly):
    def stop_at_second(config):
        if config.folder.endswith("/1"):
            raise Stopped(signal.SIGTERM)
        return {"best/val/loss": 0.5}

    called = train_quickly(stop_at_second)
    with pytest.raises(Stopped, match="with 1 of 3 trials; the same command goes on") as stop:
        tune(make_search(3))
    assert stop.value.exit_code == 128 + signal.SIGTERM
    tune(make_search(3))
    assert states(open_study(make_search())) == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert called[1].optimizer.lr == called[2].optimizer.lr
    assert rows(make_search())[1]["outcome"] == "interrupted"


def test_the_trial_of_a_killed_process_is_noticed_and_repeated(here, train_quickly, monkeypatch):
    monkeypatch.setattr(studies, "HEARTBEAT", 1)
    monkeypatch.setattr(studies, "GRACE", 1)
    called = train_quickly()
    search = make_search(2)
    study = open_study(search)
    killed = study.ask()
    lr = trials.suggest(killed, "optimizer.lr", SPACE["optimizer.lr"])
    study._storage.record_heartbeat(killed._trial_id)  # its last sign of life
    time.sleep(2.5)
    tune(search)
    assert states(study) == ["FAIL", "COMPLETE", "COMPLETE"]
    assert called[0].optimizer.lr == lr


def test_a_journal_holds_a_study_as_well(here, train_quickly):
    called = train_quickly()
    search = make_search(2, storage=str(here / "shared" / "test.journal"))
    tune(search)
    tune(search._replace(n_trials=3))
    assert len(called) == 3
    assert (here / "shared" / "test.journal").stat().st_size > 0
    assert not (search.folder / "study.db").exists()
    assert len(rows(search)) == 3


def pruner(name, **options):
    return {"pruner": {"_target_": name, **options}}


REFUSED = [
    ({"storage": "nonsense://x"}, "storage=nonsense://x: the study cannot be opened"),
    (pruner("optuna.pruners.MedianPrunner"), "pruner._target_: no optuna.pruners.MedianPrunner"),
    (pruner("optuna.pruners.BasePruner"), "pruner._target_ must be a Pruner"),
    (pruner("os.system"), "pruner._target_ must come from optuna.pruners"),
    (pruner("optuna.pruners.MedianPruner", n_startup_trials=-1), "pruner: .*n_startup_trials=-1"),
]


@pytest.mark.parametrize(("options", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_what_optuna_refuses_is_named_and_nothing_is_written(options, message, here):
    with pytest.raises(ConfigError, match=message):
        tune(make_search(**options))
    assert not list(here.iterdir())


@pytest.mark.slow
def test_two_processes_share_a_study(start, tmp_path):
    arguments = ["scripts/tune.py", "search=mlp", "n_trials=6", "overrides=[data=passing,trainer.max_epochs=2]"]
    both = [start(*arguments, folder=tmp_path), start(*arguments, folder=tmp_path)]
    printed = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], printed
    numbers = [re.findall(r"^trial (\d+) ", out, flags=re.MULTILINE) for out, _ in printed]
    assert all(numbers)
    assert not set(numbers[0]) & set(numbers[1])
    study = optuna.load_study(study_name="mlp", storage=f"sqlite:///{tmp_path}/outputs/tuning/mlp/study.db")
    assert len(study.trials) in (6, 7)
    assert {trial.state for trial in study.trials} <= {TrialState.COMPLETE, TrialState.PRUNED}
    assert len(finished_trials(study)) == len(numbers[0]) + len(numbers[1])
