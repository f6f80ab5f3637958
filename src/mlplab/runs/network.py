"""A network before it is trained: whether it fits the data, and in what numbers it computes."""

import logging
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.plugins.precision import Precision
from torch import Tensor, nn
from torch.optim import Optimizer

from mlplab.callbacks.base import evaluating
from mlplab.config.targets import raised
from mlplab.errors import ConfigError

log = logging.getLogger(__name__)

PRECISIONS = {"64-true": torch.float64, 64: torch.float64, "bf16-true": torch.bfloat16, "16-true": torch.float16}
"""Values of trainer.precision that make the weights other numbers than float32."""


def check_images(options: Mapping[Any, Any], shape: tuple[int, ...]) -> None:
    """Raise ConfigError where the `options` of a network are for square images, and features have another shape."""
    is_square = len(shape) == 3 and shape[0] in (1, 3) and shape[1] == shape[2]
    for key in ("gabor_filters", "cosine_transform"):
        is_whole = key == "cosine_transform" and options.get(key) is True  # of images of any size
        if options.get(key) and not is_whole and not is_square:
            raise ConfigError(
                f"model.{key}={str(options[key]).lower()} needs square images, grey or of three colours, and features "
                f"here have the shape {shape}; set it to false"
            )


def check_outputs(network: nn.Module, data: Any) -> None:
    """Raise ConfigError where a network has no weights, or not a column for each class, or one or two for two classes.

    It computes on a few samples of zeros, without training, and without a trace in the streams of random numbers.
    """
    if not list(network.parameters()):
        raise ConfigError("model: it has no weights; layers are found in an nn.ModuleList, not in a list of Python")
    widths = (1, 2) if data.num_classes == 2 else (data.num_classes,)
    samples = torch.zeros(max(widths) + 1, *data.feature_shape)  # so many that rows cannot be taken for columns
    try:
        with evaluating(network), torch.random.fork_rng(devices=[]):
            logits = network(samples)
    except Exception as error:  # whatever the user's own code raises
        raise ConfigError(f"model: it fails on features of shape {tuple(samples.shape)}: {raised(error)}") from error
    shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    needed = [(len(samples), width) for width in widths]
    if shape not in needed:
        raise ConfigError(
            f"model: its outputs for {len(samples)} samples of {data.num_classes} classes have the shape {shape}, "
            f"and must have {' or '.join(map(str, needed))}: (samples, outputs)"
        )
    if shape[1] > 1 and bool((logits >= 0).all()) and bool(((logits.sum(dim=1) - 1).abs() < 1e-3).all()):
        log.warning(
            "model: its outputs look like probabilities; the loss takes logits: leave out the softmax at its end"
        )


def check_loss(network: nn.Module, loss: Any, data: Any) -> None:
    """Raise ConfigError where what is to be minimised is not one number that the weights decide.

    It is computed on a few samples of zeros, as in training. Buffers, such as running statistics, and the streams of
    random numbers are as before afterwards.
    """
    samples, title = torch.zeros(data.num_classes + 1, *data.feature_shape), type(loss).__name__
    labels, both, part = torch.arange(len(samples)) % data.num_classes, nn.ModuleList([network, loss]), "model"
    before = {name: buffer.clone() for name, buffer in both.named_buffers()}
    try:
        with torch.random.fork_rng(devices=[]):
            logits = network(samples)
            part = "loss"
            value = loss(logits, labels)
            shares = loss.probabilities(logits.detach()) if hasattr(loss, "probabilities") else None
    except Exception as error:  # whatever the user's own code raises
        raise ConfigError(f"{part}: it fails in training, on {len(samples)} samples: {raised(error)}") from error
    finally:
        with torch.no_grad():
            for name, buffer in both.named_buffers():
                buffer.copy_(before.get(name, buffer))
    if not isinstance(value, Tensor) or value.shape or not value.is_floating_point():
        raise ConfigError(f"loss: {title} must give the mean over a batch, one real number (), got {value!r:.80}")
    if not value.requires_grad:
        raise ConfigError("model: no weight decides its outputs: all are frozen, or the outputs are detached from them")
    if not isinstance(shares, Tensor) or shares.shape != (len(samples), data.num_classes):
        raise ConfigError(
            f"loss: {title} must have a method probabilities(logits) that gives those of all classes "
            f"({len(samples)}, {data.num_classes}), which prediction needs; see src/mlplab/models/losses.py"
        )


def number_type(config: Mapping[Any, Any]) -> torch.dtype:
    """The type of the weights, as trainer.precision asks for it; float32 also where FSDP sees to it."""
    options = config["trainer"]
    own = torch.float32 if options.get("strategy") == "fsdp" else PRECISIONS.get(options.get("precision"))
    return own or torch.float32


def computing_as(config: Mapping[Any, Any], network: nn.Module) -> nn.Module:
    """The network with the weights that trainer.precision asks for; it takes float32 features.

    Its logits are float32 at least, so that losses are not rounded. Lightning would also convert features that are not
    normalized yet, and what is summed up over an epoch.
    """
    dtype = number_type(config)
    if dtype != torch.float32:
        network.to(dtype).register_forward_pre_hook(lambda _, inputs: tuple(values.to(dtype) for values in inputs))
    if config["trainer"].get("precision", "32-true") not in ("32-true", 32):
        network.register_forward_hook(lambda *call: call[-1].to(torch.promote_types(call[-1].dtype, torch.float32)))
    return network


def in_fast_numbers(trainer: Trainer, asked: str | int | None) -> Trainer:
    """The Trainer, in float32 where mixed precision was asked for and the processor is many times slower with it."""
    if trainer.precision == "bf16-mixed" and isinstance(trainer.accelerator, CPUAccelerator):
        if torch.backends.cpu.get_cpu_capability() == "AVX2":  # without AVX512: measured at 15 times the time
            trainer.strategy.precision_plugin = Precision()
            log.warning("trainer.precision=%s is slow on this processor; computed in float32, as with 32-true", asked)
        elif asked in ("16-mixed", 16):
            log.warning("trainer.precision=%s is for GPUs; on the CPU it is computed as with bf16-mixed", asked)
    return trainer


def check_eps(optimizer: Optimizer, config: Mapping[Any, Any]) -> None:
    """Raise ConfigError where the number that keeps an optimizer from dividing by 0 is 0 in the type of the weights."""
    every = [group.get("eps") for group in optimizer.param_groups]
    eps = min((one for one in every if isinstance(one, float)), default=1.0)
    if not torch.tensor(eps, dtype=number_type(config)):
        raise ConfigError(
            f"optimizer.eps={eps:g} is 0 with trainer.precision={config['trainer']['precision']}; "
            "raise it, to 0.0001 for example, or choose another precision"
        )


def check_batch_norm(network: nn.Module, data: Any, *, processes: int) -> None:
    """Raise ConfigError where a process would give batch normalization one sample; it needs two or more."""
    normalizes = any(
        isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d) for module in network.modules()
    )
    if data.smallest_batch < 2 * processes and normalizes:
        each = f"one of {processes} processes with" if processes > 1 else "a batch of"
        raise ConfigError(
            f"data.batch_size={data.batch_size} leaves {each} one sample, which batch normalization cannot "
            "normalize; choose another data.batch_size or data.train_size, or model.normalization=layer"
        )
