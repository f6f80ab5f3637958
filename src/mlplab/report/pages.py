"""Pages, each one HTML file with all text escaped: of runs compared, and of a single run. Templates say what of it."""

import base64
import datetime
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from mlplab.config.keys import flat
from mlplab.errors import ConfigError
from mlplab.figures.curves import learning_curves
from mlplab.figures.style import MOST_LINES, as_svg
from mlplab.files import now
from mlplab.report.frames import Group, common_overrides, comparable, part, read_text
from mlplab.report.numbers import in_words, mean_interval, number, shown, shown_value, with_interval
from mlplab.report.plots import CLOCKS, curves, power_law_plot, scores
from mlplab.report.study import Study, answer, axes_of, ranked, swept
from mlplab.report.tables import COSTS, SCORES, budget_table, chosen_epochs, group_table, heat_map, measured
from mlplab.runs.record import CONFIG

MOST_PLACES = 30
COURSES = ("val/acc", "train/acc", "gap/acc", "test/acc"), ("val/loss", "train/loss", "test/loss")
AT_A_GLANCE = ("updates", "epochs", "fit_seconds", "parameters")
TOLD_ELSEWHERE = ("status", "metrics", "overrides", "command", "versions", "hardware", "git_commit", "error")
MAX_IMAGE_BYTES = 20_000_000


