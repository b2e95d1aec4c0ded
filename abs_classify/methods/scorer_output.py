"""What the scorer of a method gives, checked: it may be somebody else's code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from abs_classify.methods.scoring import StreamScorer
from abs_classify.plugins import entry_source, failure_text
from abs_core.errors import AbsError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from abs_classify.methods.scoring import ClassTextFeatures
    from abs_classify.methods.table import Method

__all__ = ["checked_scores", "checked_step"]

_REMEDY = "Mend its scores(): views and texts to a floating-point tensor [images, classes]"
_STEP_REMEDY = "Mend its step(): state and views to a floating-point tensor [classes]"


def checked_scores(method: Method, views: Mapping[str, Tensor], texts: ClassTextFeatures) -> NDArray[Any]:
    """Class scores [B, C] of a method that looks at an image alone.

    Args:
        method: no stream method.
        views: unit features [B, N, d] of each kind of view.
        texts: of the classes.

    Raises:
        UsageError: a scorer that is not the toolkit's fails, or gives anything else; names the method and its plugin.
    """
    scorer = method.scorer
    assert not isinstance(scorer, StreamScorer)
    shape = (len(next(iter(views.values()))), texts.classes)
    return _checked(method, lambda: scorer.scores(views, texts), shape, _REMEDY)


def checked_step(method: Method, state: Any, features: Mapping[str, Tensor], texts: ClassTextFeatures) -> NDArray[Any]:
    """Class scores [C] that a stream method gives the next image.

    Raises:
        UsageError: as ``checked_scores``.
    """
    scorer = method.scorer
    assert isinstance(scorer, StreamScorer)
    return _checked(method, lambda: scorer.step(state, features), (texts.classes,), _STEP_REMEDY)


def _checked(method: Method, compute: Callable[[], object], shape: tuple[int, ...], remedy: str) -> NDArray[Any]:
    import torch

    name = (method.base or method).name
    try:
        scores = compute()
    except (AbsError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        if type(method.scorer).__module__.startswith("abs_classify."):
            raise  # a fault of the toolkit
        raise UsageError(f"the method {method.name!r}{failure_text('method', name, error)}", remedy=remedy) from error
    is_own = type(method.scorer).__module__.startswith("abs_classify.")  # whose numbers are judged where they are used
    given = type(scores).__name__
    if isinstance(scores, torch.Tensor):
        if scores.shape == shape and scores.is_floating_point():
            if not is_own and not bool(scores.isfinite().all()):
                raise UsageError(
                    f"the method {method.name!r}{entry_source('method', name)} gives scores that are not finite",
                    remedy=remedy,
                )
            values: NDArray[Any] = scores.detach().cpu().numpy()
            return values
        given = f"{str(scores.dtype).removeprefix('torch.')} {list(scores.shape)}"
    raise UsageError(
        f"the method {method.name!r}{entry_source('method', name)} must give floating-point scores {list(shape)}, got "
        f"{given}",
        remedy=remedy,
    )
