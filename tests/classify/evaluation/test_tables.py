"""The accuracy tables as text."""

from __future__ import annotations

import numpy as np
from result_records import make_records

from abs_classify.evaluation.metrics import PairedComparison, SeedSpread, evaluate_ranks
from abs_classify.evaluation.tables import OverallRow, difference_text, p_value_text, render_overall, render_table


def _results():
    labels = np.arange(200) % 20
    rng = np.random.default_rng(3)
    ranks = {name: np.where(rng.random(200) < share, 1, 7) for name, share in (("clip", 0.4), ("abs", 0.7))}
    ranks["cupl"] = ranks["clip"].copy()
    ranks["cupl"][:3] = 1
    return [evaluate_ranks(name, ranks[name], labels, 20) for name in ("clip", "cupl", "abs")]


def test_the_table_has_one_line_per_method_and_marks_what_cannot_be_shown():
    results = _results()
    text = render_table(make_records(results, {"abs": "50 crops"}, {"clip": "a photo of a {}."}))
    lines = text.splitlines()
    assert lines[0].split()[:3] == ["method", "views", "texts"]
    assert [line.split()[0] for line in lines[2:5]] == ["clip", "cupl", "abs"]
    top1 = results[2].top1
    assert f"{100 * top1.value:.1f} [{100 * top1.low:.1f}, {100 * top1.high:.1f}]" in lines[4]
    assert difference_text(results[2].minus(results[0])) in lines[4]
    assert "<0.001" in lines[4]
    assert " ~ " in lines[3]
    assert "~" not in lines[4]
    assert lines[-1] == "~ no difference that this many images can show"
    assert "200 images" in lines[-2]
    assert all(len(line) <= 140 for line in lines)


def test_the_table_without_the_base_has_no_difference():
    text = render_table(make_records(_results()[1:]))
    assert "minus" not in text
    assert "~" not in text
    assert render_table([]).startswith("method")


def test_the_table_shows_hostile_names_as_escapes():
    result = evaluate_ranks("a\x1b[31m\u202eb\n", np.array([1, 2]), np.array([0, 1]), 8)
    text = render_table(make_records([result]))
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "a\\x1b[31m\\u202eb\\n" in text
    assert len(text.splitlines()) == 4


def test_figures_are_short_and_zero_has_no_sign():
    even = PairedComparison.of_counts("a", "b", both=8, first_only=1, second_only=1, neither=0)
    assert difference_text(even).startswith("0.0 [")
    assert p_value_text(0.0004) == "<0.001"
    assert p_value_text(0.0416) == "0.042"


def test_a_mean_over_data_sets_needs_all_of_them() -> None:
    both = OverallRow(("b",), {"x": SeedSpread.of([0.5, 0.7]), "y": SeedSpread.of([0.2])})
    one = OverallRow(("o",), {"x": SeedSpread.of([0.4])})
    lines = render_overall([both, one], ["method"], ["x", "y"]).splitlines()
    assert [line.split() for line in lines[2:4]] == [["b", "60.0", "±14.1", "20.0", "40.0"], ["o", "40.0"]]
    assert lines[4] == "± standard deviation over seeds"
