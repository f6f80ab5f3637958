"""Learning-rate schedules: the factor on the base learning rate at every update.

A schedule is called with the number of updates done and the planned total, and gives a factor ≥ 0. All but `Plateau`
are pure functions of these two numbers, so a resumed run continues them exactly, with nothing to restore.
`warmup` is the fraction of the total, in [0, 1), over which the factor first rises linearly from near 0.
"""

import math
from collections.abc import Sequence
from typing import Any


def constant(update: int, total: int, *, warmup: float = 0.0) -> float:
    """1 throughout, after the warm-up."""
    rise, _ = _after_warmup(update, total, warmup)
    return rise


def step(update: int, total: int, *, milestones: Sequence[float], gamma: float = 0.1, warmup: float = 0.0) -> float:
    """Multiplied by `gamma` at each of the `milestones`, which are fractions of what follows the warm-up."""
    rise, progress = _after_warmup(update, total, warmup)
    return rise * gamma ** sum(progress >= milestone for milestone in milestones)


def linear(update: int, total: int, *, final: float = 0.0, warmup: float = 0.0) -> float:
    """A straight line from 1 down to `final`."""
    rise, progress = _after_warmup(update, total, warmup)
    return rise * (1 - (1 - final) * progress)


def cosine(update: int, total: int, *, final: float = 0.0, warmup: float = 0.0) -> float:
    """Half a cosine from 1 down to `final` (Loshchilov & Hutter 2017, without restarts)."""
    rise, progress = _after_warmup(update, total, warmup)
    return rise * _half_cosine(1.0, final, progress)


def one_cycle(update: int, total: int, *, start: float = 0.04, final: float = 0.0, warmup: float = 0.3) -> float:
    """Up from `start` to 1 during the warm-up, then down to `final`, both along a cosine (Smith & Topin 2018).

    Deviation from the paper: the momentum stays constant.
    """
    rising = warmup * total
    if update < rising:
        return _half_cosine(start, 1.0, update / rising)
    return _half_cosine(1.0, final, min(1.0, (update - rising) / (total - rising)))


class Plateau:
    """Multiply by `gamma` when the monitored validation metric has not improved for more than `patience` validations.

    `mode` says whether the metric should become large ("max") or small ("min").
    """

    def __init__(self, *, gamma: float = 0.1, patience: int = 5, mode: str = "max", warmup: float = 0.0) -> None:
        self.gamma, self.patience, self.mode, self.warmup = gamma, patience, mode, warmup
        self.factor, self.best, self.waited = 1.0, -math.inf if mode == "max" else math.inf, 0

    def __call__(self, update: int, total: int) -> float:
        rise, _ = _after_warmup(update, total, self.warmup)
        return rise * self.factor

    def observe(self, metric: float) -> None:
        """Take note of one validation's metric, and lower the factor when it is time."""
        if (metric > self.best) if self.mode == "max" else (metric < self.best):
            self.best, self.waited = metric, 0
            return
        self.waited += 1
        if self.waited > self.patience:
            self.factor, self.waited = self.factor * self.gamma, 0

    def state_dict(self) -> dict[str, Any]:
        return {"factor": self.factor, "best": self.best, "waited": self.waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.factor, self.best, self.waited = state["factor"], state["best"], state["waited"]


def _after_warmup(update: int, total: int, warmup: float) -> tuple[float, float]:
    """The warm-up's factor in (0, 1], and the progress in [0, 1] of what follows the warm-up."""
    rising = round(warmup * total)
    if update < rising:
        return (update + 1) / (rising + 1), 0.0
    return 1.0, min(1.0, (update - rising) / max(1, total - rising))


def _half_cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2
