"""What is shown of a data set is what training is served."""

import re

import pytest
from PIL import Image


@pytest.fixture(scope="module")
def script(load):
    return load("inspect_data")


def test_inspection_of_points(script, composed, tmp_path, capsys):
    figure = tmp_path / "made" / "points.png"
    script.inspect_data(composed("inspect_data", "data.num_samples=100", "batching=stochastic", f"figure={figure}"))
    printed = capsys.readouterr().out
    for text in ("fail", "pass", "(2,) torch.float32", "lectures attended", "EpochOrder", "GroupedBatches",
                 "drop_last", "pin_memory", "num_workers", "InMemoryDataset"):  # fmt: skip
        assert text in printed, text
    assert re.search(r"^updates per epoch +70$", printed, flags=re.MULTILINE)
    assert re.search(r"^all +70 +100.0% +15 +100.0% +15 +100.0%$", printed, flags=re.MULTILINE)
    assert Image.open(figure).width > 300


def test_a_figure_is_of_the_kind_that_its_name_says(script, composed, tmp_path):
    script.inspect_data(composed("inspect_data", "data=digits", f"figure={tmp_path / 'samples.pdf'}"))
    assert (tmp_path / "samples.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(("batching", "updates"), [("full_batch", 1), ("mini_batch", 40), ("stochastic", 1257)])
def test_inspection_of_images_with_every_batching(script, composed, batching, updates, capsys):
    script.inspect_data(composed("inspect_data", "data=digits", f"batching={batching}", "figure=null"))
    printed = capsys.readouterr().out
    assert re.search(rf"^updates per epoch +{updates:,}\b", printed, flags=re.MULTILINE)
    assert "(1, 8, 8) torch.uint8" in printed


def test_of_many_classes_the_first_and_last_are_shown_also_without_validation_data(script, composed, capsys):
    many = ("data=noise_images", "data.num_samples=2000", "data.num_classes=100", "data.size=4", "data.val_fraction=0")
    script.inspect_data(composed("inspect_data", *many, "figure=null"))
    printed = capsys.readouterr().out
    shown = re.findall(r"^class (\d+)", printed, flags=re.MULTILINE)
    assert (shown[0], shown[-1], len(shown) < 31) == ("0", "99", True)
    assert "–" in printed  # the share of nothing
