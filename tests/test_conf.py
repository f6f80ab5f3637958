"""Every file of conf/ composes, says what it is for, and builds."""

import functools
import os
import re
import shlex
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from mlplab.cli.arguments import in_grammar, read
from mlplab.cli.launch import check
from mlplab.config.check import CONF, config_faults
from mlplab.config.overrides import INCLUDED, values
from mlplab.config.overrides import composed as composed_config
from mlplab.data.module import DataModule
from mlplab.runs import build
from mlplab.sweeps.grid import jobs_of

FILES = sorted(path.relative_to(CONF) for path in CONF.rglob("*.yaml"))
CHOICES = [
    (path.parts[0], path.stem)
    for path in FILES
    if len(path.parts) == 2 and path.parts[0] != "hydra" and path.stem != INCLUDED
]
OF_TUNING = ("search", "pruner")  # groups of tune.yaml
SMALL = {
    "passing": ["data.num_samples=60"],
    "moons": ["data.num_samples=60"],
    "spirals": ["data.num_samples=60"],
    "digits": ["data.train_size=40"],
}


def choices(group):
    return [name for folder, name in CHOICES if folder == group]


@functools.cache  # tests only read what they get
def composed(*overrides, primary="train"):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return composed_config(primary, list(overrides))


def train_config(*overrides):
    return composed("folder=somewhere", *overrides)


@pytest.fixture
def many_cores(monkeypatch):
    """So that trainer.devices=2 is no fault on a machine of one core."""
    monkeypatch.setattr(os, "cpu_count", lambda: 8)


@pytest.mark.parametrize("path", FILES, ids=str)
def test_a_file_begins_with_what_it_is_for(path):
    lines = (CONF / path).read_text(encoding="utf-8").splitlines()
    header = [line for line in lines[:3] if line.startswith("# ") and "@package" not in line]
    assert header
    assert len(header[0]) > 15


def assert_quoted(arguments):
    """Shells such as zsh read [ and ~ outside quotes as their own."""
    assert not re.search(r"[\[~{]", re.sub(r"'[^']*'|\"[^\"]*\"", "", arguments)), arguments


@pytest.mark.parametrize("path", FILES, ids=str)
def test_a_command_in_a_header_composes(path):
    """`python train.py model=mlp`, as the comments say it; placeholders such as <folder> stand for any text."""
    for line in (CONF / path).read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            continue
        line = re.sub(r"<[^>]*>", "x", line)
        for program, arguments in re.findall(r"python (?:scripts/)?(\w+)\.py((?: -m| [^\s=]+=\S+)*)", line):
            assert_quoted(arguments)
            words = [in_grammar(word) for word in shlex.split(arguments) if word != "-m"]
            overrides = OverridesParser.create().parse_overrides(words)
            words = [next(values(override)) for override in overrides]  # the first of a sweep
            composed(*words, primary=program)


@pytest.mark.parametrize(
    ("group", "name"), [choice for choice in CHOICES if choice[0] not in OF_TUNING], ids=lambda part: part
)
@pytest.mark.usefixtures("many_cores")
def test_every_choice_of_a_group_composes_and_resolves(group, name):
    config = train_config(f"{group}={name}")
    resolved = OmegaConf.create(OmegaConf.to_container(config, resolve=True))
    assert set(resolved) == set(train_config()) | ({"study"} if group == "study" else set())
    faults = config_faults(config)
    needed = {"image_folder": ["data.root"], "csv": ["data.path", "data.label"]}.get(name, [])
    assert faults == [f"{key} must be given: write {key}=…" for key in needed]


@pytest.mark.parametrize(("group", "name"), [choice for choice in CHOICES if choice[0] in OF_TUNING])
def test_every_choice_of_tuning_composes_and_is_listed(group, name):
    config = composed(f"{group}={name}", primary="tune")
    assert config_faults(config) == []
    (listed,) = re.findall(rf"  - {group}: \w+ +# ([\w ]+):", (CONF / "tune.yaml").read_text(encoding="utf-8"))
    assert name in listed.split()


@pytest.mark.parametrize(
    ("primary", "overrides"),
    [*(("inspect_data", f"regularization={name} data=spirals") for name in choices("regularization")),
     *(("mean_brightness", f"data={name}") for name in choices("data"))],
)  # fmt: skip
def test_scripts_take_every_regularization_and_every_data_set(primary, overrides):
    faults = config_faults(composed(*overrides.split(), primary=primary))
    assert [fault for fault in faults if not re.match(r"data\.\w+ must be given", fault)] == []


def listed_choices():
    """Group → the names that train.yaml's comment beside it lists."""
    listed = {}
    for line in (CONF / "train.yaml").read_text(encoding="utf-8").splitlines():
        if found := re.match(r"  - (\w+): \w+ +# (.*)", line):
            listed[found[1]] = re.split(r"[ ,]+", found[2])
    return listed


