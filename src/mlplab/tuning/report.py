"""What a search found: the best command, the importances of what was varied, trials.csv and report.html."""

import logging
import shlex
import warnings
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import optuna
import pandas as pd
from matplotlib.figure import Figure
from optuna.trial import FrozenTrial
from optuna.visualization import matplotlib as plots

from mlplab.figures.style import STYLE, Picture, as_svg
from mlplab.files import now, write_atomically
from mlplab.report.numbers import count, in_words, is_share, shown_value
from mlplab.report.page import Page, Section, Table
from mlplab.tuning.search import Search, short_text, value_text
from mlplab.tuning.study import ERROR, FOLDER, OVERRIDES, best_trial, finished_trials, say

FIGURES = {
    "The score of each complete trial, and the best so far.": plots.plot_optimization_history,
    "The scores of the complete trials by each of the settings; later trials are darker.": plots.plot_slice,
    "A line for each complete trial, the better its score, the darker.": plots.plot_parallel_coordinate,
    "Scores after each validation; pruned trials end early.": plots.plot_intermediate_values,
}
"""Caption → Optuna's figure of a study."""
IMPORTANCES = (
    "The share of each setting in the differences between the scores, estimated from the complete trials (PED-ANOVA, "
    "Watanabe et al. 2023): with few of them it says little."
)
MOST_NAMED = 10
"""A legend with more names than these says nothing."""


def write_report(study: optuna.Study, search: Search) -> None:
    """Write trials.csv and report.html into the folder of the study."""
    search.folder.mkdir(parents=True, exist_ok=True)
    write_atomically(search.folder / "trials.csv", trials_table(study, search).to_csv(index=False))
    write_atomically(search.folder / "report.html", page(study, search).html())


def show_outcome(study: optuna.Study, search: Search) -> None:
    """Print the best score, the importances, the files, and the command that repeats the best trial."""
    best, shares = best_trial(study), importances(study)
    say(f"\n{counts(study, search)}")
    if best is not None:
        say(f"best         {search.monitor} {best.value:.4f}, trial {best.number}")
    if shares:
        say("importance   " + "  ".join(f"{key} {share:.2f}" for key, share in shares.items()))
    say(f"report       {search.folder / 'report.html'}")
    say(f"all trials   {search.folder / 'trials.csv'}")
    if best is not None:
        say(f"to train the best again, and test it once:\n  {command(best)}")


def command(trial: FrozenTrial) -> str:
    """What to type to repeat a trial."""
    return shlex.join(["python", "train.py", *trial.user_attrs[OVERRIDES]])


def trials_table(study: optuna.Study, search: Search) -> pd.DataFrame:
    """A row for each trial: complete, pruned, failed, running, waiting, or interrupted (which is repeated)."""
    table = study.trials_dataframe(("number", "state", "value", "params", "duration", "user_attrs"))
    table.columns = table.columns.str.removeprefix("params_").str.removeprefix("user_attrs_")
    table["trial"], table[search.monitor] = table["number"], table["value"]
    table["seconds"] = table["duration"].dt.total_seconds().round(2)
    table["validations"] = [len(trial.intermediate_values) for trial in study.trials]
    columns = ["trial", "outcome", search.monitor, *search.space, "validations", "seconds", FOLDER, ERROR]
    table = table.reindex(columns=[*columns, "state"])
    table["outcome"] = table.pop("state").str.lower().replace("fail", "failed")
    table.loc[(table["outcome"] == "failed") & table[ERROR].isna(), "outcome"] = "interrupted"
    return table


def counts(study: optuna.Study, search: Search) -> str:
    """How many trials there are, and how they ended."""
    found = trials_table(study, search)["outcome"].value_counts()
    return f"{len(finished_trials(study))} trials: {', '.join(f'{number} {name}' for name, number in found.items())}"


def importances(study: optuna.Study) -> dict[str, float]:
    """The share of each key in the differences of the scores, the greatest first; empty where it cannot be told."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*importances will be equal")
        try:
            return optuna.importance.get_param_importances(study)
        except (ValueError, RuntimeError, UserWarning):
            return {}


# The page


def page(study: optuna.Study, search: Search) -> Page:
    """Its best trial, what was searched, the figures, and all trials."""
    best, table = best_trial(study), trials_table(study, search)
    highest = f"{'lowest' if search.mode == 'min' else 'highest'} {in_words(search.monitor)}"
    space = {key: value_text(domain) for key, domain in search.space.items()}
    sections = [Section("What was searched", facts=space | {"fixed": " ".join(search.overrides) or "nothing"})]
    if best is not None:
        how = "This trains it again, with exactly this score, and tests it once:"
        sections.insert(0, Section("The best again", text=[how], code=[command(best)]))
        sections.append(Section("Scores", pictures=pictures(study, search)))
    return Page(
        kind="tuning",
        title=search.name,
        question=f"Which settings give the {highest}?",
        claim="",
        source="",
        answer=[
            *([f"Trial {best.number} has the {highest}, {score_and_settings(best, table, search)}"] if best else []),
            f"{counts(study, search)}. The test set was not touched.",
        ],
        numbers=table["outcome"].value_counts().astype(str).to_dict()
        | {"s, all trials together": f"{table['seconds'].sum():,.0f}"},
        warnings=[] if best else ["No trial was completed."],
        sections=[*sections, trials_section(table, search, best)],
        made=f"Made {now()} by python scripts/tune.py with Optuna {optuna.__version__}.",
    )


def score_and_settings(best: FrozenTrial, table: pd.DataFrame, search: Search) -> str:
    """Those of the best trial, and how many others are as good."""
    score = shown_value(float(best.value or 0.0), search.monitor) + (" %" if is_share(search.monitor) else "")
    settings = ", ".join(f"{key} {short_text(value)}" for key, value in best.params.items())
    others = int(((table[search.monitor] == best.value) & (table["outcome"] == "complete")).sum()) - 1
    return f"{score}, with {settings}." + (f" {count(others, 'other trial')} reached the same." if others else "")


def pictures(study: optuna.Study, search: Search) -> list[Picture]:
    """Optuna's figures of a study with complete trials."""
    wanted = FIGURES | ({IMPORTANCES: plots.plot_param_importances} if importances(study) else {})
    return [Picture(drawn(plot, study, search, alt=caption), caption) for caption, plot in wanted.items()]


@as_svg
def drawn(plot: Any, study: optuna.Study, search: Search) -> Figure:
    """A figure of Optuna's in the style of the page."""
    logging.getLogger("matplotlib.category").setLevel(logging.WARNING)  # which wonders at texts that look like numbers
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


def trials_section(table: pd.DataFrame, search: Search, best: FrozenTrial | None) -> Section:
    """A row for each trial, in turn; the best one is marked."""
    errors = [f"Trial {row.trial} failed: {row.error}" for row in table.dropna(subset=[ERROR]).itertuples()]
    shown = table.drop(columns=[FOLDER, ERROR])
    rows = [["" if pd.isna(value) else short_text(value) for value in row] for row in shown.itertuples(index=False)]
    files = "The run folder of trial 0 is trials/0; trials.csv has the same with all digits."
    marked = Table(list(shown.columns), rows, num_names=2 + len(search.space), marked=best.number if best else None)
    return Section(count(len(rows), "trial").capitalize(), tables=[marked], notes=[*errors, files])
