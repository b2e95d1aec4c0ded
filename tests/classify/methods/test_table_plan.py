"""The methods of a run: the number of views, random texts, controls, notes, and what is refused."""

from __future__ import annotations

import pytest

from abs_classify.methods.class_texts import RandomWords
from abs_classify.methods.table import plan_methods
from abs_core.descriptions import Description, LabelSpace
from abs_core.errors import UnknownNameError, UsageError
from abs_core.labels import ClassLabel, LabelSet

LABELS = LabelSet("pets", (ClassLabel("n1", "cat"), ClassLabel("n2", "dog")))
NAMES_ALONE = LabelSpace.of_labels(LABELS)
DESCRIBED = LabelSpace(
    LABELS, {"n1": [Description("A cat has whiskers.")], "n2": [Description("A dog wags its tail.")]}, "pets@1.0.0"
)


def test_the_number_of_views_is_that_of_each_kind_but_the_full_image() -> None:
    plan = plan_methods(["wca", "abs"], DESCRIBED, 7, "plain", None, 0)
    counts = {method.name: [view.count for view in method.views] for method in plan.methods}
    assert counts == {"wca": [1, 7], "abs": [7, 7]}
    default = plan_methods(["wca", "abs"], DESCRIBED, None, "plain", None, 0)
    assert [[view.count for view in method.views] for method in default.methods] == [[1, 60], [50, 50]]


def test_a_method_that_is_named_twice_runs_once() -> None:
    plan = plan_methods(["clip", "cupl", "clip"], DESCRIBED, None, "plain", None, 0)
    assert [method.name for method in plan.methods] == ["clip", "cupl"]


def test_random_texts_follow_the_seed_of_the_run() -> None:
    first, second = (plan_methods(["waffle"], DESCRIBED, None, "plain", None, seed) for seed in (0, 3))
    ((method, texts),) = second.methods.items()
    assert isinstance(method.texts, RandomWords)
    assert method.texts.seed == 3
    assert texts.digest != next(iter(first.methods.values())).digest


def test_a_control_changes_the_texts_and_is_noted() -> None:
    plan = plan_methods(["cupl"], DESCRIBED, None, "plain", "classname-only", 0)
    assert next(iter(plan.methods.values())).texts == ("a photo of a cat.", "a photo of a dog.")
    assert plan.notes == ["control classname-only: the descriptions are not the bundle's own"]


def test_notes_are_given_once() -> None:
    plan = plan_methods(["cupl", "abs", "tda"], NAMES_ALONE, None, "plain", None, 0)
    assert plan.notes == [
        "no descriptions: the template set 'plain' stands in for them",
        "tda: scores depend on the order of the images, seen as they are listed",
    ]


def test_what_cannot_run_is_refused_before_any_work() -> None:
    with pytest.raises(UnknownNameError, match="unknown method 'clpi'"):
        plan_methods(["clpi"], DESCRIBED, None, "plain", None, 0)
    with pytest.raises(UnknownNameError, match="unknown template set 'plane'"):
        plan_methods(["clip"], DESCRIBED, None, "plane", None, 0)
    with pytest.raises(UnknownNameError, match="unknown control 'shuffel'"):
        plan_methods(["cupl"], DESCRIBED, None, "plain", "shuffel", 0)
    with pytest.raises(UsageError, match="this method needs descriptions"):
        plan_methods(["clip-d"], NAMES_ALONE, None, "plain", None, 0)
    with pytest.raises(UsageError, match="views has no effect on methods that use only the full image: clip, cupl"):
        plan_methods(["clip", "cupl"], DESCRIBED, 5, "plain", None, 0)
    with pytest.raises(UsageError, match="'mta' needs at least 5 views, and views=3 gives it 4"):
        plan_methods(["mta"], DESCRIBED, 3, "plain", None, 0)
    assert plan_methods(["mta"], DESCRIBED, 4, "plain", None, 0).methods
