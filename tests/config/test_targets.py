"""Which objects a config may name: those that fit their place, wherever else the name leads."""

import sys

import pytest
from omegaconf import OmegaConf

from mlplab.config import targets
from mlplab.config.check import config_faults
from mlplab.config.targets import name_faults, nodes, resolve, resolved
from mlplab.errors import ConfigError
from mlplab.runs import build

ALLOWED = {
    "data": ["mlplab.data.sources.moons", "mlplab.data.image_folder.image_folder"],
    "model": ["mlplab.models.networks.MLP", "torch.nn.Flatten"],
    "loss": ["mlplab.models.losses.PerceptronLoss", "torch.nn.CrossEntropyLoss"],
    "optimizer": ["torch.optim.AdamW"],
    "scheduler": ["mlplab.models.schedules.cosine", "mlplab.models.schedules.Plateau"],
    "trainer": ["lightning.pytorch.Trainer"],
    "trainer.profiler": ["lightning.pytorch.profilers.SimpleProfiler"],
    "trainer.strategy": ["lightning.pytorch.strategies.DDPStrategy"],
    "callbacks.any": ["lightning.pytorch.callbacks.ModelCheckpoint", "mlplab.callbacks.monitors.UpdateMonitor"],
    "logger.any": ["lightning.pytorch.loggers.CSVLogger"],
    "model.activation": ["torch.nn.GELU"],
    "model.parts[0]": ["mlplab.models.networks.MLP"],
}  # fmt: skip

REFUSED = {  # by the name alone
    "model": [
        "os.system", "builtins.eval", "subprocess.Popen", "hydra.utils.instantiate", "hydra.utils.call",
        "omegaconf.OmegaConf.load", "torch.load", "torch.jit.load", "torch.hub.load", "torch.os.system",
        "torch.serialization.pickle.loads", "torch.utils.cpp_extension.load_inline", "torch._C._jit_interpret_graph",
        "torch.classes.load_library", "torch.ops.load_library", "torch.nn.modules.module.functools.partial",
        "torch.utils.data.DataLoader", "torchvision.models.resnet18", "torchvision.datasets.DatasetFolder",
        "torchmetrics.text.BERTScore", "mlplab.models.networks:MLP", "mlplab..networks.MLP", "MLP", "", None, 3,
        ["mlplab.models.networks.MLP"], "${oc.env:HOME}",
    ],
    "trainer": [
        "lightning.pytorch.trainer.trainer.os.system", "lightning.pytorch.cli.LightningCLI", "mlplab_evil.Trainer",
    ],
    "callbacks.any": ["lightning.pytorch.Trainer"],
    "logger.any": ["lightning.pytorch.loggers.WandbLogger", "lightning.pytorch.loggers.MLFlowLogger"],
    "trainer.strategy": ["lightning.pytorch.strategies.DeepSpeedStrategy"],
    "optimizer": ["torch.optim.sgd.SGD"],
    "seed": ["mlplab.models.networks.MLP"],
    "study.note": ["mlplab.models.networks.MLP"],
    "folder": ["mlplab.models.networks.MLP"],
}  # fmt: skip

OF_ANOTHER_KIND = {  # by what the name leads to
    "data": [
        "mlplab.data.sources.Path.write_text", "mlplab.data.sources.torch.load", "mlplab.data.image_folder.os.system",
        "mlplab.data.image_folder.decode", "mlplab.files.write_atomically", "mlplab.data.sources.Source",
        "mlplab.runs.checkpoints.pickle.loads", "mlplab.runs.facts.subprocess.run", "mlplab.data.sources",
        "mlplab.data.sources.nothing", "mlplab.nothing.at_all",
    ],
    "model": [
        "mlplab.models.networks.nn.Linear", "mlplab.runs.build.make", "mlplab.runs.build.instantiate",
        "mlplab.config.targets.pkgutil.resolve_name", "mlplab.models.networks.MLP.__init__",
        "mlplab.models.networks.MLP.__class__", "mlplab.callbacks.measure.UpdateMonitor",
        "mlplab.models.schedules.Plateau", "torch.nn.Parameter", "torch.nn.functional",
    ],
    "loss": ["mlplab.models.schedules.constant"],
    "optimizer": ["torch.optim.Optimizer", "torch.optim.lr_scheduler", "mlplab.models.networks.MLP"],
    "scheduler": ["mlplab.models.networks.MLP", "mlplab.models.schedules.math.exp", "mlplab.data.sources.moons"],
    "trainer": ["mlplab.runs.train.train", "mlplab.runs.train.pl.Trainer"],
    "callbacks.any": ["mlplab.models.networks.MLP", "lightning.pytorch.callbacks.model_checkpoint"],
    "logger.any": ["mlplab.runs.record.Record"],
    "model.activation": ["mlplab.runs.record.Record"],
}  # fmt: skip


def pairs(table):
    return [(path, target) for path, targets_there in table.items() for target in targets_there]


def node(path, target):
    return {"_target_": target} | ({"_partial_": True} if path == "optimizer" else {})


