"""The table of methods: its rows, a row of the user's own, and every row on real vectors."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from feature_vectors import run_stream, unit_texts
from torch import Tensor

from abs_classify.methods.class_texts import ClassTextInputs, ClassTexts, Sentences
from abs_classify.methods.scoring import ClassTextFeatures, CosineToMean, MeanSimilarity, SoftMatch
from abs_classify.methods.similarity import unit
from abs_classify.methods.table import METHODS, Method, get_method, register
from abs_classify.methods.views import (
    AttentionCrops,
    FeatureWindows,
    FullImage,
    RandomCrops,
    RandomResizedCrops,
    ViewSource,
)
from abs_core.canonical import digest
from abs_core.descriptions import Description
from abs_core.errors import UnknownNameError, UsageError

CLASSES = {"n01": "great_owl", "n02": "fox", "n03": "red panda"}
DESCRIPTIONS = {
    "n01": (Description("A great owl has round eyes."), Description("large wings", "phrase")),
    "n02": (Description("A fox has a bushy tail."),),
    "n03": (Description("A red panda has rings on its tail."),),
}
NAMES = [
    "clip", "clip-e", "clip-d", "clip-d-wca", "waffle", "waffle-wca", "cupl", "wca", "abs", "abs-random", "abs-pixels",
    "abs-features", "abs-mean", "abs-hard", "abs-aligned", "abs-vote", "mta", "mta-crops", "zero", "zero-crops",
    "zero-e", "awt", "tda", "dmn", "onzeta",
]  # fmt: skip


def table_of(method: Method) -> ClassTexts:
    return method.texts.build(ClassTextInputs(CLASSES, DESCRIPTIONS, ["a photo of a {}.", "a drawing of a {}."]))


def features_of(table: ClassTexts) -> ClassTextFeatures:
    torch.manual_seed(0)
    return unit_texts(
        torch.randn(len(table.texts), 16) + 1,
        torch.tensor(table.class_index),
        torch.randn(len(table.class_ids), 16) + 1,
    )


def encoded(sources: tuple[ViewSource, ...], images: int = 4) -> dict[ViewSource, Tensor]:
    torch.manual_seed(1)
    return {source: unit(torch.randn(images, source.count, 16) + 1) for source in sources}


def test_the_rows_are_those_of_the_field() -> None:
    assert list(METHODS) == NAMES
    assert [name for name, row in METHODS.items() if row.stream] == ["tda", "dmn", "onzeta"]
    assert all(row.name == name and row.summary for name, row in METHODS.items())
    voting = ["abs-hard", "abs-vote", "zero", "zero-crops", "zero-e"]
    assert [name for name, row in METHODS.items() if row.note] == [*voting, "tda", "dmn", "onzeta"]


def test_the_published_settings() -> None:
    assert METHODS["abs"].views == (AttentionCrops(50), FeatureWindows(50))
    assert METHODS["abs"].scorer == SoftMatch(0.03)
    assert METHODS["wca"].views == (FullImage(), RandomCrops(60, (0.1, 0.9)))
    assert METHODS["wca"].scorer.key() == {"matcher": "wca", "image_scale": 4.0, "text_scale": 2.0}
    for name in ("mta", "zero", "zero-e"):
        assert METHODS[name].views == (FullImage(), RandomResizedCrops(63, (0.08, 1.0), (3 / 4, 4 / 3)))
    assert METHODS["awt"].views == (FullImage(), RandomResizedCrops(50))
    assert METHODS["mta-crops"].views == METHODS["zero-crops"].views == (FullImage(), RandomCrops(63))
    assert {view.alignment for view in METHODS["abs-aligned"].views} == {"aligned"}
    assert all(not view.guided for view in METHODS["abs-random"].views)
    assert METHODS["clip-d"].texts == METHODS["clip-d-wca"].texts
    assert METHODS["clip-d"].scorer != METHODS["clip-d-wca"].scorer


def test_an_unknown_method_is_told_the_known_ones() -> None:
    with pytest.raises(
        UnknownNameError,
        match=r"unknown method 'asb' \(did you mean 'abs'\?\); valid: abs, .* and 17 more. See `abs methods`",
    ):
        get_method("asb")
    assert get_method("abs") is METHODS["abs"]


@pytest.mark.usefixtures("clean_table")
def test_a_user_adds_a_row_in_a_few_lines() -> None:
    mine = register(
        Method(
            "mine",
            "whole image and 10 crops, soft",
            (FullImage(), RandomCrops(10)),
            Sentences(limit=1),
            SoftMatch(0.05),
        )
    )
    assert get_method("mine") is mine
    assert list(METHODS)[-1] == "mine"
    scores = mine.scorer.scores(mine.views_by_kind(encoded(mine.views)), features_of(table_of(mine)))
    assert scores.shape == (4, 3)
    assert register(mine) is mine
    with pytest.raises(UsageError, match="'mine' is already registered"):
        register(Method("mine", "", (FullImage(),), Sentences(), MeanSimilarity()))


def test_the_table_itself_cannot_be_written() -> None:
    with pytest.raises(TypeError):
        METHODS["abs"] = METHODS["clip"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("name", "views", "message"),
    [
        ("", (FullImage(),), "lacks a name or views"),
        ("mine", (), "lacks a name or views"),
        ("mine", (RandomCrops(10), RandomCrops(20)), "two view sources of one kind: random, random"),
    ],
)
def test_a_row_that_cannot_work_is_refused(name: str, views: tuple[ViewSource, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Method(name, "", views, Sentences(), SoftMatch())


@pytest.mark.parametrize("name", NAMES)
def test_every_row_runs_and_has_a_key_of_its_own(name: str) -> None:
    method = METHODS[name]
    table = table_of(method)
    views, texts = method.views_by_kind(encoded(method.views)), features_of(table)
    run = run_stream if method.stream else lambda scorer, *rest: scorer.scores(*rest)
    scores = run(method.scorer, views, texts)
    assert scores.shape == (4, 3)
    assert scores.dtype == torch.float32
    assert scores.isfinite().all()
    key = json.loads(json.dumps(method.key()))
    assert key == method.key()
    # rows with the same views and scorer differ in their texts
    same = [row for row in METHODS.values() if digest(row.key()) == digest(key)]
    assert len({(type(row.texts), digest(row.key())) for row in same}) == len(same)


def test_features_that_other_methods_need_are_left_aside() -> None:
    everything = encoded((FullImage(), RandomCrops(60), AttentionCrops(50), FeatureWindows(50)))
    assert list(METHODS["abs"].views_by_kind(everything)) == ["box", "window"]


@pytest.mark.parametrize("method", list(METHODS.values()), ids=list(METHODS))
def test_a_method_that_gives_most_classes_no_score_says_that_it_votes(method: Method) -> None:
    if method.stream:
        assert not method.votes
        return
    torch.manual_seed(0)
    texts = unit_texts(torch.randn(900, 16), torch.arange(300).repeat_interleave(3), torch.randn(300, 16))
    views = {view.kind: unit(torch.randn(1, view.count, 16)) for view in method.views}
    scores = method.scorer.scores(views, texts)[0]
    without = int((scores == 0).sum())
    assert (without > 100) == method.votes
    assert ("no top-5" in method.note) == method.votes


def test_methods_whose_score_is_no_sum_over_sampled_views_keep_their_number() -> None:
    sources = {name: row.adaptive_views(cheap_windows=True) for name, row in METHODS.items()}
    adaptive = {name for name, views in sources.items() if views}
    assert adaptive == {"abs", "abs-random", "abs-aligned", "abs-pixels", "abs-mean", "abs-hard"}
    assert all(view.kind == "box" for name in adaptive for view in sources[name])
    assert [view.kind for view in METHODS["abs"].adaptive_views(cheap_windows=False)] == ["box", "window"]
    assert METHODS["abs-features"].adaptive_views(cheap_windows=False)


def test_views_come_in_rounds_where_there_are_more_than_a_look_and_as_many_of_each_kind() -> None:
    def adaptive(scorer: Any, *views: ViewSource) -> tuple[ViewSource, ...]:
        return Method("m", "", views, Sentences(), scorer).adaptive_views(cheap_windows=True)

    assert adaptive(SoftMatch(), FullImage(), RandomCrops(30)) == (RandomCrops(30),)
    assert not adaptive(CosineToMean(), FullImage(), RandomCrops(30))
    assert not adaptive(SoftMatch(), AttentionCrops(4))
    assert not adaptive(SoftMatch(), AttentionCrops(40), RandomCrops(30))
