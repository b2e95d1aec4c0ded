"""The order of images under review, and which of them count as drawn at random."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from labelled_folders import labelled_folder

from abs_classify.labelling.decisions import CurrentDecision, ShownBy
from abs_classify.labelling.label_folder import LabelFolder
from abs_classify.labelling.review.queue import ReviewFilter, ReviewQueue
from abs_core.errors import UsageError

DRAWN = ReviewFilter("random")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> LabelFolder:
    return labelled_folder(tmp_path_factory.mktemp("queue"), 60, copies=3, with_files=False)


def decision(shown_by: ShownBy = "random") -> CurrentDecision:
    return CurrentDecision("reject", "", ("alice",), "2026", shown_by, False, (), "", "")


@given(st.integers(0, 40).map(lambda part: part / 40))
def test_every_image_has_one_place_and_the_share_is_what_was_stated(folder: LabelFolder, share: float) -> None:
    queue = ReviewQueue(folder, share)
    places = queue.select(ReviewFilter(), 0, 100)
    order = [number for number, _, _ in queue.select(DRAWN, 0, 100)]
    doubtful = [number for number, _, _ in queue.select(ReviewFilter("doubtful"), 0, 100)]
    queue.close()
    assert sorted(number for number, _, _ in places) == list(range(1, 61))
    drawn = [number for number, shown_by, _ in places if shown_by == "random"]
    assert drawn == order[: len(drawn)]
    chosen = [number for number, shown_by, _ in places if shown_by == "chosen"]
    assert chosen == [number for number in doubtful if number in chosen]
    # of the first n places, n times the share are drawn
    for count in range(61):
        assert sum(shown_by == "random" for _, shown_by, _ in places[:count]) == int(count * share + 1e-9)


def test_the_random_order_stays_when_images_are_added(tmp_path: Path) -> None:
    small = labelled_folder(tmp_path / "small", 20, with_files=False)
    large = labelled_folder(tmp_path / "large", 50, with_files=False)
    few, many = ReviewQueue(small), ReviewQueue(large)
    order = [number for number, _, _ in few.select(DRAWN, 0, 100)]
    assert order == [number for number, _, _ in many.select(DRAWN, 0, 100) if number <= 20]
    assert order != sorted(order)
    few.close()
    many.close()


def test_one_in_twenty_drawn_images_may_be_left_out(folder: LabelFolder) -> None:
    queue = ReviewQueue(folder)
    order = [number for number, _, _ in queue.select(DRAWN, 0, 100)]
    rows = {row.number: row for row in folder.rows()}
    assert queue.drawn(order[:10]) == set(order[:10])
    assert queue.drawn(order[1:10]) == set()
    # the second is left out: what comes before the twenty-first counts up to there
    queue.set_decisions({rows[order[0]].image_id: decision()})
    assert queue.drawn(order[2:22]) == set()
    queue.set_decisions({rows[number].image_id: decision() for number in order[2:20]})
    assert queue.drawn(order[20:23]) == set(order[20:23])
    # decided, but not at its place
    queue.set_decisions({rows[order[3]].image_id: decision("chosen")})
    assert queue.drawn(order[20:23]) == set()
    assert queue.drawn([order[1], *order[20:23]]) == {order[1], *order[20:23]}
    queue.close()


def test_a_share_outside_of_0_to_1_is_refused(folder: LabelFolder) -> None:
    with pytest.raises(UsageError, match=r"share of random images must be in \[0, 1\], got 1.5"):
        ReviewQueue(folder, 1.5)
