"""The layout that page and picture share: outlines, numbers, bars."""

from __future__ import annotations

import pytest
from report_pages import make_image, ranked

from abs_classify.report.layout import TAG, MethodPrediction, Outline, panels, ranking, reasons, tag_places


def test_equal_windows_are_outlined_once_and_all_are_counted():
    panel = panels(make_image())[3]
    assert panel.note == "4 views, 1 numbered"
    assert len(panel.faint) == 2
    assert [outline.number for outline in panel.marked] == [2]


def test_views_are_numbered_by_strength_and_those_against_are_marked():
    crops = panels(make_image())[2]
    assert [(o.number, o.against) for o in crops.marked] == [(3, True), (1, False)]
    why = reasons(make_image())
    assert [(bar.number, bar.text) for bar in why.views] == [(1, "crop 8"), (2, "window 1"), (3, "crop 4")]


def test_numbers_do_not_hide_each_other_where_there_is_room():
    same = [Outline(10, 10, 300, 200, number) for number in (3, 1, 2)]
    beside = [Outline(30, 14, 300, 200, 4), Outline(0, 0, 40, 120, 5)]
    unit = 2.0
    placed = tag_places([*same, *beside], unit)
    assert sorted(outline.number for outline, _, _ in placed) == [1, 2, 3, 4, 5]
    for index, (outline, x, y) in enumerate(placed):
        assert outline.x <= x <= outline.x + outline.width
        assert outline.y <= y <= outline.y + outline.height
        for _, other_x, other_y in placed[:index]:
            assert abs(x - other_x) >= TAG * unit or abs(y - other_y) >= TAG * unit
    assert placed[0][1:] == (14.0, 10.0)


def test_the_parts_add_up_to_the_margin():
    why = reasons(make_image())
    shown = [bar.value for group in why.groups for bar in group.bars]
    values = [float(value.replace("\u2212", "-")) for value in [*shown, why.other_sentences[1]]]
    assert sum(values) == pytest.approx(500)
    assert why.margin == "+500.0"
    assert why.other_sentences[0] == 97
    views = [float(bar.value.replace("\u2212", "-")) for bar in why.views]
    assert sum(views) + float(why.other_views[1]) == pytest.approx(500)
    assert [group.label for group in why.groups] == ["tabby cat", "lynx"]
    assert [bar.length for bar in why.groups[0].bars] == pytest.approx([100.0, 250 / 3])


def test_bars_are_in_proportion_to_scores():
    low = ranking(MethodPrediction("clip", (ranked("a", 0.25), ranked("b", 0.2), ranked("c", -0.1))), None)
    assert [bar.length for bar in low.bars] == pytest.approx([100, 80, 0])
    assert [bar.value for bar in low.bars] == ["0.250", "0.200", "-0.100"]
    assert low.right is None
