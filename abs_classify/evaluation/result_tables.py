"""Tables from result records: what `abs eval` prints at the end of a run, and `abs results show` prints again."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from abs_classify.evaluation.records import ResultRecord
from abs_core.errors import ResultError
from abs_core.text import counted, printable

if TYPE_CHECKING:
    import numpy as np

    from abs_classify.evaluation.metrics import PairedComparison, Spread
    from abs_classify.evaluation.tables import AccuracyRow, OverallRow

__all__ = ["accuracy_row", "alike", "comparison_text", "comparison_value", "paired", "tables_text"]


def tables_text(records: Sequence[ResultRecord]) -> str:
    """A table for each data set, and one over all of them where there are several; with what must be read beside them.

    Args:
        records: at least one.
    """
    groups = _by_images(records)
    counts = Counter(_images(group[0]) for group in groups)
    parts = [_dataset_text(group, relabelled=counts[_images(group[0])] > 1) for group in groups]
    if len(groups) > 1:
        parts.append(_overall_text(groups))
    return "\n\n".join(parts)


def accuracy_row(record: ResultRecord) -> AccuracyRow:
    """The row of a record in the table of its data set."""
    from abs_classify.evaluation.metrics import PairedComparison, Proportion
    from abs_classify.evaluation.tables import AccuracyRow

    found = record.details
    other = found.difference
    return AccuracyRow(
        method=record.method,
        views=found.method.views,
        texts=found.texts.source,
        top1=Proportion(found.top1.successes, found.top1.trials),
        top5=None if found.top5 is None else Proportion(found.top5.successes, found.top5.trials),
        difference=None
        if other is None
        else PairedComparison(
            other.first, other.second, other.both, other.first_only, other.second_only, other.neither
        ),
        mean_recall=record.metrics.mean_per_class_recall,
    )


def paired(first: ResultRecord, second: ResultRecord) -> PairedComparison:
    """First minus second, where both are of the same images in the same order with the same labels.

    Raises:
        ResultError: they are of other images or labels, or a file's bits are damaged.
    """
    from abs_classify.evaluation.metrics import compare_right

    if first.details.data.images_digest != second.details.data.images_digest:
        raise ResultError(
            f"two results of {first.dataset!r} and {second.dataset!r} are of different images and cannot be paired",
            remedy="Compare runs on the same images, with the same --limit and --on-error",
        )
    if not _labelled_alike(first, second):
        raise ResultError(
            f"two results of {first.dataset!r} and {second.dataset!r} are of the same images with other labels and "
            "cannot be paired",
            remedy="Run the evaluation with the older labels again; the cache makes that quick",
        )
    return compare_right(_named(first), _right(first), _named(second), _right(second))


def comparison_text(pairs: Iterable[tuple[ResultRecord, ResultRecord]]) -> str:
    """Paired differences as a table, one line for each pair; positive where the first is better.

    Models and bundles have columns where one of the two sides holds several; ``a / b`` is that of the first and of the
    second.
    """
    from abs_classify.evaluation.tables import render_differences

    pairs = list(pairs)
    sides = [list(side) for side in zip(*pairs, strict=True)]
    names = [
        name for name in ("model", "bundle") if any(len({_label(one, name) for one in side}) > 1 for side in sides)
    ]
    rows = []
    for first, second in pairs:
        shown = [" / ".join(dict.fromkeys(_label(one, name) for one in (first, second))) for name in names]
        rows.append(((first.dataset, *shown, first.method), paired(first, second)))
    return render_differences(rows, ["data set", *names, "method"])


def comparison_value(first: ResultRecord, second: ResultRecord) -> dict[str, Any]:
    """JSON values of the paired difference of two results: what was run on either side, counts, and all digits."""
    pair = paired(first, second)
    sides = {
        name: {
            "run": one.details.run.id,
            "model": one.details.weights.name,
            "bundle": one.bundle,
            "classes": one.details.classes.source,
            "method": one.method,
        }
        for name, one in (("first", first), ("second", second))
    }
    return {"dataset": first.dataset, "images": pair.images, **pair.to_dict(), **sides}


def alike(ours: Sequence[ResultRecord], theirs: Sequence[ResultRecord]) -> list[tuple[ResultRecord, ResultRecord]]:
    """Which results of two runs are compared: those of one method on the same images with the same labels.

    Where both runs have several of a method, because they cross models or bundles, those of the same model and bundle
    are paired; failing that, of the same model; failing that, of the same bundle; failing that, each with each. Where
    all differ in their labels they are returned as they are, and ``paired`` refuses them.
    """
    groups: dict[tuple[str, str], tuple[list[ResultRecord], list[ResultRecord]]] = {}
    for side, records in enumerate((ours, theirs)):
        for record in records:
            key = (record.details.data.images_digest, record.method)
            groups.setdefault(key, ([], []))[side].append(record)
    pairs = [pair for first, second in groups.values() for pair in _closest(first, second)]
    return [pair for pair in pairs if _labelled_alike(*pair)] or pairs


def _closest(ours: Sequence[ResultRecord], theirs: Sequence[ResultRecord]) -> list[tuple[ResultRecord, ResultRecord]]:
    every = [(one, other) for one in ours for other in theirs]
    if min(len(ours), len(theirs)) < 2:
        return every
    for names in (("model", "bundle"), ("model",), ("bundle",)):
        same = [(one, other) for one, other in every if _labels(one, names) == _labels(other, names)]
        if same:
            return same
    return every


def _by_images(records: Sequence[ResultRecord]) -> list[list[ResultRecord]]:
    """Those of the same images and labels together; older ones, whose labels are unknown, with the first of these."""
    groups: list[list[ResultRecord]] = []
    for record in records:
        for group in groups:
            if _images(group[0]) == _images(record) and all(_labelled_alike(one, record) for one in group):
                group.append(record)
                break
        else:
            groups.append([record])
    return groups


def _images(record: ResultRecord) -> tuple[str, str]:
    return record.details.data.spec, record.details.data.images_digest


def _labelled_alike(first: ResultRecord, second: ResultRecord) -> bool:
    """Whether no label is known to differ; files written before labels had a digest hold none."""
    digests = {one.details.data.labels_digest for one in (first, second)}
    return len(digests - {None}) < 2


def _dataset_text(group: Sequence[ResultRecord], *, relabelled: bool) -> str:
    from abs_classify.evaluation.tables import render_table

    head = group[0].details
    sizes = {record.details.classes.count for record in group}
    classes = f", {counted(head.classes.count, 'class', 'classes')}" if len(sizes) == 1 else ""
    varying = _varying(group)
    labels = [_labels(record, varying) for record in group]
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
        render_table([accuracy_row(record) for record in group], varying, labels),
        "",
        *_spreads(group, varying),
        *_remarks(group, varying),
    ]
    return "\n".join(lines).rstrip()


def _spreads(group: Sequence[ResultRecord], varying: Sequence[str]) -> list[str]:
    from abs_classify.evaluation.tables import render_spreads

    drawn = [record for record in group if len(record.details.seeds.seeds) > 1]
    if not drawn:
        return []
    rows = [((*_labels(record, varying), record.method), _spread(record)) for record in drawn]
    table = render_spreads(rows, [*varying, "method"], drawn[0].details.seeds.seeds[0])
    return ["the views drawn anew with other seeds:", table, ""]


def _remarks(group: Sequence[ResultRecord], varying: Sequence[str]) -> list[str]:
    """Warnings and notes, each once; those that do not hold for all combinations say for which."""
    every = {_labels(record, varying) for record in group}
    lines = []
    for kind in ("warning", "note"):
        found: dict[str, dict[tuple[str, ...], None]] = {}
        for record in group:
            for text in record.details.warnings if kind == "warning" else record.details.notes:
                found.setdefault(text, {})[_labels(record, varying)] = None
        for text, where in found.items():
            named = "" if len(where) == len(every) else f"{', '.join(' '.join(one) for one in where)}: "
            lines.append(printable(f"{kind}: {named}{text}"))
    return lines


def _overall_text(groups: Sequence[Sequence[ResultRecord]]) -> str:
    from abs_classify.evaluation.tables import OverallRow, render_overall

    titles = _titles(groups)
    records = [record for group in groups for record in group]
    # where each data set ran with one bundle, its own, rows of one method belong together
    several = any(len({record.bundle for record in group}) > 1 for group in groups)
    names = [name for name in _varying(records) if name != "bundle" or several]
    rows: dict[tuple[str, ...], dict[str, Spread]] = {}
    for title, group in zip(titles, groups, strict=True):
        for record in group:
            key = (*_labels(record, names), record.method)
            rows.setdefault(key, {})[title] = _spread(record)
    found: list[OverallRow] = [OverallRow(key, cells) for key, cells in rows.items()]
    head = f"{len(groups)} data sets, top-1 %"
    if not several and len({record.bundle for record in records}) > 1:
        head += ", each with its own bundle"
    return f"{head}\n\n{render_overall(found, [*names, 'method'], titles)}"


def _titles(groups: Sequence[Sequence[ResultRecord]]) -> list[str]:
    """Short names of the data sets, all different: of a place on the disk its last part."""
    short = [group[0].dataset.rstrip("/").rpartition("/")[2] or group[0].dataset for group in groups]
    return [
        name if short.count(name) == 1 else f"{name} ({at}, {counted(group[0].details.data.images, 'image', 'images')})"
        for at, (name, group) in enumerate(zip(short, groups, strict=True), start=1)
    ]


def _varying(records: Sequence[ResultRecord]) -> list[str]:
    """Which of run, model and bundle differ between records, and so need a column."""
    several = [name for name in ("model", "bundle") if len({_label(record, name) for record in records}) > 1]
    seen = {(record.details.data.spec, *_labels(record, several), record.method) for record in records}
    return ["run", *several] if len(seen) < len(records) else several


def _labels(record: ResultRecord, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(_label(record, name) for name in names)


def _label(record: ResultRecord, name: str) -> str:
    if name == "model":
        return record.details.weights.name
    if name == "run":
        return record.details.run.id
    reference, _, pinned = record.bundle.partition("#")
    # enough to tell apart two bundles of one name and version; the whole digest stands above the table
    return f"{reference}#{pinned.removeprefix('sha256:')[:6]}" if reference else "none"


def _named(record: ResultRecord) -> str:
    return f"{record.method} of {record.details.run.id}"


def _spread(record: ResultRecord) -> Spread:
    from abs_classify.evaluation.metrics import Spread

    return Spread(tuple(record.details.seeds.acc1))


def _right(record: ResultRecord) -> np.ndarray:
    import numpy as np

    images = record.details.data.images
    try:
        packed = np.frombuffer(base64.b64decode(record.details.right, validate=True), dtype=np.uint8)
    except ValueError as error:
        raise _damaged(record) from error
    if packed.size != (images + 7) // 8:
        raise _damaged(record)
    return np.unpackbits(packed, count=images).astype(bool)


def _damaged(record: ResultRecord) -> ResultError:
    return ResultError(
        f"the result of {record.method!r} of run {record.details.run.id} has damaged bits",
        remedy="Run the evaluation again; the cache makes that quick",
    )
