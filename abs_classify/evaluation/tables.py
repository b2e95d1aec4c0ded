"""Result records as fixed-width text for a terminal or a log: a table for each data set, and one over all of them.

Accuracies are in per cent with 95 % intervals, differences in percentage points. Text from outside is made harmless.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from abs_classify.evaluation.metrics import PairedComparison, Proportion, SeedSpread
from abs_classify.evaluation.paired_tests import PairedTest
from abs_classify.evaluation.records import ResultRecord
from abs_core.text import counted, printable

__all__ = [
    "NO_DIFFERENCE",
    "OverallRow",
    "aligned",
    "dataset_titles",
    "difference_text",
    "group_by_images",
    "p_value_text",
    "proportion_text",
    "render_differences",
    "render_overall",
    "render_table",
    "tables_text",
    "varying_labels",
]

#: What the mark behind a difference means.
NO_DIFFERENCE = "no difference that this many images can show"
_MARK = "~"
_NAME_WIDTH = 40


@dataclass(frozen=True)
class OverallRow:
    """One combination over several data sets.

    Attributes:
        labels: what was run: model, bundle, method, as far as they vary.
        accuracies: data set to top-1 accuracy, 0 to 1, one value for each seed; a data set that was not run is absent.
    """

    labels: tuple[str, ...]
    accuracies: Mapping[str, SeedSpread]

    def mean(self, datasets: Sequence[str]) -> float | None:
        """The unweighted mean over data sets; None unless all of them are there."""
        if not all(name in self.accuracies for name in datasets):
            return None
        return sum(self.accuracies[name].mean for name in datasets) / len(datasets)


def tables_text(records: Sequence[ResultRecord]) -> str:
    """A table for each data set, and one over all of them where there are several; with what must be read beside them.

    Args:
        records: at least one.
    """
    groups = group_by_images(records)
    counts = Counter(_images(group[0]) for group in groups)
    parts = [_dataset_text(group, relabelled=counts[_images(group[0])] > 1) for group in groups]
    if len(groups) > 1:
        parts.append(_overall_text(groups))
    return "\n\n".join(parts)


def render_table(
    records: Sequence[ResultRecord], label_names: Sequence[str] = (), labels: Sequence[Sequence[str]] | None = None
) -> str:
    """The table of one data set as lines of plain text without a final newline.

    Args:
        records: of the same images.
        label_names: headings of columns before the method, such as ``model``; none for one model and one bundle.
        labels: what stands in them, for each record.
    """
    differences = [record.details.difference for record in records if record.details.difference is not None]
    header = [*label_names, "method", "views", "texts", "top-1 % [95 %]", "top-5 %"]
    if differences:
        header += [f"minus {differences[0].second} [95 %]  ", "p"]
    before = [()] * len(records) if labels is None else labels
    body = [
        [*first_cells, *_cells(record, with_difference=bool(differences))]
        for first_cells, record in zip(before, records, strict=True)
    ]
    return "\n".join([*aligned(header, body, len(label_names) + 3), *_footnotes(records, differences)])


def render_differences(rows: Sequence[tuple[tuple[str, ...], PairedTest, float]], label_names: Sequence[str]) -> str:
    """Paired differences of top-1, in percentage points: for each data set and method first minus second.

    Args:
        rows: (labels, test, p corrected for all rows), with as many labels as there are ``label_names``; at least one.
        label_names: headings of the labels.
    """
    draws = any(test.draws > 1 for _, test, _ in rows)
    header = [*label_names, "images", *(["draws"] if draws else []), "only first", "only second"]
    header += ["first minus second [95 %]  ", "p", "p (Holm)", "could show"]
    body = []
    for labels, test, corrected in rows:
        counts = [f"{count:g}" if test.draws == 1 else f"{count:.1f}" for count in (test.first_only, test.second_only)]
        difference = difference_text(test) + ("  " if test.shows(corrected) else f" {_MARK}")
        cells = [str(test.images), *([str(test.draws)] if draws else []), *counts, difference]
        cells += [
            p_value_text(test.p_value),
            p_value_text(corrected),
            "none" if test.smallest >= 1 else f"{100 * test.smallest:.1f}",
        ]
        body.append([*labels, *cells])
    lines = aligned(header, body, len(label_names))
    lines.append("images that only one of the two got right" + (", the mean over the draws" if draws else ""))
    lines.append(f"p (Holm): corrected for the {counted(len(rows), 'test', 'tests')} of this table")
    if not all(test.shows(corrected) for _, test, corrected in rows):
        lines.append(f"{_MARK} {NO_DIFFERENCE}")
    return "\n".join(lines)


def render_overall(rows: Sequence[OverallRow], label_names: Sequence[str], datasets: Sequence[str]) -> str:
    """Top-1 accuracy in per cent: combinations as rows, data sets as columns, and their mean where all are there.

    Args:
        rows: with as many labels as there are ``label_names``.
        label_names: headings of the columns before the numbers.
        datasets: the columns, in order.
    """
    body = []
    for row in rows:
        cells = [_spread_text(row.accuracies.get(name)) for name in datasets]
        mean = row.mean(datasets)
        body.append([*row.labels, *cells, "" if mean is None else f"{100 * mean:.1f}"])
    lines = aligned([*label_names, *datasets, "mean"], body, len(label_names))
    if any(len(spread.acc1) > 1 for row in rows for spread in row.accuracies.values()):
        lines.append("± standard deviation over seeds")
    return "\n".join(lines)


def proportion_text(share: Proportion) -> str:
    """``83.2 [79.1, 86.6]``: per cent with its 95 % interval."""
    return f"{100 * share.value:.1f} [{100 * share.low:.1f}, {100 * share.high:.1f}]"


def difference_text(comparison: PairedComparison | PairedTest) -> str:
    """``+2.5 [+0.4, +4.6]``: percentage points with their 95 % interval."""
    return f"{_signed(comparison.difference)} [{_signed(comparison.low)}, {_signed(comparison.high)}]"


def p_value_text(p_value: float) -> str:
    """``0.041`` or ``<0.001``."""
    return "<0.001" if p_value < 0.001 else f"{p_value:.3f}"


def group_by_images(records: Sequence[ResultRecord]) -> list[list[ResultRecord]]:
    """Those of the same images and labels together; older ones, whose labels are unknown, with the first of these."""
    groups: list[list[ResultRecord]] = []
    for record in records:
        for group in groups:
            if _images(group[0]) == _images(record) and all(other.may_share_labels(record) for other in group):
                group.append(record)
                break
        else:
            groups.append([record])
    return groups


def _images(record: ResultRecord) -> tuple[str, str]:
    return record.details.data.spec, record.details.data.images_digest


def _dataset_text(group: Sequence[ResultRecord], *, relabelled: bool) -> str:
    head = group[0].details
    sizes = {record.details.classes.count for record in group}
    classes = f", {counted(head.classes.count, 'class', 'classes')}" if len(sizes) == 1 else ""
    varying = varying_labels(group)
    labels = [record.labels(varying) for record in group]
    # a result prints in full what it depends on
    sources = dict.fromkeys(record.details.classes.source for record in group)
    facts = [f"classes from {', '.join(sources)}"]
    if "model" not in varying:
        facts.append(f"model {head.weights.name}")
    seeds = dict.fromkeys(record.details.seeds.seeds[0] for record in group)
    facts.append(f"seed {', '.join(map(str, seeds))}")
    if relabelled:
        facts.append(f"labels {next(filter(None, (record.details.data.labels_digest for record in group)))}")
    lines = [
        printable(f"{head.data.spec}: {counted(head.data.images, 'image', 'images')}{classes}"),
        printable("; ".join(facts)),
        "",
        render_table(group, varying, labels),
        "",
        *_spreads(group, varying),
        *_remarks(group, varying),
    ]
    return "\n".join(lines).rstrip()


def _spreads(group: Sequence[ResultRecord], varying: Sequence[str]) -> list[str]:
    """What other draws of the views give: mean, standard deviation and range of top-1, in per cent."""
    rows = []
    for record in group:
        spread = record.details.seeds
        if len(spread.seeds) > 1:
            numbers = (spread.mean, spread.deviation, spread.least, spread.most)
            seeds = f"{spread.seeds[0]} to {spread.seeds[-1]}"
            rows.append([*record.labels(varying), record.method, seeds, *(f"{100 * number:.2f}" for number in numbers)])
    if not rows:
        return []
    header = [*varying, "method", "seeds", "mean top-1 %", "sd", "least", "most"]
    return ["over several seeds:", *aligned(header, rows, len(varying) + 2), ""]


def _remarks(group: Sequence[ResultRecord], varying: Sequence[str]) -> list[str]:
    """Warnings and notes, each once; those that do not hold for all combinations say for which."""
    combinations = {record.labels(varying) for record in group}
    lines = []
    for kind in ("warning", "note"):
        remarks: dict[str, dict[tuple[str, ...], None]] = {}
        for record in group:
            for text in record.details.warnings if kind == "warning" else record.details.notes:
                remarks.setdefault(text, {})[record.labels(varying)] = None
        for text, where in remarks.items():
            place = "" if len(where) == len(combinations) else f"{', '.join(map(' '.join, where))}: "
            lines.append(printable(f"{kind}: {place}{text}"))
    return lines


def _overall_text(groups: Sequence[Sequence[ResultRecord]]) -> str:
    titles = dataset_titles(groups)
    records = [record for group in groups for record in group]
    # where each data set ran with one bundle, its own, rows of one method belong together
    several = any(len({record.bundle for record in group}) > 1 for group in groups)
    names = [name for name in varying_labels(records) if name != "bundle" or several]
    rows: dict[tuple[str, ...], dict[str, SeedSpread]] = {}
    for title, group in zip(titles, groups, strict=True):
        for record in group:
            key = (*record.labels(names), record.method)
            rows.setdefault(key, {})[title] = record.details.seeds
    overall = [OverallRow(key, cells) for key, cells in rows.items()]
    head = f"{len(groups)} data sets, top-1 %"
    if not several and len({record.bundle for record in records}) > 1:
        head += ", each with its own bundle"
    return f"{head}\n\n{render_overall(overall, [*names, 'method'], titles)}"


def dataset_titles(groups: Sequence[Sequence[ResultRecord]]) -> list[str]:
    """Short names of the data sets, all different: of a place on the disk its last part."""
    short = [group[0].dataset.rstrip("/").rpartition("/")[2] or group[0].dataset for group in groups]
    return [
        name
        if short.count(name) == 1
        else f"{name} ({number}, {counted(group[0].details.data.images, 'image', 'images')})"
        for number, (name, group) in enumerate(zip(short, groups, strict=True), start=1)
    ]


def varying_labels(records: Sequence[ResultRecord]) -> list[str]:
    """Which of run, model and bundle differ between records, and so need a column."""
    several = [name for name in ("model", "bundle") if len({record.label(name) for record in records}) > 1]
    seen = {(record.details.data.spec, *record.labels(several), record.method) for record in records}
    return ["run", *several] if len(seen) < len(records) else several


def _signed(share: float) -> str:
    points = round(100 * share, 1)
    return f"{points:+.1f}" if points else "0.0"


def _marked_difference(comparison: PairedComparison) -> str:
    return difference_text(comparison) + ("  " if comparison.conclusive else f" {_MARK}")


def _cells(record: ResultRecord, *, with_difference: bool) -> list[str]:
    details = record.details
    top5 = "" if details.top5 is None else f"{100 * details.top5.value:.1f}"
    cells = [record.method, details.method.views, record.texts, proportion_text(details.top1), top5]
    if not with_difference:
        return cells
    if details.difference is None:
        return [*cells, "", ""]
    return [*cells, _marked_difference(details.difference), p_value_text(details.difference.p_value)]


def _spread_text(spread: SeedSpread | None) -> str:
    if spread is None:
        return ""
    mean = f"{100 * spread.mean:.1f}"
    return mean if len(spread.acc1) == 1 else f"{mean} ±{100 * spread.deviation:.1f}"


def aligned(header: Sequence[str], body: Sequence[Sequence[str]], names: int) -> list[str]:
    """Lines of a table: the first ``names`` columns to the left, numbers to the right."""
    cells = [[printable(cell, _NAME_WIDTH) for cell in line] for line in [header, *body]]
    widths = [max(len(line[column]) for line in cells) for column in range(len(header))]
    lines = [
        "  ".join(
            c.ljust(w) if i < names else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return lines


def _adaptive_notes(records: Sequence[ResultRecord]) -> list[str]:
    """What adaptive methods of a table stopped by, and how often before the last view."""
    notes = []
    for record in records:
        adaptive = record.details.method.adaptive
        if adaptive is not None and adaptive.agreement is not None:
            notes.append(
                f"{record.method}: {100 * adaptive.settled_early:.1f} % of the images settled before the last view "
                f"({adaptive.rule} rule, agreement {adaptive.agreement:g})"
            )
    return list(dict.fromkeys(notes))


def _footnotes(records: Sequence[ResultRecord], differences: Sequence[PairedComparison]) -> list[str]:
    if not records:
        return []
    images = records[0].details.top1.trials
    notes = [f"{images} images; 95 % intervals: Wilson, for differences Newcombe (paired); p: exact McNemar"]
    if not all(difference.conclusive for difference in differences):
        notes.append(f"{_MARK} {NO_DIFFERENCE}")
    return notes + _adaptive_notes(records)
