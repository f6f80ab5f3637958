"""Single flipped bits and cut-off files: none is taken for what was written."""

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import child
import pytest
from repeating import repeated

from mlplab.errors import ConfigError
from mlplab.files import read_checkpoint
from mlplab.runs.record import Record

READERS = {
    "checkpoints/last.ckpt": lambda folder: read_checkpoint(folder / "checkpoints" / "last.ckpt"),
    "checkpoints/best.ckpt": lambda folder: read_checkpoint(folder / "checkpoints" / "best.ckpt"),
    "config.yaml": lambda folder: Record.read(folder).config(),
    "result.json": Record.read,
}


@pytest.fixture
def folder(finished, tmp_path) -> Path:
    """A copy of a finished run, to be damaged."""
    return Path(shutil.copytree(finished.folder, tmp_path / "run"))


def damaged(content: bytes, count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """`content` with a random bit flipped, or cut off at a random place, in turn; and which of both it is."""
    chance = random.Random(seed)
    for number in range(count):
        if number % 2:
            yield "truncations", content[: chance.randrange(len(content))]
        else:
            flipped = bytearray(content)
            flipped[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
            yield "flipped bits", bytes(flipped)


@pytest.mark.parametrize("name", READERS)
@repeated(short=50, full=500)
def test_damage_is_noticed(count, name, folder, tally):
    content = (folder / name).read_bytes()
    READERS[name](folder)
    for what, damage in damaged(content, count, seed=count):
        (folder / name).write_bytes(damage)
        with pytest.raises(ConfigError, match=Path(name).name):
            READERS[name](folder)
        tally(f"{what} noticed in {name}")


@pytest.mark.parametrize("name", READERS)
@pytest.mark.faults
def test_the_command_says_what_is_damaged_in_a_line(name, folder, run, tally):
    """Every file is damaged in the two ways; what reads it, resume or evaluation, refuses it with exit code 2."""
    content = (folder / name).read_bytes()
    for _, damage in damaged(content, 2, seed=1):
        (folder / name).write_bytes(damage)
        resumed = folder / name if name == "checkpoints/best.ckpt" else folder
        ended = run(child.run_command, [f"resume={resumed}", "trainer.max_epochs=6"], code=2)
        assert Path(name).name in ended.error
        if name == "checkpoints/last.ckpt":
            assert f"resume={folder}/checkpoints/best.ckpt" in ended.error
        assert (folder / name).read_bytes() == damage
        tally("commands that named the damaged file, exit 2")
