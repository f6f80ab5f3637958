"""Run folders and inputs from a stranger: whatever they hold, no code of theirs runs, and one line says what is wrong.

Every payload would create a file, which a test of its own shows.
"""

import json
import pickle
import shutil
import zipfile

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from mlplab.errors import ConfigError
from mlplab.files import write_checkpoint
from mlplab.runs import build
from mlplab.runs.evaluate import load_run
from mlplab.runs.predict import load_predictor, predict
from mlplab.runs.train import resume

pytestmark = pytest.mark.hostile


@pytest.fixture
def stranger(finished, tmp_path):
    """A copy of a finished run with no digests to hide a change behind, and the file that payloads would create."""
    folder = shutil.copytree(finished.folder, tmp_path / "run")
    values = json.loads((folder / "result.json").read_text())
    for name in ("digest", "config_digest"):
        values.pop(name, None)
    values["status"] = "stopped"
    (folder / "result.json").write_text(json.dumps(values))
    return folder, tmp_path / "exploded"


def assert_nothing_runs(folder, exploded, *, whole=True):
    """Evaluation, resumption and prediction (which needs only a part of it) refuse the folder in a line."""
    for load in (load_run, resume, load_predictor) if whole else (load_run, resume):
        with pytest.raises(ConfigError) as caught:
            load(folder)
        assert all(len(fault.splitlines()) == 1 for fault in caught.value.faults)
        assert not exploded.exists()


def test_the_payload_would_run(tmp_path, bomb):
    torch.save(bomb(tmp_path / "exploded"), tmp_path / "file")
    torch.load(tmp_path / "file", weights_only=False)
    assert (tmp_path / "exploded").exists()


TOUCH = {"_target_": "pathlib.Path.touch", "_args_": ["{exploded}"]}
NODES = {
    "a class method": ("model", TOUCH),
    "a callback": ("callbacks.extra", TOUCH),
    "a logger": ("logger.extra", TOUCH),
    "a profiler": ("trainer.profiler", TOUCH),
    "a plugin": ("trainer.plugins", [TOUCH]),
    "an argument": ("model.activation", TOUCH),
    "in a list": ("model.hidden_sizes", [[TOUCH]]),
    "in the augmentation": ("data.augmentation.flip", TOUCH),
    "hydra": ("hydra.callbacks.extra", TOUCH),
    "a new section": ("extra", TOUCH),
    "the scheduler": ("scheduler", TOUCH),
    "the optimizer": ("optimizer", TOUCH | {"_partial_": True, "lr": 0.1}),
    "a module within": ("data._target_", "mlplab.data.sources.Path.touch"),
    "torch.load": ("loss", {"_target_": "torch.load", "f": "{pickle}", "weights_only": False}),
    "a module of a library": ("loss", {"_target_": "torch.os.system", "command": "touch {exploded}"}),
    "pickle within torch": ("loss", {"_target_": "torch.serialization.pickle.load", "file": "{pickle}"}),
    "Hydra's own": ("loss", {"_target_": "hydra.utils.call", "config": TOUCH}),
    "partial": ("loss", {"_target_": "functools.partial", "_args_": ["os.system", "touch {exploded}"]}),
    "an interpolation": ("model", "${extra}"),
    "the environment": ("monitor", "${oc.env:HOME}"),
    "a checkpoint elsewhere": ("callbacks.checkpoint.dirpath", "{exploded}"),
    "a log elsewhere": ("logger.tensorboard.save_dir", "{exploded}"),
    "a name that climbs": ("callbacks.checkpoint.filename", "../../exploded"),
}


def filled(node, values):
    return json.loads(json.dumps(node).replace("{exploded}", str(values[0])).replace("{pickle}", str(values[1])))


@pytest.mark.parametrize("name", NODES)
def test_a_config_cannot_run_code_or_write_elsewhere(name, stranger, tmp_path, record_property, bomb):
    folder, exploded = stranger
    torch.save(bomb(exploded), tmp_path / "pickle")
    key, node = NODES[name]
    config = OmegaConf.load(folder / "config.yaml")
    OmegaConf.update(config, key, filled(node, (exploded, tmp_path / "pickle")), force_add=True, merge=False)
    OmegaConf.save(config, folder / "config.yaml")
    assert_nothing_runs(folder, exploded, whole=name != "a module within")  # prediction needs no data
    record_property("hostile_files", 1)


