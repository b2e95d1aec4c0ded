"""The tables of docs/cache.md, as the code has them: what each option computes anew, and the bytes of an image."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from evaluations import Bench, described

from abs_classify import AdaptiveViews
from abs_classify.evaluation.evaluation_results import EvaluationResults
from abs_classify.methods.table import get_method
from abs_cli.commands.eval import command

PAGE = Path(__file__).parents[3] / "docs" / "cache.md"
COLUMNS = ["class texts", "image facts", "attention maps", "full image", "crops and windows"]
METHODS = "clip-e,cupl,abs"


def table(header: str) -> list[list[str]]:
    """The rows of the table with that first column, without its head."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {header} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def computed(results: EvaluationResults) -> list[str]:
    """Of each column: "-", "new" or "all"."""
    asked, fresh = dict.fromkeys(COLUMNS, 0), dict.fromkeys(COLUMNS, 0)
    for work in results.work.spaces.values():
        column = {"text-features": COLUMNS[0], "images": COLUMNS[1], "attention": COLUMNS[2]}.get(work.space.stage)
        if column is None:
            column = COLUMNS[3] if work.space.inputs["view"]["kind"] == "whole" else COLUMNS[4]
        # maps are asked for where a guided view is missing, so what was there does not show
        asked[column] += results.work.images if column == COLUMNS[2] else work.rows
        fresh[column] += work.rows_computed
    return ["-" if not fresh[name] else "all" if fresh[name] == asked[name] else "new" for name in COLUMNS]


@pytest.fixture
def rerun(bench: Bench, image_folder: Callable[..., Path], small_clips: tuple[str, str], tmp_path: Path) -> Any:
    """Run once, and then once more with what a row of the table changes."""
    data = image_folder("data", cat=2, dog=2)
    settings: dict[str, Any] = {"methods": METHODS, "descriptions": described("pets", "cat", "dog"), "views": 3}

    def more_images() -> dict[str, Any]:
        image_folder("more", cat=2, dog=2, car=1)
        shutil.copy(tmp_path / "more" / "car" / "00.png", data / "cat" / "zz.png")
        return {}

    def renamed() -> dict[str, Any]:
        for number, path in enumerate(sorted(data.rglob("*.png"))):
            path.rename(path.with_name(f"{9 - number}.png"))
        return {}

    changes: dict[str, Callable[[], dict[str, Any]]] = {
        "`--dataset` with one more image": more_images,
        "`--dataset` with the files renamed and in another order": renamed,
        "`--limit`": lambda: {"limit": 2},
        "`--stratified`": lambda: {"limit": 2, "stratified": True},
        "`--bundle`": lambda: {"descriptions": described("others", "cat", "dog")},
        "`--labels`": lambda: {"descriptions": None, "labels": ["cat", "dog", "fox"]},
        "`--methods` with another kind of view": lambda: {"methods": f"{METHODS},wca"},
        "`--views`, more of them": lambda: {"views": 5},
        "`--views`, fewer of them": lambda: {"views": 2},
        "`--agreement`": lambda: {"views": AdaptiveViews(0.9999)},
        "`--stopping`": lambda: {"views": AdaptiveViews(stopping="guaranteed")},
        "`--budget-views`": lambda: {"views": AdaptiveViews(budget_views=6)},
        "`--budget-seconds`": lambda: {"views": AdaptiveViews(budget_seconds=600)},
        "`--templates`": lambda: {"templates": "imagenet-80"},
        "`--control`": lambda: {"control": "waffle"},
        "`--seed`": lambda: {"seed": 1},
        "`--model`": lambda: {"models": small_clips[1]},
        "`--dtype`": lambda: {"dtype": "bfloat16"},
        "`--attention`": lambda: {"attention": "none"},
        "`--batch-size`": lambda: {"batch_size": 2},
        "`--threads`": lambda: {"threads": 1},
        "`--device`": lambda: {"device": "auto"},
        "`--runtime`": lambda: {"runtime": "onednn"},
        "`--on-error`": lambda: {"on_error": "skip"},
        "`--truncated`": lambda: {"truncated": "accept"},
        "`--stream-order`": lambda: {"stream_order": "dataset"},
        "`--shard`": lambda: {"shard": "1/2"},
        "`--results`": lambda: {"results": tmp_path / "results"},
    }
    bench.run(data, **settings)
    return lambda row: computed(bench.run(data, **(settings | changes[row]())))


ROWS = {
    name: row[1:]
    for row in table("changed")
    for name in ([row[0]] if "," in row[0].split("`")[-1] else re.split(r", (?=`)", row[0]))
}
# further files of a run, which have nothing to do with what is computed
FILES = ["--predictions", "--texts", "--save-calibration", "--export-csv", "--report", "--report-images", "--json"]

# who computes it; the tests of engines compare what comes of it
ENGINES = ["--engine", "--address", "--workers", "--cpus-per-worker", "--gpus-per-worker"]


@pytest.mark.slow
# a calibration is made of 100 images, and stops as --agreement does; a plugin stays loaded for all later tests
@pytest.mark.parametrize(
    "row", [name for name in ROWS if name.strip("`") not in {*FILES, *ENGINES, "--seeds", "--calibration", "--plugin"}]
)
def test_an_option_computes_what_the_page_says(rerun: Callable[[str], list[str]], row: str) -> None:
    assert rerun(row) == ROWS[row]


def test_every_option_of_eval_is_on_the_page() -> None:
    options = {min(param.opts, key=lambda name: name == "--method") for param in command.params}
    assert {re.findall(r"`(--[a-z-]+)`", name)[0] for name in ROWS} == options


def bytes_of(methods: list[str], dimension: int = 512, grid: int = 14) -> tuple[int, int]:
    """Views, and bytes of features and attention map, that methods keep of an image."""
    views: dict[str, Any] = {}
    for method in methods:
        for view in get_method(method).views:
            key = str({name: value for name, value in view.key().items() if name != "count"})
            views[key] = max(views.get(key, view), view, key=lambda source: source.count)
    count = sum(view.count for view in views.values())
    maps = any(view.needs_attention for view in views.values())
    return count, 4 * (count * dimension + maps * grid * grid)


@pytest.mark.parametrize("row", table("methods"), ids=lambda row: row[0])
def test_the_bytes_of_an_image_are_those_of_its_views(row: list[str]) -> None:
    names, views, size = row
    methods = re.split(r", | and ", names.removesuffix(" together"))
    groups = [methods] if names.endswith("together") else [[method] for method in methods]
    assert {bytes_of(group) for group in groups} == {(int(views), int(size.replace(",", "")))}
