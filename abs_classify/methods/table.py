"""The table of methods: each is a row of views, class texts and a scorer, and nothing else; and the plan of a run.

A new method is a new row:

    from abs_classify import Method, register
    from abs_classify.methods.class_texts import Sentences
    from abs_classify.methods.scoring import SoftMatch
    from abs_classify.methods.views import AttentionCrops

    register(Method("abs-200", "200 attention-guided crops", (AttentionCrops(200),), Sentences(), SoftMatch()))

A row can be used from Python without being registered; registering makes its name known. A name may set parameters of
its row, ``abs-200(temperature=0.05)``; see ``parameters.py`` for which there are. Nothing here imports torch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from abs_classify.methods.adaptive import LOOK, AdaptiveViews
from abs_classify.methods.baselines import AWT, DMN, TDA, OnZeta, Zero
from abs_classify.methods.baselines.mta import MIN_VIEWS, MTA
from abs_classify.methods.class_texts import (
    ClassTextInputs,
    ClassTexts,
    ClassTextSource,
    Descriptors,
    RandomWords,
    Sentences,
    Template,
    TemplatedSentences,
    TemplateEnsemble,
    read_template_set,
)
from abs_classify.methods.controls import apply_control
from abs_classify.methods.parameters import (
    Parameter,
    ParameterValue,
    find_parameters,
    parse_name,
    render_name,
    render_value,
    replace_fields,
)
from abs_classify.methods.scoring import (
    CosineToMean,
    HardMatch,
    MeanSimilarity,
    PerViewScorer,
    Scorer,
    SoftMatch,
    StreamScorer,
    WeightedCosine,
)
from abs_classify.methods.views import (
    AttentionCrops,
    FeatureWindows,
    FullImage,
    RandomCrops,
    RandomResizedCrops,
    ViewSource,
)
from abs_classify.plugins import entry_source, record_entry
from abs_core.descriptions import LabelSpace
from abs_core.errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "METHODS",
    "Method",
    "MethodPlan",
    "StreamOrder",
    "ViewNumber",
    "get_method",
    "plan_methods",
    "register",
    "samples_views",
    "with_parameters",
    "with_view_count",
]

#: what a user may say of the number of views
ViewNumber: TypeAlias = "int | AdaptiveViews | str | None"

#: the order in which stream methods see images: drawn by the seed, or that in which the data set lists them
StreamOrder: TypeAlias = Literal["shuffled", "dataset"]


@dataclass(frozen=True)
class Method:
    """One row: which views of an image are used, which texts stand for the classes, and how the two give scores.

    Attributes:
        name: what users call it.
        summary: one line for tables and help.
        views: view sources, one of each kind at most.
        texts: makes the class texts.
        scorer: turns the features of both into class scores.
        base: the row whose parameters were set to make this one; None for a row as it stands in the table.
        settings: name and value of each parameter that was set, its default too.

    Raises:
        UsageError: no name, no views, or two view sources of one kind.
    """

    name: str
    summary: str
    views: tuple[ViewSource, ...]
    texts: ClassTextSource
    scorer: Scorer | StreamScorer[Any]
    base: Method | None = field(default=None, compare=False, repr=False)
    settings: tuple[tuple[str, ParameterValue], ...] = field(default=(), compare=False, repr=False)

    def __post_init__(self) -> None:
        kinds = [view.kind for view in self.views]
        if not self.name or not kinds:
            raise UsageError(f"the method {self.name!r} lacks a name or views", remedy="Give it both")
        if len(set(kinds)) != len(kinds):
            raise UsageError(
                f"the method {self.name!r} has two view sources of one kind: {', '.join(kinds)}",
                remedy="Name one source of each kind, with a larger count",
            )

    @property
    def stream(self) -> bool:
        """Whether the scores of an image depend on the images before it."""
        return isinstance(self.scorer, StreamScorer)

    @property
    def votes(self) -> bool:
        """Whether most classes get no score at all, so that only the first place means anything."""
        return bool(getattr(self.scorer, "votes", False))

    @property
    def note(self) -> str:
        """What must be said beside its results, or nothing."""
        if self.votes:
            return "no top-5, because most classes get no vote and so no rank"
        return "scores depend on the order of the images" if self.stream else ""

    @cached_property
    def parameters(self) -> Mapping[str, Parameter]:
        """The parameters that can be set, by name, with the values of this row as defaults."""
        return find_parameters(self.views, self.scorer, self.texts)

    def key(self) -> dict[str, Any]:
        """JSON values that fix views and scorer; with the digest of the texts they fix the method."""
        return {"views": [view.key() for view in self.views], "matcher": self.scorer.key()}

    def to_dict(self) -> dict[str, Any]:
        """The row as JSON values."""
        return {
            "name": self.name,
            "summary": self.summary,
            "views": [view.key() for view in self.views],
            "texts": self.texts.name,
            "matcher": self.scorer.key(),
            "stream": self.stream,
            "parameters": [parameter.to_dict() for parameter in self.parameters.values()],
        }

    def adaptive_views(self, *, cheap_windows: bool) -> tuple[ViewSource, ...]:
        """The view sources that an adaptive run takes in rounds, one view of each at a time; none if it keeps them all.

        Those are the crops, and the feature windows of a model that runs its last block on each. Feature windows that
        cost nearly nothing are there from the start.

        Args:
            cheap_windows: whether the model's feature windows cost nearly nothing.
        """
        if not isinstance(self.scorer, PerViewScorer):
            return ()
        sources = tuple(
            view
            for view in self.views
            if not isinstance(view, FullImage) and not (cheap_windows and isinstance(view, FeatureWindows))
        )
        counts = {view.count for view in sources}
        return sources if len(counts) == 1 and counts.pop() > LOOK else ()

    def seen(self, looked: int, *, cheap_windows: bool) -> Method:
        """The row with as many views of each adaptive source as an adaptive run looked at."""
        adaptive = self.adaptive_views(cheap_windows=cheap_windows)
        views = tuple(
            dataclasses.replace(view, count=looked) if view in adaptive and not isinstance(view, FullImage) else view
            for view in self.views
        )
        return dataclasses.replace(self, views=views)

    def views_by_kind(self, features: Mapping[ViewSource, Tensor]) -> dict[str, Tensor]:
        """This method's features out of those of many view sources, by kind, as its scorer takes them."""
        return {view.kind: features[view] for view in self.views}


