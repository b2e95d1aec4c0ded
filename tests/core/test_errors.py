"""Errors say what was wrong in a line that can be read."""

from __future__ import annotations

import pytest

from abs_core.errors import UnknownNameError


def test_a_few_names_are_all_listed() -> None:
    assert UnknownNameError("method", "x", ["b", "a"]).message == "unknown method 'x'; valid: b, a"
    assert UnknownNameError("method", "x", []).message == "unknown method 'x'; there are none"


def test_of_many_names_the_closest_are_listed_and_the_others_counted() -> None:
    names = [f"model-{number}" for number in range(1000)] + ["pets", "petals"]
    error = UnknownNameError("model", "Pest", names, remedy="See `abs models ls`")
    shown = "pets, petals, model-0, model-1, model-2, model-3, model-4, model-5 and 994 more"
    assert str(error) == f"unknown model 'Pest' (did you mean 'pets'?); valid: {shown}. See `abs models ls`."
    alike = UnknownNameError("model", "model-", names).message
    assert "valid: model-0, model-1, " in alike, "equally close ones keep their order"
    assert len(UnknownNameError("model", "nothing like it", names).message) < 150


@pytest.mark.parametrize(("name", "proposed"), [("asb", "abs"), ("CLIP-D", "clip-d"), ("cuplx", "cupl")])
def test_the_name_that_is_likely_meant_is_proposed(name: str, proposed: str) -> None:
    error = UnknownNameError("method", name, ["clip", "clip-d", "cupl", "abs"])
    assert error.message.startswith(f"unknown method {name!r} (did you mean {proposed!r}?); valid: clip, ")


def test_nothing_is_proposed_where_no_name_is_close() -> None:
    assert UnknownNameError("method", "zebra", ["clip", "abs"]).message == "unknown method 'zebra'; valid: clip, abs"
