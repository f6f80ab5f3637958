"""Pictures for a README: a row has a picture of each group, curves have all clocks; both are small."""

from mlplab.report.stills import HEIGHT, save_curves, save_row
from PIL import Image


def test_a_row_holds_the_figure_of_each_group_in_their_order(tmp_path, make_run):
    for index, (size, colour) in enumerate([(2, "red"), (8, "blue")]):
        folder = make_run(f"sweep/{index}", {"data": {"batch_size": size}})
        (folder / "figures").mkdir()
        Image.new("RGB", (2 * HEIGHT, 2 * HEIGHT), colour).save(folder / "figures" / "boundary.png")
    save_row(tmp_path / "sweep", tmp_path / "row.png", figure="boundary")
    row = Image.open(tmp_path / "row.png").convert("RGB")
    assert row.size == (2 * HEIGHT, HEIGHT)
    assert row.getpixel((10, 10)) == (255, 0, 0)
    assert row.getpixel((HEIGHT + 10, 10)) == (0, 0, 255)


def test_curves_are_drawn_small(tmp_path, make_run, history):
    for size in (2, 8):
        make_run(f"sweep/{size}", {"data": {"batch_size": size}}, history=history(0.5, 0.6 + size / 100))
    save_curves(tmp_path / "sweep", tmp_path / "curves.png", metrics=["val/acc", "val/loss"])
    image = Image.open(tmp_path / "curves.png").convert("RGB")
    assert image.width > image.height > 200
    assert len(image.getcolors(maxcolors=256 * 256)) > 20
    assert (tmp_path / "curves.png").stat().st_size < 100_000
