"""What corrections are worth for the images that nobody corrected, on folders of which all classes are known.

    abs label photos/ --labels labels.txt --out labelled/
    python benchmarks/learning.py labelled/ truth.csv [labelled-2/ truth-2.csv ...] --splits 20

A truth file has the columns ``path`` and ``label``: the name of a file and the name of its class. Corrections are drawn
as the review page gives them: a share at random, the others by doubt, least confident first. Each split learns from
them and is judged by all other images.

``--shuffle labels`` gives every image the class of another one: nothing can be learned, and every use of a head is a
mistake. ``--shuffle features`` gives it the features of another one: what is still gained does not come from them, but
from the class probabilities, or, in a folder with as many images of each class, from knowing which ones are used up.
"""

from __future__ import annotations

import argparse
import csv
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from abs_classify.labelling.label_folder import LabelFolder
from abs_classify.labelling.learning import CorrectedImages, learn, rest_weights
from abs_classify.labelling.reopening import evidence_of_rows, reopen_labeller
from abs_core.home import Home


def read_images(folder: Path, truth: Path, cache: Path) -> CorrectedImages:
    """All images of a folder, as if all were decided."""
    opened = LabelFolder.open(folder)
    with truth.open(encoding="utf-8") as stream:
        names = {Path(row["path"]).name: row["label"] for row in csv.DictReader(stream)}
    positions = {label.name: position for position, label in enumerate(opened.classes)}
    labeller = reopen_labeller(opened, opened.run["settings"]["model"], cache=cache)
    ids, parts, decided = [], [], []
    for rows, seen in evidence_of_rows(opened, labeller, opened.rows()):
        kept = [place for place, row in enumerate(rows) if Path(row.path).name in names and row.image_id not in ids]
        ids += [rows[place].image_id for place in kept]
        decided += [positions[names[Path(rows[place].path).name]] for place in kept]
        parts.append([values[kept] for values in (seen.probabilities, seen.features, seen.chosen)])
    probabilities, features, chosen = (np.concatenate(values) for values in zip(*parts, strict=True))
    return CorrectedImages(
        ids,
        probabilities.astype(np.float64),
        features.astype(np.float64),
        chosen.astype(np.int64),
        np.array(decided),
        np.ones(len(ids), bool),
        labeller.class_vectors().astype(np.float64),
    )


def split(images: CorrectedImages, count: int, share: float, seed: int) -> tuple[CorrectedImages, CorrectedImages]:
    """Decided images, and the others."""
    total = len(images.image_ids)
    confidences = images.probabilities[np.arange(total), images.chosen]
    order = np.random.default_rng(seed).permutation(total)
    drawn = order[: round(count * share)]
    doubtful = np.setdiff1d(np.argsort(confidences, kind="stable"), drawn, assume_unique=True)[: count - len(drawn)]
    members = np.concatenate([drawn, doubtful])
    rest = np.setdiff1d(np.arange(total), members)
    weights = rest_weights(confidences[members], confidences[rest])
    chosen = images.subset(members)
    values: dict[str, Any] = {**vars(chosen), "at_random": np.arange(count) < len(drawn), "weights": weights}
    return CorrectedImages(**values), images.subset(rest)


def measure(name: str, images: CorrectedImages, options: argparse.Namespace, share: float) -> str:
    """A line of the table."""
    before, gains, expected, used, inside, covered = [], [], [], [], [], []
    heads: Counter[str] = Counter()
    for seed in range(options.splits):
        given = images
        if options.shuffle:
            shuffled = "decided" if options.shuffle == "labels" else "features"
            others = np.random.default_rng(1000 + seed).permutation(len(images.image_ids))
            given = CorrectedImages(**{**vars(images), shuffled: getattr(images, shuffled)[others]})
        corrections, rest = split(given, min(options.count, len(images.image_ids) // 2), share, seed)
        learned, report = learn(corrections)
        labels, confidences = learned.apply(rest.probabilities, rest.features, rest.chosen)
        before.append(100 * (rest.chosen == rest.decided).mean())
        gains.append(100 * (labels == rest.decided).mean() - before[-1])
        used.append(report.used)
        if report.gain is not None and report.used:
            expected.append(100 * report.gain[0])
            inside.append(report.gain[1] <= gains[-1] / 100 <= report.gain[2])
        if learned.sets is not None:
            covered.append(learned.sets.sets(confidences)[np.arange(len(labels)), rest.decided].mean())
        heads[report.head.partition(",")[0] if report.used else "labels kept"] += 1
    low, high = np.quantile(gains, [0.05, 0.95])
    worth = f"{np.mean(expected):+.1f}, {np.mean(inside):.2f}" if expected else "-"
    kinds = "; ".join(f"{count} {head}" for head, count in heads.most_common())
    return (
        f"| {name} | {share:.0%} | {np.mean(before):.1f} | {np.mean(used):.0%} | {np.mean(gains):+.1f} "
        f"[{low:+.1f}, {high:+.1f}] | {np.mean(np.array(gains) < 0):.0%} | {worth} | "
        f"{100 * np.mean(covered):.1f} | {kinds} |"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", nargs="+", type=Path, metavar="FOLDER TRUTH")
    parser.add_argument("--cache", type=Path, default=Home.at(None, None).cache)
    parser.add_argument("--count", type=int, default=200, help="corrections; at most half of the images")
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--shares", type=float, nargs="+", default=[1.0, 0.3], help="of them drawn at random")
    parser.add_argument("--shuffle", choices=["labels", "features"])
    options = parser.parse_args()
    print("| folder | at random | rest right before, % | head used | gain, points [5 %, 95 % of splits] | worse | "
          "expected where used, true gain in its interval | 90 % sets cover, % | chosen |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|")
    for folder, truth in zip(options.pairs[::2], options.pairs[1::2], strict=True):
        images = read_images(folder, truth, options.cache)
        for share in options.shares:
            print(measure(folder.name, images, options, share), flush=True)


if __name__ == "__main__":
    main()
