"""What a search found: the best command, the importances of what was varied, trials.csv and report.html."""

import csv
import io
import math
import shlex
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import optuna
from markupsafe import Markup
from optuna.trial import FrozenTrial
from rich.console import Console

from mlplab.figures.style import Picture
from mlplab.files import now, write_atomically
from mlplab.report.page import Page, Section, Table
from mlplab.report.words import count, in_words, shown_value, with_unit
from mlplab.tuning import plots
from mlplab.tuning.search import Search, short_text, value_text
from mlplab.tuning.study import ERROR, FOLDER, OVERRIDES, best_trial, finished_trials

FIGURES: dict[str, Callable[..., Markup]] = {
    "The score of each trial, and the best so far.": plots.in_turn,
    "The scores of the complete trials by each of the settings.": plots.by_setting,
    "Settings together: a line for each complete trial, the better its score, the stronger.": plots.together,
    "Scores after each validation; pruned trials end early.": plots.while_training,
}
"""Caption → the function of all trials and the search that draws it."""
TOO_FEW = ".*importances will be equal"
"""What Optuna warns of where it cannot tell importances, but gives some."""
ABOUT_IMPORTANCES = (
    "Importances add up to 1. They are estimated from the complete trials (PED-ANOVA, Watanabe et al. 2023): "
    "with few of them they say little."
)


