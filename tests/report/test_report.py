"""The report of a set of runs, and of one: files, terminal, exit codes, what a stranger's folder may do."""

import base64
import json
import re
from html.parser import HTMLParser

import pandas as pd
import pytest
from PIL import Image

from mlplab.errors import ConfigError, RunFailed
from mlplab.report.report import report, write_report

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
EVIL = "<script>alert(1)</script>"


class Page(HTMLParser):
    """Tags with their attributes, and the text of a page."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def sweep(make_run, history):
    """Two learning rates with two seeds each, and a third that diverged."""
    for rate in (0.1, 0.5):
        for seed in (0, 1):
            accuracy = rate + 0.4 + 0.01 * seed
            make_run(
                f"sweep/lr={rate},seed={seed}", {"optimizer": {"lr": rate}}, seed=seed,
                overrides=(f"optimizer.lr={rate}",), history=history(0.3, accuracy),
                **{"train/acc": 0.9, "val/acc": accuracy, "gap/acc": 0.9 - accuracy},
            )  # fmt: skip
    nine = {"optimizer": {"lr": 9.0}}
    return make_run("sweep/lr=9,seed=0", nine, status="diverged", result={"error": "no number"}).parent


def test_the_page_holds_everything_and_loads_nothing(sweep, capsys):
    report([str(sweep)])
    page = Page(sweep / "report.html")
    for part in (
        "How does the validation accuracy depend on optimizer.lr?", "lr=0.5 has the highest validation accuracy, 90.50",
        "diverged: ", "no number", "python train.py optimizer.lr=0.1 seed=0", "2.15.0", "2 CPU cores", "4 of 5",
    ):  # fmt: skip
        assert part in page.text, part
    assert len(page.all("svg")) == 3
    assert all(svg["aria-label"] for svg in page.all("svg"))
    assert not {"script", "link", "iframe", "object", "base", "form"} & {tag for tag, _ in page.tags}
    sources = [attributes.get(name) for _, attributes in page.tags for name in ("src", "href", "xlink:href")]
    assert all(source.startswith(("#", "data:image/png")) for source in sources if source is not None)
    assert "url(http" not in (sweep / "report.html").read_text()
    assert len(pd.read_csv(sweep / "summary.csv")) == 5
    printed = capsys.readouterr().out
    assert re.search(r"^0.1 +│ +2 │", printed, re.MULTILINE)
    assert "diverged: " in printed


def test_the_question_and_the_claim_of_a_study(sweep):
    study = {"name": "rates", "question": "Which rate?", "claim": "A larger one.", "source": "Goyal 2017"}
    command = "python train.py -m study=rates"
    names = [path.name for path in sweep.iterdir() if path.is_dir()]
    (sweep / "sweep.json").write_text(json.dumps({"command": command, "jobs": [*names, "6", "7"], "study": study}))
    write_report([sweep], sweep)
    text = Page(sweep / "report.html").text
    for part in ("Rates", *list(study.values())[1:], command, "Jobs of the sweep that have not started: 2"):
        assert part in text


def test_a_strangers_folder_cannot_run_a_script(make_run, history, tmp_path):
    study = dict.fromkeys(("name", "question", "claim"), EVIL)
    study |= {"source": f"javascript:{EVIL}", "metrics": [EVIL, "val/acc"]}
    result = dict.fromkeys(("error", "command", "hardware", "git_commit", "stop_reason", EVIL), EVIL)
    result |= {"versions": {EVIL: EVIL}, "samples": {EVIL: EVIL}}
    for index, value in enumerate((EVIL, '" onload="alert(1)', "$\\frac{$ </style></svg>")):
        make_run(
            f"evil/{index}{EVIL.replace('/', '')}", {"model": {EVIL: value}, "study": study}, history=history(0.1, 0.2),
            overrides=(f"model={EVIL}",), result=result, **{EVIL: 1.0, "val/acc": 0.5},
        )  # fmt: skip
    folders = [str(folder) for folder in (tmp_path / "evil").iterdir()]
    figures = tmp_path / "evil" / folders[0] / "figures"
    figures.mkdir()
    (figures / '" onerror="alert(1).png').write_bytes(PIXEL)
    report([str(tmp_path / "evil")])
    report(folders[:1], str(tmp_path / "one"))
    for path in (tmp_path / "evil" / "report.html", tmp_path / "one" / "report.html"):
        page = Page(path)
        assert EVIL in page.text
        assert "script" not in {tag for tag, _ in page.tags}
        assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
        assert "default-src 'none'" in page.all("meta")[1]["content"]


def test_one_run_folder_gives_its_own_page(make_run, history, capsys):
    config = {"data": {"batch_size": 8}, "monitor": "val/acc", "monitor_mode": "max"}
    many = {"samples_seen": 1234567, "best_epoch": 2.0}
    run = make_run("run", config, history=history(0.3, 0.5), result=many, **{"val/acc": 0.5, "val/loss": 1.25})
    (run / "train.log").write_text("epoch 1 <b>")
    (run / "figures").mkdir()
    (run / "figures" / "learning_curves.png").write_bytes(PIXEL)  # which the page has of its own
    (run / "figures" / "calibration.png").write_bytes(PIXEL)
    (run / "figures" / "broken.png").write_bytes(b"GIF")
    report([str(run)])
    page = Page(run / "report.html")
    (image,) = page.all("img")
    assert image["src"].startswith("data:image/png;base64,iVBOR")
    assert image["alt"]
    for part in (
        "The last point is after 4 updates, 32 samples seen, 0.2 seconds of training", "best, epoch 2",
        "How often the network is right", "python train.py seed=0", "1.25",
        "data.batch_size", "samples, val", "1234567", "epoch 1 <b>",
    ):  # fmt: skip
        assert part in page.text
    assert not (run / "summary.csv").exists()
    assert "report.html" in capsys.readouterr().out


@pytest.mark.parametrize("best", ["abc", "nan", [1], None])
def test_a_best_epoch_that_is_no_number_is_not_marked(best, make_run, history):
    run = make_run("run", history=history(0.3, 0.5), result={"best_epoch": best}, **{"val/acc": 0.5})
    report([str(run)])
    assert "best, epoch" not in Page(run / "report.html").text


def test_a_run_that_collapsed_is_marked_everywhere(make_run, tmp_path, capsys):
    for rate, accuracy in ((0.1, 0.9), (3.0, 0.51)):
        scores = {"train/acc": accuracy, "val/acc": accuracy}
        make_run(f"sweep/{rate}", {"optimizer": {"lr": rate}}, result={"majority_share": "0.5"}, **scores)
    report([str(tmp_path / "sweep")])
    printed, page = capsys.readouterr().out, Page(tmp_path / "sweep" / "report.html").text
    assert re.search(r"^3 +│ +1 \(1 collapsed\) │ +51.00 │ +51.00 │ +10 *$", printed, re.MULTILINE)
    assert "1 (1 collapsed)" in page
    for text in (printed, page):
        assert text.count("no better than always naming the most frequent class (50.00 % of the training samples)") == 1
    assert list(pd.read_csv(tmp_path / "sweep" / "summary.csv")["collapsed"]) == [False, True]
    report([str(tmp_path / "sweep" / "3.0")])
    assert "collapsed: " in Page(tmp_path / "sweep" / "3.0" / "report.html").text


def test_several_folders_are_reported_together_and_damage_is_named(make_run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make_run("a/1", {"x": {"y": 1}}), make_run("b/1", {"x": {"y": 2}})
    (make_run("b/2") / "result.json").write_text("{")
    (tmp_path / "a" / "1" / "history.csv").write_text("x")
    written = report(["a", "b"])
    assert [group.label for group in written.groups] == ["1", "2"]
    for text in (capsys.readouterr().out, Page(tmp_path / "outputs" / "reports" / "a_b" / "report.html").text):
        assert "b/2/result.json cannot be read" in text
        assert "a/1/history.csv cannot be read" in text
    assert len(pd.read_csv("outputs/reports/a_b/summary.csv")) == 2


def test_runs_are_named_as_everywhere(make_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_run("outputs/train/first", {"x": {"y": 1}}), make_run("outputs/train/second", {"x": {"y": 2}})
    assert str(report(["last"]).page) == "outputs/train/second/report.html"
    assert [group.label for group in report(["second", "outputs/train/first"]).groups] == ["1", "2"]
    assert "python scripts/report.py outputs/train/second outputs/train/first" in Page(
        tmp_path / "outputs" / "reports" / "second_first" / "report.html"
    ).text  # fmt: skip
    with pytest.raises(ConfigError, match="no run frist in outputs/train; did you mean 'first'"):
        report(["first", "frist"])


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_table_keeps_its_settings_however_narrow_the_terminal_is(width, make_run, tmp_path, monkeypatch, capsys):
    for dropout in (0.1, 0.25):
        metrics = dict.fromkeys(("train/acc", "val/acc", "test/acc", "gap/acc"), 0.5)
        make_run(f"runs/{dropout}", {"model": {"dropout": dropout}}, overrides=(f"model.dropout={dropout}",), **metrics)
    monkeypatch.setenv("COLUMNS", str(width))
    report([str(tmp_path / "runs")])
    lines = capsys.readouterr().out.splitlines()
    table = [line for line in lines if "│" in line or "┃" in line]
    assert [line.split()[0] for line in table] == ["dropout", "0.1", "0.25"]
    assert max(map(len, table)) <= width
    assert ("updates" in table[0]) == (width > 60)


def test_nothing_to_report_is_a_mistake_of_the_user(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError) as error:
        report([str(tmp_path / name) for name in ("empty", "file", "nowhere")])
    assert [line.rpartition("/")[2] for line in error.value.faults] == [
        "empty: no run in it (a run folder holds a result.json)", "file: no such folder", "nowhere: no such folder"
    ]  # fmt: skip
    assert len(list(tmp_path.iterdir())) == 2


def test_runs_that_all_failed_are_reported_and_end_in_failure(make_run, tmp_path):
    make_run("sweep/a", status="failed", result={"error": "out of memory", "metrics": {}})
    make_run("sweep/b", status="running", seed=1)
    with pytest.raises(RunFailed, match="none of the runs finished"):
        report([str(tmp_path / "sweep")])
    text = Page(tmp_path / "sweep" / "report.html").text
    assert "No run finished" in text
    assert "out of memory" in text


def test_jobs_that_failed_before_they_had_a_config_are_named(sweep, make_run, tmp_path):
    for name in ("sweep/late", "early/a", "early/b"):
        folder = make_run(name, status="failed", overrides=("optimizer.lr=3",), result={"error": "no such data"})
        (folder / "config.yaml").unlink()
    written = write_report([sweep], sweep)
    assert [group.label for group in written.groups] == ["0.1", "0.5", "9"]
    assert "no such data" in Page(sweep / "report.html").text
    assert list(pd.read_csv(sweep / "summary.csv")["status"]).count("failed") == 1
    with pytest.raises(RunFailed):
        report([str(tmp_path / "early")])
    report([str(tmp_path / "early" / "a")])
    assert "no such data" in Page(tmp_path / "early" / "a" / "report.html").text


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
    assert page.index("<h3>batch_size=2</h3>") < page.index(contents[0]) < page.index("<h3>batch_size=8</h3>")
