"""The files beside the results of an evaluation: its pages, predictions, texts, and a table for spreadsheets."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import TracebackType

from abs_classify.evaluation.export import PredictionWriter, TextListing, write_csv
from abs_classify.evaluation.job import Evaluation, RankedPass
from abs_classify.evaluation.records import ResultRecord
from abs_classify.evaluation.results_folder import file_stem
from abs_classify.evaluation.sweep import EvaluationObserver, Sweep
from abs_classify.report.contents import evaluation_page
from abs_classify.report.page import write_report
from abs_core.errors import UsageError
from abs_core.files import ensure_writable

__all__ = ["EvaluationFiles"]


_log = logging.getLogger(__name__)


class EvaluationFiles(EvaluationObserver, AbstractContextManager["EvaluationFiles"]):
    """Writes the files that are asked for: each page as soon as its evaluation is done, the others at the end.

        with EvaluationFiles(report=Path("out")) as files:
            results = evaluate("imagefolder:./val", observer=files)

    Args:
        predictions: what was predicted for each image: ``.jsonl`` or ``.parquet``.
        texts: every text that was encoded, with digests, as lines of JSON.
        table: one row for each result, as CSV.
        report: an HTML page: a file, or a folder for ``index.html``; of several evaluations a folder of pages.
        report_images: how many images a page shows.
        command: the command line that pages name, from which credentials are removed.

    Raises:
        UsageError: predictions of another kind, or a file for several pages.
        MissingExtraError: pyarrow, which writes parquet, is not installed.
        StorageError: a file cannot be written. That is found before anything is computed.
    """

    def __init__(
        self,
        *,
        predictions: Path | None = None,
        texts: Path | None = None,
        table: Path | None = None,
        report: Path | None = None,
        report_images: int = 60,
        command: Sequence[str] = (),
    ) -> None:
        self._predictions, self._texts, self._table, self._report = predictions, texts, table, report
        self._report_images, self._command = report_images, command
        self._is_page = report is not None and report.suffix.lower() in (".html", ".htm")
        self._writer = None if predictions is None else PredictionWriter(predictions)
        self._listing = TextListing()
        self._records: list[ResultRecord] = []
        self._combinations, self._pages = 1, 0
        self._stack = ExitStack()

    def __enter__(self) -> EvaluationFiles:
        if self._writer is not None:
            self._stack.enter_context(self._writer)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)
        if kind is not None:
            return
        if self._table is not None:
            write_csv(self._table, self._records)
            _log.info("table: %s", self._table)
        if self._texts is not None:
            self._listing.write(self._texts)
            _log.info("texts: %s", self._texts)
        if self._predictions is not None:
            _log.info("predictions: %s", self._predictions)

    def planned(self, sweep: Sweep) -> None:
        """Prove that the files can be written."""
        self._combinations = sweep.combinations
        if self._is_page and sweep.combinations > 1:
            raise UsageError(
                f"--report must be a folder for {sweep.combinations} combinations, got {str(self._report)!r}",
                remedy="Name a folder",
            )
        page_folder = self._report.parent if self._report is not None and self._is_page else self._report
        for folder in (page_folder, *(path.parent for path in (self._table, self._texts) if path is not None)):
            if folder is not None:
                ensure_writable(folder)

    def ranked(self, ranked: RankedPass) -> None:
        """Write the predictions of a pass."""
        if self._writer is not None:
            self._writer.add(ranked)

    def finished(self, evaluation: Evaluation, records: Sequence[ResultRecord]) -> None:
        """Write the page of an evaluation, and remember its texts and results."""
        self._records += records
        self._listing.add(evaluation)
        if self._report is not None:
            path = self._report if self._is_page else self._report / self._page_name(records[0])
            write_report(evaluation_page(evaluation, records, self._report_images, self._command), path)
            _log.info("report: %s", path)

    def _page_name(self, record: ResultRecord) -> str:
        if self._combinations == 1:
            return "index.html"
        self._pages += 1
        return f"{self._pages:02d}-{file_stem(record)}.html"
