"""What a search found: the best command, the importances of what was varied, trials.csv and report.html."""

import shlex
import warnings
from collections import Counter
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import optuna
import pandas as pd
from matplotlib.figure import Figure
from optuna.trial import FrozenTrial, TrialState
from optuna.visualization import matplotlib as plots
from rich.console import Console

from mlplab.figures.svg import STYLE, Picture, as_svg
from mlplab.files import now, write_atomically
from mlplab.report.page import Page, Section, Table
from mlplab.report.words import count, in_words, is_share, shown_value
from mlplab.tuning.search import Search, short_text, value_text
from mlplab.tuning.study import ERROR, FOLDER, OVERRIDES, best_trial, finished_trials

FIGURES = {
    "The score of each complete trial, and the best so far.": plots.plot_optimization_history,
    "The scores of the complete trials by each of the settings; later trials are darker.": plots.plot_slice,
    "Settings together: a line for each complete trial, the better its score, the darker.":
        plots.plot_parallel_coordinate,
    "Scores after each validation; pruned trials end early.": plots.plot_intermediate_values,
    "Importance of what was varied: its share in the differences between the scores.": plots.plot_param_importances,
}  # fmt: skip
"""Caption → Optuna's figure of a study."""
MOST_NAMED = 10
"""From more lines on, a legend that names each says nothing."""
TOO_FEW = ".*importances will be equal"
"""What Optuna warns of where it cannot tell importances, but gives some."""
ABOUT_IMPORTANCES = (
    "Importances add up to 1. They are estimated from the complete trials (PED-ANOVA, Watanabe et al. 2023): "
    "with few of them they say little."
)


def write_report(study: optuna.Study, search: Search) -> None:
    """Write trials.csv and report.html into the folder of the study."""
    search.folder.mkdir(parents=True, exist_ok=True)
    write_atomically(search.folder / "trials.csv", trials_table(study, search).to_csv(index=False))
    write_atomically(search.folder / "report.html", page(study, search).html())


def show_outcome(study: optuna.Study, search: Search) -> None:
    """Print the best score, the importances, the files, and the command that repeats the best trial."""
    best, shares = best_trial(study), importances(study)
    say(f"\n{counts(study)}")
    if best is not None:
        say(f"best         {search.monitor} {best.value:.4f}, trial {best.number}")
    if shares:
        say("importance   " + "  ".join(f"{key} {share:.2f}" for key, share in shares.items()))
    say(f"report       {search.folder / 'report.html'}")
    say(f"all trials   {search.folder / 'trials.csv'}")
    if best is not None:
        say(f"to train the best again, and test it once:\n  {command(best)}")


def say(line: str) -> None:
    """Print a line as it is, however wide the terminal."""
    Console().print(line, markup=False, highlight=False, soft_wrap=True)


def command(trial: FrozenTrial) -> str:
    """What to type to repeat a trial."""
    return shlex.join(["python", "train.py", *trial.user_attrs[OVERRIDES]])


# The trials


def trials_table(study: optuna.Study, search: Search) -> pd.DataFrame:
    """A row for each trial: how it ended, its score, its settings, and what else is known of it."""
    table = study.trials_dataframe(("number", "state", "value", "params", "duration", "user_attrs"))
    table.columns = table.columns.str.removeprefix("params_").str.removeprefix("user_attrs_")
    trials = study.get_trials(deepcopy=False)
    table["state"] = [outcome(trial) for trial in trials]
    table["seconds"] = table.pop("duration").dt.total_seconds().round(2)
    table["validations"] = [len(trial.intermediate_values) for trial in trials]
    table = table.rename(columns={"number": "trial", "state": "outcome", "value": search.monitor})
    others = ["validations", "seconds", FOLDER, ERROR]
    return table.reindex(columns=["trial", "outcome", search.monitor, *search.space, *others])


def outcome(trial: FrozenTrial) -> str:
    """complete, pruned, failed, running, waiting, or interrupted: then it counts as no trial and is repeated."""
    name = trial.state.name.lower()
    return {"fail": "failed" if ERROR in trial.user_attrs else "interrupted"}.get(name, name)


def by_outcome(study: optuna.Study) -> dict[str, str]:
    """How many trials ended so."""
    found = Counter(outcome(trial) for trial in study.get_trials(deepcopy=False))
    return {name: str(number) for name, number in found.items()}


def counts(study: optuna.Study) -> str:
    """How many trials there are, and how they ended, in words."""
    found = ", ".join(f"{number} {name}" for name, number in by_outcome(study).items())
    return f"{len(finished_trials(study))} trials: {found}"


