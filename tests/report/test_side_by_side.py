"""A study that names a figure has it on its page once for each group."""

import base64
import json

from PIL import Image

from mlplab.report import write_report


def test_the_figure_of_each_group_is_on_the_page_beside_its_label(tmp_path, make_run):
    contents = []
    for index, size in enumerate([2, 8, 32]):
        folder = make_run(f"sweep/{index}", {"data": {"batch_size": size}}, **{"val/acc": 0.5 + index / 10})
        if size < 32:  # the last has none
            (folder / "figures").mkdir()
            Image.new("RGB", (4, 4), (index, 0, 0)).save(folder / "figures" / "boundary.png")
            contents.append(base64.b64encode((folder / "figures" / "boundary.png").read_bytes()).decode())
    (tmp_path / "sweep" / "sweep.json").write_text(json.dumps({"study": {"name": "a", "pictures": "boundary"}}))
    page = write_report([tmp_path / "sweep"], tmp_path / "sweep").page.read_text()
    assert "Boundary side by side" in page
    assert page.count("data:image/png") == 2
    assert all(content in page for content in contents)
    assert page.index("boundary of 2") < page.index("boundary of 8")
