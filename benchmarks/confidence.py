"""What confidences are worth: right against wrong, known against unknown, calibration, conformal sets.

    python benchmarks/confidence.py --dataset csv:photos.csv --cache ~/.cache/abs-confidence
    python benchmarks/confidence.py --dataset imagefolder:val --bundle birds --method cupl --halves 5

Labels are made as `abs label` makes them: adaptive views where the method has them. ``AUROC``: how well the confidence
ranks right labels above wrong ones. ``known``: how well ``known_scores`` ranks images of the classes above others, the
mean over random halves of the classes of which the other half is hidden; ``rejected`` are the shares of known and of
unknown images below 0. ``doubtful`` is the share of labels below the default threshold, and ``kept`` the accuracy of
the others. Then ``--fit`` images are drawn at random (half of them where there are fewer than twice as many) to fit the
temperature and the 90 % sets, and the others are asked, in ``--splits`` splits: ``ECE`` with ten bins of equally many
images, before and after fitting, ``perfect`` what perfect calibration shows at that size, coverage and mean size of the
sets. +- are standard errors: over bootstraps of images for AUROC, over halves for known.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from abs_classify import Classifier, load_model
from abs_classify.datasets import Dataset, open_dataset
from abs_classify.evaluation.reliability import calibration_error
from abs_classify.labelling.confidence import ConfidenceModel, doubtful_threshold, label_confidences
from abs_classify.labelling.fitting import choose_conformal_sets, fit_temperature
from abs_classify.labelling.labeller import Evidence, Labeller
from abs_classify.methods.adaptive import AdaptiveViews
from abs_classify.methods.scoring import PerViewScorer
from abs_classify.methods.table import get_method
from abs_core.descriptions import LabelSpace
from abs_core.labels import LabelSet

Floats = NDArray[np.floating]


def main() -> None:
    """Read the options, label, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, help="as `abs eval` takes it")
    parser.add_argument("--bundle", help="a bundle file with descriptions of the classes")
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--method", default="abs")
    parser.add_argument("--cache", type=Path, help="a folder that keeps the features of images")
    parser.add_argument("--halves", type=int, default=20)
    parser.add_argument("--splits", type=int, default=100)
    parser.add_argument("--fit", type=int, default=200)
    options = parser.parse_args()
    dataset = open_dataset(options.dataset)
    space = read_space(dataset, options.bundle)
    model = load_model(options.model)
    classes = [label.id for label in space.labels.classes]
    truth = np.array([classes.index(sample.label) for sample in dataset.samples])

    def look(part: LabelSpace, *, none: bool) -> list[Evidence]:
        views = AdaptiveViews() if isinstance(get_method(options.method).scorer, PerViewScorer) else None
        classifier = Classifier(model, part, method=options.method, views=views, cache=options.cache)
        labeller = Labeller(classifier, none=none)
        return list(labeller.evidence(classifier.identified(dataset.samples)))

    seen = look(space, none=False)
    probabilities = np.concatenate([part.probabilities for part in seen])
    labels = np.concatenate([part.chosen for part in seen])
    print(f"{options.dataset}, {options.method}: {len(truth)} images, {len(classes)} classes")
    report_labels(probabilities, labels, truth)
    report_fitted(probabilities, labels, truth, options.fit, options.splits)
    rng, scores = np.random.default_rng(0), []
    for _ in range(options.halves):
        shown = np.sort(rng.permutation(len(classes))[: len(classes) // 2])
        known = np.concatenate([part.known for part in look(subspace(space, shown), none=True)])
        of_classes = np.isin(truth, shown)
        scores.append((auroc(known, of_classes), (known[of_classes] < 0).mean(), (known[~of_classes] < 0).mean()))
    if scores:
        area, wrongly, rightly = np.mean(scores, axis=0)
        error = np.std([row[0] for row in scores]) / len(scores) ** 0.5
        print(f"known against unknown {area:.3f} +- {error:.3f}; rejected: known {wrongly:.3f}, unknown {rightly:.3f}")


def read_space(dataset: Dataset, bundle: str | None) -> LabelSpace:
    """The classes of the data set, with the descriptions of a bundle if one is given."""
    if bundle is None:
        return LabelSpace.of_labels(dataset.label_set)
    from abs_descriptions import read_bundle

    described = read_bundle(Path(bundle)).label_space()
    return LabelSpace(dataset.label_set, described.descriptions, described.source)


def subspace(space: LabelSpace, positions: Sequence[int] | NDArray[np.integer]) -> LabelSpace:
    """Some of the classes with their descriptions."""
    labels = LabelSet("half", tuple(space.labels.classes[position] for position in positions))
    if space.descriptions is None:
        return LabelSpace.of_labels(labels)
    return LabelSpace(labels, {label.id: space.descriptions[label.id] for label in labels.classes}, space.source)


def auroc(scores: Floats, positive: NDArray[np.bool_]) -> float:
    """The probability that a positive has the larger score, equals counted half."""
    _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]
    positives = int(positive.sum())
    excess = ranks[positive].sum() - positives * (positives + 1) / 2
    return float(excess / (positives * (len(scores) - positives)))


def report_labels(probabilities: Floats, labels: NDArray[np.integer], truth: NDArray[np.integer]) -> None:
    """Accuracy, AUROC and the default threshold, nothing fitted."""
    confidences = label_confidences(ConfidenceModel().confidences(probabilities), labels)
    right = labels == truth
    draws = np.random.default_rng(0).integers(0, len(truth), (500, len(truth)))
    error = np.std([auroc(confidences[draw], right[draw]) for draw in draws])
    kept = confidences >= doubtful_threshold(probabilities.shape[1])
    print(
        f"accuracy {right.mean():.3f}; AUROC {auroc(confidences, right):.3f} +- {error:.3f}; "
        f"doubtful {1 - kept.mean():.3f}, accuracy of the kept {right[kept].mean():.3f}"
    )


def report_fitted(
    probabilities: Floats, labels: NDArray[np.integer], truth: NDArray[np.integer], fit: int, splits: int
) -> None:
    """Calibration and sets on the images that were not drawn."""
    rng, count = np.random.default_rng(0), len(truth)
    fit, rows = min(fit, count // 2), []
    for _ in range(splits):
        order = rng.permutation(count)
        drawn, rest = order[:fit], order[fit:]
        model = ConfidenceModel(fit_temperature(probabilities[drawn], truth[drawn]))
        sets = choose_conformal_sets(model.confidences(probabilities[drawn]), truth[drawn])
        confidences = model.confidences(probabilities[rest])
        right = labels[rest] == truth[rest]
        error = calibration_error(label_confidences(confidences, labels[rest]), right, repeats=20)
        before = calibration_error(label_confidences(probabilities[rest], labels[rest]), right, repeats=1)
        members = sets.sets(confidences)
        covered = members[np.arange(len(rest)), truth[rest]].mean()
        rows.append(
            (model.inverse_temperature, before.value, error.value, error.perfect, covered, members.sum(1).mean())
        )
    factor, before_fit, value, perfect, covered, size = np.mean(rows, axis=0)
    print(
        f"{fit} images fitted, {count - fit} asked, {splits} splits: inverse temperature {factor:.2f}; ECE "
        f"{before_fit:.3f} before, {value:.3f} after, perfect {perfect:.3f}; 90 % sets cover {covered:.3f}, "
        f"mean size {size:.2f}"
    )


if __name__ == "__main__":
    main()
