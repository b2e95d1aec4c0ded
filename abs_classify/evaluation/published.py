"""What others report of plain CLIP, and whether a measured number agrees: the guard against a wrong baseline.

A baseline that is points below its published number means other class names, other templates, another split or other
preprocessing, and then nothing that is compared with it means anything. Pure but for reading one shipped table.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

from abs_classify.evaluation.metrics import EvaluationResult
from abs_core.errors import StorageError
from abs_core.files import data_folder, storage_errors

__all__ = ["TOLERANCE", "Baseline", "Published", "find_published", "openai_model", "published_numbers"]


#: Points between measured and published beyond which a baseline is called off. Rounding, resizing and precision were
#: seen to move a baseline by a few tenths; wrong class names or templates move it by two to four points.
TOLERANCE = 1.0


#: The template set that says what plain CLIP says.
SINGLE = "single"


_MODEL = re.compile(r"ViT-([BL])-(\d\d)(-quickgelu)?/openai(@.*)?", re.DOTALL)


_NAMES = ("ViT-B/32", "ViT-B/16", "ViT-L/14")


@dataclass(frozen=True)
class Published:
    """A number that somebody else reports.

    Attributes:
        dataset, split: as ``abs datasets ls`` names them; the whole split counts.
        model: ``ViT-B/32``, ``ViT-B/16`` or ``ViT-L/14``, OpenAI's weights.
        templates: ``single`` for plain CLIP, else the template set of an ensemble.
        metric: ``acc1`` or ``mean_per_class_recall``.
        percent: 0 to 100.
        source: who reports it.
    """

    dataset: str
    split: str
    model: str
    templates: str
    metric: str
    percent: float
    source: str


@dataclass(frozen=True)
class Baseline:
    """A published number beside the measured one.

    Attributes:
        method: whose number was measured, ``clip`` or ``clip-e``.
        published: the other.
        percent: what was measured, in the metric of the published number.
        low, high: the 95 % Wilson interval of the measured top-1 accuracy, in per cent; None for a mean of recalls.
    """

    method: str
    published: Published
    percent: float
    low: float | None
    high: float | None

    @classmethod
    def of(cls, result: EvaluationResult, published: Published) -> Baseline:
        """The comparison of a result with a published number of the same images."""
        if published.metric == "acc1":
            top1 = result.top1
            return cls(result.method, published, 100 * top1.value, 100 * top1.low, 100 * top1.high)
        return cls(result.method, published, 100 * result.mean_recall, None, None)

    @property
    def difference(self) -> float:
        """Measured minus published, in percentage points."""
        return self.percent - self.published.percent

    @property
    def off(self) -> bool:
        """Whether the two are further apart than ``TOLERANCE``."""
        return abs(self.difference) > TOLERANCE

    @property
    def text(self) -> str:
        """One sentence that shows both."""
        what = "top-1" if self.published.metric == "acc1" else "mean recall per class"
        interval = "" if self.low is None or self.high is None else f" [{self.low:.2f}, {self.high:.2f}]"
        both = f"{self.method}: {what} {self.percent:.2f}{interval} measured, {self.published.percent:.2f} published"
        line = f"{both} ({self.published.source}), {self.difference:+.2f} points"
        if not self.off:
            return line
        return (
            f"{line}: more than {TOLERANCE:g} apart, so the class names, the templates, the split or the preprocessing "
            "are not those of the published run"
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON values of all fields, with difference and verdict."""
        return {
            "method": self.method,
            "metric": self.published.metric,
            "measured": self.percent / 100,
            "published": self.published.percent / 100,
            "difference": self.difference / 100,
            "off": self.off,
            "source": self.published.source,
        }


def openai_model(name: str) -> str | None:
    """The published name of a model with OpenAI's weights, such as ``ViT-B/16`` for ``ViT-B-16-quickgelu/openai``.

    Args:
        name: as ``load_model`` takes it; a file behind ``@`` is taken at its word.

    Returns:
        None for every other model, also for ``ViT-L-14-336``, of which no number is listed.
    """
    found = _MODEL.fullmatch(name)
    known = f"ViT-{found[1]}/{found[2]}" if found else ""
    return known if known in _NAMES else None


def find_published(
    dataset: str, split: str, model: str, templates: str, numbers: Iterable[Published] | None = None
) -> tuple[Published, ...]:
    """What is published of a whole split; nothing for a data set, split, model or template set that is not listed.

    Args:
        dataset, split: names of a benchmark and its part; empty for other images.
        model: the model's name.
        templates: ``single``, or the id of the template set.
        numbers: where to look; the shipped table by default.
    """
    known = openai_model(model)
    wanted = (dataset, split, known, templates)
    rows = published_numbers() if numbers is None else numbers
    return tuple(one for one in rows if (one.dataset, one.split, one.model, one.templates) == wanted)


@cache
def published_numbers() -> tuple[Published, ...]:
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
    dataset: str, split: str, model: str, templates: str, metric: str, percent: str, source: str
) -> Published:
    return Published(dataset, split, model, templates, metric, float(percent), source)
