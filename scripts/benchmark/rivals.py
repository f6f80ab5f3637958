"""What a person might use instead of PyTorch: JAX with an epoch as one compiled scan, and scikit-learn's MLPClassifier.

JAX is optional: `pip install -e ".[benchmark]"`. Both train and validate as the baselines do.
"""

import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from baselines import EPOCHS, Workload
from sklearn.neural_network import MLPClassifier
from torch import nn


def jax_scan(work: Workload) -> list[float]:
    """The same network in JAX: all updates of an epoch as one `lax.scan`, jitted; a smaller last batch is left out."""
    import jax  # type: ignore[import-not-found, unused-ignore]  # an extra
    from jax import numpy as jnp

    layers = [layer for layer in work.network() if isinstance(layer, nn.Linear)]
    shares = [layer.p for layer in work.network() if isinstance(layer, nn.Dropout)] or [0.0] * (len(layers) - 1)
    weights = [
        (jnp.asarray(layer.weight.detach().cpu().numpy().T), jnp.asarray(layer.bias.detach().cpu().numpy()))
        for layer in layers
    ]
    train, val = ([jnp.asarray(tensor.flatten(1).numpy()) if tensor.ndim > 1 else jnp.asarray(tensor.numpy())
                   for tensor in work.dataset(split).tensors] for split in ("train", "val"))  # fmt: skip
    size, rate, binary = work.data.batch_size, work.config.optimizer.lr, work.data.num_outputs == 1

    def logits_of(weights: Any, features: Any, key: Any = None) -> Any:
        for (weight, bias), share in zip(weights[:-1], shares, strict=True):
            features = jax.nn.relu(features @ weight + bias)
            if share and key is not None:
                key, drawn = jax.random.split(key)
                features = features * jax.random.bernoulli(drawn, 1 - share, features.shape) / (1 - share)
        return features @ weights[-1][0] + weights[-1][1]

    def loss(weights: Any, features: Any, labels: Any, key: Any) -> Any:
        logits = logits_of(weights, features, key)
        if binary:
            return jnp.mean(jax.nn.softplus(logits) - labels * logits)
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1))

    def update(weights: Any, batch: Any) -> Any:
        value, gradient = jax.value_and_grad(loss)(weights, *batch)
        return jax.tree.map(lambda weight, slope: weight - rate * slope, weights, gradient), value

    @jax.jit
    def epoch(weights: Any, key: Any) -> Any:
        count = len(train[0]) // size
        order = jax.random.permutation(key, len(train[0]))[: count * size].reshape(count, size)
        keys = jax.random.split(key, count)
        return jax.lax.scan(
            lambda at, of: update(at, (train[0][of[0]], train[1][of[0]], of[1])), weights, (order, keys)
        )

    @jax.jit
    def hits(weights: Any) -> Any:
        logits = logits_of(weights, val[0])
        return ((logits > 0 if binary else logits.argmax(axis=1)) == val[1]).sum()

    seconds = []
    for number in range(EPOCHS):
        start = time.perf_counter()
        weights, _ = epoch(weights, jax.random.key(number))
        hits(weights).block_until_ready()
        seconds.append(time.perf_counter() - start)
    return seconds


def scikit_learn(work: Workload) -> list[float]:
    """`MLPClassifier` with plain SGD, which has no dropout."""
    train, val = ([tensor.flatten(1).numpy() if tensor.ndim > 1 else tensor.numpy() for tensor in
                   work.dataset(split).tensors] for split in ("train", "val"))  # fmt: skip
    sizes = [layer.out_features for layer in work.network() if isinstance(layer, nn.Linear)]
    model = MLPClassifier(sizes[:-1], solver="sgd", momentum=0.0, learning_rate_init=work.config.optimizer.lr,
                          batch_size=work.data.batch_size, alpha=0.0)  # fmt: skip
    seconds = []
    for _ in range(EPOCHS):
        start = time.perf_counter()
        model.partial_fit(train[0], train[1].ravel(), classes=range(work.data.num_classes))
        model.score(val[0], val[1].ravel())
        seconds.append(time.perf_counter() - start)
    return seconds


RIVALS: dict[str, Callable[[Workload], list[float]]] = {"scikit-learn": scikit_learn}
if find_spec("jax"):
    RIVALS["JAX scan"] = jax_scan
else:
    print('JAX is not installed, and left out; to measure it too: pip install -e ".[benchmark]"')
