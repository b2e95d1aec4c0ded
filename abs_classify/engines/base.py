"""What an engine is: it has features computed, and put into the store, before a run asks for them.

A run makes its results from the store, image by image and in order, whatever the engine; without one it computes what
the store lacks itself. So results are made by one piece of code, and what an engine could not do, the run does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

from abs_core.errors import AbsError, UnknownNameError, UsageError

if TYPE_CHECKING:
    from abs_classify.datasets.base import Sample
    from abs_classify.encoding.stages import Stages
    from abs_classify.images import Truncated
    from abs_classify.methods.adaptive import RuleSource
    from abs_classify.methods.class_texts import ClassTexts
    from abs_classify.methods.table import Method
    from abs_classify.methods.views import ViewSource

__all__ = ["EncodingTask", "Engine", "find_engine", "opened_engine", "require_no_budget"]

G = TypeVar("G")


@dataclass(frozen=True)
class EncodingTask:
    """What a run needs of every image.

    Args:
        views: the views that all images must have.
        methods: the methods that look at as many views as an image needs, with their class texts, which decide that.
        adaptive: how they look at views.
        truncated: what is done with files that end early.
    """

    views: Sequence[ViewSource]
    methods: Mapping[Method, ClassTexts] = field(default_factory=dict)
    adaptive: RuleSource | None = None
    truncated: Truncated = "refuse"

    @classmethod
    def of(
        cls,
        methods: Mapping[Method, ClassTexts],
        also: Sequence[ViewSource],
        adaptive: RuleSource | None,
        truncated: Truncated,
        *,
        cheap_windows: bool,
    ) -> EncodingTask:
        """What ``ShardScorer`` needs for these methods and views; methods that depend on the order of images too."""
        deciding = {
            method: texts
            for method, texts in methods.items()
            if adaptive is not None and not method.stream and method.adaptive_views(cheap_windows=cheap_windows)
        }
        views = [view for method in methods if method not in deciding for view in method.views]
        return cls(tuple(dict.fromkeys([*views, *also])), deciding, adaptive if deciding else None, truncated)


class Engine(Protocol):
    """Has features computed elsewhere."""

    def encode(
        self,
        groups: Iterable[G],
        samples_of: Callable[[G], Sequence[Sample | None]],
        stages: Stages,
        task: EncodingTask,
    ) -> Iterator[tuple[G, Mapping[int, AbsError]]]:
        """Have the images of groups encoded, and give the groups, in order, when the store has their features.

        Args:
            groups: any number of them; taken some at a time.
            samples_of: the images of a group; None where one cannot be read elsewhere.
            stages: of the run: the store, the model, the seed. What was computed is added to its counts.
            task: what is needed of the images.

        Yields:
            Each group, with the error of each image, by its place in it, that must not be read. Images that cannot be
            read without harm are not among them: the run finds those by itself.

        Raises:
            UsageError: the store or the model cannot be used from elsewhere.
            EngineError: the workers cannot do their part; names the machine, the input and the remedy.
        """
        ...

    def close(self) -> None:
        """End what the engine has started; it can be used again."""
        ...


def find_engine(engine: Engine | str) -> Engine | None:
    """An engine by its name; one that is there stays what it is.

    Args:
        engine: "local", "ray" with its defaults, or an engine.

    Returns:
        None for "local": a run computes what the store lacks.
    """
    if not isinstance(engine, str):
        return engine
    if engine == "local":
        return None
    if engine == "ray":
        from abs_classify.engines.ray_engine import RayEngine

        return RayEngine()
    raise UnknownNameError("engine", engine, ("local", "ray"))


@contextmanager
def opened_engine(engine: Engine | str) -> Iterator[Engine | None]:
    """As ``find_engine``; one that was made of a name is closed at the end of the block."""
    opened = find_engine(engine)
    try:
        yield opened
    finally:
        if opened is not None and opened is not engine:
            opened.close()


def require_no_budget(adaptive: object) -> None:
    """Refuse a budget of views, whose shares follow from all images and are decided while they are encoded.

    Raises:
        UsageError: there is one.
    """
    if getattr(adaptive, "has_budget", False):
        raise UsageError(
            "a budget of views cannot be spent by an engine: how many views an image gets depends on all the others",
            remedy="Use --views adaptive without a budget, --views N, or --engine local",
        )