@pytest.mark.parametrize(("path", "target"), pairs(ALLOWED))
def test_what_fits_its_place_is_found(path, target):
    assert list(name_faults(node(path, target), path)) == []
    assert callable(resolve(target, path))


@pytest.mark.parametrize(("path", "target"), pairs(REFUSED))
def test_names_that_do_not_belong_are_refused_without_an_import(path, target, monkeypatch):
    monkeypatch.setattr(targets.pkgutil, "resolve_name", lambda name: pytest.fail(f"{name} was looked up"))
    (fault,) = name_faults(node(path, target), path)
    assert fault.startswith(f"{path}._target_")
    assert "\n" not in fault
    with pytest.raises(ConfigError):
        resolved(node(path, target), path)


@pytest.mark.parametrize(("path", "target"), pairs(OF_ANOTHER_KIND))
def test_objects_of_another_kind_are_refused(path, target):
    with pytest.raises(ConfigError) as caught:
        resolved(node(path, target), path)
    (fault,) = caught.value.faults
    assert fault.startswith(f"{path}._target_")
    assert target in fault
    assert "\n" not in fault


@pytest.mark.parametrize(
    ("path", "target"),
    [pair for pair in pairs(REFUSED) + pairs(OF_ANOTHER_KIND) if pair[1] != "mlplab.models.networks.MLP"],
)
@pytest.mark.parametrize("wrap", [lambda inner: {"inner": inner}, lambda inner: [1, [inner]]], ids=["mapping", "lists"])
def test_a_target_is_seen_at_any_depth(path, target, wrap):
    outer = path if path in ALLOWED else "model"
    with pytest.raises(ConfigError) as caught:
        resolved(node(outer, ALLOWED[outer][0]) | {"argument": wrap({"_target_": target})}, outer)
    assert f"{outer}.argument" in str(caught.value)


@pytest.mark.parametrize("key", ["part.inner", "", "part[0]", ".part", 1, True], ids=repr)
def test_no_key_hides_another(key):
    hidden = {"part": {"inner": 0}, "1": 0, "True": 0}
    for first in (hidden | {key: None}, {key: None} | hidden):
        found = nodes({"model": first})
        assert len(found) == 7
        assert found["model"] == first
        assert found["model.part"] == {"inner": 0}
    evil = {"_target_": "os.system"}
    config = {"_target_": "mlplab.models.networks.MLP", "part": {"inner": evil}, "1": evil, "True": evil, key: None}
    assert len(list(name_faults(config, "model"))) == 3


def test_a_path_cannot_be_hidden_behind_a_dotted_key(make_config):
    config = make_config()
    OmegaConf.set_struct(config, False)
    config.callbacks["checkpoint"]["dirpath"] = "/elsewhere"
    config.callbacks["checkpoint.dirpath"] = None
    assert any("must lie in the run folder" in fault for fault in config_faults(config))


# Packages of the user's own


