"""The page that compares runs: the question, the answer, plots, tables, commands, versions."""

import datetime
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from mlplab.figures.svg import MOST_LINES, Picture, as_svg
from mlplab.files import now
from mlplab.report.frames import Group, common_overrides
from mlplab.report.numbers import count, in_words, is_number, power_law
from mlplab.report.page import Page, Section, image, made_with
from mlplab.report.plots import curves, power_law_plot, scores
from mlplab.report.study import Study, answer, axes_of, ranked, swept
from mlplab.report.tables import budget_table, chosen_epochs, group_table, heat_map, measured, run_table

MOST_ROWS, MOST_CELLS, MOST_RUNS = 30, 400, 300
COURSES = ("val/acc", "train/acc", "gap/acc", "test/acc"), ("val/loss", "train/loss", "test/loss")


def comparison(
    title: str, study: Study, runs: pd.DataFrame, groups: Sequence[Group], score: str,
    *, warnings: Sequence[str], again: Section, rows: pd.DataFrame,
) -> Page:  # fmt: skip
    """The page of a set of runs that `grouped` has put into groups and that `score` ranks, with `rows` as summary."""
    keys, numbers = " and ".join(groups[0].settings), sorted({len(group.runs) for group in groups})
    question = f"How does the {in_words(score)} depend on {keys}?" if keys else f"What {in_words(score)} is reached?"
    times = runs["metrics"].reindex(columns=["seconds", "fit_seconds"])
    seconds = float(times["seconds"].fillna(times["fit_seconds"]).sum())
    at_a_glance = {
        "runs finished": f"{runs['about']['finished'].sum()} of {len(runs)}",
        "settings" if len(groups) != 1 else "setting": f"{len(groups)}",
        "runs for each setting": f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}",
        "hours of training in all": str(datetime.timedelta(seconds=round(seconds))),
    }
    known = [group for group in groups if group.values(score)]
    return Page(
        kind="study" if study.name else "comparison of runs",
        title=study.name.replace("_", " ").capitalize() or title,
        question=study.question or question,
        claim=study.claim,
        source=study.source,
        answer=answer(study, groups, score),
        numbers=at_a_glance,
        warnings=warnings,
        sections=[*(figures(study, known, score) if known else ()), *tables(study, runs, groups, score, rows), again],
        score=in_words(score),
        made=f"Made {now()} by python scripts/report.py. summary.csv beside this page has a row for each run.",
    )


