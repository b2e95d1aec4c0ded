"""Explanations: shares that add up, in the right order, and honest silence where there are none."""

from __future__ import annotations

import json

import pytest
import torch
from feature_vectors import run_stream, unit_texts
from torch import Tensor

from abs_classify.explanation import RankedClass, explain
from abs_classify.methods.class_texts import ClassTexts
from abs_classify.methods.scoring import ClassTextFeatures
from abs_classify.methods.similarity import unit
from abs_classify.methods.table import METHODS
from abs_core.errors import UsageError

TABLE = ClassTexts(
    class_ids=("owl", "fox", "cat"),
    class_names=("barn owl", "red fox", "house cat"),
    texts=("round eyes", "a beak", "a bushy tail", "whiskers", "pointed ears", "soft paws"),
    class_index=(0, 0, 1, 2, 2, 2),
    label_texts=("a photo of an owl.", "a photo of a fox.", "a photo of a cat."),
)
SUMS = ["clip", "clip-d", "cupl", "wca", "abs", "abs-mean", "abs-hard"]


def features() -> ClassTextFeatures:
    torch.manual_seed(0)
    return unit_texts(torch.randn(6, 16) + 1, torch.tensor(TABLE.class_index), torch.randn(3, 16) + 1)


def views_of(name: str) -> dict[str, Tensor]:
    torch.manual_seed(1)
    return {view.kind: unit(torch.randn(view.count, 16) + 1) for view in METHODS[name].views}


@pytest.mark.parametrize("name", SUMS)
def test_shares_add_up_to_scores_and_margin(name: str) -> None:
    views = views_of(name)
    scores = METHODS[name].scorer.scores({kind: rows[None] for kind, rows in views.items()}, features())[0]
    explanation = explain(METHODS[name], views, features(), TABLE)
    order = scores.argsort(descending=True).tolist()
    assert [explanation.winner, explanation.runner_up] == [
        RankedClass(TABLE.class_ids[c], TABLE.class_names[c], float(scores[c])) for c in order[:2]
    ]
    assert explanation.note == ""

    near = {"rel": 1e-5, "abs": 1e-6}
    assert sum(view.winner for view in explanation.views) == pytest.approx(explanation.winner.score, **near)
    assert sum(view.runner_up for view in explanation.views) == pytest.approx(explanation.runner_up.score, **near)
    assert sum(view.contribution for view in explanation.views) == pytest.approx(explanation.margin, **near)
    assert sum(text.contribution for text in explanation.sentences) == pytest.approx(explanation.margin, **near)
    own = [text.score for text in explanation.sentences if text.class_id == explanation.winner.class_id]
    assert sum(own) == pytest.approx(explanation.winner.score, **near)


@pytest.mark.parametrize("name", SUMS)
def test_the_strongest_come_first(name: str) -> None:
    explanation = explain(METHODS[name], views_of(name), features(), TABLE)
    for shares in (explanation.views, explanation.sentences):
        sizes = [abs(share.contribution) for share in shares]
        assert sizes == sorted(sizes, reverse=True)
    expected = {(view.kind, index) for view in METHODS[name].views for index in range(view.count)}
    assert {(view.kind, view.index) for view in explanation.views} == expected
    both = (explanation.winner.class_id, explanation.runner_up.class_id)
    assert {text.class_id for text in explanation.sentences} == set(both)


def test_the_view_and_the_sentence_that_decide_are_found() -> None:
    """One view looks exactly like one sentence; the others look like nothing."""
    axes = torch.eye(16)
    texts = ClassTextFeatures(axes[:6], torch.tensor(TABLE.class_index), axes[6:9])
    views = {"box": axes[9:16].repeat(8, 1)[:50], "window": axes[9:16].repeat(8, 1)[:50]}
    views["window"][31] = axes[4]
    explanation = explain(METHODS["abs"], views, texts, TABLE)
    assert explanation.winner.class_id == "cat"
    assert (explanation.views[0].kind, explanation.views[0].index) == ("window", 31)
    assert explanation.views[0].sentence == "pointed ears"
    assert explanation.sentences[0].text == "pointed ears"
    assert explanation.sentences[0].contribution == pytest.approx(explanation.margin, rel=1e-5)


@pytest.mark.parametrize("name", ["mta", "zero"])
def test_what_is_no_sum_says_so(name: str) -> None:
    explanation = explain(METHODS[name], views_of(name), features(), TABLE)
    assert explanation.views == ()
    assert explanation.sentences == ()
    assert "no sums" in explanation.note
    assert explanation.margin >= 0


