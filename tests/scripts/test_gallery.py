"""Pictures for a README: a row has a picture of each group, curves have all clocks; both are small."""

import json

import pytest
from omegaconf import OmegaConf
from PIL import Image


@pytest.fixture(scope="module")
def script(load):
    return load("gallery")


@pytest.fixture
def make_run(tmp_path):
    """A finished run folder with three validations, and a figure of one colour."""

    def make(name, batch_size, colour):
        folder = tmp_path / name
        (folder / "figures").mkdir(parents=True)
        (folder / "result.json").write_text(json.dumps({"status": "finished", "metrics": {"val/acc": 0.5}}))
        (folder / "config.yaml").write_text(OmegaConf.to_yaml({"seed": 0, "data": {"batch_size": batch_size}}))
        rows = [f"{i},{2 * i},{16 * i},{0.1 * i},{1 / i},{1 - 1 / i}\n" for i in (1, 2, 3)]
        (folder / "history.csv").write_text("epoch,updates,samples_seen,seconds,val/loss,val/acc\n" + "".join(rows))
        Image.new("RGB", (660, 660), colour).save(folder / "figures" / "boundary.png")

    return make


def test_a_row_holds_the_figure_of_each_group_in_their_order(script, tmp_path, make_run):
    make_run("sweep/0", 8, "blue")
    make_run("sweep/1", 2, "red")
    script.save_row(tmp_path / "sweep", tmp_path / "row.png", figure="boundary")
    row = Image.open(tmp_path / "row.png").convert("RGB")
    assert row.size == (2 * script.HEIGHT, script.TITLE + script.HEIGHT)
    assert row.getpixel((10, script.TITLE + 10)) == (255, 0, 0)
    assert row.getpixel((script.HEIGHT + 10, script.TITLE + 10)) == (0, 0, 255)
    title = row.crop((0, 0, script.HEIGHT, script.TITLE))
    assert title.getpixel((0, 0)) == (255, 255, 255)
    assert (0, 0, 0) in {colour for _, colour in title.getcolors()}
