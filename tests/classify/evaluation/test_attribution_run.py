"""The cells and controls of an attribution, against evaluations of the rows that they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from evaluations import Bench

from abs_classify import AttributionResults, attribute_gain
from abs_classify.evaluation.attribution_run import ATTRIBUTION_CONTROLS
from abs_core.descriptions import Description, LabelSpace
from abs_core.errors import DatasetError, UsageError
from abs_core.labels import from_names

Folder = Callable[..., Path]
NAMES = ("cat", "car", "dog", "eel")


def space(*, names: tuple[str, ...] = NAMES, sentences: str = "{name} has mark {class_number}{number}") -> LabelSpace:
    """Three sentences for each class."""
    labels = from_names(names)
    descriptions = {
        name: [
            Description(sentences.format(name=name, class_number=class_number, number=number)) for number in range(3)
        ]
        for class_number, name in enumerate(names)
    }
    return LabelSpace(labels, descriptions, "things@1.0.0")


@pytest.fixture
def data(image_folder: Folder) -> Path:
    return image_folder("data", cat=5, car=4, dog=4, eel=4)


def attributed(bench: Bench, data: Path, descriptions: LabelSpace | None = None, **options: Any) -> AttributionResults:
    settings: dict[str, Any] = {"model": bench.model, "attention": "self", "device": "cpu", "views": 2}
    used = space() if descriptions is None else descriptions
    return attribute_gain(used, f"imagefolder:{data}", cache=bench.store, **(settings | options))


@pytest.mark.slow
def test_every_cell_and_control_is_the_evaluation_that_its_levels_name(bench: Bench, data: Path) -> None:
    results = attributed(bench, data, seeds=2, seed=3)
    # guided and random views of 17 images with two seeds, two of each kind
    assert results.work.views_computed == 17 * 2 * 2 * 4
    assert attributed(bench, data, seeds=2, seed=3).work.views_computed == 0

    def top1(control: str | None = None, methods: str = "abs,abs-mean,abs-random") -> dict[str, float]:
        records = bench.run(data, methods, descriptions=space(), control=control, seeds=2, seed=3)
        return {record.method: record.details.seeds.mean for record in records}

    described, named = top1(), top1("classname-only")
    cells = {(cell.views, cell.texts, cell.matching): cell.top1 for cell in results.attribution.cells}
    for texts, expected in (("descriptions", described), ("class names", named)):
        assert cells["guided", texts, "soft"] == pytest.approx(expected["abs"])
        assert cells["guided", texts, "mean"] == pytest.approx(expected["abs-mean"])
        assert cells["random", texts, "soft"] == pytest.approx(expected["abs-random"])
    assert len(set(cells.values())) > 1
    for outcome in results.attribution.controls:
        assert outcome.cell.top1 == pytest.approx(top1(outcome.control, "abs")["abs"])
    assert [outcome.control for outcome in results.attribution.controls] == list(ATTRIBUTION_CONTROLS)
    assert [record.method for record in results.results][-4:] == [
        "guided+descriptions+soft",
        *(f"guided+{control}+soft" for control in ATTRIBUTION_CONTROLS),
    ]


@pytest.mark.slow
def test_descriptions_that_say_nothing_but_the_name_lose_nothing_when_they_are_swapped(
    bench: Bench, data: Path
) -> None:
    empty = space(sentences="picture {number} of a {name}")
    controls = {entry.control: entry for entry in attributed(bench, data, empty).attribution.controls}
    assert controls["swap"].meaning.value == 0
    assert controls["swap"].meaning.p_value == 1


@pytest.mark.slow
def test_class_names_in_several_templates_and_crops_alone(bench: Bench, data: Path) -> None:
    one = attributed(bench, data, method="abs-pixels").attribution
    several = attributed(bench, data, method="abs-pixels", templates="imagenet-80").attribution
    described = [number for number, cell in enumerate(one.cells) if cell.texts == "descriptions"]
    assert [one.cells[number] for number in described] == [several.cells[number] for number in described]
    assert one.cells != several.cells


def test_what_cannot_be_taken_apart_is_refused(bench: Bench, data: Path) -> None:
    with pytest.raises(UsageError, match=r"'cupl' does not join guided views.*Use abs, abs-pixels"):
        attributed(bench, data, method="cupl")
    with pytest.raises(UsageError, match="'abs-random' does not join"):
        attributed(bench, data, method="abs-random")
    with pytest.raises(UsageError, match=r"needs descriptions, and .* has none.*abs gen-descriptions"):
        attributed(bench, data, LabelSpace.of_labels(from_names(NAMES)))
    with pytest.raises(UsageError, match="must be a whole number from 1 on, got 'adaptive'"):
        attributed(bench, data, views="adaptive")
    with pytest.raises(UsageError, match="seeds must be 1 or more, got 0"):
        attributed(bench, data, seeds=0)
    with pytest.raises(DatasetError, match="Use a bundle for the classes of these images"):
        attributed(bench, data, space(names=("owl", "yak")))
