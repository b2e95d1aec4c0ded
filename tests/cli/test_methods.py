"""`abs methods`, and rows with parameters in `abs eval` and `abs label`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from support import Abs

from abs_classify.methods.table import METHODS

ROW = "abs-pixels(temperature=0.05,views=6)"
HOSTILE = "clip(template=\"</script><img src=x> {}, 'a' & (b)\")"


def test_the_parameters_of_a_row_are_listed(abs_command: Abs) -> None:
    ran = abs_command("methods", "abs-vote")
    assert ran.code == 0, ran.err
    lines = ran.out.splitlines()
    assert lines[0] == f"abs-vote: {METHODS['abs-vote'].summary}"
    assert lines[1].startswith("no top-5")
    shown = {line.split("=")[0].strip(): line for line in lines[3:]}
    assert list(shown) == list(METHODS["abs-vote"].parameters)
    assert shown["gamma"].split() == ["gamma=0.3", "scorer:", "share", "of", "the", "views", "that", "vote."]
    assert shown["tie_break"].endswith("[tied, upstream, tta-vlm]")
    assert "no parameters" in abs_command("methods", "clip-e").out
    assert abs_command("methods", "abs(top_k=3)").out.splitlines()[0].startswith("abs(top_k=3): ")
    assert "did you mean 'abs'" in abs_command.refuses("methods", "asb")


def test_parameters_as_json(abs_command: Abs) -> None:
    (row,) = [json.loads(abs_command("methods", ROW, "--json").out)]
    assert row["name"] == ROW
    by_name = {parameter["name"]: parameter for parameter in row["parameters"]}
    assert by_name["views"] == {
        "name": "views", "of": "views", "type": "integer", "default": 6, "optional": False, "choices": [],
        "meaning": "number of views N.",
    }  # fmt: skip
    assert by_name["ratio"]["default"] == [0.6, 0.9]
    every = json.loads(abs_command("methods", "--json").out)
    assert [method["name"] for method in every] == list(METHODS)
    assert all(len(method["parameters"]) == len(METHODS[method["name"]].parameters) for method in every)


@pytest.mark.slow
def test_rows_with_parameters_have_one_name_in_tables_results_and_reports(
    abs_command: Abs, folder: Callable[..., Path], tmp_path: Path
) -> None:
    root = folder(cat=["a.png", "b.png"], car=["c.png"])
    page = tmp_path / "page.html"
    arguments = ["eval", "--dataset", f"imagefolder:{root}", "--threads", "1"]
    given = f"{HOSTILE}, abs-pixels( views=6, temperature=5e-2 ),abs-pixels(temperature=0.05,views=6)"
    ran = abs_command(*arguments, "--methods", given, "--report", page, "--json")
    assert ran.code == 0, ran.err
    records = json.loads(ran.out)["results"]
    assert [record["method"] for record in records] == [HOSTILE, ROW]
    assert records[1]["details"]["method"]["views"] == "6 crops"
    html = page.read_text(encoding="utf-8")
    assert ROW in html
    assert "<img src=x>" not in html
    names = [path.name for path in (abs_command.home / "results").rglob("*.json")]
    assert any("abs-pixels-temperature-0.05-views-6" in name for name in names)
    assert all(set(name).isdisjoint("<>()=,'\"& /") for name in names)
    again = abs_command(*arguments, "--methods", ROW)
    assert "everything came from the cache" in again.err
    assert ROW in again.out
    assert ROW in abs_command("results", "show", "last").out
    budget = abs_command(*arguments, "--methods", f"clip,{ROW}", "--views", "adaptive", "--budget-views", "5")
    assert budget.code == 0, budget.err
    assert "of 6 crops (budget)" in budget.out
    refused = abs_command.refuses(*arguments, "--methods", ROW, "--views", "3")
    assert "was given 6 views, and --views gives it 3" in refused
    assert "lacks a closing bracket" in abs_command.refuses(*arguments, "--methods", "clip,abs(views=3,wca")


@pytest.mark.slow
def test_a_labelled_folder_knows_its_parameters(abs_command: Abs, folder: Callable[..., Path], tmp_path: Path) -> None:
    root, out = folder(cat=["a.png"], car=["c.png"]), tmp_path / "labels"
    arguments = ["label", root, "--labels", "cat,car", "--out", out, "--threads", "1", "--method"]
    first = abs_command(*arguments, "abs-pixels(views=6, temperature=0.050)")
    assert first.code in (0, 3), first.err
    again = abs_command(*arguments, ROW)
    assert again.code == first.code
    assert "everything came from the cache" in again.err
    refused = abs_command.refuses(*arguments, "abs-pixels(views=7,temperature=0.05)")
    assert f"its method is '{ROW}', not 'abs-pixels(temperature=0.05,views=7)'" in refused