def get_method(name: str, /, **parameters: ParameterValue) -> Method:
    """The row of that name, with parameters set if the name or the call gives any.

    Args:
        name: of a row, as ``abs``, or with parameters, as ``abs(temperature=0.05, views=10)``.
        parameters: the same from Python: ``get_method("abs", temperature=0.05, views=10)``.

    Returns:
        A row of which ``get_method(row.name)`` is equal: its name has the parameters sorted, defaults left out.

    Raises:
        UnknownNameError: no such row, or no such parameter of it; the message lists those that there are.
        UsageError: a name that cannot be read, a parameter that is given twice, or a value that cannot be.
    """
    base, settings = (name, {}) if name in METHODS else parse_name(name)
    if base not in METHODS:
        raise UnknownNameError("method", base, METHODS, remedy="See `abs methods`")
    for parameter in parameters:
        if parameter in settings:
            raise UsageError(f"the method {name!r} gets the parameter {parameter!r} twice", remedy="Give it once")
    values = {**settings, **parameters}
    return with_parameters(METHODS[base], values) if values else METHODS[base]


def with_parameters(method: Method, values: Mapping[str, object]) -> Method:
    """A row with some of its parameters set; its name says which, unless they are as in the row already.

    Args:
        method: a row, registered or not; one that was made here keeps its settings unless they are set anew.
        values: by the names of ``method.parameters``, as Python values or as the texts of a name.

    Raises:
        UnknownNameError: no such parameter; the message lists those of the row.
        UsageError: a value of the wrong type or out of range, or a parameter that changes nothing beside another.
    """
    base, before = method.base or method, dict(method.settings)
    row, settings = base, dict[str, ParameterValue]()
    # whether views are guided decides on the other parameters of theirs
    for name in sorted({**before, **values}, key=lambda name: (name != "guided", name)):
        if name not in base.parameters and name not in row.parameters:
            raise UnknownNameError(
                "parameter", name, base.parameters, at_most=len(base.parameters),
                remedy=f"See `abs methods {base.name}` for what they mean",
            )  # fmt: skip
        if name not in row.parameters:
            raise UsageError(
                f"the parameter {name!r} of the method {base.name!r} changes nothing with guided=false",
                remedy="Leave out one of the two",
            )
        try:
            value = row.parameters[name].read(values[name] if name in values else before[name])
            row = _with_parameter(row, row.parameters[name], value)
        except UsageError as error:
            raise UsageError(
                f"the parameter {name!r} of the method {base.name!r}: {error.message}", remedy=error.remedy
            ) from error
        settings[name] = value
    _check_enough_views(row, "it has")
    changed = {
        name: value for name, value in settings.items()
        if name not in base.parameters or not base.parameters[name].is_default(value)
    }  # fmt: skip
    name, summary = render_name(base.name, changed), base.summary
    if changed:
        summary += f" ({', '.join(f'{name} {render_value(value)}' for name, value in sorted(changed.items()))})"
    return dataclasses.replace(row, name=name, summary=summary, base=base, settings=tuple(sorted(settings.items())))


