"""The pictures of the README, made anew: `python scripts/gallery.py` trains what they show, which takes minutes."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageOps

from mlplab.figures.style import STYLE
from mlplab.report.frames import Group, grouped, read, read_sweep
from mlplab.report.plots import curves

ROOT = Path(__file__).parents[1]
GALLERY, RUNS, SWEEPS = (ROOT / "outputs" / name for name in ("gallery", "train", "sweeps"))
TRAINED = (
    "name=gallery-spirals data=spirals model=mlp_sequential model.hidden_sizes=[64,64] optimizer=adam "
    "optimizer.lr=0.002 trainer.max_epochs=60 callbacks.figures.every=3 callbacks.figures.dpi=80",
    "name=gallery-moons data=moons data.num_samples=300 data.noise=0.25 data.label_noise=0.1 "
    "model=mlp_sequential model.hidden_sizes=[128,128] optimizer=adam optimizer.lr=0.01 trainer.max_epochs=150",
    "name=gallery-digits data=digits model.hidden_sizes=[64,32] regularization=dropout "
    "optimizer=adam optimizer.lr=0.005 trainer.max_epochs=20 callbacks.layers.every=2 callbacks.figures.dpi=80",
    "study=batching",
    "study=overfitting",
)
COPIED = {
    "spirals.webp": "gallery-spirals/figures/decision_boundary.webp",
    "overfitting.png": "gallery-moons/figures/learning_curves.png",
    "mistakes.png": "gallery-digits/figures/extremes.png",
    "layers.png": "gallery-digits/figures/layers.png",
}
HEIGHT, TITLE = 330, 30  # pixels of a figure in a row, and of what stands above it


def main() -> None:
    for folder in RUNS.glob("gallery-*"):
        shutil.rmtree(folder)
    for overrides in TRAINED:
        subprocess.run([sys.executable, "train.py", *overrides.split()], cwd=ROOT, check=True)
    for picture, figure in COPIED.items():
        shutil.copy(RUNS / figure, GALLERY / picture)
    save_curves(SWEEPS / "batching", GALLERY / "batching.png", metrics=["val/loss"])
    save_row(SWEEPS / "overfitting", GALLERY / "capacity.png", figure="decision_boundary")


def groups_of(sweep: Path) -> list[Group]:
    """The groups of a sweep that finished, in the order of its report."""
    runs, histories, _ = read([sweep])
    study = read_sweep(sweep).get("study", {})
    first = [study[name] for name in ("x", "group") if study.get(name)]
    return [group for group in grouped(runs, histories, first=first) if len(group.runs)]


def save_curves(sweep: Path, output: Path, *, metrics: Sequence[str]) -> None:
    """The report's curves of some metrics against updates, samples seen and seconds."""
    with matplotlib.rc_context({**STYLE, "svg.fonttype": "path"}):
        curves(groups_of(sweep), metrics).savefig(output, dpi=80)
    Image.open(output).convert("RGB").quantize(256).save(output, optimize=True)


def save_row(sweep: Path, output: Path, *, figure: str) -> None:
    """One figure of the first run of each group, side by side, below the group's name."""
    row = []
    for group in groups_of(sweep):
        image = Image.open(group.runs["about"]["folder"].iloc[0] / "figures" / f"{figure}.png").convert("RGB")
        image = image.resize((round(image.width * HEIGHT / image.height), HEIGHT))
        titled = ImageOps.expand(image, (0, TITLE, 0, 0), fill="white")
        middle = image.width / 2, TITLE / 2
        ImageDraw.Draw(titled).text(middle, group.name, fill="black", anchor="mm", font_size=18)
        row.append(np.asarray(titled))
    Image.fromarray(np.hstack(row)).quantize(256).save(output, optimize=True)  # a third of the room


if __name__ == "__main__":
    main()