def importances(study: optuna.Study) -> dict[str, float]:
    """The share of each key in the differences of the scores, the greatest first; empty where it cannot be told."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=TOO_FEW)
        try:
            return optuna.importance.get_param_importances(study)
        except (ValueError, RuntimeError, UserWarning):
            return {}


# The page


def page(study: optuna.Study, search: Search) -> Page:
    """Its best trial, what was searched, the figures, and all trials."""
    best, shares = best_trial(study), importances(study)
    highest = f"{'lowest' if search.mode == 'min' else 'highest'} {in_words(search.monitor)}"
    answer, sections = [f"{counts(study)}. The test set was not touched."], []
    if best is not None:
        answer.insert(0, f"Trial {best.number} has the {highest}, {sentence(best, study, search)}")
        how = "This trains it again, with exactly this score, and tests it once:"
        sections = [Section("The best again", text=[how], code=[command(best)])]
    sections.append(space_section(search, best, shares))
    if best is not None:
        sections.append(Section("Scores", pictures=pictures(study, search, shares)))
    seconds = sum(trial.duration.total_seconds() for trial in finished_trials(study) if trial.duration)
    return Page(
        kind="tuning",
        title=search.name,
        question=f"Which settings give the {highest}?",
        claim="",
        source="",
        answer=answer,
        numbers=by_outcome(study) | {"s, all trials together": f"{seconds:,.0f}"},
        warnings=[] if best else ["No trial was completed."],
        sections=[*sections, trials_section(study, search)],
        made=f"Made {now()} by python scripts/tune.py with Optuna {optuna.__version__}.",
    )


def sentence(best: FrozenTrial, study: optuna.Study, search: Search) -> str:
    """The best score and its settings, and how many other trials are as good."""
    settings = ", ".join(f"{key} {short_text(value)}" for key, value in best.params.items())
    unit = " %" if is_share(search.monitor) else ""
    others = sum(trial.value == best.value for trial in study.get_trials(states=(TrialState.COMPLETE,))) - 1
    same = f" {count(others, 'other trial')} reached the same." if others else ""
    return f"{shown_value(best.values[0], search.monitor)}{unit}, with {settings}.{same}"


def space_section(search: Search, best: FrozenTrial | None, shares: dict[str, float]) -> Section:
    """The settings that were varied: their values, the best one, and how much they matter."""
    chosen = {key: short_text(value) for key, value in best.params.items()} if best else {}
    rows = [
        [key, value_text(domain), chosen.get(key, ""), f"{shares[key]:.2f}" if key in shares else ""]
        for key, domain in search.space.items()
    ]
    table = Table(["setting", "values", "best", "importance"], rows, num_names=2)
    fixed = {"fixed": " ".join(search.overrides) or "nothing"}
    return Section("What was searched", tables=[table], facts=fixed, notes=[ABOUT_IMPORTANCES] if shares else [])


def pictures(study: optuna.Study, search: Search, shares: dict[str, float]) -> list[Picture]:
    """Optuna's figures of a study with complete trials."""
    wanted = {caption: plot for caption, plot in FIGURES.items() if shares or plot != plots.plot_param_importances}
    return [Picture(drawn(plot, study, search, alt=caption), caption) for caption, plot in wanted.items()]


@as_svg
def drawn(plot: Any, study: optuna.Study, search: Search) -> Figure:
    """A figure of Optuna's in the style of the page."""
    style = STYLE | {"figure.figsize": (8, 4.4) if plot == plots.plot_slice else (11.5, 4.2), "text.parse_math": True}
    matplotlib.style.library["ggplot"] = matplotlib.RcParams(style)  # which Optuna asks for
    matplotlib.rcParams.update(style | {"savefig.bbox": "tight"})
    named = {} if plot == plots.plot_intermediate_values else {"target_name": in_words(search.monitor)}
    figure = np.ravel(plot(study, **named))[0].figure
    for legend in (axes.get_legend() for axes in figure.axes):
        if legend and len(legend.get_texts()) > MOST_NAMED:
            legend.remove()
    plt.close(figure)
    return figure


def trials_section(study: optuna.Study, search: Search) -> Section:
    """A row for each trial, in turn; the best one is marked."""
    best, rows = best_trial(study), trials_table(study, search)
    errors = [f"Trial {row.trial} failed: {row.error}" for row in rows.dropna(subset=[ERROR]).itertuples()]
    rows = rows.drop(columns=[FOLDER, ERROR])
    cells = [["" if pd.isna(value) else short_text(value) for value in row] for row in rows.itertuples(index=False)]
    table = Table(list(rows.columns), cells, num_names=2 + len(search.space), marked=best.number if best else None)
    files = "The run folder of trial 0 is trials/0; trials.csv has the same with all digits."
    return Section(count(len(rows), "trial").capitalize(), tables=[table], notes=[*errors, files])
