"""What an attribution says in words: shares only where there is a gain to divide."""

from __future__ import annotations

import json

import numpy as np
from result_records import make_records

from abs_classify.encoding.work import WorkCounts
from abs_classify.evaluation.attribution import CELLS, attribute_right
from abs_classify.evaluation.attribution_run import ATTRIBUTION_CONTROLS, AttributionResults
from abs_classify.evaluation.metrics import evaluate_ranks


def results_of(gain: int, *, images: int = 100, remarks: tuple[str, ...] = ()) -> AttributionResults:
    """Descriptions alone win ``gain`` images, of which half remain with shuffled ones and none with others."""
    described = np.array([levels[1] for levels in CELLS]).astype(bool)[:, None, None]
    numbers = np.arange(images)
    right = np.broadcast_to((numbers < 20) | (described & (numbers < 20 + gain)), (8, 1, images))
    left = dict.fromkeys(ATTRIBUTION_CONTROLS, right[0]) | {"shuffle": (numbers < 20 + gain // 2)[None]}
    ranks = np.ones(images, dtype=np.int64)
    records = make_records([evaluate_ranks("abs", ranks, np.zeros(images, dtype=np.int64), 3)])
    return AttributionResults(
        attribute_right(right, left), "abs", "things@1.0.0", [0], records, list(remarks), WorkCounts()
    )


def test_shares_are_named_where_the_gain_is_clear() -> None:
    results = results_of(40, remarks=("a note\x1b[31m",))
    lines = str(results).splitlines()
    assert lines[0] == "data set images: 100 images, 3 classes"
    gain = "guided views, descriptions and soft matching together: +40.0 ["
    (verdict,) = [line for line in lines if line.startswith(gain)]
    shares = "guided views 0 % (not clear), descriptions 100 % and soft matching 0 % (not clear)"
    assert verdict.endswith(f"points of top-1, of which {shares}")
    (total,) = [line for line in lines if line.startswith("total ")]
    assert total.endswith("100 %")
    (shuffle,) = [line for line in lines if line.startswith("shuffle  ")]
    assert "+20.0 [" in shuffle
    assert " 50 % " in shuffle
    assert lines[-1] == r"note: a note\x1b[31m"


def test_no_share_is_named_where_there_is_no_clear_gain() -> None:
    text = str(results_of(1))
    assert "that is no clear gain or loss, so no share of it is claimed" in text
    assert "100 images would show" in text or "can show no gain" in text
    assert "the gain of the descriptions is not clear" in text
    assert "share\n" not in text
    assert "remains" not in text
    value = results_of(1).to_dict()
    assert {entry["share"] for entry in value["contributions"] + value["controls"]} == {None}


def test_json_has_all_numbers() -> None:
    value = json.loads(json.dumps(results_of(40).to_dict()))
    assert [cell["top1"] for cell in value["cells"]] == [0.2, 0.2, 0.6, 0.6] * 2
    assert value["total"]["value"] == 0.4
    assert value["total"]["conclusive"] is True
    assert [entry["share"] for entry in value["contributions"]] == [0, 1, 0]
    assert [entry["factors"] for entry in value["effects"]][3:] == [
        ["views", "texts"],
        ["views", "matching"],
        ["texts", "matching"],
        ["views", "texts", "matching"],
    ]
    assert [entry["share"] for entry in value["controls"]] == [0.5, 0, 0]
    assert value["verdict"].startswith("guided views")


def test_markdown_has_the_same_tables_and_no_markup_from_outside() -> None:
    text = results_of(40, remarks=("<script>",)).to_markdown()
    assert "### Where the total gain comes from\n\n| factor | points" in text
    assert "100 %" in text
    assert "(n.s.)" in text
    assert "<script>" not in text
    assert text.endswith("\n")
