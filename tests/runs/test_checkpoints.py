"""Checkpoints are whole or not there. That every damaged byte is noticed is tested in tests/faults/test_damage.py."""

import os

import pytest
import torch

from mlplab.files import read_checkpoint, write_checkpoint
from mlplab.models.networks import MLP
from mlplab.runs.checkpoints import SafeCheckpointIO, newest_good, weights_digest

CONTENT = {"state_dict": {"weight": torch.arange(6.0)}, "global_step": 3, "names": ["a", "b"], "none": None}


def test_what_was_written_is_read_also_by_torch(tmp_path):
    path = tmp_path / "deep" / "last.ckpt"
    write_checkpoint(CONTENT, path)
    for content in (read_checkpoint(path), torch.load(path, weights_only=True)):
        assert torch.equal(content.pop("state_dict")["weight"], CONTENT["state_dict"]["weight"])
        assert content == {"global_step": 3, "names": ["a", "b"], "none": None}
    assert list(path.parent.iterdir()) == [path]


def test_a_failing_write_leaves_the_old_file(tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    path = tmp_path / "last.ckpt"
    write_checkpoint(CONTENT, path)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_checkpoint(CONTENT | {"global_step": 4}, path)
    assert read_checkpoint(path)["global_step"] == 3
    assert list(tmp_path.iterdir()) == [path]


def test_the_newest_good_one_is_that_with_most_updates(tmp_path):
    assert newest_good(tmp_path) is None
    for name, updates in (("best", 5), ("old", 2), ("last", 9)):
        write_checkpoint(CONTENT | {"global_step": updates}, tmp_path / f"{name}.ckpt")
    assert newest_good(tmp_path) == tmp_path / "last.ckpt"
    (tmp_path / "last.ckpt").write_bytes(b"PK")
    assert newest_good(tmp_path) == tmp_path / "best.ckpt"


def test_the_digest_of_weights_sees_names_and_bits():
    network, same = MLP(2, 1, hidden_sizes=[3, 2]), MLP(2, 1, hidden_sizes=[3, 2])
    digest = weights_digest(network)
    same.load_state_dict(network.state_dict())
    assert weights_digest(same) == digest
    with torch.no_grad():
        bias = next(same.parameters())
        bias[0] = torch.nextafter(bias[0], torch.tensor(9.0))
    before = weights_digest(same)
    assert before != digest
    assert weights_digest(torch.nn.Sequential(network)) != digest
    same.get_extra_state = lambda: {"not": "a tensor"}
    assert weights_digest(same) == before


def test_a_checkpoint_that_is_soon_replaced_waits_for_the_last_one_or_the_end(tmp_path):
    best, last, writer = tmp_path / "best.ckpt", tmp_path / "last.ckpt", SafeCheckpointIO()
    weights = torch.zeros(2)
    for step in (1, 2, 3):
        weights += 1
        writer.save_checkpoint({"global_step": step, "weights": weights}, best)
    weights += 1
    assert read_checkpoint(best)["global_step"] == 1  # the first is there at once
    writer.save_checkpoint({"global_step": 4}, last)
    found = read_checkpoint(best)
    assert (found["global_step"], found["weights"].tolist()) == (3, [3.0, 3.0])  # as they were then
    writer.save_checkpoint({"global_step": 5}, best)
    writer.teardown()
    assert read_checkpoint(best)["global_step"] == 5
    writer.save_checkpoint({"global_step": 6}, best)
    writer.remove_checkpoint(best)
    writer.teardown()
    assert not best.exists()
