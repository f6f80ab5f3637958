"""The page that compares runs: the question, the answer, plots, tables, commands, versions."""

import math
from collections.abc import Sequence
from pathlib import Path

from mlplab.figures.style import MOST_LINES, Picture
from mlplab.files import now
from mlplab.report.answer import answer, points
from mlplab.report.chosen_epochs import stopping
from mlplab.report.curves import curves, has_curves
from mlplab.report.groups import Group, common_overrides, measured, swept
from mlplab.report.intervals import power_law
from mlplab.report.page import Page, Section
from mlplab.report.provenance import made_with, repeat
from mlplab.report.runs import Run
from mlplab.report.scores import heat_maps, power_law_plot, scores_by_label, scores_by_number
from mlplab.report.settings import alongside
from mlplab.report.side_by_side import side_by_side
from mlplab.report.study import Study, axes_of, question_of
from mlplab.report.tables import budget_table, group_table, run_table, statuses
from mlplab.report.words import count, in_words, smaller_is_better

MOST_ROWS, MOST_CELLS, MOST_RUNS, MOST_NAMED = 30, 400, 300, 20


def comparison(
    *, title: str, study: Study, runs: Sequence[Run], groups: Sequence[Group], score: str, skipped: Sequence[str],
    command: str, output: Path, missing: int, folders: Sequence[Path],
) -> Page:  # fmt: skip
    """The page of a set of runs that `grouped` has put into groups and that `score` ranks."""
    known = [group for group in groups if group.interval(score).n]
    sections = []
    if known:
        sections = [scores_section(study, known, score), two_settings(study, known, score), course(known, score)]
        sections += [side_by_side(study.pictures, known), stopping(known), fits(study, known)]
    sections += [
        Section("All groups", tables=[group_table(groups, study.metrics, score)], notes=[table_note(runs, groups)]),
        budgets(known),
        every_run(runs, groups, output),
        repeat(command, runs, folders),
        made_with(runs),
        method(score),
    ]
    return Page(
        kind="study" if study.name else "comparison of runs",
        title=study.name.replace("_", " ").capitalize() if study.name else title,
        question=question_of(study, groups, score),
        claim=study.claim,
        source=study.source,
        answer=answer(study, groups, score),
        numbers=at_a_glance(runs, groups),
        warnings=[*warnings(runs, skipped, missing), *confounded(runs, groups)],
        sections=[section for section in sections if section],
        made=f"Made {now()} by python scripts/report.py. summary.csv beside this page has a row for each run.",
    )


def at_a_glance(runs: Sequence[Run], groups: Sequence[Group]) -> dict[str, str]:
    finished = [run for run in runs if run.finished]
    known = ([measured(run, name) for name in ("seconds", "fit_seconds")] for run in runs)
    seconds = sum(next(filter(math.isfinite, values), 0.0) for values in known)
    duration = (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )
    numbers = sorted({len(group.runs) for group in groups})
    repetitions = f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
    return {
        "runs finished": f"{len(finished)} of {len(runs)}",
        "settings" if len(groups) != 1 else "setting": f"{len(groups)}",
        "runs for each setting": repetitions,
        "of training in all": duration,
    }


def warnings(runs: Sequence[Run], skipped: Sequence[str], missing: int) -> list[str]:
    """What a reader must know before believing the numbers: runs that failed, did not start, or could not be read."""
    unfinished = [run for run in runs if not run.finished]
    lines = []
    if len(unfinished) == len(runs):
        lines.append("No run finished.")
    lines += [unfinished_line(run) for run in unfinished[:MOST_NAMED]]
    if len(unfinished) > MOST_NAMED:
        lines.append(
            f"… and {count(len(unfinished) - MOST_NAMED, 'run')} more, see summary.csv: {statuses(unfinished)}"
        )
    if missing > 0:
        lines.append(f"{count(missing, 'job')} of the sweep {'has' if missing == 1 else 'have'} not started.")
    return lines + [f"left out: {line}" for line in skipped]


def confounded(runs: Sequence[Run], groups: Sequence[Group]) -> list[str]:
    """A line on settings that were changed together with those compared, where there are any."""
    keys = alongside(runs, list(groups[0].settings))
    return [f"{', '.join(keys)} differ{'s' if len(keys) == 1 else ''} too, always together with the settings compared: "
            "what made the difference cannot be told."] if keys else []  # fmt: skip


def unfinished_line(run: Run) -> str:
    """ "diverged: <folder>: the loss of update 12 …"."""
    error = str(run.result.get("error") or "").strip().removeprefix(f"{run.status}: ")
    return f"{run.status}: {run.folder}" + (f": {error.splitlines()[0][:200]}" if error else "")


def scores_section(study: Study, groups: Sequence[Group], score: str) -> Section:
    """The final scores by the swept values."""
    metrics = [name for name in study.metrics or (score, "val/acc", "gap/acc") if any(g.values(name) for g in groups)]
    metrics = list(dict.fromkeys(metrics))[:3]
    x, lines = axes_of(study, groups)
    alt = f"Final scores of {count(len(groups), 'group')}: {', '.join(map(in_words, metrics))}, as in the table below"
    caption = "Large marks: means with 95 % intervals. Small dots: single runs."
    if x and len(groups) > 2 and all(x in group.numbers for group in groups) and (
        lines is None or len(swept(groups, lines)) <= MOST_LINES
    ):  # fmt: skip
        return Section(
            "Final scores", pictures=[Picture(scores_by_number(groups, metrics, x, lines, alt=alt), caption)]
        )
    drawn = spread_out(groups, score, MOST_ROWS)
    caption += chosen_note(drawn, groups)
    return Section("Final scores", pictures=[Picture(scores_by_label(drawn, metrics, alt=alt), caption)])


