"""What a config says of a key, as plain data."""

from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf


def select(config: DictConfig, key: str, default: Any = None) -> Any:
    """The plain value at a dotted key, or `default` where there is none."""
    value = OmegaConf.select(config, key, default=default, throw_on_missing=False)
    return OmegaConf.to_container(value) if isinstance(value, DictConfig | ListConfig) else value


def has_folds(config: DictConfig) -> bool:
    """Whether the run is one of a cross-validation."""
    return select(config, "data.num_folds") is not None


def has_validation(config: DictConfig) -> bool:
    """Whether some samples are set apart for validation."""
    return has_folds(config) or bool(select(config, "data.val_fraction"))
