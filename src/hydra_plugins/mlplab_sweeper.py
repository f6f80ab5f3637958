"""Where Hydra finds the sweeper of `train.py -m`: it takes plugins from the package `hydra_plugins` only."""

from mlplab.sweeps import sweeper


class GridSweeper(sweeper.GridSweeper):
    """See there."""
