"""`abs results`: the runs of `abs eval` listed, shown again and compared."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from support import Abs, colour

from abs_classify.evaluation.results_folder import ResultsFolder, read_result

ROOT = Path(__file__).parents[2]
PLAIN = ("--threads", "1", "--attention", "self")
FEW = (*PLAIN, "--views", "2")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Seven photos of seven classes, so that top-5 says something."""
    for at, label in enumerate(("ant", "bee", "cat", "dog", "eel", "fox", "gnu")):
        path = tmp_path / "data" / label / "one.png"
        path.parent.mkdir(parents=True)
        colour(at, (24, 20)).save(path)
    return tmp_path / "data"


@pytest.fixture
def evaluate(abs_command: Abs, data: Path, small_clips: tuple[str, str]) -> Callable[..., Path]:
    """Evaluates the images with some options and returns the folder of that run."""

    def run(*options: str | Path, model: str = small_clips[0], methods: str = "clip,abs") -> Path:
        before = ResultsFolder(abs_command.home / "results").runs()
        base = ("eval", "--dataset", f"imagefolder:{data}", "--model", model, "--methods", methods)
        ran = abs_command(*base, *options, *(FEW if "abs" in methods.split(",") else PLAIN))
        assert ran.code == 0, ran.err
        return ResultsFolder(abs_command.home / "results").runs()[len(before)]

    return run


@pytest.mark.slow
def test_show_prints_the_tables_again(abs_command: Abs, data: Path, small_clips: tuple[str, str]) -> None:
    base = ("eval", "--dataset", f"imagefolder:{data}", "--model", small_clips[0], "--methods", "clip,abs", *FEW)
    ran = abs_command(*base)
    name = next((abs_command.home / "results").iterdir()).name
    for named in ("last", name, name[:-3], abs_command.home / "results" / name):
        shown = abs_command("results", "show", named)
        assert (shown.code, shown.out) == (0, ran.out)
    listed = abs_command("results", "ls")
    assert name in listed.out
    assert "abs, clip" in listed.out
    (row,) = json.loads(abs_command("results", "ls", "--json").out)
    assert (row["results"], row["unreadable"]) == (2, 0)
    other = abs_command(*base, "--seed", "7")
    assert other.code == 0
    both = abs_command("results", "show", *sorted((abs_command.home / "results").iterdir()))
    rows = [line for line in both.out.splitlines() if re.match(r"20\d{6}T", line)]
    assert len(rows) == 4


def test_a_heading_counts_one_image_in_the_singular(abs_command: Abs, data: Path, small_clips: tuple[str, str]) -> None:
    base = ("eval", "--dataset", f"imagefolder:{data}", "--limit", "1", "--method", "clip", "--model", small_clips[0])
    assert f"imagefolder:{data}: 1 image, 7 classes\n" in abs_command(*base, *PLAIN).out


def test_results_that_are_not_there(abs_command: Abs, tmp_path: Path) -> None:
    assert abs_command("results", "ls").out == ""
    assert "unknown result" in abs_command.refuses("results", "show", "last")
    assert "holds no result files. See `abs results ls`" in abs_command.refuses("results", "show", tmp_path)
    run = tmp_path / "1" / "run"
    run.mkdir(parents=True)
    (run / "a.json").touch()
    assert f"holds no result files. Name those in it, as in {tmp_path}/*" in abs_command.refuses(
        "results", "merge", tmp_path, "--out", tmp_path / "merged"
    )


def test_results_go_where_they_are_sent(
    abs_command: Abs, data: Path, small_clips: tuple[str, str], tmp_path: Path
) -> None:
    base = ("eval", "--dataset", f"imagefolder:{data}", "--model", small_clips[0], "--method", "clip", *PLAIN)
    assert abs_command(*base, "--results", tmp_path / "here").code == 0
    assert len(list((tmp_path / "here").rglob("*.json"))) == 1
    assert not (abs_command.home / "results").exists()
    (tmp_path / "file").write_text("")
    assert "--results DIR" in abs_command.refuses(*base, "--results", tmp_path / "file" / "here")


def test_show_writes_the_csv_that_eval_wrote(evaluate: Callable[..., Path], abs_command: Abs, tmp_path: Path) -> None:
    evaluate("--export-csv", tmp_path / "all.csv")
    shown = abs_command("results", "show", "last", "--export-csv", tmp_path / "again.csv")
    assert shown.code == 0, shown.err
    assert (tmp_path / "again.csv").read_text() == (tmp_path / "all.csv").read_text()