TEXTS = {
    "an object of Python": "a: !!python/object/apply:os.system ['touch {exploded}']\n",
    "a module of Python": "a: !!python/name:os.system\n",
    "aliases upon aliases": "a: &a [1,1,1,1,1,1,1,1,1]\n"
    + "".join(f"{b}: &{b} [{','.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefghi", "bcdefghij", strict=True)),
    "depth": "[" * 100_000,
    "another encoding": "\udcff",
    "nothing": "",
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_config_that_is_no_plain_yaml_is_refused(name, stranger, record_property):
    folder, exploded = stranger
    text = TEXTS[name].replace("{exploded}", str(exploded))
    (folder / "config.yaml").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert_nothing_runs(folder, exploded)
    record_property("hostile_files", 1)


def pickled(content, path):
    path.write_bytes(pickle.dumps(content))


@pytest.mark.parametrize("save", [torch.save, write_checkpoint, pickled], ids=["bare", "with a right digest", "pickle"])
@pytest.mark.parametrize("place", ["state_dict", "hyper_parameters", "DataModule", "callbacks"])
def test_a_checkpoint_cannot_run_code(save, place, stranger, record_property, bomb):
    folder, exploded = stranger
    for name in ("best", "last"):
        save({"state_dict": {}, place: bomb(exploded)}, folder / "checkpoints" / f"{name}.ckpt")
    assert_nothing_runs(folder, exploded)
    record_property("hostile_files", 1)


@pytest.mark.parametrize(
    "content", ["[" * 100_000, "[]", '{"metrics": {}, "digest": "0"}', "\0"], ids=lambda text: text[:9]
)
def test_a_hostile_result_is_refused(content, stranger, record_property):
    folder, exploded = stranger
    (folder / "result.json").write_text(content)
    shutil.rmtree(folder / "checkpoints")
    assert_nothing_runs(folder, exploded)
    record_property("hostile_files", 1)


def test_evaluation_and_prediction_build_no_callback_logger_or_trainer_of_the_folder(finished, monkeypatch):
    for name in ("watchers", "trainer"):
        monkeypatch.setattr(build, name, lambda *_, **__: pytest.fail("built from the folder"))
    load_run(finished.folder)
    load_predictor(finished.folder)


def object_array(path, bomb):
    np.save(path, np.array([[bomb, 1.0]], dtype=object), allow_pickle=True)


def zipped_objects(path, bomb):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", pickle.dumps(bomb))


def bare_pickle(path, bomb):
    path.write_bytes(pickle.dumps(bomb))


def lying_header(path, _):
    np.save(path, np.zeros((2, 2), dtype=np.float32))
    path.write_bytes(path.read_bytes().replace(b"(2, 2)", b"(10**12, 2)"[:6]).replace(b"'<f4'", b"'|O8'"))


INPUTS = {
    "objects.npy": object_array, "archive.npy": zipped_objects, "pickle.npy": bare_pickle, "header.npy": lying_header,
    "pickle.csv": bare_pickle, "archive.csv": zipped_objects, "pickle.png": bare_pickle, "objects.jpg": object_array,
    "formula.csv": lambda path, bomb: path.write_text(f"=cmd|'touch {bomb.path}'!A0,1\n0.1,0.2\n"),
    "huge.csv": lambda path, _: path.write_text("9" * 5000 + ",1\n"),
}  # fmt: skip


@pytest.mark.parametrize("name", INPUTS)
def test_an_input_cannot_run_code(name, finished, tmp_path, record_property, bomb):
    path, exploded, output = tmp_path / name, tmp_path / "exploded", tmp_path / "predictions.csv"
    INPUTS[name](path, bomb(exploded))
    config = {"run": str(finished.folder), "input": str(path), "output": str(output), "overwrite": False,
              "checkpoint": "best", "batch_size": 10, "accelerator": "cpu"}  # fmt: skip
    with pytest.raises(ConfigError) as caught:
        predict(OmegaConf.create(config))
    assert all(str(path) in fault and len(fault.splitlines()) == 1 for fault in caught.value.faults)
    assert not exploded.exists()
    assert not output.exists()
    record_property("hostile_files", 1)