@pytest.fixture
def own_package(tmp_path, monkeypatch):
    """A package `ownlab` beside a project file that trusts it; gives that file."""
    folder = tmp_path / "ownlab"
    folder.mkdir()
    (folder / "__init__.py").write_text(
        "import functools, os\n"
        "import torch\n"
        "from mlplab.data.sources import digits\n"
        "from mlplab.data.sources import Source\n"
        "class Net(torch.nn.Linear):\n"
        "    def __init__(self, num_features, num_outputs): super().__init__(num_features, num_outputs)\n"
        "def net(num_features, num_outputs) -> Net: return Net(num_features, num_outputs)\n"
        "def bare(num_features, num_outputs): return Net(num_features, num_outputs)\n"
        "def liar(num_features, num_outputs) -> Net: return None\n"
        "@functools.cache\n"
        "def data() -> 'Source': return digits()\n"
        "def remove_all(path) -> int: raise SystemError\n"
        "def half(update, total) -> float: return 0.5\n"
        "def missing(key) -> Source: return {}[key]\n"
        "class Broken(torch.nn.Linear):\n"
        "    def __init__(self, num_features, num_outputs, fails):\n"
        "        super().__init__(num_features, num_outputs)\n"
        "        self.fails = 1 / (fails != 'at once')\n"
        "    def forward(self, features):\n"
        "        return torch.nn.Linear(9, 1)(features)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    project = tmp_path / "pyproject.toml"
    project.write_text('[tool.mlplab]\ntrusted = ["ownlab", "lightning.pytorch.loggers.WandbLogger"]\n')
    monkeypatch.setattr(targets, "PROJECT", project)
    targets.trusted.cache_clear()
    yield project
    targets.trusted.cache_clear()
    sys.modules.pop("ownlab", None)


def test_a_package_that_the_user_trusts_can_be_used(own_package):
    fitting = [("model", "Net"), ("model", "net"), ("data", "data"), ("scheduler", "half"), ("model.part", "Net")]
    for path, name in fitting:
        assert resolve(f"ownlab.{name}", path).__module__ == "ownlab"
        assert list(name_faults({"_target_": f"ownlab.{name}"}, path)) == []
    for path, name in [("model", "bare"), ("model", "remove_all"), ("data", "net"), ("data", "digits"),
                       ("scheduler", "net"), ("model", "os.system"), ("optimizer", "Net")]:  # fmt: skip
        with pytest.raises(ConfigError, match="_target_ must be"):
            resolve(f"ownlab.{name}", path)


def test_a_single_name_can_be_trusted(own_package):
    assert not list(name_faults({"_target_": "lightning.pytorch.loggers.WandbLogger"}, "logger.any"))
    assert list(name_faults({"_target_": "lightning.pytorch.loggers.MLFlowLogger"}, "logger.any"))
    assert list(name_faults({"_target_": "ownlaboratory.Net"}, "model"))


def test_a_run_uses_the_users_network_and_schedule(own_package, make_config):
    config = make_config()
    config.model = {"_target_": "ownlab.Net"}
    config.scheduler = {"_target_": "ownlab.half", "_partial_": True}
    assert config_faults(config) == []
    data = build.data_module(config)
    model = build.classifier(config, data)
    assert type(model.network).__name__ == "Net"
    assert model.schedule(3, 10) == 0.5
    config.model = {"_target_": "ownlab.liar"}
    with pytest.raises(ConfigError, match=r"model\._target_ must be .* but it gave a NoneType"):
        build.classifier(config, data)


def test_an_error_in_the_users_own_code_is_named_with_its_type_file_and_line(own_package, make_config):
    config, file = make_config(), own_package.with_name("ownlab") / "__init__.py"
    data = build.data_module(config)
    config.data = {"_target_": "ownlab.missing", "key": "speciess"}
    with pytest.raises(ConfigError) as caught:
        build.data_module(config)
    assert caught.value.faults == (f"data: KeyError: 'speciess' ({file}, line 14)",)
    shapes = r"RuntimeError: .*shapes cannot be multiplied \(3x2 and 9x1\)"
    for fails, said, line in (("at once", "ZeroDivisionError: division by zero", 18), ("in forward", shapes, 20)):
        config.model = {"_target_": "ownlab.Broken", "fails": fails}
        with pytest.raises(ConfigError, match=rf"^model: .*{said} \({file}, line {line}\)$"):
            build.classifier(config, data)


def test_without_the_entry_the_package_is_refused_and_the_fault_says_where_it_goes(own_package, make_config):
    own_package.write_text("[project]\n")
    targets.trusted.cache_clear()
    config = make_config()
    config.model = {"_target_": "ownlab.Net"}
    (fault,) = config_faults(config)
    assert "pyproject.toml: [tool.mlplab] trusted" in fault


@pytest.mark.parametrize("content", ["[tool.mlplab]\ntrusted = 3\n", "[tool.mlplab]\ntrusted = ['']\n", "[", "\x00"])
def test_a_damaged_list_is_named(content, tmp_path, monkeypatch):
    monkeypatch.setattr(targets, "PROJECT", tmp_path / "pyproject.toml")
    targets.trusted.cache_clear()
    (tmp_path / "pyproject.toml").write_text(content)
    with pytest.raises(ConfigError, match=r"pyproject\.toml"):
        list(name_faults({"_target_": "a.b"}, "model"))


def test_a_config_cannot_extend_what_is_trusted(make_config):
    for key in ("trusted", "tool", "mlplab", "hydra"):
        config = make_config()
        OmegaConf.update(config, key, {"trusted": ["os"], "mlplab": {"trusted": ["os"]}}, force_add=True)
        config.model._target_ = "os.system"
        faults = config_faults(config)
        assert any(fault.startswith("model._target_ must come from") for fault in faults)
        assert any(fault.startswith(f"{key}: no such key") for fault in faults)


# Where the library classes would write

OUTSIDE = [
    ("callbacks.checkpoint.dirpath", "elsewhere"), ("callbacks.checkpoint.dirpath", "${folder}/../elsewhere"),
    ("callbacks.checkpoint.dirpath", "~/elsewhere"), ("callbacks.checkpoint.dirpath", "s3://bucket"),
    ("callbacks.checkpoint.dirpath", "${folder}x"), ("callbacks.checkpoint.dirpath", "\0"),
    ("callbacks.checkpoint.filename", "a\\..\\..\\b"), ("logger.tensorboard.save_dir", "."),
    ("logger.tensorboard.version", "../../elsewhere"), ("callbacks.history.deep", [{"a": "http://elsewhere"}]),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value"), OUTSIDE)
@pytest.mark.parametrize("folder", ["run", "${hydra:runtime.output_dir}"], ids=["run", "composed"])
def test_paths_out_of_the_run_folder_are_refused(key, value, folder, make_config):
    config = make_config()
    if folder != "run":
        config.folder = folder
    OmegaConf.update(config, key, value, force_add=True)
    (fault,) = config_faults(config)
    assert fault.startswith(key)
    assert "must lie in the run folder" in fault


def test_a_link_out_of_the_run_folder_is_refused(make_config, tmp_path):
    config = make_config()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoints").symlink_to(tmp_path)
    assert [fault.split()[0] for fault in config_faults(config)] == [
        "callbacks.checkpoint.dirpath", "callbacks.last_checkpoint.dirpath"
    ]  # fmt: skip


# What is built, is built from the checked objects
