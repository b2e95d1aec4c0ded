"""The results of an evaluation, in Python: a sequence of records that knows where their files are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

from abs_classify.encoding.work import WorkCounts
from abs_classify.evaluation.records import ResultRecord
from abs_classify.evaluation.tables import tables_text
from abs_core.result_tables import data_frame, html_table
from abs_core.text import counted

__all__ = ["EvaluationResults"]

# of the data frame and the table of a notebook
_COLUMNS = (
    "dataset",
    "model",
    "bundle",
    "method",
    "images",
    "acc1",
    "acc1_low",
    "acc1_high",
    "acc5",
    "mean_per_class_recall",
)


@dataclass(frozen=True)
class EvaluationResults(Sequence[ResultRecord]):
    """The results of an evaluation, in the order in which they were computed.

    Args:
        records: one for each data set, model, label space and method.
        left_out: why label spaces were left out that do not fit a data set.
        folder: where the result files are; None if none were asked for.
        work: how many images and views were asked for, and how many of them were computed.
    """

    records: Sequence[ResultRecord]
    left_out: Sequence[str]
    folder: Path | None
    work: WorkCounts

    @overload
    def __getitem__(self, index: int) -> ResultRecord: ...
    @overload
    def __getitem__(self, index: slice) -> EvaluationResults: ...
    def __getitem__(self, index: int | slice) -> ResultRecord | EvaluationResults:
        # a part knows where its predictions are, as the whole does
        return replace(self, records=self.records[index]) if isinstance(index, slice) else self.records[index]

    def __len__(self) -> int:
        return len(self.records)

    @property
    def folders(self) -> dict[str, Path]:
        """The id of the run to the folder of its files; empty if none were asked for."""
        return {} if self.folder is None else {record.details.run.id: self.folder for record in self.records}

    def __str__(self) -> str:
        """The tables of the results."""
        return tables_text(self.records)

    def __repr__(self) -> str:
        best = max(self.records, key=lambda record: record.metrics.acc1, default=None)
        what = f"<EvaluationResults: {counted(len(self), 'result', 'results')}"
        return f"{what}>" if best is None else f"{what}, best {best.method!r} with top-1 {best.metrics.acc1:.4f}>"

    def _repr_html_(self) -> str:
        rows = [
            [f"{value:.4f}" if isinstance(value, float) else value for value in row.values()] for row in self._rows()
        ]
        return html_table("Evaluation", _COLUMNS, rows)

    def to_pandas(self) -> Any:
        """A pandas ``DataFrame``: a row for each result, top-1 accuracy as a share with its 95 % interval.

        Raises:
            UsageError: pandas is not installed.
        """
        return data_frame(self._rows(), _COLUMNS)

    def _rows(self) -> list[dict[str, Any]]:
        rows = (
            (
                record.dataset,
                record.model,
                record.bundle,
                record.method,
                record.details.data.images,
                record.metrics.acc1,
                record.details.top1.low,
                record.details.top1.high,
                record.metrics.acc5,
                record.metrics.mean_per_class_recall,
            )
            for record in self.records
        )
        return [dict(zip(_COLUMNS, row, strict=True)) for row in rows]

    def to_dict(self) -> dict[str, Any]:
        """JSON values: the records as their files have them, and what was left out."""
        return {
            "results": [record.model_dump(mode="json") for record in self.records],
            "left_out": list(self.left_out),
        }
