"""The search space: what is right is read as it is written, and each mistake is named before anything starts."""

import re

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from mlplab.config.check import CONF, config_faults
from mlplab.errors import ConfigError
from mlplab.tuning.search import override_line, read_search

RATE = {"optimizer.lr": {"low": 0.01, "high": 1.0, "log": True}}


@pytest.fixture(scope="module")
def make_tune_config(composed):
    plain = OmegaConf.to_container(composed("tune"))

    def make(space, *overrides, fixed=()) -> DictConfig:
        search = {"name": "test", "overrides": list(fixed), "space": space}
        return OmegaConf.create(plain | {"search": search, "overrides": list(overrides)})

    return make


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONF / "search").glob("*.yaml")))
def test_every_search_of_the_configs_is_right(name, composed):
    config = composed("tune", f"search={name}")
    assert config_faults(config) == []
    search = read_search(config)
    assert search.name == name
    assert len(search.space) >= 2
    assert (search.monitor, search.mode) == ("val/acc", "max")


def test_what_is_written_is_what_is_searched(make_tune_config):
    space = RATE | {"model.hidden_sizes": {"choices": [[8, 4], [16, 8]]}, "optimizer": {"choices": ["sgd", "adam"]}}
    search = read_search(make_tune_config(space, "monitor=val/loss", "monitor_mode=min"))
    assert search.space == space
    assert search.overrides == ("monitor=val/loss", "monitor_mode=min")
    assert (search.monitor, search.mode, search.storage) == ("val/loss", "min", None)
    assert search.folder.parts == ("outputs", "tuning", "test")


def test_overrides_of_the_command_line_win_over_those_of_the_search(make_tune_config):
    search = read_search(make_tune_config(RATE, "data=moons", fixed=["data=digits", "trainer.max_epochs=3"]))
    assert sorted(search.overrides) == ["data=moons", "trainer.max_epochs=3"]


NO_DOMAINS = [
    0.1, {"low": 0.1}, {"low": "a", "high": 1}, {"low": 0.1, "high": float("inf")}, {"low": 1, "high": 1},
    {"low": 0, "high": 0.5, "log": True}, {"low": 0.1, "high": 1, "lg": True}, {"choices": []}, {"choices": [8, 8]},
]  # fmt: skip
FAULTS = {  # space, overrides → what the one fault must name
    **{
        str(domain): ({"optimizer.lr": domain}, [], "optimizer.lr must be {low: …, .* or {choices: .*, got")
        for domain in NO_DOMAINS
    },
    "no space": ({}, [], "search.space must name what is varied"),
    "the test": ({"test": {"choices": [True]}}, [], "test cannot be searched: .* and none is tested"),
    "the seed": ({"seed": {"low": 0, "high": 9}}, [], "seed cannot be searched"),
    "unknown key": ({"optimizer.lrr": {"low": 0.1, "high": 1.0}}, [], "optimizer.lrr: no such key; did you mean 'lr'"),
    "unknown choice": ({"model": {"choices": ["mlp", "mpl"]}}, [], "model=mpl: no such choice; did you mean 'mlp'"),
    "a bad end": ({"model.dropout": {"low": 0.0, "high": 1.0}}, [], "model.dropout must be .* got 1.0"),
    "a bad choice": ({"data.batch_size": {"choices": [8, 0]}}, [], "data.batch_size must be .* got 0"),
    "unknown override": (RATE, ["data=mons"], "data=mons: no such choice; did you mean 'moons'"),
    "several values": (RATE, ["data=moons,digits"], "data=moons,digits: several values"),
    "fixed and varied": (RATE, ["optimizer.lr=1"], "optimizer.lr is in search.space and fixed by optimizer.lr=1"),
    "testing": (RATE, ["test=true"], "test=true: .* the test set is not touched; leave it out"),
    "no seed": (RATE, ["seed=null"], "seed=null: the best trial could not be repeated"),
    "Hydra's": (RATE, ["hydra.run.dir=x"], "hydra.run.dir=x: .* in folders of their own"),
    "training score": (RATE, ["monitor=train/loss"], "monitor=train/loss: .* choose val/acc or val/loss"),
    "two processes": (RATE, ["trainer=ddp"], "trainer.devices=2: a trial runs on one device"),
}


@pytest.mark.parametrize(("space", "overrides", "message"), FAULTS.values(), ids=FAULTS)
def test_a_mistake_is_one_line_that_names_it(space, overrides, message, make_tune_config):
    with pytest.raises(ConfigError) as error:
        read_search(make_tune_config(space, *overrides))
    (fault,) = error.value.faults
    assert re.search(message, fault), fault


@pytest.mark.parametrize(
    "value",
    [0, -3, 0.1, 1e-7, 123456.789012345, 0.1 + 0.2, True, False, None, "relu", "true", "null", "two words", "it's",
     "1e3", "a,b", "[1]", "", [1, 2], [], [0.5, 1e-5], ["relu", "32"], [[1], [2, 3]], {"a": 1}],
    ids=repr,
)  # fmt: skip
def test_an_override_is_read_as_exactly_the_value_it_was_written_for(value):
    override = OverridesParser.create().parse_override(override_line("model.key", value))
    assert not override.is_sweep_override()
    read = override.value()
    plain = OmegaConf.to_container(OmegaConf.create({"value": read}))["value"]
    assert str(plain) == str(value)
    assert type(plain) is type(value) or isinstance(value, str)
