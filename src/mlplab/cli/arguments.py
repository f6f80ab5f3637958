"""What a person types: options, overrides in Hydra's grammar, paths; and the help that says what there is to type."""

import argparse
import contextlib
import io
import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from mlplab.config.check import CONF
from mlplab.config.overrides import available_choices, is_readable, quoted
from mlplab.errors import ConfigError, did_you_mean

SWITCHES = ("--help -h", "--multirun -m", "--resolve", "--hydra-help", "--version", "--shell-completion -sc")
WITH_VALUE = ("--cfg -c", "--package -p", "--info -i")
PATHS = ("run", "resume", "input", "output", "into", "figure", "data.root", "data.path", "hydra.run.dir",
         "hydra.sweep.dir")  # fmt: skip
"""Keys whose values are paths."""


def read(words: Sequence[str], bare_paths: str | None = None) -> argparse.Namespace:
    """Hydra's options, and in Hydra's grammar `overrides`; `shows` says that something is to be shown, not run.

    Paths that are no value of any key become the list of the key `bare_paths`. Raises ConfigError for an option that
    there is not.
    """
    known = [name for names in SWITCHES + WITH_VALUE for name in names.split()]
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    for names in SWITCHES:
        parser.add_argument(*names.split(), action="store_true")
    for names in WITH_VALUE:
        parser.add_argument(*names.split())
    long = [word for word in words if re.match(r"-\w{3}", word)]  # which would be taken for several of one letter
    try:
        given, others = parser.parse_known_args([word for word in words if word not in long])
    except argparse.ArgumentError as error:
        raise ConfigError(f"{error}; see --help") from error
    if wrong := long + [word for word in others if word.startswith("-")]:
        raise ConfigError(*(f"{word}: no such option{did_you_mean(word, known)}; see --help" for word in wrong))
    given.options = [word for word in words if word not in others]
    given.shows = bool(given.cfg or given.info or given.hydra_help or given.version or given.shell_completion)
    if given.multirun and given.shows:
        raise ConfigError(f"{' '.join(given.options)}: a multirun shows nothing; leave out -m")
    paths = [word for word in others if bare_paths and is_bare_path(word)]
    if given.shell_completion and not any(re.match("(un)?install=|query=", word) for word in others):
        raise ConfigError('--shell-completion needs a shell: eval "$(python train.py --shell-completion install=bash)"')
    if paths and (named := [word for word in others if word.startswith(f"{bare_paths}=")]):
        raise ConfigError(f"{named[0]} {paths[0]}: write either {bare_paths}=…, or one path or several without it")
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
    if key not in PATHS or not value or "${" in value or re.fullmatch(r"[\w./:+-]+", value, flags=re.ASCII):
        return argument
    means_more = value[0] in "'\"" or ("=" not in value and is_readable(argument))  # several values, or quotes
    return argument if means_more and not Path(value).exists() else f"{key}={quoted(value)}"


def is_bare_path(argument: str) -> bool:
    """Whether an argument is a path, which may hold `=`, rather than key=value."""
    key, equals, _ = argument.partition("=")
    return not equals or "/" in key or "\\" in key or Path(argument).exists()


def stray_faults(config_name: str, words: Sequence[str]) -> Iterator[str]:
    """One line for each word that is no key=value, with what may be meant by it."""
    keys = list(OmegaConf.load(CONF / f"{config_name}.yaml").keys())
    for word in words:
        if word.startswith("~") or ("=" in word and not ("/" in word and Path(word).exists())):
            continue
        if word == "help":
            meant = ["--help"]
        elif "/" in word or Path(word).exists():
            meant = [shlex.quote(f"{key}={word}") for key in ("run", "resume", "input") if key in keys]
        else:
            meant = [f"{group}={word}" for group in groups(config_name) if word in available_choices(group)]
        yield f"{word}: no key=value" + (f"; did you mean {' or '.join(meant)}?" if meant else "; see --help")


# Help, and what the Tab key offers


@contextlib.contextmanager
def own_words(config_name: str) -> Iterator[None]:
    """Leave out of the words that Hydra offers to a shell those of other commands: it knows the groups of all."""
    with contextlib.redirect_stdout(io.StringIO()) as offered:
        yield
    own = {*OmegaConf.load(CONF / f"{config_name}.yaml"), *groups(config_name), *(["hydra"] * (config_name == "train"))}
    words = [word for word in offered.getvalue().split() if re.split(r"[.=/]", word.lstrip("+~"))[0] in own]
    print(*[word for word in words if not word.endswith("=base")], sep="\n")


def print_help(text: str) -> None:
    """Print the help, of which a reader such as `head` or `less` may take only a part."""
    try:
        print(text, flush=True)
    except BrokenPipeError:  # what is left goes nowhere; otherwise Python tries again when it ends, and complains
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def help_text(config_name: str) -> str:
    """What the command is for, its groups with their choices, its keys: as its config says it."""
    path = CONF / f"{config_name}.yaml"
    head, _, rest = path.read_text(encoding="utf-8").partition("defaults:\n")
    purpose = re.sub(r"^# ?", "", head.strip(), flags=re.MULTILINE)
    keys = re.sub(r"^(?:  - .*\n)+", "", rest).strip()
    if not (names := groups(config_name)):
        return f"{purpose}\n\nSet any value with key=value:\n\n{keys}"
    width = max(map(len, names))
    choices = "\n".join(f"  {group:{width}}  {' '.join(available_choices(group))}" for group in names)
    return (
        f"{purpose}\n\nChoose one of each group with group=choice:\n{choices}\n\n"
        f"Set any value with key=value:\n\n{keys}\n\nAll keys with their values: --cfg job"
    )


def groups(config_name: str) -> list[str]:
    """The groups that a command's config chooses from, in its order."""
    defaults = OmegaConf.load(CONF / f"{config_name}.yaml").defaults
    listed = [str(next(iter(item))) for item in defaults if isinstance(item, DictConfig)]
    return [group for group in listed if group != "hydra"]
