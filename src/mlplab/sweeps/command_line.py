"""Reading the command line: its faults, also those of every job of a sweep, before anything is imported or written.

Nothing here imports torch, so `--help` and config errors answer at once.
"""

import argparse
import contextlib
import functools
import re
from collections.abc import Sequence
from pathlib import Path

from hydra import compose
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf.errors import OmegaConfBaseException

from mlplab.config.overrides import all_faults, parsed
from mlplab.errors import ConfigError, did_you_mean
from mlplab.runs.resume import continued_config, requeued_run, run_and_checkpoint
from mlplab.sweeps.grid import with_params

SWITCHES = ("--help -h", "--multirun -m", "--resolve", "--hydra-help", "--version", "--shell-completion -sc")
WITH_VALUE = ("--cfg -c", "--package -p", "--info -i")
PATHS = ("run", "resume", "input", "output", "into", "figure", "data.root", "hydra.run.dir", "hydra.sweep.dir")
"""Keys whose values are paths."""


def read(words: Sequence[str], bare_paths: str | None = None) -> argparse.Namespace:
    """Hydra's options, and in Hydra's grammar `overrides`; `shows` says that something is to be shown, not run.

    Paths that are no value of any key become the list of the key `bare_paths`. Raises ConfigError for an option that
    there is not.
    """
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    for names in SWITCHES:
        parser.add_argument(*names.split(), action="store_true")
    for names in WITH_VALUE:
        parser.add_argument(*names.split())
    try:
        given, others = parser.parse_known_args(words)
    except argparse.ArgumentError as error:
        raise ConfigError(f"{error}; see --help") from error
    known = [names.split()[0] for names in SWITCHES + WITH_VALUE]
    if wrong := [word for word in others if word.startswith("-")]:
        raise ConfigError(*(f"{word}: no such option{did_you_mean(word, known)}; see --help" for word in wrong))
    given.options = [word for word in words if word not in others]
    given.shows = bool(given.cfg or given.info or given.hydra_help or given.version or given.shell_completion)
    paths = [word for word in others if bare_paths and is_bare_path(word)]
    given.overrides = [in_grammar(word) for word in others if word not in paths]
    given.overrides += [f"{bare_paths}=[{','.join(map(quoted, paths))}]"] if paths else []
    return given


def in_grammar(argument: str) -> str:
    """An argument as Hydra's grammar takes it: what holds `=` or `,` without meaning anything by it is quoted.

    Those are paths, which can be pasted as they are, and the items of `overrides=[data=moons,model.hidden_sizes=[8]]`.
    """
    key, _, value = argument.partition("=")
    if key in ("overrides", "search.overrides") and re.fullmatch(r"\[[^'\"]+\]", value):
        items = re.split(r",\s*(?=[+~]*[\w./]+=|~)", value[1:-1].strip())
        return f"{key}=[{','.join(map(quoted, items))}]"
    if key not in PATHS or value[:1] in ("", "'", '"') or "${" in value:
        return argument
    needs_quotes = "=" in value or (Path(value).exists() and not re.fullmatch(r"[\w./:+-]+", value))
    return f"{key}={quoted(value)}" if needs_quotes else argument


def quoted(text: str | Path) -> str:
    """A text as a value in Hydra's grammar."""
    return "'" + re.sub(r"(\\*)('|$)", lambda found: 2 * found[1] + ("\\'" if found[2] else ""), str(text)) + "'"


def is_bare_path(argument: str) -> bool:
    """Whether an argument is a path, which may hold `=`, rather than key=value."""
    key, equals, _ = argument.partition("=")
    return not equals or "/" in key or "\\" in key or Path(argument).exists()


def check(config_name: str, given: argparse.Namespace) -> list[Override]:
    """The overrides, those of a study's grid among them, once they are found to be right. Hydra must be started.

    Raises ConfigError with all faults of the command line and of the config, or of all configs of a multirun.
    """
    overrides = parsed(given.overrides)
    fixed = [override for override in overrides if not override.is_sweep_override()]
    study = [override for override in fixed if override.key_or_group == "study"]
    for some in (fixed, study, []):  # a study is also seen beside what does not compose
        with contextlib.suppress(HydraException, OmegaConfBaseException, ValueError):
            shared = compose(config_name, [one.input_line or "" for one in some], return_hydra_config=True)
            break
    sweeps = given.multirun or shared.hydra.mode == RunMode.MULTIRUN
    if sweeps and config_name == "train":
        overrides = with_params(shared, overrides)
    if faults := all_faults(config_name, overrides, sweep=sweeps, values_too=True):
        raise ConfigError(*faults)
    if sweeps and any(override.key_or_group == "resume" for override in overrides):
        raise ConfigError("resume continues one run; to continue a multirun, repeat its command with sweep=…")
    return overrides


def continuing(overrides: Sequence[str]) -> list[str]:
    """What `resume=` adds, or for a job that SLURM starts again its unfinished run: Hydra works in the run's folder.

    Raises ConfigError where the run cannot be continued as the overrides say. Hydra must be started.
    """
    of_task = [line for line in overrides if not line.startswith(("hydra.", "hydra/"))]
    added = [f"resume={quoted(run)}"] if (run := requeued_run(Path("outputs/train"), of_task)) else []
    asked = [one.value() for one in parsed([*overrides, *added]) if one.key_or_group == "resume"]
    if not asked or not asked[-1]:
        return []
    folder, _ = run_and_checkpoint(str(asked[-1]))
    continued_config(folder, [*overrides, *added], functools.partial(compose, "train"))
    return [*added, f"hydra.run.dir={quoted(folder)}"]