def _with_parameter(row: Method, parameter: Parameter, value: ParameterValue) -> Method:
    views, others = list(row.views), dict[str, Any](scorer=row.scorer, texts=row.texts)
    for position, path in parameter.fields:
        if parameter.part == "views":
            views[position] = replace_fields(views[position], path, value)
        else:
            others[parameter.part] = replace_fields(others[parameter.part], path, value)
    return dataclasses.replace(row, views=tuple(views), **others)


def register(method: Method) -> Method:
    """Add a row to ``METHODS``, so that it can be named; returns it. Registering the same row again does nothing.

    Raises:
        UsageError: the name belongs to another row, or could not be told from a list of names or from parameters.
    """
    if set(method.name) & set("(),") or method.name != method.name.strip() or not method.name.isprintable():
        raise UsageError(
            f"the method name {method.name!r} has a bracket, a comma, or space around it",
            remedy="Choose a name without: brackets hold the parameters of a row",
        )
    if _ROWS.get(method.name, method) != method:
        taken = f"is already registered, for a method{entry_source('method', method.name)}"
        raise UsageError(f"the method name {method.name!r} {taken}", remedy="Choose another name")
    if method.name not in _ROWS:
        record_entry("method", method.name, lambda: _ROWS.pop(method.name))
    _ROWS[method.name] = method
    return method


_WHOLE = (FullImage(),)

_BOXES, _WINDOWS = AttentionCrops(50), FeatureWindows(50)

# as published, and with the crops that WCA shares
_RESIZED_63, _CROPS_63 = (FullImage(), RandomResizedCrops(63)), (FullImage(), RandomCrops(63))

_ALIGNED = (AttentionCrops(50, alignment="aligned"), FeatureWindows(50, alignment="aligned"))

_FREE = (AttentionCrops(50, guided=False), FeatureWindows(50, guided=False))

