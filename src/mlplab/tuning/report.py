"""What a study found: the best command, the importances of what was varied, trials.csv and report.html."""

import base64
import csv
import io
import logging
import shlex
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import optuna
from jinja2 import Environment
from optuna.trial import FrozenTrial
from optuna.visualization import matplotlib as plots
from rich.console import Console

from mlplab.record import now, write_atomically
from mlplab.tuning.search import Search
from mlplab.tuning.study import ERROR, FOLDER, OVERRIDES, best_trial, finished_trials

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Study {{ search.name }}</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
  pre, code { background: #f4f4f4; } pre { padding: .7rem; white-space: pre-wrap; overflow-wrap: anywhere; }
  img { max-width: 100%; } figure { margin: 2rem 0; } figcaption { color: #555; }
  table { border-collapse: collapse; font-size: 14px; } .wide { overflow-x: auto; }
  th, td { text-align: left; padding: .2rem .8rem .2rem 0; border-bottom: 1px solid #ddd; white-space: nowrap; }
</style>
<h1>Study {{ search.name }}</h1>
<p>{{ counts }}. Trials are compared by the best {{ search.monitor }} ({{ search.mode }}).
  The test set was not touched.</p>
{% if best %}
<h2>Best: {{ search.monitor }} {{ "%.4f"|format(best.value) }}, trial {{ best.number }}</h2>
<p>This trains it again, and tests it once:</p>
<pre>{{ command }}</pre>
{% endif %}
<h2>What was searched</h2>
<table>
  <tr><th>key</th><th>values</th><th>best</th><th>importance</th></tr>
  {% for key, domain in search.space.items() %}
  <tr><td><code>{{ key }}</code></td>
    <td>{% if "choices" in domain %}{{ domain.choices|join(", ") }}
      {%- else %}{{ domain.low }} to {{ domain.high }}{{ ", logarithmic" if domain.log else "" }}{% endif %}</td>
    <td>{{ shown(best.params[key]) if best and key in best.params else "" }}</td>
    <td>{{ "%.2f"|format(importances[key]) if key in importances else "" }}</td></tr>
  {% endfor %}
</table>
<p>Fixed: {% for line in search.overrides %}<code>{{ line }}</code> {% else %}nothing{% endfor %}</p>
{% if importances %}<p>Importances add up to 1. They are estimated from the complete trials
  (PED-ANOVA, Watanabe et al. 2023): with few of them they say little.</p>{% endif %}
{% for caption, picture in figures %}
<figure><img alt="{{ caption }}" src="data:image/png;base64,{{ picture }}">
  <figcaption>{{ caption }}</figcaption></figure>
{% endfor %}
<h2>Trials</h2>
<div class="wide"><table>
  <tr>{% for heading in rows[0] %}<th>{{ heading }}</th>{% endfor %}</tr>
  {% for row in rows %}<tr>{% for value in row.values() %}<td>{{ shown(value) }}</td>{% endfor %}</tr>
  {% endfor %}
</table></div>
<p>Written {{ time }} with Optuna {{ version }}.</p>
</html>
"""

FIGURES: dict[str, Callable[..., Any]] = {
    "The score of each trial, and the best so far": plots.plot_optimization_history,
    "Scores by each of the settings": plots.plot_slice,
    "Importance of what was varied": plots.plot_param_importances,
    "Settings together: a line for each trial": plots.plot_parallel_coordinate,
    "Scores after each validation; pruned trials end early": plots.plot_intermediate_values,
}
TOO_FEW = ".*importances will be equal"
"""What Optuna warns of where it cannot tell importances, but gives some."""


def write_report(study: optuna.Study, search: Search) -> None:
    """Write trials.csv and report.html into the folder of the study."""
    search.folder.mkdir(parents=True, exist_ok=True)
    rows, best = [trial_row(trial, search) for trial in study.get_trials(deepcopy=False)], best_trial(study)
    table = io.StringIO()
    writer = csv.DictWriter(table, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(search.folder / "trials.csv", table.getvalue())
    pictures = {caption: drawn(plot, study, search.monitor) for caption, plot in FIGURES.items()}
    page = Environment(autoescape=True).from_string(PAGE).render(
        search=search,
        counts=counts(study),
        best=best,
        command=command(best) if best else None,
        importances=importances(study),
        figures=[(caption, picture) for caption, picture in pictures.items() if picture],
        rows=rows,
        shown=shown,
        time=now(),
        version=optuna.__version__,
    )  # fmt: skip
    write_atomically(search.folder / "report.html", page)


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


def counts(study: optuna.Study) -> str:
    """How many trials there are, and how they ended."""
    trials = study.get_trials(deepcopy=False)
    found = Counter(outcome(trial) for trial in trials)
    return f"{len(finished_trials(study))} trials: " + ", ".join(f"{number} {name}" for name, number in found.items())


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


def drawn(plot: Callable[..., Any], study: optuna.Study, score: str) -> str | None:
    """A plot of Optuna as PNG in base64, without its titles; None where the study has too little for it."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import NullFormatter

    logging.getLogger("matplotlib.category").setLevel(logging.WARNING)  # choices that are numbers are so on purpose
    named = {} if plot is plots.plot_intermediate_values else {"target_name": score}
    with warnings.catch_warnings(), plt.style.context("default"):
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", message=TOO_FEW)
        try:
            plot(study, **named)
            figure = plt.gcf()
            figure.suptitle("")
            for axes in figure.axes:
                axes.set_title("")
                axes.set_title("", loc="left")
                axes.xaxis.set_minor_formatter(NullFormatter())
                if legend := axes.get_legend():
                    legend.remove()  # up to a line for each trial
            if plot is plots.plot_intermediate_values:
                figure.gca().set(xlabel="validation", ylabel=score)
            buffer = io.BytesIO()
            figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
        except (ValueError, RuntimeError, UserWarning):
            return None
        finally:
            plt.close("all")
    return base64.b64encode(buffer.getvalue()).decode()


def shown(value: Any) -> str:
    """A value in a table."""
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
