"""What a search found: the best command, trials.csv, and report.html with Optuna's figures of the study."""

import logging
import shlex
import warnings
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import optuna
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure
from optuna.trial import FrozenTrial, TrialState
from optuna.visualization import matplotlib as plots

from mlplab.figures.style import STYLE, as_svg
from mlplab.files import write_atomically
from mlplab.report.numbers import in_words, mean_interval, shown, with_interval
from mlplab.report.pages import html
from mlplab.report.tables import Table
from mlplab.tuning.search import Search, value_text
from mlplab.tuning.study import ERROR, FOLDER, OVERRIDES, best_trial

FIGURES = {
    "The score of each complete trial, and the best so far.": plots.plot_optimization_history,
    "The scores of the complete trials by each of the settings; later trials are darker.": plots.plot_slice,
    "A line for each complete trial, the better its score, the darker.": plots.plot_parallel_coordinate,
    "Scores after each validation; pruned trials end early.": plots.plot_intermediate_values,
    "The share of each setting in the differences between the scores, estimated from the complete trials (PED-ANOVA, "
    "Watanabe et al. 2023): with few of them it says little.": plots.plot_param_importances,
}
"""Caption → Optuna's figure of a study."""


def write_report(study: optuna.Study, search: Search) -> None:
    """Write trials.csv and report.html into the folder of the study; print what the best trial is, and its command."""
    best, table = best_trial(study), trials_table(study, search)
    search.folder.mkdir(parents=True, exist_ok=True)
    write_atomically(search.folder / "trials.csv", table.to_csv(index=False))
    write_atomically(search.folder / "report.html", page(study, search, best, table))
    outcomes = table["outcome"].value_counts()
    print(f"\n{len(table)} trials: {', '.join(f'{number} {outcome}' for outcome, number in outcomes.items())}")
    if best is not None:
        print(f"best         {search.monitor} {best.value:.4f}, trial {best.number}")
    print(f"report       {search.folder / 'report.html'}")
    print(f"all trials   {search.folder / 'trials.csv'}")
    if best is not None:
        print(f"to train the best again, and test it once:\n  {command(best)}")


def command(trial: FrozenTrial) -> str:
    """What to type to repeat a trial."""
    return shlex.join(["python", "train.py", *trial.user_attrs[OVERRIDES]])


def trials_table(study: optuna.Study, search: Search) -> pd.DataFrame:
    """A row for each trial: complete, pruned, failed, running, waiting, or interrupted (which is repeated)."""
    table = study.trials_dataframe(("number", "state", "value", "params", "duration", "user_attrs"))
    table.columns = table.columns.str.removeprefix("params_").str.removeprefix("user_attrs_")
    table = table.rename(columns={"number": "trial", "state": "outcome", "value": search.monitor})
    for row, trial in enumerate(study.trials):
        if trial.state == TrialState.PRUNED:  # of which Optuna gives the latest value
            table.loc[row, search.monitor] = pd.Series(trial.intermediate_values, dtype=float).agg(search.mode)
    table["seconds"] = table["duration"].dt.total_seconds().round(2)
    table["validations"] = [len(trial.intermediate_values) for trial in study.trials]
    columns = ["trial", "outcome", search.monitor, *search.space, "validations", "seconds", FOLDER, ERROR]
    table = table.reindex(columns=columns)
    table["outcome"] = table["outcome"].str.lower().replace("fail", "failed")
    table.loc[(table["outcome"] == "failed") & table[ERROR].isna(), "outcome"] = "interrupted"
    return table


def page(study: optuna.Study, search: Search, best: FrozenTrial | None, table: pd.DataFrame) -> str:
    """The best trial, what was searched, the figures, and a row for each trial."""
    highest = f"{'lowest' if search.mode == 'min' else 'highest'} {in_words(search.monitor)}"
    answer = "No trial was completed."
    if best is not None:
        score = with_interval(mean_interval([best.value or 0.0]), search.monitor)
        settings = ", ".join(f"{key} {shown(value)}" for key, value in best.params.items())
        answer = f"Trial {best.number} has the {highest}, {score}, with {settings}."
    cells = table.drop(columns=[FOLDER, ERROR])
    rows = [["" if pd.isna(value) else shown(value) for value in row] for row in cells.itertuples(index=False)]
    return html(
        "tuning.html.j2",
        kind="tuning",
        title=search.name,
        question=f"Which settings give the {highest}?",
        answer=[answer, "The test set was not touched."],
        numbers=table["outcome"].value_counts().astype(str).to_dict()
        | {"s, all trials together": f"{table['seconds'].sum():,.0f}"},
        warnings=[f"Trial {row.trial} failed: {row.error}" for row in table.dropna(subset=[ERROR]).itertuples()],
        made_by=f"python scripts/tune.py with Optuna {optuna.__version__}",
        command=command(best) if best else "",
        space={key: value_text(domain) for key, domain in search.space.items()},
        fixed=" ".join(search.overrides) or "nothing",
        figures=figures(study) if best else {},
        trials=Table(list(cells.columns), rows, 2 + len(search.space), best.number if best else None),
    )


def figures(study: optuna.Study) -> dict[str, Markup]:
    """Caption → Optuna's figure of a study with complete trials; without the importances where they cannot be told."""
    found = {}
    for caption, plot in FIGURES.items():
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*importances will be equal")
            try:
                found[caption] = drawn(plot, study, alt=caption)
            except (ValueError, RuntimeError, UserWarning):
                continue
    return found


@as_svg
def drawn(plot: Any, study: optuna.Study) -> Figure:
    """A figure of Optuna's in the style of the page."""
    logging.getLogger("matplotlib.category").setLevel(logging.WARNING)  # which wonders at texts that look like numbers
    style = STYLE | {"figure.figsize": (8, 4.4), "text.parse_math": True, "savefig.bbox": "tight"}
    matplotlib.style.library["ggplot"] = matplotlib.RcParams(style)  # which Optuna asks for
    figure = np.ravel(plot(study))[0].figure
    for legend in filter(None, (axes.get_legend() for axes in figure.axes)):
        legend.remove()  # its names are in the caption, or are all trials
    plt.close(figure)
    return figure
