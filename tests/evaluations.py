"""Evaluations through the library, with one cache, small models and images of noise."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from abs_classify import evaluate, get_method
from abs_classify.encoding.feature_store import DiskStore
from abs_classify.encoding.stages import ModelSettings, Stages, open_stages
from abs_classify.evaluation.evaluation_results import EvaluationResults
from abs_classify.evaluation.job import Evaluation
from abs_classify.evaluation.records import ResultRecord
from abs_classify.evaluation.sweep import EvaluationObserver, Sweep
from abs_core.descriptions import Description, LabelSpace
from abs_core.labels import from_names


class Bench(EvaluationObserver):
    """Evaluates on the CPU with attention of the model itself and two views of each kind, unless an option says more.

    Attributes:
        model: that is used unless an option names others.
        folder: of everything that is written.
        store: of all evaluations.
        results: where ``files`` puts result files.
        sweeps: what was planned for each.
        models: those that were loaded, one after the other.
        accuracies: top-1 of each method, for each data set, model and label space.
    """

    def __init__(self, folder: Path, model: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.store = DiskStore(folder / "cache")
        self.results = folder / "results"
        self.sweeps: list[Sweep] = []
        self.models: list[weakref.ref[Any]] = []
        self.accuracies: list[list[float]] = []
        self.model = model

    def run(self, dataset: str | Path | Sequence[str], methods: str = "clip,abs", **options: Any) -> EvaluationResults:
        """Evaluate a folder of images, or data sets by their specs."""
        datasets = f"imagefolder:{dataset}" if isinstance(dataset, Path) else dataset
        drawn = any(view.kind != "whole" for name in methods.split(",") for view in get_method(name).views)
        settings = {"models": self.model, "attention": "self", "device": "cpu", "views": 2 if drawn else None}
        settings["observer"] = self
        return evaluate(
            datasets,
            methods=methods.split(","),
            cache=self.store,
            **(settings | options),
        )

    def files(self, dataset: str | Path, methods: str = "clip,abs", **options: Any) -> list[Path]:
        """The result files of a run, in name order."""
        folder = self.run(dataset, methods, results=self.results, **options).folder
        assert folder is not None
        return sorted(folder.glob("*.json"))

    def stages(self) -> Stages:
        """The stages of the model."""
        return open_stages(self.store, self.model, ModelSettings("self", "cpu"))

    def planned(self, sweep: Sweep) -> None:
        self.sweeps.append(sweep)

    def finished(self, evaluation: Evaluation, records: Sequence[ResultRecord]) -> None:
        gc.collect()
        alive = sum(ref() is not None for ref in self.models)
        if "model" in vars(evaluation.stages.models):
            model = evaluation.stages.models.model
            assert alive == sum(ref() is model for ref in self.models), "an earlier model is still in memory"
            if not alive:
                self.models.append(weakref.ref(model))
        self.accuracies.append([record.metrics.acc1 for record in records])


def described(name: str, *classes: str) -> LabelSpace:
    """A label space with three sentences for each class, none of which is that of another but for the name."""
    labels = from_names(classes, name=name)
    descriptions = {
        label.id: [Description(f"The {name} of {label.name} has mark {place}.{number}.") for number in range(3)]
        for place, label in enumerate(labels.classes)
    }
    return LabelSpace(labels, descriptions, f"{name}@1.0.0#{labels.digest}")
