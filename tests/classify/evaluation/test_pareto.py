"""The Pareto page: points that follow from evaluations, the front, and the files."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from evaluations import Bench
from PIL import Image

from abs_classify import evaluate
from abs_classify.evaluation.pareto import ParetoPoint, ParetoResults, _mark_front, measure_pareto, write_pareto
from abs_core.errors import UsageError

POINT = ParetoPoint("abs", "5", 5.0, 0.5, 0.4, 0.6, 0.9, 0.02)


def test_a_point_is_on_the_front_unless_a_faster_one_is_as_accurate() -> None:
    points = [
        POINT,
        replace(POINT, seconds=0.01),
        replace(POINT, accuracy=0.6, seconds=0.03),
        replace(POINT, accuracy=0.4, seconds=0.001),
        replace(POINT, accuracy=0.3, seconds=0.04),
    ]
    assert [point.on_front for point in _mark_front(points)] == [False, True, True, True, False]


@pytest.mark.slow
def test_points_are_those_of_evaluations(bench: Bench, image_folder: Callable[..., Path]) -> None:
    spec = f"imagefolder:{image_folder('data', cat=3, car=3)}"
    settings = {"attention": "self", "device": "cpu", "cache": bench.store}
    results = measure_pareto(spec, bench.model, views=[2], agreements=[0.9], timed=2, **settings)
    assert [(point.method, point.views) for point in results.points] == [
        ("clip", ""),
        ("cupl", ""),
        ("wca", ""),
        ("abs", "2"),
        ("abs", "50"),
        ("abs", "P=0.9"),
    ]
    crops = {point.views: point.mean_crops for point in results.points if point.method == "abs"}
    assert (crops["2"], crops["50"]) == (2, 50)
    assert 1 <= crops["P=0.9"] <= 50
    full = results.points[4]
    assert (full.agreement, results.images, results.timed) == (1.0, 6, 2)
    (record,) = evaluate(spec, bench.model, "abs", views=2, **settings)
    assert results.points[3].accuracy == record.metrics.acc1
    assert all(point.seconds > 0 for point in results.points)
    assert full.seconds > results.points[3].seconds
    with pytest.raises(UsageError, match="got 0 and 2"):
        measure_pareto(spec, bench.model, views=[0], timed=2)


def test_the_files_hold_every_point_and_no_formula(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    points = [
        POINT,
        replace(POINT, views="P=0.99", seconds=0.01),
        replace(POINT, method="clip", views="", seconds=0.001),
    ]
    results = ParetoResults(_mark_front(points), "=cmd()$x$", "model", 20, 1, 4)
    table, picture = write_pareto(results, tmp_path / "out")
    rows = list(csv.DictReader(io.StringIO(table.read_text(encoding="utf-8"))))
    assert [(row["method"], row["views"], float(row["seconds"])) for row in rows] == [
        (point.method, point.views, point.seconds) for point in points
    ]
    assert {row["dataset"] for row in rows} == {"'=cmd()$x$"}
    with Image.open(picture) as image:
        assert image.size[0] > 1000
        assert len(image.convert("RGB").getcolors(1 << 24) or []) > 100
    assert str(results).splitlines()[0].startswith("=cmd()$x$: 20 images, model")
    assert len(results.to_dict()["points"]) == 3