@pytest.mark.slow
def test_compare_prints_a_line_for_each_method_and_all_digits_as_json(
    evaluate: Callable[..., Path], abs_command: Abs, small_clips: tuple[str, str]
) -> None:
    runs = [evaluate(model=model) for model in small_clips]
    shown = abs_command("results", "compare", *runs)
    assert shown.code == 0, shown.err
    heads = shown.out.splitlines()[:2]
    assert [head.partition(";")[0] for head in heads] == [f"first: run {runs[0].name}", f"second: run {runs[1].name}"]
    comparisons = json.loads(abs_command("results", "compare", *runs, "--json").out)["comparisons"]
    for comparison, method in zip(comparisons, ("clip", "abs"), strict=True):
        first, second = (read_result(next(run.glob(f"*_{method}-*.json"))) for run in runs)
        assert comparison["dataset"] == first.dataset
        for side, record in (("first", first), ("second", second)):
            assert comparison[side] == {
                "run": record.details.run.id,
                "model": record.details.weights.name,
                "bundle": record.bundle,
                "classes": record.details.classes.source,
                "method": method,
            }
        assert comparison["corrected_p"] >= comparison["p_value"]
        counts = [str(comparison[name]) for name in ("images", "first_only", "second_only")]
        row = next(line for line in shown.out.splitlines() if f"  {method}  " in line)
        assert row.split(method)[1].split()[:3] == counts
    evaluate("--limit", "5")
    part = abs_command("results", "compare", runs[0], "last")
    assert part.code == 0, part.err
    assert "5 images are in both runs, of 7 in the first and 5 in the second" in part.out


def test_a_damaged_file_is_named_and_the_run_still_listed(evaluate: Callable[..., Path], abs_command: Abs) -> None:
    path = next(evaluate(methods="clip").glob("*.json"))
    value = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**value, "surplus": 1}), encoding="utf-8")
    line = abs_command.refuses("results", "show", path)
    assert path.name in line
    assert "damaged at surplus" in line
    listed = abs_command("results", "ls")
    assert listed.code == 0
    assert "1 file cannot be read" in listed.out
    path.write_text(json.dumps({**value, "details": {**value["details"], "right": "AAAA"}}), encoding="utf-8")
    assert "damaged bits" in abs_command.refuses("results", "compare", path, path)


@pytest.mark.slow
def test_a_table_for_a_paper_in_five_formats(evaluate: Callable[..., Path], abs_command: Abs) -> None:
    run = evaluate("--seeds", "2")
    shown = {
        name: abs_command("results", "show", run.name, "--format", name)
        for name in ("text", "markdown", "latex", "csv", "json")
    }
    assert {ran.code for ran in shown.values()} == {0}
    assert "\\toprule" in shown["latex"].out
    assert "|:--|" in shown["markdown"].out
    assert "several draws: images and draws as crossed random factors" in " ".join(shown["text"].out.split())
    rows = json.loads(shown["json"].out)["rows"]
    assert [row["method"] for row in rows] == ["clip", "abs"]
    assert [row["base"] for row in rows] == [None, "clip"]
    assert [line.split(",")[4] for line in shown["csv"].out.splitlines()] == ["method", "clip", "abs"]
    other = json.loads(abs_command("results", "show", run.name, "--format", "json", "--base", "abs").out)["rows"]
    assert [row["base"] for row in other] == ["abs", None]
    assert "exclude each other" in abs_command.refuses("results", "show", run.name, "--format", "csv", "--json")
    assert "--base needs --format" in abs_command.refuses("results", "show", run.name, "--base", "abs")


@pytest.mark.slow
def test_classes_of_a_run(evaluate: Callable[..., Path], abs_command: Abs, tmp_path: Path) -> None:
    run = evaluate()
    shown = abs_command("results", "classes", run.name, "--against", "clip", "--matrix", tmp_path / "matrix.csv")
    assert shown.code == 0, shown.err
    assert shown.out.startswith("abs on imagefolder:")
    assert "classes, the least accurate first:" in shown.out
    lines = (tmp_path / "matrix.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["true class", "ant", "bee", "cat", "dog", "eel", "fox", "gnu"]
    assert sum(int(cell) for line in lines[1:] for cell in line.split(",")[1:]) == 7
    values = json.loads(abs_command("results", "classes", run.name, "--method", "clip", "--format", "json").out)
    assert (values["method"], len(values["classes"])) == ("clip", 7)
    assert abs_command("results", "classes", run.name, "--matrix", tmp_path / "matrix.json").code == 0
    assert len(json.loads((tmp_path / "matrix.json").read_text())["classes"]) == 7
    assert ".csv or .json" in abs_command.refuses("results", "classes", run.name, "--matrix", tmp_path / "matrix.txt")
    assert "wca" in abs_command.refuses("results", "classes", run.name, "--method", "wca")
    pytest.importorskip("matplotlib")
    drawn = abs_command("results", "plot", run.name, "--out", tmp_path / "figures")
    assert drawn.code == 0, drawn.err
    names = sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert names == sorted(f"{name}.{kind}" for name in ("accuracy", "cost", "gains-02-abs") for kind in ("pdf", "png"))
    path = next(run.glob("*_clip-*.json"))
    value = json.loads(path.read_text(encoding="utf-8"))
    del value["details"]["predictions"]
    (tmp_path / "old.json").write_text(json.dumps(value), encoding="utf-8")
    message = abs_command.refuses("results", "classes", tmp_path / "old.json")
    assert "has no predictions of each image" in message
    assert "Run the evaluation again" in message
