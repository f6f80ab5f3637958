"""The page that compares runs: the question, the answer, plots, tables, commands, versions."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from mlplab.figures.svg import MOST_LINES, Picture, as_svg
from mlplab.files import now
from mlplab.report.frames import Group, common_overrides
from mlplab.report.numbers import count, in_words, is_number, power_law, with_unit
from mlplab.report.page import Page, Section, image, made_with
from mlplab.report.plots import curves, power_law_plot, scores
from mlplab.report.study import Study, answer, axes_of, ranked, swept
from mlplab.report.tables import budget_table, chosen_epochs, group_table, heat_map, run_table

MOST_ROWS, MOST_CELLS, MOST_RUNS, MOST_COMMANDS = 30, 400, 300, 12
COURSES = ("val/acc", "train/acc", "gap/acc", "test/acc"), ("val/loss", "train/loss", "test/loss")
ABOUT_SCORES = "Large marks: means with 95 % intervals. Small dots: single runs. A gap is training − validation."
ABOUT_CURVES = (
    "Lines: means over the runs of a group. Bands: 95 % interval of the mean, cut at the edge of the plot; each ends "
    "where the group's shortest run ends. A gap is training − validation."
)
ABOUT_CHOSEN = (
    "These runs evaluated the test set at every validation, to compare; nothing was chosen by it, and result.json "
    "counts each look. “Best” is the best epoch of the same run by the test set's own loss or accuracy: without looking "
    "it is not to be had."
)


def comparison(
    title: str, study: Study, runs: pd.DataFrame, groups: Sequence[Group], score: str,
    *, warnings: Sequence[str], commands: Sequence[str], output: Path,
) -> Page:  # fmt: skip
    """The page of a set of runs that `grouped` has put into groups and that `score` ranks."""
    known = [group for group in groups if group.values(score)]
    keys = list(groups[0].settings)
    question = f"How does the {in_words(score)} depend on {' and '.join(keys[:4])}{' …' if keys[4:] else ''}?"
    return Page(
        kind="study" if study.name else "comparison of runs",
        title=study.name.replace("_", " ").capitalize() or title,
        question=study.question or (question if keys else f"What {in_words(score)} does this setting reach?"),
        claim=study.claim,
        source=study.source,
        answer=answer(study, groups, score),
        numbers=at_a_glance(runs, groups),
        warnings=warnings,
        sections=[
            *(final_scores(study, known, score) if known else ()),
            *(course(study, known, score) if known else ()),
            *tables(study, runs, groups, score),
            *again(runs, commands, output),
        ],
        score=in_words(score),
        made=f"Made {now()} by python scripts/report.py. summary.csv beside this page has a row for each run.",
    )


def at_a_glance(runs: pd.DataFrame, groups: Sequence[Group]) -> dict[str, str]:
    """A few numbers: how many runs finished, how many there are of each setting, and how long they took."""
    times = runs["metrics"].reindex(columns=["seconds", "fit_seconds"])
    seconds = times["seconds"].fillna(times["fit_seconds"]).sum()
    duration = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
    numbers = sorted({len(group.runs) for group in groups})
    return {
        "runs finished": f"{runs['about']['finished'].sum()} of {len(runs)}",
        "settings" if len(groups) != 1 else "setting": f"{len(groups)}",
        "runs for each setting": f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}",
        "of training in all": duration if seconds < 7200 else f"{seconds / 3600:.1f} h",
    }


def final_scores(study: Study, groups: Sequence[Group], score: str) -> Iterator[Section]:
    """The final scores by the swept values, and maps of two settings."""
    x, lines = axes_of(study, groups)
    names = measured(groups, study.metrics or (score, "val/acc", "gap/acc"))[:3]
    by_number = x in groups[0].numbers and len(groups) > 2 and (not lines or len(swept(groups, lines)) <= MOST_LINES)
    drawn, note = (groups, "") if by_number else spread_out(groups, score, MOST_ROWS)
    alt = f"Final scores of {count(len(groups), 'group')}: {', '.join(map(in_words, names))}, as in the table below"
    axes = (x, lines) if by_number else ()
    yield Section("Final scores", pictures=[picture(scores, drawn, names, *axes, alt=alt, caption=ABOUT_SCORES + note)])
    if lines:
        width, height = len(swept(groups, x)), len(swept(groups, lines))
        if min(width, height) > 1 and width * height / 2 <= len(groups) <= MOST_CELLS:  # else no grid, or one of holes
            maps = {with_unit(name): heat_map(groups, name, x, lines) for name in measured(groups, (score, "gap/acc"))}
            notes = [f"Mean of each pair of settings, ± half of its 95 % interval: {'; then '.join(maps)}."]
            yield Section("Both settings together", tables=list(maps.values()), notes=notes)


def course(study: Study, groups: Sequence[Group], score: str) -> Iterator[Section]:
    """What happened during training: curves, figures of the runs, chosen epochs, and fitted power laws."""
    drawn, note = spread_out([group for group in groups if group.lines("updates", "val/loss")], score, MOST_LINES)
    pictures = []
    for metrics in COURSES:
        if names := [name for name in metrics if any(group.lines("updates", name) for group in drawn)]:
            alt = f"Curves of {', '.join(map(in_words, names))} against updates, samples seen and seconds"
            pictures.append(picture(curves, drawn, names, alt=alt, caption=ABOUT_CURVES + note))
    yield Section("Over the course of training", pictures=pictures)
    pictures, name = [], study.pictures.replace("_", " ")
    for group in groups[:MOST_ROWS]:
        path = group.runs["about"]["folder"].iloc[0] / "figures" / f"{Path(study.pictures).name}.png"
        if markup := image(path, f"{name} of {group.label}"):
            pictures.append(Picture(markup, group.label))
    if pictures:
        notes = ["Of one run of each setting, at the end of training."]
        yield Section(f"{name.capitalize()} side by side", pictures=pictures, notes=notes, side_by_side=True)
    if table := chosen_epochs(groups):
        title = "The epoch chosen, and the one the test set would have chosen"
        yield Section(title, text=[ABOUT_CHOSEN], tables=[table])
    for fit in study.fits:
        points = fit.points(groups)
        if law := power_law(*points):
            slope, n = law[0].mean, law[0].n
            alt = f"{in_words(fit.y)} over {fit.x} on logarithmic axes with a fitted line of slope {slope:.3f}"
            caption = f"Linear regression of log {fit.y} on log {fit.x} over {count(n, 'run')}."
            drawn = picture(power_law_plot, *points, law, (fit.x, fit.y), alt=alt, caption=caption)
            yield Section("Fitted exponent", pictures=[drawn])


def tables(study: Study, runs: pd.DataFrame, groups: Sequence[Group], score: str) -> Iterator[Section]:
    """All groups, and the comparison at equal cost where costs differ."""
    notes = ["n: finished runs that differ in the seed or the fold only; ±: half of the 95 % interval of the mean."]
    if common := common_overrides(runs, list(groups[0].settings)):
        notes.append(f"All with {' '.join(common)}.")
    if repeated := sum(len(group.members) - len(group.unfinished) - len(group.runs) for group in groups):
        notes.append(f"{count(repeated, 'run')} with the seed of a later run of the same setting not counted again.")
    if any(is_number(config.get("data.num_folds")) for config in runs["about"]["config"]):
        notes.append("Folds share training samples: the intervals over them are a guide, narrower than the truth.")
    yield Section("All groups", tables=[group_table(groups, study.metrics, score)], notes=[" ".join(notes)])
    if table := budget_table([group for group in groups if group.values(score)]):
        notes = ["At each run's last validation within the budget; – where there was none yet."]
        yield Section("At equal budgets", tables=[table], notes=notes)


def again(runs: pd.DataFrame, commands: Sequence[str], output: Path) -> Iterator[Section]:
    """Every run, what to type for the same runs and the same report, and what they were made with."""
    if len(runs) <= MOST_RUNS:
        yield Section(f"Every run ({len(runs)})", tables=[run_table(runs, output)], folded=True)
    *of_runs, of_report = commands
    notes = [f"These are {MOST_COMMANDS} of {len(of_runs)} commands; all are in summary.csv."]
    code = ["\n".join([*of_runs[:MOST_COMMANDS], of_report])]
    yield Section("Do it again", code=code, notes=notes if len(of_runs) > MOST_COMMANDS else [])
    yield made_with("Versions and hardware", runs["about"]["result"])


def picture(draw: Callable[..., Figure], *arguments: Any, alt: str, caption: str) -> Picture:
    return Picture(as_svg(draw)(*arguments, alt=alt), caption)


def measured(groups: Sequence[Group], metrics: Sequence[str]) -> list[str]:
    """Those of the metrics that any group has, each once."""
    return [name for name in dict.fromkeys(metrics) if any(group.values(name) for group in groups)]


def spread_out(groups: Sequence[Group], score: str, most: int) -> tuple[list[Group], str]:
    """At most so many groups, the best and the worst among them, evenly spaced in rank, in their own order; a note."""
    if len(groups) <= most:
        return list(groups), ""
    order = ranked(groups, score)
    kept = [order[round(step * (len(groups) - 1) / (most - 1))].label for step in range(most)]
    note = f" Shown are {most} of {len(groups)} groups, evenly spaced from the best to the worst."
    return [group for group in groups if group.label in kept], note
