"""Overrides: applied as Hydra applies them, and explained where they do not fit."""

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import OmegaConf

from mlplab.config import overrides
from mlplab.config.check import CONF
from mlplab.config.overrides import all_faults, composed, parsed
from mlplab.errors import ConfigError

FITTING = [
    ["seed=3"], ["model=mlp_dropout", "model.dropout=[0.1,0.2]"], ["model.dropout=0.5", "model=mlp_dropout"],
    ["+optimizer.momentum=0.9"], ["++optimizer.momentum=0.9", "++optimizer.lr=1"], ["~callbacks.figures"],
    ["~callbacks.figures.dpi"], ["~scheduler"], ["+x.y.z=[1,{a: 2}]"], ["data.train_size=null"], ["monitor='val/loss'"],
    ["data.augmentation={flip: 0.5}"], ["trainer.max_epochs=${data.batch_size}"], ["experiment=digits_mlp", "seed=1"],
    ["model.dropout=0.5", "optimizer.momentum=0.5", "optimizer=momentum"], ["hydra/launcher=joblib", "seed=null"],
    ["~callbacks.figures", "+trainer.max_depth=3", "++data.noise=1"], ["study=batching", "experiment=digits_mlp"],
    ["optimizer=adam", "regularization=combined", "data=digits", "data.batch_size=full"],
]  # fmt: skip
NOT_FITTING = [
    ["optimizer.lrr=1"], ["+seed=3"], ["~nothing"], ["~optimizer.lr.x"], ["optimizer.lr.x=1"], ["data=mons"],
    ["+data=moons"], ["hydra.foo=1"], ["hydra/launcher=nothing"], ["nothing.at.all=1"],
]  # fmt: skip


@pytest.mark.parametrize("lines", FITTING, ids=" ".join)
def test_what_fits_gives_what_hydra_gives(lines):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        expected = compose("train", lines)
    for _ in range(2):  # the first must not have changed what is kept
        assert OmegaConf.to_container(composed("train", lines)) == OmegaConf.to_container(expected)


@pytest.mark.parametrize("lines", NOT_FITTING, ids=" ".join)
def test_what_hydra_refuses_is_one_line_and_the_others_are_looked_at_too(lines):
    with initialize_config_dir(str(CONF), version_base="1.3"), pytest.raises(HydraException):
        compose("train", lines)
    with pytest.raises(ConfigError) as error:
        composed("train", [*lines, "seed=3"])
    assert len(error.value.faults) == 1
    faults = all_faults("train", parsed([*lines, "seed=x"]), sweep=False)
    assert len(faults) == 2
    assert faults[1].startswith("seed must be")


def test_files_are_read_once_for_a_whole_sweep(monkeypatch):
    calls = []
    overrides.with_choices.cache_clear()
    monkeypatch.setattr(overrides, "compose", lambda *arguments: calls.append(arguments) or compose(*arguments))
    faults = all_faults("train", parsed(["data=moons,mons", "seed=range(20)"]), sweep=True)
    assert [fault.partition(":")[0] for fault in faults] == ["data=mons"]
    assert len(calls) <= 4
    assert not GlobalHydra.instance().is_initialized()