def two_settings(study: Study, groups: Sequence[Group], score: str) -> Section | None:
    """Heat maps, where two settings were swept."""
    x, y = axes_of(study, groups)
    if x is None or y is None:
        return None
    cells = len(swept(groups, x)) * len(swept(groups, y))
    if min(len(swept(groups, x)), len(swept(groups, y))) < 2 or not cells / 2 <= len(groups) <= MOST_CELLS:
        return None  # no grid, or one of holes
    metrics = [name for name in dict.fromkeys([score, "gap/acc"]) if any(group.values(name) for group in groups)]
    alt = f"Heat maps of {' and '.join(map(in_words, metrics))} over {x} and {y}, as in the table below"
    caption = "Mean of each pair of settings, ± half of its 95 % interval."
    return Section("Both settings together", pictures=[Picture(heat_maps(groups, metrics, x, y, alt=alt), caption)])


def course(groups: Sequence[Group], score: str) -> Section | None:
    """Training and validation over the course of training."""
    drawn = spread_out([group for group in groups if has_curves([group], "val/loss")], score, MOST_LINES)
    pictures = []
    for metrics in (("val/acc", "train/acc", "gap/acc", "test/acc"), ("val/loss", "train/loss", "test/loss")):
        there = [metric for metric in metrics if has_curves(drawn, metric)]
        if there:
            alt = f"Curves of {', '.join(map(in_words, there))} against updates, samples seen and seconds"
            caption = (
                "Lines: means over the runs of a group. Bands: 95 % interval of the mean, cut at the edge of the plot; "
                "each ends where the group's shortest run ends." + chosen_note(drawn, groups)
            )
            pictures.append(Picture(curves(drawn, there, alt=alt), caption))
    return Section("Over the course of training", pictures=pictures) if pictures else None


def spread_out(groups: Sequence[Group], score: str, most: int) -> list[Group]:
    """At most so many groups, the best and the worst among them, evenly spaced in rank, in their own order."""
    if len(groups) <= most:
        return list(groups)
    ranked = sorted(
        range(len(groups)), key=lambda index: groups[index].interval(score).mean, reverse=not smaller_is_better(score)
    )
    places = sorted({ranked[round(step * (len(groups) - 1) / (most - 1))] for step in range(most)})
    return [groups[place] for place in places]


def chosen_note(drawn: Sequence[Group], groups: Sequence[Group]) -> str:
    if len(drawn) == len(groups):
        return ""
    return f" Shown are {len(drawn)} of {len(groups)} groups, evenly spaced from the best to the worst."


def fits(study: Study, groups: Sequence[Group]) -> Section | None:
    """The power laws of the study with their points."""
    pictures = []
    for fit in study.fits:
        x, y = points(fit, groups)
        law = power_law(x, y)
        if law is not None:
            alt = f"{in_words(fit.y)} over {fit.x} on logarithmic axes with a fitted line of slope {law.exponent:.3f}"
            caption = f"Linear regression of log {fit.y} on log {fit.x} over {count(law.n, 'run')}."
            pictures.append(Picture(power_law_plot(x, y, law, (fit.y, fit.x), alt=alt), caption))
    return Section("Fitted exponent", pictures=pictures) if pictures else None


def table_note(runs: Sequence[Run], groups: Sequence[Group]) -> str:
    """What n counts, and what was left out of it."""
    notes = ["n: finished runs that differ in the seed or the fold only; ±: half of the 95 % interval of the mean."]
    if common := common_overrides(runs, groups):
        notes.append(f"All with {' '.join(common)}.")
    if repeated := sum(len(group.repeated) for group in groups):
        notes.append(f"{count(repeated, 'run')} with the seed of a later run of the same setting not counted again.")
    if any(run.config.get("data.num_folds") for run in runs):
        notes.append("Folds share training samples: the intervals over them are a guide, narrower than the truth.")
    return " ".join(notes)


def budgets(groups: Sequence[Group]) -> Section | None:
    """The comparison at equal cost, where costs differ."""
    table = budget_table(groups)
    if table is None:
        return None
    notes = ["At each run's last validation within the budget; – where there was none yet."]
    return Section("At equal budgets", tables=[table], notes=notes)


def every_run(runs: Sequence[Run], groups: Sequence[Group], output: Path) -> Section | None:
    if len(runs) > MOST_RUNS:
        return None
    return Section(f"Every run ({len(runs)})", tables=[run_table(runs, groups, output)], folded=True)


def method(score: str) -> Section:
    """How the numbers are made, for who wants to check them."""
    which = (
        "The score is the test accuracy of each run's best checkpoint by validation; every finished run has one."
        if score == "test/acc"
        else f"The score is the {in_words(score)} at the end of training; test scores decide where all runs have them."
    )
    return Section(
        "How to read this",
        text=[
            which,
            "Intervals are those of Student's t for the mean of the runs: if the experiment were repeated with other "
            "seeds, 95 of 100 such intervals would hold the true mean. They may reach beyond 100 %. "
            "They say nothing of other data sets.",
            "Two groups are compared by Welch's interval of their difference. It is not corrected for having picked "
            "the best of several groups: the more groups, the likelier that the best was lucky.",
        ],
        folded=True,
    )  # fmt: skip
