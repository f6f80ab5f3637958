"""The page that compares runs: the answer, plots, tables, commands, versions; what it says of them is a template."""

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mlplab.figures.style import MOST_LINES, as_svg
from mlplab.files import now
from mlplab.report.frames import Group, common_overrides
from mlplab.report.numbers import count, in_words, power_law
from mlplab.report.page import Page, image, made_with
from mlplab.report.plots import curves, power_law_plot, scores
from mlplab.report.study import Study, answer, axes_of, ranked, swept
from mlplab.report.tables import budget_table, chosen_epochs, group_table, heat_map, measured, run_table

MOST_ROWS, MOST_CELLS = 30, 400
COURSES = ("val/acc", "train/acc", "gap/acc", "test/acc"), ("val/loss", "train/loss", "test/loss")


def comparison(
    title: str, study: Study, runs: pd.DataFrame, groups: Sequence[Group], score: str, rows: pd.DataFrame,
    warnings: Sequence[str], commands: Sequence[str],
) -> str:  # fmt: skip
    """The page of runs that `grouped` has put into groups and that `score` ranks, with their `rows` of the summary.

    The last of the `commands` is the one that makes the report.
    """
    known = [group for group in groups if group.values(score)]
    keys, numbers = list(groups[0].settings), sorted({len(group.runs) for group in groups})
    question = f"How does the {in_words(score)} depend on {' and '.join(keys[:4])}{' …' if keys[4:] else ''}?"
    times = runs["metrics"].reindex(columns=["seconds", "fit_seconds"])
    seconds = float(times["seconds"].fillna(times["fit_seconds"]).sum())
    page = Page(
        kind="study" if study.name else "comparison of runs",
        title=study.name.replace("_", " ").capitalize() or title,
        question=study.question or (question if keys else f"What {in_words(score)} does this setting reach?"),
        claim=study.claim,
        source=study.source,
        answer=answer(study, groups, score),
        numbers={
            "runs finished": f"{runs['about']['finished'].sum()} of {len(runs)}",
            "settings" if len(groups) != 1 else "setting": f"{len(groups)}",
            "runs for each setting": f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}",
            "of training in all": str(datetime.timedelta(seconds=round(seconds))),
        },
        warnings=warnings,
        made=f"Made {now()} by python scripts/report.py. summary.csv beside this page has a row for each run.",
    )
    return page.html(
        "comparison.html.j2",
        study=study, score=in_words(score), num_groups=len(known), **figures(study, known, score),
        groups=group_table(groups, study.metrics, score), common=common_overrides(runs, keys),
        num_repeated=sum(len(group.members) - len(group.unfinished) - len(group.runs) for group in groups),
        has_folds=any(config.get("data.num_folds") for config in runs["about"]["config"]),
        budgets=budget_table(known), runs=run_table(rows), commands=commands,
        versions=made_with(runs["about"]["result"]),
    )  # fmt: skip


def figures(study: Study, groups: Sequence[Group], score: str) -> dict[str, Any]:
    """Final scores, heat maps of two settings, curves, figures side by side, chosen epochs, fitted power laws."""
    if not groups:
        return {name: {} for name in ("scores", "maps", "curves", "pictures", "chosen", "laws")}
    x, lines = axes_of(study, groups)
    by_number = x in groups[0].numbers and len(groups) > 2 and (not lines or len(swept(groups, lines)) <= MOST_LINES)
    scored = groups if by_number else spread_out(groups, score, MOST_ROWS)
    names = measured(groups, study.metrics or (score, "val/acc", "gap/acc"))[:3]
    alt = f"Final scores of {count(len(groups), 'group')}: {', '.join(map(in_words, names))}, as in the table below"
    maps = lines and len(groups) <= MOST_CELLS and 2 * len(groups) >= len(swept(groups, x)) * len(swept(groups, lines))
    drawn = spread_out([group for group in groups if group.lines("updates", "val/loss")], score, MOST_LINES)
    courses = [[name for name in course if any(group.lines("updates", name) for group in drawn)] for course in COURSES]
    file = f"figures/{Path(study.pictures).name}.png"
    pictures = {
        group.label: image(group.runs["about"]["folder"].iloc[0] / file, f"{study.pictures} of {group.label}")
        for group in groups[:MOST_ROWS]
    }
    return {
        "scores": as_svg(scores)(scored, names, *((x, lines) if by_number else ()), alt=alt),
        "num_scores": len(scored),
        "maps": [heat_map(groups, name, x, lines) for name in measured(groups, (score, "gap/acc"))] if maps else [],
        "curves": [as_svg(curves)(drawn, names, alt=f"Curves of {', '.join(names)}") for names in courses if names],
        "num_curves": len(drawn),
        "pictures": {label: markup for label, markup in pictures.items() if markup},
        "chosen": chosen_epochs(groups),
        "laws": {
            fit: as_svg(power_law_plot)(fit, groups, alt=f"{in_words(fit.y)} over {fit.x} with a fitted line")
            for fit in study.fits
            if power_law(*fit.points(groups))
        },
    }


def spread_out(groups: Sequence[Group], score: str, most: int) -> Sequence[Group]:
    """At most so many groups, the best and the worst among them, evenly spaced in rank, in their own order."""
    order, last = ranked(groups, score), len(groups) - 1
    kept = [order[round(step * last / (most - 1))].label for step in range(most)] if last >= most else ()
    return [group for group in groups if group.label in kept] if kept else groups