def figures(study: Study, groups: Sequence[Group], score: str) -> Iterator[Section]:
    """Final scores, heat maps of two settings, curves, figures side by side, chosen epochs, fitted power laws."""
    x, lines = axes_of(study, groups)
    names = measured(groups, study.metrics or (score, "val/acc", "gap/acc"))[:3]
    by_number = x in groups[0].numbers and len(groups) > 2 and (not lines or len(swept(groups, lines)) <= MOST_LINES)
    drawn, note = (groups, "") if by_number else spread_out(groups, score, MOST_ROWS)
    alt = f"Final scores of {count(len(groups), 'group')}: {', '.join(map(in_words, names))}, as in the table below"
    caption = f"Large marks: means with 95 % intervals. Small dots: single runs. A gap is training − validation.{note}"
    axes = (x, lines) if by_number else ()
    yield Section("Final scores", pictures=[picture(scores, drawn, names, *axes, alt=alt, caption=caption)])
    if lines and len(groups) <= MOST_CELLS and 2 * len(groups) >= len(swept(groups, x)) * len(swept(groups, lines)):
        maps = [heat_map(groups, name, x, lines) for name in measured(groups, (score, "gap/acc"))]
        notes = ["Means of each pair of settings, ± half of its 95 % interval; – where no run finished."]
        yield Section("Both settings together", tables=maps, notes=notes)
    drawn, note = spread_out([group for group in groups if group.lines("updates", "val/loss")], score, MOST_LINES)
    caption = (
        "Lines: means over the runs of a group. Bands: 95 % interval of the mean, cut at the edge of the plot; each ends "
        f"where the group's shortest run ends.{note}"
    )
    pictures = []
    for course in COURSES:
        if names := [name for name in course if any(group.lines("updates", name) for group in drawn)]:
            alt = f"Curves of {', '.join(map(in_words, names))} against updates, samples seen and seconds"
            pictures.append(picture(curves, drawn, names, alt=alt, caption=caption))
    yield Section("Over the course of training", pictures=pictures)
    file, name = f"figures/{Path(study.pictures).name}.png", study.pictures.replace("_", " ")
    paths = {group.label: group.runs["about"]["folder"].iloc[0] / file for group in groups[:MOST_ROWS]}
    images = {label: image(path, f"{name} of {label}") for label, path in paths.items()}
    pictures = [Picture(markup, label) for label, markup in images.items() if markup]
    notes = ["Of one run of each setting, at the end of training."]
    yield Section(f"{name.capitalize()} side by side", pictures=pictures, notes=notes, side_by_side=True)
    notes = [
        "These runs evaluated the test set at every validation, to compare; nothing was chosen by it, and result.json "
        "counts each look. “Best” is the best epoch of the same run by the test set's own loss or accuracy: without "
        "looking it is not to be had."
    ]
    title = "The epoch chosen, and the one the test set would have chosen"
    yield Section(title, tables=chosen_epochs(groups), notes=notes)
    for fit in study.fits:
        points = fit.points(groups)
        if law := power_law(*points):
            alt = f"{in_words(fit.y)} over {fit.x} on logarithmic axes with a line of slope {law[0].mean:.3f}"
            caption = f"Linear regression of log {fit.y} on log {fit.x} over {count(law[0].n, 'run')}."
            drawn = picture(power_law_plot, *points, law, (fit.x, fit.y), alt=alt, caption=caption)
            yield Section("Fitted exponent", pictures=[drawn])


def tables(
    study: Study, runs: pd.DataFrame, groups: Sequence[Group], score: str, rows: pd.DataFrame
) -> Iterator[Section]:
    """All groups, the comparison at equal cost where costs differ, every run, and what they were made with."""
    notes = ["n: finished runs that differ in the seed or the fold only; ±: half of the 95 % interval of the mean."]
    if common := common_overrides(runs, list(groups[0].settings)):
        notes.append(f"All with {' '.join(common)}.")
    if repeated := sum(len(group.members) - len(group.unfinished) - len(group.runs) for group in groups):
        notes.append(f"{count(repeated, 'run')} with the seed of a later run of the same setting not counted again.")
    if any(is_number(config.get("data.num_folds")) for config in runs["about"]["config"]):
        notes.append("Folds share training samples: the intervals over them are a guide, narrower than the truth.")
    yield Section("All groups", tables=[group_table(groups, study.metrics, score)], notes=[" ".join(notes)])
    notes = ["At each run's last validation within the budget; – where there was none yet."]
    yield Section(
        "At equal budgets", tables=budget_table([group for group in groups if group.values(score)]), notes=notes
    )
    if len(runs) <= MOST_RUNS:
        yield Section(f"Every run ({len(runs)})", tables=[run_table(rows)], folded=True)
    yield made_with("Versions and hardware", runs["about"]["result"])


def picture(draw: Callable[..., Figure], *arguments: Any, alt: str, caption: str) -> Picture:
    return Picture(as_svg(draw)(*arguments, alt=alt), caption)


def spread_out(groups: Sequence[Group], score: str, most: int) -> tuple[Sequence[Group], str]:
    """At most so many groups, the best and the worst among them, evenly spaced in rank, in their own order; a note."""
    if len(groups) <= most:
        return groups, ""
    order = ranked(groups, score)
    kept = [order[round(step * (len(groups) - 1) / (most - 1))].label for step in range(most)]
    note = f" Shown are {most} of {len(groups)} groups, evenly spaced from the best to the worst."
    return [group for group in groups if group.label in kept], note