_ROWS = {
    row.name: row
    for row in (
        Method("clip", "plain CLIP: one template", _WHOLE, Template(), CosineToMean()),
        Method("clip-e", "CLIP with the data set's templates, averaged", _WHOLE, TemplateEnsemble(), CosineToMean()),
        Method("clip-d", "descriptors, mean of similarities, as published", _WHOLE, Descriptors(), MeanSimilarity()),
        Method("clip-d-wca", "descriptors averaged per class, as WCA runs it", _WHOLE, Descriptors(), CosineToMean()),
        Method("waffle", "random words, mean of similarities, as published", _WHOLE, RandomWords(), MeanSimilarity()),
        Method("waffle-wca", "random words averaged per class, as WCA runs it", _WHOLE, RandomWords(), CosineToMean()),
        Method("cupl", "descriptions averaged per class", _WHOLE, Sentences(), CosineToMean()),
        Method("wca", "60 random crops and descriptions, both weighted", (FullImage(), RandomCrops(60)), Sentences(),
               WeightedCosine()),
        Method("abs", "attention-guided crops and feature windows, soft matching", (_BOXES, _WINDOWS), Sentences(),
               SoftMatch()),
        Method("abs-random", "abs with views placed at random", _FREE, Sentences(), SoftMatch()),
        Method("abs-pixels", "abs with the crops only", (_BOXES,), Sentences(), SoftMatch()),
        Method("abs-features", "abs with the feature windows only", (_WINDOWS,), Sentences(), SoftMatch()),
        Method("abs-mean", "abs with the mean of all similarities", (_BOXES, _WINDOWS), Sentences(), MeanSimilarity()),
        Method("abs-hard", "abs with the best text of each view only", (_BOXES, _WINDOWS), Sentences(), HardMatch()),
        Method("abs-aligned", "abs whose attention and views look at the same pixels", _ALIGNED, Sentences(),
               SoftMatch()),
        Method("abs-vote", "votes of the most certain attention-guided crops, descriptions", (FullImage(), _BOXES),
               Sentences(), Zero()),
        Method("mta", "mode of the full image and 63 random resized crops, one template", _RESIZED_63, Template(),
               MTA()),
        Method("mta-crops", "mta with the random square crops of wca", _CROPS_63, Template(), MTA()),
        Method("zero", "votes of the most certain of the views of mta, one template", _RESIZED_63, Template(), Zero()),
        Method("zero-crops", "zero with the random square crops of wca", _CROPS_63, Template(), Zero()),
        Method("zero-e", "zero with the data set's templates, averaged", _RESIZED_63, TemplateEnsemble(), Zero()),
        Method("awt", "50 random resized crops and descriptions, both weighted, by optimal transport",
               (FullImage(), RandomResizedCrops(50)), TemplatedSentences(), AWT()),
        Method("tda", "caches of certain and uncertain images, seen as a stream", _WHOLE, Template(), TDA()),
        Method("dmn", "memory of the earlier images, seen as a stream", _WHOLE, Template(), DMN()),
        Method("onzeta", "labels and proxies learned online, images seen as a stream", _WHOLE, Template(), OnZeta()),
    )
}  # fmt: skip

#: name -> row, in the order in which tables show them
METHODS: Mapping[str, Method] = MappingProxyType(_ROWS)


@dataclass(frozen=True)
class MethodPlan:
    """The methods of a run.

    Args:
        methods: each with its class texts.
        control: the name of the control that changed the descriptions, or None.
        templates: the id of the template set of methods that use one.
        seed: of all random numbers.
        adaptive: how adaptive methods look at views; None has all methods look at all of theirs.
        stream_order: how stream methods see the images.
    """

    methods: Mapping[Method, ClassTexts]
    control: str | None
    templates: str
    seed: int
    adaptive: AdaptiveViews | None = None
    stream_order: StreamOrder = "dataset"

    def draws(self, method: Method) -> bool:
        """Whether another seed gives a method other views, or another order of the images."""
        sampled = any(view.kind != "whole" for view in method.views)
        return sampled or (method.stream and self.stream_order == "shuffled")

    @property
    def notes(self) -> list[str]:
        """What a reader of the results must know about texts and the order of images."""
        notes = dict.fromkeys(texts.note for texts in self.methods.values() if texts.note)
        if self.control:
            notes[f"control {self.control}: the descriptions are not the bundle's own"] = None
        order = "which the seed shuffles" if self.stream_order == "shuffled" else "seen as they are listed"
        for method in self.methods:
            if method.note:
                notes[f"{method.name}: {method.note}{f', {order}' if method.stream else ''}"] = None
        return list(notes)


def samples_views(methods: Iterable[str | Method]) -> bool:
    """Whether a number of views has an effect on any of the methods; errors as ``get_method``."""
    chosen = [get_method(method) if isinstance(method, str) else method for method in methods]
    return any(view.kind != "whole" for method in chosen for view in method.views)


