"""Every parameter of every row changes views, class texts or scores; extreme values give finite scores or an error."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from feature_vectors import run_stream, unit_texts
from torch import Tensor

from abs_classify.methods.class_texts import ClassTextInputs, ClassTexts
from abs_classify.methods.parameters import Parameter, ParameterValue
from abs_classify.methods.scoring import ClassTextFeatures
from abs_classify.methods.similarity import unit
from abs_classify.methods.table import METHODS, Method, with_parameters
from abs_classify.methods.views import Geometry, place_views
from abs_core.canonical import digest
from abs_core.descriptions import Description
from abs_core.errors import UsageError

CLASSES = {"a": "great owl", "b": "fox", "c": "red panda"}
DESCRIPTIONS = {name: (Description(f"{name} one."), Description("round eyes", "phrase")) for name in CLASSES}
ROWS = [(row, parameter) for row in METHODS.values() for parameter in row.parameters.values()]
each = pytest.mark.parametrize(
    ("row", "parameter"), ROWS, ids=[f"{row.name}-{parameter.name}" for row, parameter in ROWS]
)

#: values beside the default, where twice or half of it is none or changes nothing here
OTHERS: dict[str, ParameterValue] = {
    "top_k": 3, "limit": 1, "mode": "characters", "fallback": "imagenet-80", "template": "a sketch of a {}.",
    "rounds": 1, "settled": 100.0, "positive_capacity": 0, "negative_capacity": 0, "tie_break": "tta-vlm",
    "window": (0.01, 0.9), "mask": (0.3, 0.9), "capacity": 1, "floor": 0.3, "gamma": 0.9, "area": (0.5, 0.6),
    "balance": 0.0, "mix": 0.1,
}  # fmt: skip


def other_value(parameter: Parameter) -> ParameterValue:
    default = parameter.default
    if parameter.name in OTHERS:
        return OTHERS[parameter.name]
    if isinstance(default, bool):
        return not default
    if isinstance(default, str):
        return next(choice for choice in parameter.choices if choice != default)
    if isinstance(default, tuple):
        return default[0] / 2, default[1] / 1.5
    assert default is not None
    return 5 if isinstance(default, int) else default / 4


def texts_of(row: Method, described: bool) -> ClassTexts:
    templates = ["a photo of a {}.", "a drawing of a {}."]
    return row.texts.build(ClassTextInputs(CLASSES, DESCRIPTIONS if described else None, templates))


@cache
def text_vector(text: str) -> Tensor:
    generator = torch.Generator().manual_seed(int(digest(text)[-12:], 16))
    return torch.randn(16, generator=generator) + 4


def places(row: Method) -> list[tuple[int, ...]]:
    attention = np.random.default_rng(0).random((14, 14))
    placed = place_views(Geometry(7, 1.0), attention, "0" * 64, (320, 211), row.views)
    return [tuple(map(int, place)) for view in row.views for place in placed[view]]


def scores_of(row: Method, images: int = 24) -> Tensor:
    """Scores of random features, from the row's texts and number of views."""
    texts = texts_of(row, described=True)
    features = ClassTextFeatures(
        unit(torch.stack([text_vector(text) for text in texts.texts])),
        torch.tensor(texts.class_index),
        unit(torch.stack([text_vector(text) for text in texts.label_texts])),
    )
    generator = torch.Generator().manual_seed(1)
    noise = {view.kind: torch.randn(images, view.count, 16, generator=generator) + 4 for view in row.views}
    views = {kind: unit(rows) for kind, rows in noise.items()}
    return run_stream(row.scorer, views, features) if row.stream else row.scorer.scores(views, features)  # type: ignore[union-attr,arg-type]


@each
def test_a_parameter_changes_what_it_says(row: Method, parameter: Parameter) -> None:
    value = other_value(parameter)
    other = with_parameters(row, {parameter.name: value})
    assert other.name.startswith(f"{row.name}({parameter.name}=")
    assert parameter.meaning
    if parameter.part == "views":
        assert other.key() != row.key()
        assert places(other) != places(row)
    elif parameter.part == "texts":
        described = parameter.name != "fallback"
        assert texts_of(other, described).digest != texts_of(row, described).digest
    else:
        assert other.key() != row.key()
        assert not torch.equal(scores_of(other), scores_of(row)) or parameter.name == "tie_break"


@pytest.mark.parametrize("name", ["zero", "zero-crops", "zero-e", "abs-vote"])
@pytest.mark.parametrize("tie_break", ["upstream", "tta-vlm"])
def test_the_last_resort_of_a_vote_decides_ties_that_no_view_breaks(name: str, tie_break: str) -> None:
    # two of seven views vote, for different classes, and the others for a third
    certain = torch.tensor([[9.0, 0, 0, 0, 0], [0, 9.0, 0, 0, 0], *[[0, 0.5, 1.0, 0, 0]] * 5])
    row = with_parameters(METHODS[name], {"views": 6, "gamma": 0.3})
    other = with_parameters(row, {"tie_break": tie_break})
    texts = unit_texts(torch.eye(5), torch.arange(5), torch.eye(5))
    kinds = [view.kind for view in row.views]
    views: dict[str, Any] = dict(zip(kinds, unit(certain)[None].split([1, 6], 1), strict=True))
    first, second = (method.scorer.scores(views, texts) for method in (row, other))  # type: ignore[union-attr]
    assert first.tolist() == [[1, 2, 0, 0, 0]]
    assert first.tolist() != second.tolist()


EXTREMES = ["0", "1", "-1", "1e-99", "-1e-99", "1e99", "999999999999999999", "1e-6", "1e6", "0.999999", "40", "20"]


@pytest.mark.parametrize(
    ("row", "parameter"),
    [(row, parameter) for row, parameter in ROWS if parameter.part == "scorer" and parameter.type in (int, float)],
    ids=lambda value: value.name,
)
def test_an_extreme_value_gives_finite_scores_or_an_error(row: Method, parameter: Parameter) -> None:
    accepted = 0
    for text in EXTREMES:
        try:
            other = with_parameters(row, {parameter.name: text})
        except UsageError as error:
            assert parameter.name.split("_")[-1] in str(error)  # noqa: PT017 - which values are refused is not the point
            continue
        accepted += 1
        assert scores_of(other, 3).isfinite().all(), text
    assert accepted


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", ["1e-99", "1e99", ("1e-99", "1e99"), ("1e-99", "1"), ("1e-99", "1e-98")], ids=str)
def test_extreme_shares_and_temperatures_of_views_place_them_or_are_refused(value: str | tuple[str, str]) -> None:
    placed = 0
    for row, parameter in ROWS:
        if parameter.part == "views" and parameter.type is (tuple if isinstance(value, tuple) else float):
            try:
                other = with_parameters(row, {parameter.name: value})
            except UsageError:
                continue
            assert min(map(min, places(other))) >= 0
            placed += 1
    assert placed or value == ("1e-99", "1e99")
