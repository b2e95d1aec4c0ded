"""What others report of plain CLIP, and whether a measured number agrees: the guard against a wrong baseline.

A baseline that is points below its published number means other class names, other templates, another split or other
preprocessing, and then nothing that is compared with it means anything. Pure but for reading one shipped table.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from typing import Literal, cast

from abs_classify.evaluation.metrics import MethodResult, Proportion, ResultPart
from abs_core.errors import StorageError
from abs_core.files import data_folder, storage_errors

__all__ = ["TOLERANCE", "BaselineCheck", "PublishedNumber", "find_published", "openai_model", "published_numbers"]

#: Points between measured and published beyond which a baseline is called off. Rounding, resizing and precision were
#: seen to move a baseline by a few tenths; wrong class names or templates move it by two to four points.
TOLERANCE = 1.0

#: The template set that says what plain CLIP says.
SINGLE = "single"
_MODEL = re.compile(r"ViT-([BL])-(\d\d)(-quickgelu)?/openai(@.*)?", re.DOTALL)
PublishedMetric = Literal["acc1", "mean_per_class_recall"]
_NAMES = ("ViT-B/32", "ViT-B/16", "ViT-L/14")


@dataclass(frozen=True)
class PublishedNumber:
    """A number that somebody else reports.

    Attributes:
        dataset, split: as ``abs datasets ls`` names them; the whole split counts.
        model: ``ViT-B/32``, ``ViT-B/16`` or ``ViT-L/14``, OpenAI's weights.
        templates: ``single`` for plain CLIP, else the template set of an ensemble.
        metric: ``acc1`` or ``mean_per_class_recall``.
        percent: 0 to 100.
        source: who reports it.
        names: how many different class names its run had, where the shipped label set has another number; else 0. A
            class that shares its name with one before it can never win.
    """

    dataset: str
    split: str
    model: str
    templates: str
    metric: PublishedMetric
    percent: float
    source: str
    names: int = 0

    def of_other_names(self, names: Collection[str]) -> str:
        """Why a run with these class names cannot be compared with the number; empty if it can."""
        different = len(set(names))
        if self.names in (0, different):
            return ""
        return (
            f"{self.percent:.2f} is published ({self.source}) with {self.names} different class names for "
            f"{len(names)} classes; here they are {different}, so the two numbers are not compared"
        )


class BaselineCheck(ResultPart):
    """A published number of plain CLIP beside the measured one."""

    method: str
    metric: Literal["acc1", "mean_per_class_recall"]
    measured: float
    published: float
    difference: float
    #: whether the two are further apart than ``TOLERANCE``
    off: bool
    source: str

    @classmethod
    def of(cls, result: MethodResult, number: PublishedNumber) -> BaselineCheck:
        """The comparison of a result with a published number of the same images."""
        percent = 100 * (result.top1.value if number.metric == "acc1" else result.mean_recall)
        difference = percent - number.percent
        return cls(
            method=result.method,
            metric=number.metric,
            measured=percent / 100,
            published=number.percent / 100,
            difference=difference / 100,
            off=abs(difference) > TOLERANCE,
            source=number.source,
        )

    def text(self, top1: Proportion) -> str:
        """One sentence that shows both.

        Args:
            top1: the measured top-1 accuracy, whose interval is shown beside a published one.
        """
        metric = "top-1" if self.metric == "acc1" else "mean recall per class"
        interval = f" [{100 * top1.low:.2f}, {100 * top1.high:.2f}]" if self.metric == "acc1" else ""
        measured = f"{self.method}: {metric} {100 * self.measured:.2f}{interval} measured"
        line = f"{measured}, {100 * self.published:.2f} published ({self.source}), {100 * self.difference:+.2f} points"
        if not self.off:
            return line
        return (
            f"{line}: more than {TOLERANCE:g} apart, so the class names, the templates, the split or the preprocessing "
            "are not those of the published run"
        )


def openai_model(name: str) -> str | None:
    """The published name of a model with OpenAI's weights, such as ``ViT-B/16`` for ``ViT-B-16-quickgelu/openai``.

    Args:
        name: as ``load_model`` takes it; a file behind ``@`` is taken at its word.

    Returns:
        None for every other model, also for ``ViT-L-14-336``, of which no number is listed.
    """
    match = _MODEL.fullmatch(name)
    published = f"ViT-{match[1]}/{match[2]}" if match else ""
    return published if published in _NAMES else None


def find_published(dataset: str, split: str, model: str, templates: str) -> tuple[PublishedNumber, ...]:
    """What is published of a whole split; nothing for a data set, split, model or template set that is not listed.

    Args:
        dataset, split: names of a benchmark and its part; empty for other images.
        model: the model's name.
        templates: ``single``, or the id of the template set.
    """
    wanted = (dataset, split, openai_model(model), templates)
    return tuple(
        number
        for number in published_numbers()
        if (number.dataset, number.split, number.model, number.templates) == wanted
    )


@cache
def published_numbers() -> tuple[PublishedNumber, ...]:
    """The shipped table, ``data/published.tsv``.

    Raises:
        StorageError: it cannot be read, or a line of it is broken.
    """
    path = data_folder() / "published.tsv"
    with storage_errors(path, "read"):
        lines = path.read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines if line and not line.startswith("#")]
    try:
        return tuple(_published(*row) for row in rows[1:])
    except (ValueError, TypeError) as error:
        raise StorageError(f"{str(path)!r} has a broken line", remedy="Install the package again") from error


def _published(
    dataset: str, split: str, model: str, templates: str, metric: str, percent: str, source: str, names: str
) -> PublishedNumber:
    return PublishedNumber(
        dataset,
        split,
        model,
        templates,
        cast("PublishedMetric", metric),
        float(percent),
        source,
        0 if names == "-" else int(names),
    )
