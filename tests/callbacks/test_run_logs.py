"""Logs of a run that continues: what was logged after the checkpoint is taken back, the rest is kept."""

from pathlib import Path

from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from mlplab.callbacks.run_logs import csv_rows, cut_logs, event_files, flush_logs, log_sizes


def tensorboard(folder: Path) -> TensorBoardLogger:
    return TensorBoardLogger(folder, name="", version="tensorboard")


def table(folder: Path) -> CSVLogger:
    return CSVLogger(folder, name="", version="csv")


def test_event_files_are_cut_to_what_the_checkpoint_knew(tmp_path, scalars):
    logger = tensorboard(tmp_path)
    logger.log_metrics({"loss": 1.0}, step=1)
    flush_logs([logger])
    sizes = log_sizes([logger])
    logger.log_metrics({"loss": 2.0}, step=2)
    logger.finalize("failed")
    later = tensorboard(tmp_path)
    assert cut_logs([later], sizes) == []
    later.log_metrics({"loss": 3.0}, step=2)
    later.finalize("success")
    assert scalars(tmp_path)["loss"] == [(1, 1.0), (2, 3.0)]


def test_files_begun_after_the_checkpoint_are_removed(tmp_path):
    logger = tensorboard(tmp_path)
    logger.log_metrics({"loss": 1.0}, step=1)
    logger.finalize("failed")
    assert cut_logs([tensorboard(tmp_path)], {}) == []
    assert event_files(tmp_path / "tensorboard") == []


def test_an_event_file_that_lost_something_is_named(tmp_path):
    logger = tensorboard(tmp_path)
    logger.log_metrics({"loss": 1.0}, step=1)
    flush_logs([logger])
    sizes = log_sizes([logger])
    (path,) = event_files(tmp_path / "tensorboard")
    path.write_bytes(path.read_bytes()[:-5])
    (line,) = cut_logs([tensorboard(tmp_path)], sizes)
    assert f"{path} lacks 5 bytes" in line
    path.unlink()
    (line,) = cut_logs([tensorboard(tmp_path)], sizes)
    assert "is gone" in line


def test_rows_of_metrics_csv_are_kept_up_to_the_checkpoint(tmp_path):
    logger = table(tmp_path)
    for step in (1, 2):
        logger.log_metrics({"loss": float(step)}, step=step)
    flush_logs([logger])
    sizes = log_sizes([logger])
    logger.log_metrics({"loss": 3.0, "other": 1.0}, step=3)
    logger.save()
    later = table(tmp_path)
    assert cut_logs([later], sizes) == []
    later.log_metrics({"loss": 4.0}, step=3)
    later.save()
    assert [(row["step"], row["loss"]) for row in csv_rows(later)] == [("1", "1.0"), ("2", "2.0"), ("3", "4.0")]
