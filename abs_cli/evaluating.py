"""An evaluation: methods planned, a data set scored, rows of a table, JSON for machines."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from abs_cli.classification import OnError, Scored, identify, score
from abs_cli.console import Advance
from abs_cli.stages import Photo, Stages
from abs_cli.vocabulary import Vocabulary, label_positions
from abs_core.errors import DatasetError

if TYPE_CHECKING:
    from abs_classify.datasets import Dataset, Item
    from abs_classify.evaluation import EvaluationResult
    from abs_classify.methods import Method
    from abs_classify.tables import AccuracyRow
    from abs_classify.texts import TextTable

__all__ = ["Evaluation", "Plan", "evaluate_dataset", "plan_methods"]

#: the version of the JSON that `abs eval --json` prints
_RESULT_SCHEMA = 1


@dataclass(frozen=True)
class Plan:
    """What is compared.

    Args:
        methods: each with its texts.
        control: the name of the control that the descriptions went through, or None.
    """

    methods: Mapping[Method, TextTable]
    control: str | None

    @property
    def notes(self) -> list[str]:
        """What a reader of the numbers must know about texts and order."""
        notes = dict.fromkeys(table.note for table in self.methods.values() if table.note)
        if self.control:
            notes[f"control {self.control}: the descriptions are not the bundle's own"] = None
        notes |= {f"{method.name}: {method.note}": None for method in self.methods if method.note}
        return list(notes)


@dataclass
class Evaluation:
    """What `abs eval` found."""

    dataset: str
    dataset_notes: Sequence[str]
    vocabulary: Vocabulary
    plan: Plan
    stages: Stages
    scored: Scored
    results: Sequence[EvaluationResult]
    seconds: float = 0.0

    def rows(self) -> tuple[AccuracyRow, ...]:
        """The accuracy table; every method is compared with clip, or with the first one if clip was not run."""
        from abs_classify.tables import accuracy_rows

        names = [result.method for result in self.results]
        views = {method.name: _views_text(method) for method in self.plan.methods}
        texts = {method.name: method.texts.name for method in self.plan.methods}
        return accuracy_rows(self.results, views, texts, base="clip" if "clip" in names else names[0])

    def warnings(self) -> list[str]:
        """What the reader must not miss."""
        alarms = [f"{result.method}: {result.alarm}" for result in self.results if result.alarm]
        skipped = [f"skipped {one.name}: {one.reason}" for one in self.scored.skipped]
        return alarms + skipped

    def notes(self) -> list[str]:
        """What the reader should know."""
        return [*self.dataset_notes, *self.plan.notes, *model_notes(self.stages.models.name)]

    def text(self) -> str:
        """The table and what must be read with it, for a terminal."""
        from abs_classify.tables import render_table
        from abs_core.printable import printable

        run = f"model {self.stages.models.name}; seed {self.stages.seed}"
        lines = [
            printable(f"{self.dataset}: {len(self.scored.photos)} images, {len(self.vocabulary.names)} classes"),
            printable(f"classes from {self.vocabulary.source}; {run}"),
            "",
        ]
        lines += [render_table(self.rows()), ""]
        lines += [f"warning: {printable(line)}" for line in self.warnings()]
        lines += [f"note: {printable(line)}" for line in self.notes()]
        return "\n".join(lines).rstrip()

    def to_dict(self, command: Sequence[str]) -> dict[str, Any]:
        """The result as JSON values."""
        models = self.stages.models
        return {
            "schema": _RESULT_SCHEMA,
            "dataset": {"name": self.dataset, "images": len(self.scored.photos)},
            "classes": {"source": self.vocabulary.source, "count": len(self.vocabulary.names)},
            "model": {"name": models.name, "dtype": models.dtype, **dataclasses.asdict(models.facts)},
            "seed": self.stages.seed,
            "control": self.plan.control,
            "methods": [self._method(result) for result in self.results],
            "comparisons": [row.difference.to_dict() for row in self.rows() if row.difference is not None],
            "skipped": [{"name": one.name, "reason": one.reason} for one in self.scored.skipped],
            "warnings": self.warnings(),
            "notes": self.notes(),
            "seconds": round(self.seconds, 3),
            "command": list(command),
            "versions": {"python": platform.python_version(), **models.versions},
        }

    def _method(self, result: EvaluationResult) -> dict[str, Any]:
        texts = next(table for method, table in self.plan.methods.items() if method.name == result.method)
        return {**result.to_dict(), "texts_digest": texts.digest}


def plan_methods(
    names: Sequence[str], vocabulary: Vocabulary, views: int | None, templates: str, control: str | None, seed: int
) -> Plan:
    """Choose methods and build their texts, so that every wrong name is found before any work.

    Args:
        names: of methods.
        vocabulary: classes and descriptions.
        views: replaces the number of views of each kind.
        templates: a template set, for methods that use one.
        control: a control for the descriptions, or None.
        seed: of the control.

    Raises:
        UnknownNameError: a method, template set or control that does not exist.
        UsageError: a method that the vocabulary cannot serve.
    """
    from abs_classify.controls import apply_control
    from abs_classify.methods import get_method
    from abs_classify.templates import read_template_set
    from abs_classify.views import WholeImage

    descriptions = vocabulary.descriptions
    if control is not None:
        descriptions = apply_control(control, descriptions or {}, vocabulary.names, seed)
    lines = read_template_set(templates).templates
    methods: dict[Method, TextTable] = {}
    for name in dict.fromkeys(names):
        method = get_method(name)
        if views is not None:
            counted = (v if isinstance(v, WholeImage) else dataclasses.replace(v, count=views) for v in method.views)
            method = dataclasses.replace(method, views=tuple(counted))
        methods[method] = method.texts.build(vocabulary.names, descriptions, lines)
    return Plan(methods, control)


def evaluate_dataset(
    stages: Stages,
    dataset: Dataset,
    items: Sequence[Item],
    vocabulary: Vocabulary,
    plan: Plan,
    on_error: OnError,
    advance: Advance,
) -> Evaluation:
    """Score the items of a data set and compare the methods.

    Raises:
        DatasetError: a class that the vocabulary lacks, or no image that could be used.
        ImageError: an image cannot be read and ``on_error`` is "stop".
    """
    from abs_classify.evaluation import evaluate_ranks

    positions = label_positions(dataset, vocabulary)
    identified, unreadable = identify(items, stages.models.memo, on_error)
    pairs: list[tuple[Photo, int]] = [
        (photo, positions[item.label]) for item, photo in zip(items, identified, strict=True) if photo is not None
    ]
    photos, labels = [photo for photo, _ in pairs], [label for _, label in pairs]
    places = {one: at for at, one in enumerate(vocabulary.names)} | positions
    selected = [places[one] for one in dataset.selected if one in places]
    scored = score(stages, photos, labels, plan.methods, on_error, advance, selected)
    scored.skipped[:0] = unreadable
    if not scored.photos:
        raise DatasetError(f"no image of {dataset.name} could be used", remedy="See the reasons with --on-error stop")
    import numpy as np

    truth = np.asarray(scored.labels, dtype=np.int64)
    results = [
        evaluate_ranks(name, found.ranks, truth, len(vocabulary.names)) for name, found in scored.methods.items()
    ]
    return Evaluation(dataset.name, dataset.notes, vocabulary, plan, stages, scored, results)


def _views_text(method: Method) -> str:
    """``50 crops + 50 windows``."""
    words = {"whole": "whole", "random": "random crops", "box": "crops", "window": "windows"}
    return " + ".join(words[v.kind] if v.kind == "whole" else f"{v.count} {words[v.kind]}" for v in method.views)


def model_notes(name: str) -> list[str]:
    """What must be said wherever a tower is offered."""
    from abs_classify.towers import EMBEDDED

    if name != EMBEDDED:
        return []
    return [
        "the embedded tower knows what ImageNet-1k knows; it serves to try the pipeline, an open_clip model to do work"
    ]
