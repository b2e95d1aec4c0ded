"""What others report, and whether a measured number agrees: the guard against a wrong baseline.

A baseline that is points below its published number means other class names, other templates, another split or other
preprocessing, and then nothing that is compared with it means anything. Like is compared with like: the same images,
model, class names and texts. Where nothing can be compared, one note says why. Pure but for reading shipped tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, cast

from abs_classify.datasets import BENCHMARKS
from abs_classify.evaluation.metrics import MethodResult, Proportion, ResultPart
from abs_classify.methods.class_texts import ClassTextInputs, TemplateEnsemble, read_template_set
from abs_core.canonical import digest
from abs_core.errors import StorageError
from abs_core.files import data_folder, storage_errors

__all__ = [
    "TOLERANCE",
    "BaselineCheck",
    "GuardedRun",
    "PublishedComparison",
    "PublishedNumber",
    "class_names_digest",
    "compare_published",
    "is_whole_split",
    "published_name",
    "published_numbers",
]

#: Points between measured and published beyond which a baseline is called off. Rounding, resizing and precision were
#: seen to move a baseline by a few tenths; wrong class names or templates move it by two to four points.
TOLERANCE = 1.0

#: The tables, and who reports them. Of two numbers for one row the first is shown.
_TABLES = {
    "published-open-clip.tsv": "open_clip, results table",
    "published-wca.tsv": "Li et al. 2024 (WCA)",
}
#: The template set that says what plain CLIP says.
_SINGLE = "single"
_COLUMN_FACTS = ("dataset", "split", "templates", "metric", "classes")
PublishedMetric = Literal["acc1", "mean_per_class_recall"]


@dataclass(frozen=True)
class PublishedNumber:
    """A number that somebody else reports.

    Attributes:
        dataset, split: as ``abs datasets ls`` names them; the whole split counts. No split: other images than any has.
        method: the row of the method table that computes the same.
        model: the name of the weights as ``load_model`` takes it.
        templates: the template set that made the texts; empty where the source has texts of its own.
        metric: ``acc1`` or ``mean_per_class_recall``.
        percent: 0 to 100.
        source: who reports it.
        classes: the ``class_names_digest`` of the classes that competed; empty if it is not known.
    """

    dataset: str
    split: str
    method: str
    model: str
    templates: str
    metric: PublishedMetric
    percent: float
    source: str
    classes: str

    def __str__(self) -> str:
        return f"{self.percent:.2f} ({self.source})"


class BaselineCheck(ResultPart):
    """A published number beside the measured one."""

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


@dataclass(frozen=True)
class GuardedRun:
    """What a published number must agree with.

    Attributes:
        benchmark, split: names of a published data set and its part; empty for other images.
        whole: whether all images of the split were classified.
        model: the model's name.
        names: class id to class name of all classes that were scored.
        candidates: the names of those that could win.
        texts: the digests of the class texts by the method's name.
    """

    benchmark: str
    split: str
    whole: bool
    model: str
    names: Mapping[str, str]
    candidates: Sequence[str]
    texts: Mapping[str, str]

    def unlike(self, number: PublishedNumber) -> str:
        """Why a number of the same images and model cannot be compared with this run; empty if it can."""
        return next(iter(self.differences(number).values()), "")

    def differences(self, number: PublishedNumber) -> dict[str, str]:
        """What a number of the same images and model does not share, or may not share, with this run.

        Returns:
            ``class names``, and ``descriptions`` or ``templates``, each with a sentence.
        """
        differing: dict[str, str] = {}
        if not number.classes:
            differing["class names"] = f"{number} is published with class names that are not known here"
        elif number.classes != class_names_digest(self.candidates):
            differing["class names"] = f"{number} is published with other class names"
        if not number.templates:
            differing["descriptions"] = f"{number} is published with other texts"
            return differing
        templates = read_template_set(number.templates).templates
        published = TemplateEnsemble().build(ClassTextInputs(self.names, None, templates))
        if self.texts.get(number.method) != published.digest:
            differing["templates"] = (
                f"{number} is published with the templates {number.templates!r} (--templates {number.templates})"
            )
        return differing


@dataclass(frozen=True)
class PublishedComparison:
    """What is said of a run and of the published numbers.

    Attributes:
        checks: the comparisons, each with the result that was compared.
        notes: numbers that are shown and not compared, and why nothing could be compared.
    """

    checks: tuple[tuple[BaselineCheck, MethodResult], ...] = ()
    notes: tuple[str, ...] = ()


def compare_published(run: GuardedRun, results: Sequence[MethodResult]) -> PublishedComparison:
    """The published numbers beside the results of a run.

    Args:
        run: what was run.
        results: one for each method.

    Returns:
        Comparisons with numbers of the same images, model, class names and texts. Of images that are no published data
        set nothing is said.

    Raises:
        StorageError: a shipped table cannot be read.
    """
    if not run.benchmark:
        return PublishedComparison()
    numbers, silence = _numbers_of(run)
    checks: dict[tuple[str, str], tuple[BaselineCheck, MethodResult]] = {}
    other_texts: list[str] = []
    reasons: dict[str, str] = {}
    for result in results:
        for number in (number for number in numbers if number.method == result.method):
            if not number.templates:
                other_texts.append(f"{result.method} {number}")
            elif reason := run.unlike(number):
                reasons.setdefault(result.method, f"{result.method}: {reason}")
            else:
                checks.setdefault((result.method, number.metric), (BaselineCheck.of(result, number), result))
    notes = [f"published with other texts, so not compared: {', '.join(other_texts)}"] if other_texts else []
    if not checks and not silence and not other_texts and not reasons:
        published = ", ".join(dict.fromkeys(number.method for number in numbers))
        silence = f"those of {_of(run)} are of {published}, which did not run"
    if not checks and (silence or reasons):
        notes.append(f"not compared with published numbers: {silence or '; '.join(reasons.values())}")
    return PublishedComparison(tuple(checks.values()), tuple(notes))


def is_whole_split(benchmark: str, split: str, images: int, sampling: str) -> bool:
    """Whether images are all of a published split, so that published numbers are of the same ones.

    Args:
        benchmark, split: names of a published data set and its part; empty for other images.
        images: how many there are.
        sampling: how they were chosen; empty for all of them.
    """
    published = next((entry for entry in BENCHMARKS if entry.name == benchmark), None)
    sizes = {entry.name: entry.images for entry in published.splits} if published else {}
    return images == sizes.get(split, -1) and not sampling


def _numbers_of(run: GuardedRun) -> tuple[tuple[PublishedNumber, ...], str]:
    """The numbers of the same images and model, or why there are none."""
    of_dataset = [number for number in published_numbers() if number.dataset == run.benchmark]
    if not of_dataset:
        return (), f"none is known of {run.benchmark}"
    of_split = [number for number in of_dataset if number.split == run.split]
    if not of_split:
        splits = ", ".join(dict.fromkeys(number.split for number in of_dataset if number.split))
        images = f"the split {splits}, not of {run.split}" if splits else "other images than its splits here"
        return (), f"those of {run.benchmark} are of {images}"
    model = published_name(run.model)
    numbers = tuple(number for number in of_split if number.model == model)
    if not numbers:
        return (), f"none is known of {model} on {_of(run)}"
    if not run.whole:
        return (), f"they are of all images of {_of(run)}, and some were not classified"
    return numbers, ""


def _of(run: GuardedRun) -> str:
    return f"{run.benchmark} ({run.split})"


def class_names_digest(names: Iterable[str]) -> str:
    """16 hex digits that are equal for equal class names.

    The order of the classes, capitals and underscores for spaces do not count: CLIP's tokenizer knows no capitals, and
    the texts are made with spaces.
    """
    return digest(sorted(name.replace("_", " ").lower() for name in names)).removeprefix("sha256:")[:16]


def published_name(model: str) -> str:
    """The name by which a model's numbers are listed: without the path of a file, which is taken at its word.

    OpenAI's weights are listed as ``ViT-B-16-quickgelu/openai`` also where a source leaves out the activation, since
    open_clip computes QuickGELU for them under either name. For other weights the name decides.

    Args:
        model: as ``load_model`` takes it, or as open_clip writes it.
    """
    name = model.partition("@")[0]
    arch, _, tag = name.rpartition("/")
    return f"{arch}-quickgelu/{tag}" if tag == "openai" and not arch.endswith("-quickgelu") else name


@cache
def published_numbers() -> tuple[PublishedNumber, ...]:
    """All numbers of the shipped tables, ``data/published-*.tsv``.

    Raises:
        StorageError: a table cannot be read, or a line of it is broken.
    """
    return tuple(number for file, source in _TABLES.items() for number in _read_table(data_folder() / file, source))


def _read_table(path: Path, source: str) -> Iterator[PublishedNumber]:
    """The numbers of a table: a line for each method and model, a column for each data set, facts of columns first."""
    with storage_errors(path, "read"):
        lines = path.read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines if line and not line.startswith("#")]
    try:
        facts = {row[0]: ["" if cell == "-" else cell for cell in row[2:]] for row in rows[: len(_COLUMN_FACTS)]}
        columns = list(zip(*(facts[fact] for fact in _COLUMN_FACTS), strict=True))
        for method, model, *cells in rows[len(_COLUMN_FACTS) :]:
            for (dataset, split, ensemble, metric, classes), cell in zip(columns, cells, strict=True):
                if cell == "-":
                    continue
                templates = {"clip": _SINGLE, "clip-e": ensemble}.get(method, "")
                yield PublishedNumber(
                    dataset,
                    split,
                    method,
                    published_name(model),
                    templates,
                    cast("PublishedMetric", metric),
                    float(cell),
                    source,
                    classes,
                )
    except (ValueError, KeyError) as error:
        raise StorageError(f"{str(path)!r} has a broken line", remedy="Install the package again") from error
