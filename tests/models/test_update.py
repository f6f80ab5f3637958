"""Updates made one operation after the other."""

import functools

import torch
from torch.optim import SGD

from mlplab.models.update import bare_step


def doubled(step):
    @functools.wraps(step)
    def stepping(self):
        step(self)
        step(self)

    return stepping


class Doubled(SGD):
    step = doubled(SGD.step)


def stepped(optimizer, weight):
    weight.grad = torch.ones(1)
    bare_step(optimizer)()
    return weight.item()


def test_a_step_of_the_users_own_is_kept():
    weight = torch.zeros(1, requires_grad=True)
    assert stepped(SGD([weight], lr=1.0), weight) == -1
    assert stepped(Doubled([weight], lr=1.0), weight) == -3
    optimizer = SGD([weight], lr=1.0)
    optimizer.step = lambda: weight.data.fill_(7.0)
    assert stepped(optimizer, weight) == 7
