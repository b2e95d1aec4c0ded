"""Data sets behind one registry: a spec such as ``imagefolder:./val`` in, labelled image files out.

A new kind of data set is a module with one opening function and a line in ``KINDS``. Labels are class ids as the data
set has them; matching them with the classes of a bundle is the caller's part. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from abs_classify.datasets.base import ClassName, Dataset, Item
from abs_classify.datasets.demo import open_demo
from abs_classify.datasets.imagefolder import open_imagefolder
from abs_classify.datasets.table import open_table
from abs_core.errors import UnknownNameError, UsageError

__all__ = ["KINDS", "ClassName", "Dataset", "Item", "Kind", "available_datasets", "open_dataset"]


@dataclass(frozen=True)
class Kind:
    """A kind of data set.

    Args:
        name: the part of a spec before the colon.
        usage: how a spec of this kind is written.
        summary: one line for lists.
        open: from the part of the spec after the colon to the data set.
        located: whether there must be such a part.
    """

    name: str
    usage: str
    summary: str
    open: Callable[[str], Dataset]
    located: bool = True


KINDS: tuple[Kind, ...] = (
    Kind("demo", "demo", "20 pictures from scikit-image and scikit-learn, 48 classes", open_demo, located=False),
    Kind("imagefolder", "imagefolder:DIR", "a folder with one sub-folder of images for each class", open_imagefolder),
    Kind("csv", "csv:FILE", "a table with the columns path and label", open_table),
)


def available_datasets() -> tuple[str, ...]:
    """How the known kinds of data sets are written."""
    return tuple(kind.usage for kind in KINDS)


def open_dataset(spec: str) -> Dataset:
    """Open a data set.

    Args:
        spec: one of ``available_datasets()``, with DIR and FILE filled in.

    Raises:
        UnknownNameError: an unknown kind; the message lists the known ones.
        UsageError: DIR or FILE is left out.
        DatasetError: the data set cannot be used as it is.
        MissingExtraError: the demo's packages are not installed.
    """
    name, _, location = spec.partition(":")
    kind = next((kind for kind in KINDS if kind.name == name), None)
    if kind is None:
        remedy = f"For a folder of your own write imagefolder:{spec}" if Path(spec).is_dir() else ""
        raise UnknownNameError("data set", spec, available_datasets(), remedy=remedy)
    if kind.located and not location:
        raise UsageError(f"the data set {spec!r} names no place", remedy=f"Write {kind.usage}")
    return kind.open(location)
