"""Adaptive views against all views: agreement, mean number of views, accuracy and wall time, with one loaded model.

    OMP_NUM_THREADS=1 python benchmarks/adaptive.py --dataset imagefolder:val --limit 200 --seeds 5
    OMP_NUM_THREADS=1 python benchmarks/adaptive.py --agreement 0.9 --agreement 0.99 --stopping guaranteed

Nothing is cached. Groups of images go through all runs in turn, so that other work on the machine slows all alike; a
ratio is the sum of the wall times of a run over that of all views. The interval of the difference in accuracy is a
bootstrap over images (2,000 samples), each image with the mean over its seeds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from abs_classify import AdaptiveViews, Classifier, load_model
from abs_classify.datasets import Sample, open_dataset
from abs_core.descriptions import LabelSpace
from abs_core.labels import read_labels

GROUP = 8


@dataclass
class Run:
    """What one setting gave: for each seed and image the label and the number of views; seconds in all."""

    name: str
    views: AdaptiveViews | None
    labels: list[list[str]] = field(default_factory=list)
    looked: list[list[int]] = field(default_factory=list)
    seconds: float = 0.0


def main() -> None:
    """Read the options, run, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="demo")
    parser.add_argument("--labels", help="candidate classes; of the data set by default")
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--method", default="abs")
    parser.add_argument("--limit", type=int, default=50)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--agreement", type=float, action="append")
    parser.add_argument("--stopping", action="append")
    options = parser.parse_args()
    dataset = open_dataset(options.dataset)
    step = max(1, len(dataset.samples) // options.limit)
    samples = dataset.samples[::step][: options.limit]
    label_set = dataset.label_set if options.labels is None else read_labels(options.labels)
    model = load_model(options.model, dtype=options.dtype)
    runs = [Run("all views", None)]
    for rule in options.stopping or ["normal"]:
        for agreement in options.agreement or [0.99]:
            runs.append(Run(f"{rule} {agreement:g}", AdaptiveViews(agreement, rule)))
    for seed in range(options.seeds):
        classifiers = [
            Classifier(model, LabelSpace.of_labels(label_set), method=options.method, views=run.views, seed=seed)
            for run in runs
        ]
        classify(runs, classifiers, samples)
    report(runs, [sample.label for sample in samples])


def classify(runs: Sequence[Run], classifiers: Sequence[Classifier], samples: Sequence[Sample]) -> None:
    """One seed of all runs, group by group in turn, after an image that does not count."""
    for run in runs:
        run.labels.append([])
        run.looked.append([])
    for classifier in classifiers:
        list(classifier.classify(samples[:1]))
    for start in range(0, len(samples), GROUP):
        for run, classifier in zip(runs, classifiers, strict=True):
            began = time.perf_counter()
            predictions = list(classifier.classify(samples[start : start + GROUP]))
            run.seconds += time.perf_counter() - began
            run.labels[-1] += [prediction.class_id for prediction in predictions]
            full = max(view.count for view in classifier.method.views)
            run.looked[-1] += [full if prediction.views is None else prediction.views for prediction in predictions]


def report(runs: Sequence[Run], truth: Sequence[str]) -> None:
    """Print the table."""
    full = np.array(runs[0].labels)
    right = full == np.array(truth)
    rng = np.random.default_rng(0)
    picks = rng.integers(0, len(truth), (2000, len(truth)))
    print(f"{len(truth)} images, {len(full)} seeds; accuracy of all views {100 * right.mean():.1f} %")
    print(f"{'run':18}{'views':>7}{'agreement %':>13}{'difference [95 %]':>24}{'wall':>7}")
    for run in runs:
        labels = np.array(run.labels)
        difference = ((labels == np.array(truth)) * 1.0 - right).mean(0)
        low, high = np.quantile(difference[picks].mean(1), [0.025, 0.975])
        interval = f"{100 * difference.mean():+.2f} [{100 * low:+.2f}, {100 * high:+.2f}]"
        agreement, ratio = 100 * (labels == full).mean(), run.seconds / runs[0].seconds
        print(f"{run.name:18}{np.mean(run.looked):7.1f}{agreement:13.2f}{interval:>24}{ratio:7.3f}")


if __name__ == "__main__":
    main()
