"""The lecture's notebook: small, without faults, and it runs."""

import json
import re
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[2] / "scripts" / "lecture.ipynb"
HEADINGS = (
    "perceptron", "full batch, mini-batch, single sample", "DataLoader", "Sequential", "overfit", "dropout",
    "When to stop", "more data", "Augmentation", "bright", "own table",
)  # fmt: skip


def test_the_notebook_holds_the_outputs_of_one_run_and_no_machines_paths():
    content = NOTEBOOK.read_text(encoding="utf-8")
    notebook = json.loads(content)
    assert len(content.encode()) < 200_000
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 6
    assert not [output for output in outputs if output["output_type"] == "error" or output.get("name") == "stderr"]
    assert not re.search(r"/(home|root|tmp|work|usr|Users)/", content)
    headings = " ".join(cell["source"] if isinstance(cell["source"], str) else "".join(cell["source"])
                        for cell in notebook["cells"] if cell["cell_type"] == "markdown")  # fmt: skip
    assert [heading for heading in HEADINGS if heading not in headings] == []


@pytest.mark.slow
def test_the_notebook_runs(tmp_path):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    options = {"timeout": 300, "kernel_name": "python3", "resources": {"metadata": {"path": str(tmp_path)}}}
    nbclient.NotebookClient(notebook, **options).execute()
    assert (tmp_path / "outputs" / "train" / "passing" / "figures" / "decision_boundary.png").is_file()
