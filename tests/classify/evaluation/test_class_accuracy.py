"""Accuracy and confusions class by class."""

from __future__ import annotations

import numpy as np
import pytest
from prediction_samples import make_pass, make_predictions

from abs_classify.evaluation.class_accuracy import class_gains, class_table, confusion_matrix, gains_model
from abs_classify.evaluation.paired_tests import PairedTest
from abs_classify.evaluation.significance import holm, wilson
from abs_core.errors import UnknownNameError

LABELS = [0, 0, 0, 0, 1, 1]
CLIP = make_pass("clip", LABELS, [0, 0, 1, 2, 1, 0])
ABS = [make_pass("abs", LABELS, [0, 0, 0, 2, 1, 0]), make_pass("abs", LABELS, [0, 0, 1, 2, 1, 1], seed=1)]
RUN = make_predictions(LABELS, [CLIP, *ABS])


def test_classes_have_accuracies_with_intervals() -> None:
    table = class_table(RUN, "clip")
    assert [entry.class_name for entry in table.classes] == ["ant", "bee"]
    assert [(entry.images, entry.right, entry.accuracy) for entry in table.classes] == [(4, 2, 0.5), (2, 1, 0.5)]
    assert (table.classes[0].low, table.classes[0].high) == wilson(2, 4)
    assert [(entry.predicted, entry.precision) for entry in table.classes] == [(3, 2 / 3), (2, 0.5)]
    assert [(pair.truth, pair.predicted, pair.images, pair.share) for pair in table.confused] == [
        ("bee", "ant", 1, 0.5), ("ant", "bee", 1, 0.25), ("ant", "cat", 1, 0.25),
    ]  # fmt: skip


def test_counts_of_several_draws_are_means() -> None:
    table = class_table(RUN, "abs")
    assert (table.draws, [entry.right for entry in table.classes]) == (2, [2.5, 1.5])
    assert (table.classes[0].low, table.classes[0].high) == wilson(2.5, 4)
    pair = table.confused[0]
    assert (pair.truth, pair.predicted, pair.images) == ("ant", "cat", 1)


def test_the_matrix_counts_every_draw() -> None:
    matrix = confusion_matrix(RUN, "abs")
    dense = matrix.dense()
    assert dense.tolist() == [[5, 1, 2], [1, 3, 0], [0, 0, 0]]
    assert [row[1:] for row in matrix.rows()] == dense.tolist()
    assert [row[0] for row in matrix.rows()] == ["ant", "bee", "cat"]
    assert matrix.to_dict()["cells"] == [[0, 0, 5], [0, 1, 1], [0, 2, 2], [1, 0, 1], [1, 1, 3]]
    assert matrix.draws == 2


def test_gains_are_paired_by_image_and_corrected() -> None:
    gains = class_gains(RUN, "abs", "clip")
    assert [gain.class_name for gain in gains] == ["bee", "ant"]
    right = np.stack([passed.right for passed in ABS])
    expected = [PairedTest.of(right[:, place], CLIP.right[None, place]) for place in (slice(4, 6), slice(4))]
    assert [gain.paired for gain in gains] == expected
    assert [gain.corrected_p for gain in gains] == holm([test.p_value for test in expected])
    assert "crossed" in gains_model(gains)


def test_an_image_that_a_draw_could_not_read_is_left_out_of_it() -> None:
    run = make_predictions([0, 0], [make_pass("abs", [0, 0], [0, 1]), make_pass("abs", [0, 0], [-1, 0], seed=1)])
    assert class_table(run, "abs").classes[0].right == 1.5
    assert confusion_matrix(run, "abs").cells.tolist() == [[0, 0, 2], [0, 1, 1]]
    assert class_gains(run, "abs", "abs")[0].paired.images == 1


def test_a_method_that_was_not_run_is_named() -> None:
    with pytest.raises(UnknownNameError, match="wca"):
        class_table(RUN, "wca")
