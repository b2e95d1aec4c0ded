"""One table of several runs for a paper: accuracies, differences to a base, corrected tests and costs.

The table is made of results and, where several draws of the views were run, of the predictions kept with them. It
prints as text, Markdown and LaTeX, and has all digits as CSV and JSON.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from abs_classify.evaluation.comparison import pair_results
from abs_classify.evaluation.markup import csv_text, latex_preamble, latex_table, markdown_cell, markdown_table
from abs_classify.evaluation.paired_tests import MODELS, PairedTest, corrected_p_values, power_note
from abs_classify.evaluation.records import ResultRecord
from abs_classify.evaluation.results_folder import PredictionReader
from abs_classify.evaluation.significance import wilson
from abs_classify.evaluation.tables import (
    NO_DIFFERENCE,
    aligned,
    dataset_titles,
    difference_text,
    group_by_images,
    p_value_text,
    varying_labels,
)
from abs_classify.models.deferred import model_notes
from abs_core.errors import ResultError
from abs_core.result_tables import data_frame, html_table
from abs_core.text import counted, printable

__all__ = ["ResultRow", "ResultTable", "result_table"]

_MARK = "~"
_WIDTH = 120

# characters of a caption or a note in Markdown
_NOTE = 2000

# what went into labelling images; models and bytes are loaded once, however many images there are
_ENCODING = "encode"
_STAGES = ("read", _ENCODING, "match")

_NOT_ENCODED = "-"


@dataclass(frozen=True)
class ResultRow:
    """A result as a table shows it.

    Attributes:
        record: the result.
        labels: data set, run, model and bundle, as far as they vary in the table.
        low, high: the 95 % Wilson interval of top-1 over the images, around the mean over the seeds.
        top5: the mean over the seeds, 0 to 1; of the first seed where predictions were not kept; None as in the result.
        crops: that were encoded an image besides the whole image, on average; windows are no crops.
        seconds: to read, encode and match an image once, of all methods of the run together, without what came from
            the cache; None if nothing was measured.
        base: the method that it is compared with; None for that itself.
        paired: this minus the base; None for the base.
        corrected_p: of ``paired``, for all tests of the table.
        is_complete: whether all draws were compared.
    """

    record: ResultRecord
    labels: tuple[str, ...]
    low: float
    high: float
    top5: float | None
    crops: float
    seconds: float | None
    base: str | None
    paired: PairedTest | None
    corrected_p: float | None
    is_complete: bool

    def to_dict(self) -> dict[str, Any]:
        """JSON values with all digits."""
        record, spread = self.record, self.record.details.seeds
        return {
            "dataset": record.dataset,
            "run": record.details.run.id,
            "model": record.details.weights.name,
            "bundle": record.bundle,
            "method": record.method,
            "images": record.details.data.images,
            "seeds": len(spread.seeds),
            "top1": spread.mean,
            "top1_sd": spread.deviation if len(spread.seeds) > 1 else None,
            "top1_low": self.low,
            "top1_high": self.high,
            "top5": self.top5,
            "crops_per_image": self.crops,
            "seconds_per_image": self.seconds,
            "base": self.base,
            **{
                name: None if self.paired is None else getattr(self.paired, attribute)
                for name, attribute in _TEST_COLUMNS.items()
            },
            "corrected_p": self.corrected_p,
            "all_draws": None if self.paired is None else self.is_complete,
        }


_TEST_COLUMNS = {
    "compared_images": "images",
    "compared_draws": "draws",
    "difference": "difference",
    "difference_low": "low",
    "difference_high": "high",
    "p_value": "p_value",
    "smallest_difference": "smallest",
}


@dataclass(frozen=True)
class ResultTable:
    """A table of results.

    Attributes:
        rows: at least one, data set by data set.
        label_names: headings of the rows' labels.
        caption: what it shows, on what.
        notes: how its numbers are meant.
    """

    rows: Sequence[ResultRow]
    label_names: Sequence[str]
    caption: str
    notes: Sequence[str]

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return f"<ResultTable: {counted(len(self.rows), 'row', 'rows')}, {self.caption}>"

    def _repr_html_(self) -> str:
        header, body = self._cells()
        return html_table(self.caption, header, body)

    def to_pandas(self) -> Any:
        """A pandas ``DataFrame``: a row for each result, with all digits; accuracies as shares.

        Raises:
            UsageError: pandas is not installed.
        """
        rows = [row.to_dict() for row in self.rows]
        return data_frame(rows, list(rows[0]))

    def text(self) -> str:
        """For a terminal."""
        header, body = self._cells()
        notes = [line for note in self.notes for line in textwrap.wrap(printable(note), _WIDTH, subsequent_indent="  ")]
        return "\n".join([printable(self.caption), "", *aligned(header, body, self._names), "", *notes])

    def markdown(self) -> str:
        """In the Markdown of GitHub and GitLab, ends with a line feed."""
        header, body = self._cells()
        caption, *notes = (markdown_cell(text, _NOTE) for text in (self.caption, *self.notes))
        notes = [f"- {note}" for note in notes]
        return "\n".join([caption, "", *markdown_table(header, body, self._names), "", *notes, ""])

    def latex(self) -> str:
        """A ``table`` of LaTeX with the rules of booktabs, ends with a line feed."""
        header, body = self._cells()
        sets = [row.record.details.data for row in self.rows]
        rules = [place for place in range(1, len(sets)) if sets[place] != sets[place - 1]]
        caption = [self.caption, *self.notes]
        table = "\n".join([*latex_table(header, body, self._names, caption, "tab:abs-results", rules), ""])
        return "\n".join([*latex_preamble(table), table])

    def csv(self) -> str:
        """A row for each result, with all digits; ends with a line feed."""
        values = [row.to_dict() for row in self.rows]
        return csv_text(list(values[0]), [list(value.values()) for value in values])

    def to_dict(self) -> dict[str, Any]:
        """JSON values with all digits."""
        return {"caption": self.caption, "notes": list(self.notes), "rows": [row.to_dict() for row in self.rows]}

    @property
    def _names(self) -> int:
        return len(self.label_names) + 1

    def _cells(self) -> tuple[list[str], list[list[str]]]:
        """Headings and cells; a column that says nothing is left out."""
        bases = {row.base for row in self.rows if row.base is not None}
        minus = f"minus {next(iter(bases))} [95 %]" if len(bases) == 1 else "minus base [95 %]"
        columns = {"top-1 % [95 %]": [_accuracy(row) for row in self.rows]}
        columns["top-5 %"] = ["" if row.top5 is None else f"{100 * row.top5:.1f}" for row in self.rows]
        columns[minus] = [_difference(row) for row in self.rows]
        columns["p (Holm)"] = ["" if row.corrected_p is None else p_value_text(row.corrected_p) for row in self.rows]
        columns["crops"] = [f"{row.crops:.3g}" for row in self.rows]
        columns["s/image"] = [_seconds_text(row) for row in self.rows]
        shown = {name: cells for name, cells in columns.items() if any(cells)}
        body = [
            [*row.labels, row.record.method, *cells] for row, *cells in zip(self.rows, *shown.values(), strict=True)
        ]
        return [*self.label_names, "method", *shown], body


def result_table(
    results: Sequence[ResultRecord], *, base: str = "clip", predictions: PredictionReader | None = None
) -> ResultTable:
    """One table of results, of one run or of several.

    Args:
        results: at least one. Of those that ``evaluate`` returned with ``results=``, and of files, predictions are
            found.
        base: the method that others are compared with, on the same images with the same model: in the same run, else
            in another one. Where none has it, the first method of the run.
        predictions: of the results; None to find them.

    Raises:
        ResultError: no result, or one is damaged.
        StorageError: a file of predictions cannot be read.
    """
    if not results:
        raise ResultError("there are no results for a table", remedy="Name a run, see `abs results ls`")
    reader = PredictionReader.of(results) if predictions is None else predictions
    groups = group_by_images(results)
    titles = dataset_titles(groups)
    varying = varying_labels(results)
    label_names = [*(["data set"] if len(groups) > 1 else []), *varying]
    pairs: list[tuple[tuple[str, ...], ResultRecord, ResultRecord | None]] = []
    for title, group in zip(titles, groups, strict=True):
        for record in group:
            labels = (*([title] if len(groups) > 1 else []), *record.labels(varying))
            pairs.append((labels, record, _base_of(record, group, base)))
    tests = [None if other is None else pair_results(record, other, reader, reader) for _, record, other in pairs]
    corrected = corrected_p_values([None if test is None else test[0] for test in tests])
    rows = [
        _row(labels, record, other, test, p_value, reader)
        for (labels, record, other), test, p_value in zip(pairs, tests, corrected, strict=True)
    ]
    return ResultTable(rows, label_names, _caption(groups, titles, varying), _notes(rows))


def _base_of(record: ResultRecord, group: Sequence[ResultRecord], base: str) -> ResultRecord | None:
    """What a result is compared with; None if it is that itself."""
    same_run = [
        other
        for other in group
        if (other.details.run.id, *other.labels(("model", "bundle")))
        == (record.details.run.id, *record.labels(("model", "bundle")))
    ]
    same_model = [
        other
        for other in group
        # a run of clip alone has no attention, so the weights count and not what else belongs to them
        if (other.details.weights.tower, other.details.classes.digest)
        == (record.details.weights.tower, record.details.classes.digest)
    ]
    named = [other for other in (*same_run, *same_model) if other.method == base]
    chosen = named[0] if named else same_run[0]
    return None if record.method == chosen.method and (chosen is record or record.method == base) else chosen


def _row(
    labels: tuple[str, ...],
    record: ResultRecord,
    other: ResultRecord | None,
    test: tuple[PairedTest, bool] | None,
    corrected_p: float | None,
    reader: PredictionReader,
) -> ResultRow:
    details = record.details
    low, high = wilson(details.seeds.mean * details.data.images, details.data.images)
    return ResultRow(
        record=record,
        labels=labels,
        low=low,
        high=high,
        top5=_top5(record, reader),
        crops=_crops(record),
        seconds=_seconds(record),
        base=None if other is None else other.method,
        paired=None if test is None else test[0],
        corrected_p=corrected_p,
        is_complete=test is None or test[1],
    )


def _top5(record: ResultRecord, reader: PredictionReader) -> float | None:
    top5 = record.details.top5
    if top5 is None or len(record.details.seeds.seeds) == 1 or (run := reader.find(record)) is None:
        return None if top5 is None else top5.value
    shares = [float((passed.ranks[passed.ranks > 0] <= 5).mean()) for passed in run.of(record.method)]
    return sum(shares) / len(shares)


def _crops(record: ResultRecord) -> float:
    method = record.details.method
    crops = 0.0
    for key in method.view_keys:
        kind, count = key.get("kind"), key.get("count", 0)
        if kind not in ("whole", "window") and isinstance(count, int):
            is_adaptive = method.adaptive is not None and kind in method.adaptive.kinds
            crops += method.adaptive.mean_views if is_adaptive and method.adaptive is not None else count
    return crops


def _seconds(record: ResultRecord) -> float | None:
    """What an image took; None where none was encoded by the run itself, whose time then says nothing of that."""
    if not record.details.run.stage_seconds.get(_ENCODING):
        return None
    seconds = sum(record.details.run.stage_seconds.get(stage, 0.0) for stage in _STAGES)
    return seconds / record.details.data.images


def _seconds_text(row: ResultRow) -> str:
    if row.seconds is not None:
        return f"{row.seconds:.3g}"
    return _NOT_ENCODED if row.record.details.run.stage_seconds else ""


def _accuracy(row: ResultRow) -> str:
    spread = row.record.details.seeds
    deviation = f" ± {100 * spread.deviation:.1f}" if len(spread.seeds) > 1 else ""
    return f"{100 * spread.mean:.1f}{deviation} [{100 * row.low:.1f}, {100 * row.high:.1f}]"


def _difference(row: ResultRow) -> str:
    if row.paired is None or row.corrected_p is None:
        return ""
    return difference_text(row.paired) + ("" if row.paired.shows(row.corrected_p) else f" {_MARK}")


def _caption(groups: Sequence[Sequence[ResultRecord]], titles: Sequence[str], varying: Sequence[str]) -> str:
    sets = [
        f"{title} (n = {counted(group[0].details.data.images, 'image', 'images')}, "
        f"{counted(group[0].details.classes.count, 'class', 'classes')})"
        for title, group in zip(titles, groups, strict=True)
    ]
    facts = [f"top-1 accuracy on {', '.join(sets)}"]
    head = groups[0][0]
    if "model" not in varying:
        facts.append(f"model {head.details.weights.name}")
    if "bundle" not in varying and head.bundle:
        facts.append(f"descriptions {head.label('bundle')}")
    return "; ".join(facts)


def _notes(rows: Sequence[ResultRow]) -> list[str]:
    seeds = sorted({len(row.record.details.seeds.seeds) for row in rows} - {1})
    notes = ["intervals: 95 %, of accuracies Wilson over the images"]
    if seeds:
        counts = " or ".join(map(str, seeds))
        notes.insert(0, f"mean ± standard deviation over {counts} seeds; rows without ± draw nothing, or had one seed")
    tests = [row.paired for row in rows if row.paired is not None]
    if tests:
        models = "; ".join(MODELS[several] for several in sorted({test.draws > 1 for test in tests}))
        notes.append(f"differences: percentage points, paired by image; {models}")
        notes.append(f"p: corrected by Holm for the {counted(len(tests), 'test', 'tests')} of this table")
        notes.append(power_note(tests))
        if not all(row.paired.shows(row.corrected_p) for row in rows if row.paired and row.corrected_p is not None):
            notes.append(f"{_MARK} {NO_DIFFERENCE}")
    notes.append("crops: encoded an image besides the whole image")
    if any(row.seconds is not None for row in rows):
        devices = ", ".join(sorted({row.record.details.weights.device for row in rows}))
        notes.append(
            f"s/image: reading, encoding and matching by all methods and seeds of a run together, on {devices}, "
            "without what came from the cache"
        )
    if any(_seconds_text(row) == _NOT_ENCODED for row in rows):
        notes.append(
            f"s/image {_NOT_ENCODED}: features of images came from the cache, or from workers of Ray, so that the time "
            "of the run is not what an image takes"
        )
    if not all(row.is_complete for row in rows):
        notes.append(
            "some differences are of the first seed only, since predictions were not kept: run the evaluation again"
        )
    names = dict.fromkeys(row.record.details.weights.name for row in rows)
    return [*notes, *(note for name in names for note in model_notes(name))]
