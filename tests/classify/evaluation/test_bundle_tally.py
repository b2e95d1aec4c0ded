"""Counts over images, from effects that are made by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from abs_classify.evaluation import bundle_tally
from abs_classify.evaluation.bundle_tally import BundleTally, Sentence
from abs_classify.methods.sentence_effects import Effects

CLASSES = [("a", "ant"), ("b", "bee"), ("c", "cat")]
SENTENCES = [Sentence(0, "one", False), Sentence(0, "two", False), Sentence(1, "bee", True), Sentence(2, "cat", True)]


def effects(
    labels: Sequence[int],
    changes: Sequence[tuple[int, int, int]] = (),
    names: Sequence[tuple[int, int, int]] = (),
    usage: Sequence[Sequence[float]] | None = None,
) -> Effects:
    count = len(labels)
    return Effects(
        scores=torch.zeros(count, 3),
        labels=torch.tensor(labels),
        seconds=torch.tensor([(label + 1) % 3 for label in labels]),
        usage=torch.tensor(usage) if usage is not None else torch.full((count, 4), 0.25),
        margins=torch.tensor([1.0, -2.0, 0.0, 0.0], dtype=torch.float64),
        changes=torch.tensor(list(changes), dtype=torch.int64).reshape(-1, 3),
        names=torch.tensor(list(names), dtype=torch.int64).reshape(-1, 3),
    )


def test_what_is_won_lost_pulled_and_confused() -> None:
    tally = BundleTally[str](CLASSES, SENTENCES, has_truth=True)
    # p is right and loses its label without sentence 0; q is pulled in by sentence 1; r is wrong with and without it
    changes = [(0, 0, 1), (1, 1, 1), (2, 1, 1)]
    tally.add(["p", "q", "r"], effects([0, 0, 0], changes, names=[(0, 0, 2), (1, 2, 1)]), [0, 1, 2])
    first, second, bee, _ = tally.sentences([(), (), (), ()])
    assert first.gain is not None
    assert second.gain is not None
    assert (first.gain.won, first.gain.lost, first.changed, first.pulled) == (1, 0, 1, ())
    assert (second.gain.won, second.gain.lost, second.changed) == (0, 1, 2)
    assert [(part.class_id, part.images) for part in second.pulled] == [("b", 1), ("c", 1)]
    assert (first.margin, second.margin, bee.margin, bee.gain) == (1.0, -2.0, None, None)
    assert first.usage == pytest.approx(0.25)
    ant, other, cat = tally.classes()
    assert (ant.images, ant.right, ant.confused) == (1, 1, ())
    assert [(part.class_id, part.images) for part in other.confused] == [("a", 1)]
    assert ant.over_name is not None
    assert cat.over_name is not None
    assert (ant.over_name.won, ant.over_name.lost) == (1, 0)
    assert (cat.over_name.won, cat.over_name.lost) == (0, 1)
    assert (tally.images, tally.right) == (3, 1)


def test_the_images_that_use_a_sentence_most_are_kept_and_others_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_tally, "_LIMIT", 8)
    tally = BundleTally[int](CLASSES, SENTENCES, has_truth=False)
    usage = np.random.default_rng(0).random((200, 4), dtype=np.float32)
    for start in range(0, 200, 5):
        part = list(range(start, start + 5))
        tally.add(part, effects([1] * 5, usage=usage[part].tolist()), None)
    assert len(tally._known) <= 24
    shown, positions, wanted = tally.examples(100)
    assert wanted == len(shown) <= 8
    for sentence in range(4):
        best = np.argsort(-usage[:, sentence])[:2].tolist()
        assert sorted(shown[position][0] for position in positions[sentence]) == sorted(best)
    assert len(tally.examples(3)[0]) == 3
    assert tally.examples(0) == ([], [()] * 4, wanted)


def test_images_that_were_won_or_lost_come_before_those_that_use_a_sentence() -> None:
    tally = BundleTally[str](CLASSES, SENTENCES, has_truth=True)
    usage = [[0.9, 0.0, 0.0, 0.1], [0.0, 0.9, 0.0, 0.1], [0.1, 0.1, 0.1, 0.7]]
    tally.add(["p", "q", "r"], effects([0, 0, 0], [(1, 0, 1), (2, 0, 1)], usage=usage), [0, 1, 0])
    shown, positions, _ = tally.examples(2)
    # q is right without the sentence, r only with it
    assert [image for image, _, _ in shown] == ["q", "r"]
    assert positions[0] == (0, 1)
