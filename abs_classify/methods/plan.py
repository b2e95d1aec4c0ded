"""The methods of a run, each with its class texts, so that every wrong name is found before any work."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from abs_classify.methods.baselines.mta import MIN_VIEWS, MTA
from abs_classify.methods.class_texts import ClassTextInputs, ClassTexts, RandomWords, read_template_set
from abs_classify.methods.controls import apply_control
from abs_classify.methods.table import Method, get_method
from abs_classify.methods.views import FullImage
from abs_core.descriptions import LabelSpace
from abs_core.errors import UsageError

__all__ = ["MethodPlan", "plan_methods"]


@dataclass(frozen=True)
class MethodPlan:
    """The methods of a run.

    Args:
        methods: each with its class texts.
        control: the name of the control that changed the descriptions, or None.
        templates: the id of the template set of methods that use one.
        seed: of all random numbers.
    """

    methods: Mapping[Method, ClassTexts]
    control: str | None
    templates: str
    seed: int

    @property
    def notes(self) -> list[str]:
        """What a reader of the results must know about texts and the order of images."""
        notes = dict.fromkeys(texts.note for texts in self.methods.values() if texts.note)
        if self.control:
            notes[f"control {self.control}: the descriptions are not the bundle's own"] = None
        notes |= {f"{method.name}: {method.note}": None for method in self.methods if method.note}
        return list(notes)


def plan_methods(
    methods: Sequence[str | Method],
    label_space: LabelSpace,
    views: int | None,
    templates: str,
    control: str | None,
    seed: int,
) -> MethodPlan:
    """Choose methods and build their class texts.

    Args:
        methods: rows of the table, or their names.
        label_space: classes and descriptions.
        views: replaces the number of views of each kind; None for the method's own.
        templates: a template set, for methods that use one.
        control: a control for the descriptions, or None.
        seed: of the control, and of random texts.

    Raises:
        UnknownNameError: a method, template set or control that does not exist.
        UsageError: a method that the label space cannot serve, or ``views`` where no method samples any, or too few.
    """
    chosen = [get_method(method) if isinstance(method, str) else method for method in dict.fromkeys(methods)]
    descriptions = label_space.descriptions
    if control is not None:
        descriptions = apply_control(control, descriptions or {}, label_space.names, seed)
    template_set = read_template_set(templates)
    inputs = ClassTextInputs(label_space.names, descriptions, template_set.templates)
    planned: dict[Method, ClassTexts] = {}
    for method in chosen:
        if views is not None:
            method = _with_view_count(method, views)
        if isinstance(method.texts, RandomWords):
            method = dataclasses.replace(method, texts=dataclasses.replace(method.texts, seed=seed))
        planned[method] = method.texts.build(inputs)
    if views is not None and all(view.kind == "whole" for method in planned for view in method.views):
        names = ", ".join(method.name for method in planned)
        raise UsageError(
            f"--views has no effect on methods that use the full image alone: {names}",
            remedy="Leave it out, or add a method with sampled views, such as abs",
        )
    return MethodPlan(planned, control, template_set.id, seed)


def _with_view_count(method: Method, count: int) -> Method:
    """A method with ``count`` views of each kind; of the full image there is always one.

    Raises:
        UsageError: the method needs more views.
    """
    views = tuple(
        view if isinstance(view, FullImage) else dataclasses.replace(view, count=count) for view in method.views
    )
    total = sum(view.count for view in views)
    if isinstance(method.scorer, MTA) and total < MIN_VIEWS:
        raise UsageError(
            f"the method {method.name!r} needs at least {MIN_VIEWS} views, and --views {count} gives it {total}",
            remedy=f"Use --views {count + MIN_VIEWS - total} or more",
        )
    return dataclasses.replace(method, views=views)