def test_what_train_yaml_says_is_set_most_can_be_set():
    text = (CONF / "train.yaml").read_text(encoding="utf-8")
    examples = re.findall(r"^#   ([\w.]+=\w\S*)  ", text, flags=re.MULTILINE)
    keys = "model data data.batch_size regularization optimizer optimizer.lr trainer.max_epochs seed"
    assert [example.partition("=")[0] for example in examples] == keys.split()
    assert config_faults(train_config(*examples)) == []


def test_train_yaml_lists_every_choice_and_nothing_else():
    text, listed = (CONF / "train.yaml").read_text(encoding="utf-8"), listed_choices()
    assert set(listed) == {group for group, _ in CHOICES} - set(OF_TUNING)
    for group, names in listed.items():
        if group in ("experiment", "study"):  # it gives examples only
            examples = set(re.findall(rf"\b{group}=(\w+)", text))
            assert set() < examples <= set(choices(group))
        else:
            assert sorted(names) == sorted(choices(group))


@pytest.mark.parametrize("name", choices("study"))
def test_every_command_of_a_study_is_a_grid_without_faults(name):
    """Among them that for CIFAR-10, which puts another recipe in the place of the study's own."""
    text = (CONF / "study" / f"{name}.yaml").read_text(encoding="utf-8")
    commands = re.findall(rf"^# .*python train\.py (study={name}\b.*)", text, flags=re.MULTILINE)
    assert commands[0] == f"study={name}"
    assert any("experiment=cifar10_" in command for command in commands)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for command in commands:
            overrides = check("train", read(shlex.split(command.replace("<folder>", "images"))))
            assert len(jobs_of(overrides, Path("outputs"))) > 1
    study = train_config(f"study={name}").study
    assert study.name == name
    assert {"question", "claim", "source"} <= set(study)


# Building


@pytest.mark.parametrize("data", SMALL)
@pytest.mark.parametrize("model", choices("model"))
def test_every_model_is_built_for_every_small_data_set(model, data):
    config = train_config(f"model={model}", f"data={data}", *SMALL[data])
    module = build.data_module(config)
    classifier = build.classifier(config, module)
    (batch, *_), *_ = (module.on_after_batch_transfer(group, 0) for group in module.train_dataloader())
    logits = classifier(batch.features)
    assert logits.shape == (len(batch.labels), module.num_outputs)
    assert classifier.loss(logits, batch.labels).isfinite()
    expected = "PerceptronLoss" if model == "perceptron" else "CrossEntropy"
    assert type(classifier.loss).__name__ == expected


@pytest.fixture(scope="module")
def passing() -> DataModule:
    return build.data_module(train_config(*SMALL["passing"]))


@pytest.mark.parametrize("optimizer", choices("optimizer"))
def test_every_optimizer_has_its_rate_and_its_decay(optimizer, passing):
    classifier = build.classifier(
        train_config(f"optimizer={optimizer}", "optimizer.lr=0.25", "optimizer.weight_decay=0.125"), passing
    )
    made = classifier.configure_optimizers()
    assert made.param_groups[0]["lr"] == made.param_groups[0]["initial_lr"] == 0.25
    assert made.param_groups[0]["weight_decay"] == 0.125


@pytest.mark.parametrize("scheduler", choices("scheduler"))
def test_every_scheduler_gives_factors(scheduler, passing):
    schedule = build.classifier(train_config(f"scheduler={scheduler}"), passing).schedule
    factors = [schedule(update, 100) for update in range(100)]
    assert all(0 <= factor <= 1 for factor in factors)
    assert max(factors) == 1
    assert (len(set(factors)) == 1) == (scheduler in ("constant", "plateau"))


@pytest.mark.parametrize(
    ("overrides", "values"),
    [
        ("none", {"model.dropout": 0, "optimizer.weight_decay": 0, "loss.label_smoothing": 0,
                  "callbacks.early_stopping": None}),
        ("dropout model.dropout=0.2 data.batch_size=7 batching=full_batch",
         {"model.dropout": 0.2, "data.batch_size": 7}),
        ("weight_decay optimizer=adamw", {"optimizer.weight_decay": 0.01}),
        ("augmentation data=digits", {"data.augmentation.flip": 0.5}),
        ("combined", {"model.dropout": 0.2, "optimizer.weight_decay": 0.01, "loss.label_smoothing": 0.1,
                      "callbacks.early_stopping.patience": 10}),
    ],
)  # fmt: skip
def test_regularization_sets_its_keys(overrides, values):
    config = train_config(*f"regularization={overrides}".split())
    assert {key: OmegaConf.select(config, key) for key in values} == values
    assert set(config.data.augmentation.values()) == {0} or "augmentation" in overrides