def html(template: str, *, made_by: str, **values: Any) -> str:
    """A page as one file without scripts, that loads nothing from elsewhere; `values` are what its template needs."""
    environment = Environment(
        loader=PackageLoader("mlplab.report"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template(template).render(made=f"Made {now()} by {made_by}.", **values)


def image(path: Path, alt: str) -> Markup:
    """A PNG or WebP file as markup that holds its bytes; nothing for what is none, or too large for a page."""
    content = path.read_bytes() if path.is_file() and path.stat().st_size <= MAX_IMAGE_BYTES else b""
    kind = {b"\x89PNG": "png", b"RIFF": "webp"}.get(content[:4])
    encoded = base64.b64encode(content).decode("ascii")
    return Markup(f'<img alt="{escape(alt)}" src="data:image/{kind};base64,{encoded}">' if kind else "")


def made_with(results: Iterable[dict[str, Any]]) -> dict[str, str]:
    """Versions, hardware and code of runs; several where they differ."""
    facts: dict[str, dict[str, None]] = {}
    for result in results:
        about = {"hardware": result.get("hardware"), "code": result.get("git_commit")}
        for name, value in (part(result, "versions") | about).items():
            facts.setdefault(name, {})[str(value or "unknown")] = None
    return {name: "; ".join(values) for name, values in facts.items()}


# Runs compared


def comparison(
    title: str, study: Study, runs: pd.DataFrame, groups: Sequence[Group], score: str,
    warnings: Sequence[str], commands: Sequence[str],
) -> str:  # fmt: skip
    """The page of runs that `grouped` has put into groups and that `score` ranks.

    The last of the `commands` is the one that makes the report.
    """
    known = [group for group in groups if group.values(score)]
    keys, about = list(groups[0].settings), runs["about"]
    question = f"How does the {in_words(score)} depend on {' and '.join(keys)}?"
    seconds = np.nansum(runs["metrics"].get("fit_seconds", 0.0))
    return html(
        "comparison.html.j2",
        kind="study" if study.name else "comparison of runs",
        title=study.name.replace("_", " ").capitalize() or title,
        question=study.question or (question if keys else f"What {in_words(score)} does this setting reach?"),
        claim=study.claim,
        source=study.source,
        answer=answer(study, groups, score),
        numbers={
            "runs finished": f"{about['finished'].sum()} of {len(runs)}",
            "settings compared": f"{len(groups)}",
            "of training in all": str(datetime.timedelta(seconds=round(seconds))),
        },
        warnings=warnings,
        made_by="python scripts/report.py; summary.csv beside this page has a row for each run",
        study=study,
        score=in_words(score),
        num_groups=len(known),
        **(figures(study, known, score) if known else {}),
        groups=group_table(groups, [*study.metrics, *SCORES, *COSTS], score),
        common=common_overrides(comparable(runs), keys),
        has_folds=any(config.get("data.num_folds") for config in about["config"]),
        budgets=budget_table(known),
        commands=commands,
        versions=made_with(about["result"]),
    )


def figures(study: Study, groups: Sequence[Group], score: str) -> dict[str, Any]:
    """Final scores, heat maps of two settings, curves, figures side by side, chosen epochs, fitted power laws."""
    x, lines = axes_of(study, groups)
    by_number = groups[0].has_number(x) and len(groups) > 2 and (not lines or len(swept(groups, lines)) <= MOST_LINES)
    scored = groups if by_number else spread_out(groups, score, MOST_PLACES)
    names = measured(groups, study.metrics or (score, "val/acc", "gap/acc"))[:3]
    alt = f"Final scores: {', '.join(map(in_words, names))}, as in the table below"
    has_map = lines and 2 * len(groups) >= len(swept(groups, x)) * len(swept(groups, lines))
    drawn = spread_out([group for group in groups if group.lines("updates", "val/loss")], score, MOST_LINES)
    courses = [[name for name in course if any(group.lines("updates", name) for group in drawn)] for course in COURSES]
    file = f"figures/{Path(study.pictures).name}.png"
    pictures = {
        group.name: image(group.runs["about"]["folder"].iloc[0] / file, f"{study.pictures} of {group.name}")
        for group in groups[:MOST_PLACES]
    }
    return {
        "scores": as_svg(scores)(scored, names, *((x, lines) if by_number else ()), alt=alt),
        "num_scores": len(scored),
        "maps": [heat_map(groups, name, x, lines) for name in measured(groups, (score, "gap/acc"))] if has_map else [],
        "curves": [as_svg(curves)(drawn, names, alt=f"Curves of {', '.join(names)}") for names in courses if names],
        "num_curves": len(drawn),
        "pictures": {name: markup for name, markup in pictures.items() if markup},
        "chosen": chosen_epochs(groups),
        "laws": {
            fit: as_svg(power_law_plot)(fit, groups, alt=f"{in_words(fit.y)} over {fit.x} with a fitted line")
            for fit in study.fits
            if fit.law(groups)
        },
    }


def spread_out(groups: Sequence[Group], score: str, most: int) -> Sequence[Group]:
    """At most so many groups, the best and the worst among them, evenly spaced in rank, in their own order."""
    order = ranked(groups, score)
    kept = {order[round(place)].label for place in np.linspace(0, len(order) - 1, most if order else 0)}
    return [group for group in groups if group.label in kept]


# A single run


def run_page(run: pd.Series, metrics: dict[str, float], history: pd.DataFrame, warnings: list[str]) -> str:
    """Everything that a run folder says of its run; `run` is a row of the frame of runs, of the columns "about"."""
    folder, status, result, config = (run[name] for name in ("folder", "status", "result", "config"))
    names = [name for name in metrics if name not in result and "." not in name and np.isfinite(metrics[name])]
    known = {name: with_interval(mean_interval([metrics[name]]), name) for name in names}
    reached = [f"{in_words(name)} {known[name]}" for name in ("test/acc", "val/acc", "train/acc") if name in known]
    reason, error = result.get("stop_reason"), str(result.get("error") or "").strip()
    ended = f"The run is {status}{f' ({reason})' if reason else ''}"
    course, pngs = course_of(history, number(result.get("best_epoch"))), sorted((folder / "figures").glob("*.png"))
    pictures = {path.stem: image(path, path.stem) for path in pngs if not (course and path.stem == "learning_curves")}
    pictures["film"] = image(folder / "figures" / "decision_boundary.webp", "the decision boundary over training")
    facts = {key: value for key, value in result.items() if key not in TOLD_ELSEWHERE and value is not None}
    return html(
        "run.html.j2",
        kind="one run",
        title=folder.resolve().name,
        answer=[f"{ended}: {', '.join(reached)}." if reached else f"{ended}; it has no scores."],
        numbers={in_words(key): shown_value(metrics[key], key) for key in AT_A_GLANCE if key in result},
        warnings=[*([f"{status}: {error}"] if error else []), *warnings],
        made_by="python scripts/report.py",
        metrics={in_words(name): text for name, text in known.items()},
        curves=course,
        ends=[f"{shown_value(history[name].iloc[-1], name)} {in_words(name)}" for name in CLOCKS if name in history],
        figures={name: markup for name, markup in pictures.items() if markup},
        facts={key.replace("_", " ").replace(".", ", "): shown(value) for key, value in flat(facts).items()},
        data={key: shown(value) for key, value in config.items() if key.startswith("data.")},
        command=f"python {result.get('command', 'train.py')}",
        versions=made_with([result]),
        files={"Resolved config": end_of(folder / CONFIG, 10**6), "Log (its end)": end_of(folder / "train.log", 200)},
    )


def course_of(history: pd.DataFrame, best_epoch: float) -> str:
    """Its curves over the epochs as SVG; nothing without a history."""
    names = ["train/acc", "val/acc", "train/loss", "val/loss"]
    table = history.reindex(columns=list(dict.fromkeys([*history, "epoch", *names])))
    if table["epoch"].isna().any() or table[names].isna().all(axis=None):
        return ""
    rows: Any = table.to_dict("records")
    alt = "Accuracy and loss of training and validation by epoch"
    return as_svg(learning_curves)(rows, best_epoch=best_epoch if math.isfinite(best_epoch) else None, alt=alt)


def end_of(path: Path, most: int) -> str:
    """At most so many lines at the end of a text file; nothing where it cannot be read."""
    try:
        return "\n".join(read_text(path).rstrip().splitlines()[-most:])
    except ConfigError:
        return ""