def test_a_stream_says_so_and_needs_its_scores() -> None:
    views = views_of("tda")
    with pytest.raises(UsageError, match="by the images before it"):
        explain(METHODS["tda"], views, features(), TABLE)
    scores = run_stream(METHODS["tda"].scorer, {"whole": views["whole"][None]}, features())[0]
    explanation = explain(METHODS["tda"], views, features(), TABLE, scores)
    assert "images before it" in explanation.note
    assert explanation.winner.class_id == TABLE.class_ids[int(scores.argmax())]


def test_given_scores_decide_who_won() -> None:
    scores = torch.tensor([0.1, 0.3, 0.2])
    explanation = explain(METHODS["clip"], views_of("clip"), features(), TABLE, scores)
    assert (explanation.winner.name, explanation.runner_up.name) == ("red fox", "house cat")
    assert explanation.margin == pytest.approx(0.1)
    with pytest.raises(UsageError, match=r"scores must have the shape \[3\], one for each class, got \[2\]"):
        explain(METHODS["clip"], views_of("clip"), features(), TABLE, scores[:2])


def test_only_chosen_classes_may_win() -> None:
    views = views_of("abs")
    best = explain(METHODS["abs"], views, features(), TABLE)
    among = [at for at, class_id in enumerate(TABLE.class_ids) if class_id != best.winner.class_id]
    chosen = explain(METHODS["abs"], views, features(), TABLE, among=among)
    assert chosen.winner == best.runner_up
    assert best.winner.class_id not in {share.class_id for share in chosen.sentences}


def test_of_equal_scores_the_lower_position_wins_as_in_the_ranking() -> None:
    views = views_of("clip")
    ids = tuple(f"c{at}" for at in range(1000))
    table = ClassTexts(ids, ids, ids, tuple(range(1000)), ids)
    every = unit(torch.ones(1000, 16))
    texts = ClassTextFeatures(every, torch.arange(1000), every)
    for best in (2, 17, 300, 998):
        scores = torch.zeros(1000)
        scores[best:] = 1.0
        explanation = explain(METHODS["clip"], views, texts, table, scores)
        ranking = torch.argsort(scores, descending=True, stable=True)[:2].tolist()
        assert [explanation.winner.class_id, explanation.runner_up.class_id] == [ids[at] for at in ranking]
    chosen = explain(METHODS["clip"], views, features(), TABLE, torch.ones(3), among=(2, 0))
    assert (chosen.winner.class_id, chosen.runner_up.class_id) == ("owl", "cat")


def test_the_winner_can_be_compared_with_another_class_than_the_second() -> None:
    views = views_of("abs")
    best = explain(METHODS["abs"], views, features(), TABLE)
    winner, second = (TABLE.class_ids.index(ranked.class_id) for ranked in (best.winner, best.runner_up))
    [third] = {0, 1, 2} - {winner, second}
    other = explain(METHODS["abs"], views, features(), TABLE, against=third)
    assert (other.winner, other.runner_up.class_id) == (best.winner, TABLE.class_ids[third])
    assert other.margin > best.margin
    assert sum(view.contribution for view in other.views) == pytest.approx(other.margin, rel=1e-4)
    assert sum(share.contribution for share in other.sentences) == pytest.approx(other.margin, rel=1e-4)
    assert {share.class_id for share in other.sentences} == {best.winner.class_id, TABLE.class_ids[third]}
    # against itself there is nothing to say
    assert explain(METHODS["abs"], views, features(), TABLE, against=winner) == best


def test_one_class_has_no_runner_up() -> None:
    table = ClassTexts(("owl",), ("barn owl",), ("round eyes", "a beak"), (0, 0), ("a photo of an owl.",))
    texts = ClassTextFeatures(features().features[:2], torch.tensor([0, 0]), features().labels[:1])
    explanation = explain(METHODS["abs"], views_of("abs"), texts, table)
    assert explanation.runner_up is None
    assert explanation.margin == explanation.winner.score
    assert sum(view.contribution for view in explanation.views) == pytest.approx(explanation.margin, rel=1e-5)


def test_as_json() -> None:
    explanation = explain(METHODS["abs"], views_of("abs"), features(), TABLE)
    data = json.loads(json.dumps(explanation.to_dict(top=3)))
    assert (data["winner"], data["runner_up"]) == (explanation.winner.class_id, explanation.runner_up.class_id)
    assert data["winner_score"] == explanation.winner.score
    assert data["margin"] == pytest.approx(explanation.margin)
    assert len(data["views"]) == 3
    assert data["view_count"] == 100
    assert data["sentence_count"] == len(explanation.sentences)
    assert data["views"][0] == {
        "kind": explanation.views[0].kind,
        "index": explanation.views[0].index,
        "winner": explanation.views[0].winner,
        "runner_up": explanation.views[0].runner_up,
        "sentence": explanation.views[0].sentence,
        "contribution": explanation.views[0].contribution,
    }
    assert len(explanation.to_dict()["views"]) == 100