def plan_methods(
    methods: Sequence[str | Method],
    label_space: LabelSpace,
    views: ViewNumber,
    templates: str,
    control: str | None,
    seed: int,
) -> MethodPlan:
    """Choose methods and build their class texts.

    Args:
        methods: rows of the table, or their names.
        label_space: classes and descriptions.
        views: replaces the number of views of each kind; None for the method's own, "adaptive" or ``AdaptiveViews``
            for as many of these as the label needs.
        templates: a template set, for methods that use one.
        control: a control for the descriptions, or None.
        seed: of the control, and of random texts.

    Raises:
        UnknownNameError: a method, template set or control that does not exist.
        UsageError: a method that the label space cannot serve, or ``views`` where no method samples any, or too few.
    """
    adaptive, count = _split_views(views)
    chosen = [get_method(method) if isinstance(method, str) else method for method in dict.fromkeys(methods)]
    descriptions = label_space.descriptions
    if control is not None:
        descriptions = apply_control(control, descriptions or {}, label_space.names, seed)
    template_set = read_template_set(templates)
    inputs = ClassTextInputs(label_space.names, descriptions, template_set.templates)
    planned: dict[Method, ClassTexts] = {}
    for method in chosen:
        if count is not None:
            method = with_view_count(method, count)
        if isinstance(method.texts, RandomWords):
            method = dataclasses.replace(method, texts=dataclasses.replace(method.texts, seed=seed))
        planned[method] = method.texts.build(inputs)
    if views is not None and not samples_views(planned):
        names = ", ".join(method.name for method in planned)
        raise UsageError(
            f"views has no effect on methods that use only the full image: {names}",
            remedy="Leave out --views, or add a method with sampled views, such as abs",
        )
    if adaptive is not None and not any(isinstance(method.scorer, PerViewScorer) for method in planned):
        names = ", ".join(method.name for method in planned)
        raise UsageError(
            f"the scores of {names} are no sums over views, so none of these methods can look at fewer of them",
            remedy="Give a number of views, or add a method such as abs",
        )
    return MethodPlan(planned, control, template_set.id, seed, adaptive)


def _split_views(views: ViewNumber) -> tuple[AdaptiveViews | None, int | None]:
    """How adaptive methods look at views, and a number that replaces the methods' own.

    Raises:
        UsageError: neither a number from 1 on nor "adaptive".
    """
    if isinstance(views, AdaptiveViews):
        return views, None
    if isinstance(views, str):
        if views != "adaptive":
            raise UsageError(f"views must be a number or 'adaptive', got {views!r}", remedy="Use 50, or adaptive")
        return AdaptiveViews(), None
    return None, views


def with_view_count(method: Method, count: int) -> Method:
    """A method with ``count`` views of each kind; of the full image there is always one.

    Raises:
        UsageError: the method needs more views, or its name gives another number of them.
    """
    given = dict(method.settings).get("views")
    if given is not None and given != count:
        raise UsageError(
            f"the method {method.name!r} was given {given} views, and --views gives it {count}",
            remedy="Leave out one of the two",
        )
    views = tuple(
        view if isinstance(view, FullImage) else dataclasses.replace(view, count=count) for view in method.views
    )
    method = dataclasses.replace(method, views=views)
    _check_enough_views(method, f"views={count} gives it")
    return method


def _check_enough_views(method: Method, reason: str) -> None:
    """Refuse fewer views than the scorer can do with; ``reason`` says why there are so few."""
    total = sum(view.count for view in method.views)
    least = 1
    if isinstance(method.scorer, MTA):
        least = MIN_VIEWS
    elif isinstance(method.scorer, Zero):
        least = method.scorer.min_views
    if total < least:
        sampled = sum(not isinstance(view, FullImage) for view in method.views)
        missing = -(-(least - total) // sampled)
        count = max(view.count for view in method.views if not isinstance(view, FullImage))
        raise UsageError(
            f"the method {method.name!r} needs at least {least} views, and {reason} {total}",
            remedy=f"Give {count + missing} or more (--views)",
        )
