"""Checkpoints are whole or not there, and a byte that is not what was written is noticed."""

import io
import os
import random

import pytest
import torch

from mlplab.errors import ConfigError
from mlplab.files import read_checkpoint, write_checkpoint
from mlplab.models.networks import MLP
from mlplab.runs.checkpoints import newest_good, weights_digest

CONTENT = {"state_dict": {"weight": torch.arange(6.0)}, "global_step": 3, "names": ["a", "b"], "none": None}


def test_what_was_written_is_read(tmp_path):
    write_checkpoint(CONTENT, tmp_path / "deep" / "last.ckpt")
    content = read_checkpoint(tmp_path / "deep" / "last.ckpt")
    assert torch.equal(content["state_dict"]["weight"], CONTENT["state_dict"]["weight"])
    assert {key: content[key] for key in ("global_step", "names", "none")} == {
        "global_step": 3, "names": ["a", "b"], "none": None,
    }  # fmt: skip
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["last.ckpt"]


def test_torch_reads_the_file_as_any_other(tmp_path):
    write_checkpoint(CONTENT, tmp_path / "last.ckpt")
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 3


def test_every_flipped_bit_and_every_truncation_is_noticed(tmp_path):
    path = tmp_path / "last.ckpt"
    write_checkpoint(CONTENT, path)
    raw, generator = path.read_bytes(), random.Random(0)
    for _ in range(200):
        position = generator.randrange(len(raw))
        damaged = bytearray(raw)
        damaged[position] ^= 1 << generator.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(ConfigError, match=r"last\.ckpt is damaged"):
            read_checkpoint(path)
        path.write_bytes(raw[:position])
        with pytest.raises(ConfigError, match=r"last\.ckpt is damaged"):
            read_checkpoint(path)


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


def test_a_file_of_another_program_has_no_digest(tmp_path):
    buffer = io.BytesIO()
    torch.save(CONTENT, buffer)
    (tmp_path / "last.ckpt").write_bytes(buffer.getvalue())
    with pytest.raises(ConfigError, match="digest"):
        read_checkpoint(tmp_path / "last.ckpt")


def test_the_newest_good_one_is_that_with_most_updates(tmp_path):
    assert newest_good(tmp_path) is None
    for name, updates in (("best", 5), ("old", 2), ("last", 9)):
        write_checkpoint(CONTENT | {"global_step": updates}, tmp_path / f"{name}.ckpt")
    assert newest_good(tmp_path) == tmp_path / "last.ckpt"
    (tmp_path / "last.ckpt").write_bytes(b"PK")
    assert newest_good(tmp_path) == tmp_path / "best.ckpt"


def test_the_digest_of_weights_sees_names_and_bits():
    network = MLP(2, 1, hidden_sizes=[3, 2])
    same, digest = MLP(2, 1, hidden_sizes=[3, 2]), weights_digest(network)
    same.load_state_dict(network.state_dict())
    assert weights_digest(same) == digest
    with torch.no_grad():
        bias = next(same.parameters())
        bias[0] = torch.nextafter(bias[0], torch.tensor(9.0))
    assert weights_digest(same) != digest
    assert weights_digest(torch.nn.Sequential(network)) != digest