def write_report(study: optuna.Study, search: Search) -> None:
    """Write trials.csv and report.html into the folder of the study."""
    search.folder.mkdir(parents=True, exist_ok=True)
    rows = [trial_row(trial, search) for trial in study.get_trials(deepcopy=False)]
    table = io.StringIO()
    writer = csv.DictWriter(table, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(search.folder / "trials.csv", table.getvalue())
    write_atomically(search.folder / "report.html", page(study, search).html())


def show_outcome(study: optuna.Study, search: Search) -> None:
    """Print the best score, the importances, the files, and the command that repeats the best trial."""
    lines = [f"\n{counts(study)}"]
    best = best_trial(study)
    if best is not None:
        lines.append(f"best         {search.monitor} {best.value:.4f}, trial {best.number}")
    if found := importances(study):
        lines.append("importance   " + "  ".join(f"{key} {share:.2f}" for key, share in found.items()))
    lines.append(f"report       {search.folder / 'report.html'}")
    lines.append(f"all trials   {search.folder / 'trials.csv'}")
    if best is not None:
        lines += ["to train the best again, and test it once:", f"  {command(best)}"]
    for line in lines:
        Console().print(line, markup=False, highlight=False, soft_wrap=True)


def command(trial: FrozenTrial) -> str:
    """What to type to repeat a trial."""
    return shlex.join(["python", "train.py", *trial.user_attrs[OVERRIDES]])


# The page


def page(study: optuna.Study, search: Search) -> Page:
    """Its best trial, what was searched, the figures, and all trials."""
    best, shares = best_trial(study), importances(study)
    numbers = {name: str(number) for name, number in by_outcome(study).items()}
    seconds = sum(trial.duration.total_seconds() for trial in finished_trials(study) if trial.duration)
    best_again = Section(
        "The best again",
        text=["This trains it again, with exactly this score, and tests it once:"],
        code=[command(best)] if best else [],
    )
    sections = [best_again] if best else []
    sections += [space_section(search, best, shares), *figures(study, search, shares), trials_section(study, search)]
    return Page(
        kind="tuning",
        title=search.name,
        question=f"Which settings give the {highest(search)} {in_words(search.monitor)}?",
        claim="",
        source="",
        answer=[*([sentence(best, study, search)] if best else []), f"{counts(study)}. The test set was not touched."],
        numbers={**numbers, "s, all trials together": f"{seconds:,.0f}"},
        warnings=[] if best else ["No trial was completed."],
        sections=sections,
        made=f"Made {now()} by python scripts/tune.py with Optuna {optuna.__version__}.",
    )  # fmt: skip


def sentence(best: FrozenTrial, study: optuna.Study, search: Search) -> str:
    """The best trial, its score and its settings, and how many others are as good."""
    chosen = ", ".join(f"{key} {short_text(value)}" for key, value in best.params.items())
    value = f"{shown(best.value, search)}{' %' if with_unit(search.monitor).endswith('%') else ''}"
    others = sum(trial.value == best.value for trial in plots.complete(study.get_trials(deepcopy=False))) - 1
    same = f" {count(others, 'other trial')} reached the same." if others else ""
    return f"Trial {best.number} has the {highest(search)} {in_words(search.monitor)}, {value}, with {chosen}.{same}"


def highest(search: Search) -> str:
    return "lowest" if search.mode == "min" else "highest"


def space_section(search: Search, best: FrozenTrial | None, shares: dict[str, float]) -> Section:
    """The settings that were varied: their values, the best one, and how much they matter."""
    rows = [
        [
            key,
            domain_text(domain),
            short_text(best.params[key]) if best and key in best.params else "",
            f"{shares[key]:.2f}" if key in shares else "",
        ]
        for key, domain in search.space.items()
    ]
    table = Table(["setting", "values", "best", "importance"], rows, num_names=2)
    fixed = {"fixed": " ".join(search.overrides) or "nothing"}
    return Section("What was searched", tables=[table], facts=fixed, notes=[ABOUT_IMPORTANCES] if shares else [])


def domain_text(domain: dict[str, Any]) -> str:
    if "choices" in domain:
        return ", ".join(map(value_text, domain["choices"]))
    ends = f"{short_text(domain['low'])} to {short_text(domain['high'])}"
    return f"{ends}, logarithmic" if domain.get("log") else ends


def figures(study: optuna.Study, search: Search, shares: dict[str, float]) -> list[Section]:
    """The figures of complete trials; none without any."""
    trials = study.get_trials(deepcopy=False)
    if not plots.complete(trials):
        return []
    pictures = [Picture(draw(trials, search, alt=caption), caption) for caption, draw in FIGURES.items()]
    if shares and FIGURES:
        caption = "Importance of what was varied: its share in the differences between the scores."
        pictures.append(Picture(plots.shares(shares, alt=caption), caption))
    return [Section("Scores", pictures=pictures)]


def trials_section(study: optuna.Study, search: Search) -> Section:
    """A row for each trial, in turn; the best one is marked."""
    trials, best = study.get_trials(deepcopy=False), best_trial(study)
    headings = ["trial", "outcome", *search.space, with_unit(search.monitor), "validations", "seconds"]
    rows = [
        [
            str(trial.number),
            outcome(trial),
            *(short_text(trial.params[key]) if key in trial.params else "" for key in search.space),
            shown(trial.value, search) if trial.value is not None else "",
            str(len(trial.intermediate_values)),
            f"{trial.duration.total_seconds():.1f}" if trial.duration else "",
        ]
        for trial in trials
    ]
    errors = [
        f"Trial {trial.number} failed: {trial.user_attrs[ERROR]}" for trial in trials if ERROR in trial.user_attrs
    ]
    marked = best.number if best else None
    table = Table(headings, rows, num_names=2 + len(search.space), marked=marked)
    files = "The run folder of trial 0 is trials/0; trials.csv has the same with all digits."
    return Section(count(len(trials), "trial").capitalize(), tables=[table], notes=[*errors, files])


def shown(value: float | None, search: Search) -> str:
    return shown_value(math.nan if value is None else value, search.monitor)


# Trials


def counts(study: optuna.Study) -> str:
    """How many trials there are, and how they ended."""
    found = ", ".join(f"{number} {name}" for name, number in by_outcome(study).items())
    return f"{len(finished_trials(study))} trials: {found}"


def by_outcome(study: optuna.Study) -> Counter[str]:
    return Counter(outcome(trial) for trial in study.get_trials(deepcopy=False))


def outcome(trial: FrozenTrial) -> str:
    """complete, pruned, failed, running, waiting, or interrupted: then it counts as no trial and is repeated."""
    name = trial.state.name.lower()
    return {"fail": "failed" if ERROR in trial.user_attrs else "interrupted"}.get(name, name)


def trial_row(trial: FrozenTrial, search: Search) -> dict[str, Any]:
    """A row of trials.csv."""
    return {
        "trial": trial.number,
        "outcome": outcome(trial),
        search.monitor: trial.value,
        **{key: trial.params.get(key) for key in search.space},
        "validations": len(trial.intermediate_values),
        "seconds": round(trial.duration.total_seconds(), 2) if trial.duration else None,
        "folder": trial.user_attrs.get(FOLDER),
        "error": trial.user_attrs.get(ERROR),
    }


def importances(study: optuna.Study) -> dict[str, float]:
    """The share of each key in the differences of the scores, the greatest first; empty where it cannot be told."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=TOO_FEW)
        try:
            return optuna.importance.get_param_importances(study)
        except (ValueError, RuntimeError, UserWarning):
            return {}
