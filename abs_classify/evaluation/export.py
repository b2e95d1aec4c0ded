"""What a run hands to other tools: a CSV of its results, the predictions of each image, the texts that were encoded."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from abs_classify.encoding.ranking import ScoredImages
from abs_classify.evaluation.job import Evaluation, EvaluationJob
from abs_classify.evaluation.records import ResultRecord
from abs_core.canonical import sha256_bytes
from abs_core.errors import UsageError
from abs_core.extras import require
from abs_core.files import atomic_write
from abs_core.text import guarded, json_text

if TYPE_CHECKING:
    from abs_classify.methods.class_texts import ClassTexts

__all__ = ["Predictions", "TextListing", "write_csv"]


# images whose predictions are turned into rows at a time
_ROWS = 1024


def write_csv(path: Path, records: Sequence[ResultRecord]) -> None:
    """Write one row for each record; a file of that name is replaced.

    The first columns are those that CLIP_benchmark's ``build`` writes. A text that a spreadsheet would run as a formula
    gets an apostrophe before it.

    Raises:
        StorageError: the file cannot be written.
    """
    text = io.StringIO(newline="")
    rows = [_csv_row(record) for record in records]
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {name: guarded(cell) if isinstance(cell, str) else cell for name, cell in row.items()} for row in rows
    )
    with atomic_write(path) as stream:
        stream.write(text.getvalue().encode("utf-8"))


def _csv_row(record: ResultRecord) -> dict[str, Any]:
    found = record.details
    other = found.difference
    return {
        "dataset": record.dataset,
        "model": record.model,
        "pretrained": record.pretrained,
        "model_fullname": f"{record.model} {record.pretrained}",
        "task": record.task,
        "language": record.language,
        "bundle": record.bundle,
        "method": record.method,
        **record.metrics.model_dump(),
        "acc1_low": found.top1.low,
        "acc1_high": found.top1.high,
        "acc1_mean_over_seeds": found.seeds.mean,
        "acc1_sd_over_seeds": found.seeds.deviation,
        "seeds": len(found.seeds.seeds),
        "first_seed": found.seeds.seeds[0],
        "minus": None if other is None else other.second,
        "difference": None if other is None else other.difference,
        "difference_low": None if other is None else other.low,
        "difference_high": None if other is None else other.high,
        "p_value": None if other is None else other.p_value,
        "images": found.data.images,
        "skipped": len(found.data.skipped),
        "classes": found.classes.count,
        "split": found.data.split,
        "spec": found.data.spec,
        "control": found.texts.control,
        "texts": found.texts.count,
        "texts_digest": found.texts.digest,
        "tower": found.weights.tower,
        "attention": found.weights.attention,
        "dtype": found.weights.dtype,
        "device": found.weights.device,
        "run": found.run.id,
        "created": found.run.created,
    }


class _Rows(Protocol):
    """Takes rows, some at a time."""

    def write(self, rows: list[dict[str, Any]]) -> None: ...


class Predictions(AbstractContextManager["Predictions"]):
    """Writes what every method said of every image: a line, or a row of parquet, for each image and method.

    Rows are written some at a time, so memory does not grow with them. The file appears under its name, whole, at the
    end; one of that name is replaced.

    Args:
        path: ends in ``.jsonl`` or ``.parquet``.

    Raises:
        UsageError: another ending.
        MissingExtraError: pyarrow is not installed.
        StorageError: the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        if path.suffix.lower() not in (".jsonl", ".parquet"):
            raise UsageError(
                f"{str(path)!r} is no name for predictions", remedy="End it in .jsonl, or in .parquet for pyarrow"
            )
        self._path = path
        self._stack = ExitStack()
        self._arrow = _arrow() if path.suffix.lower() == ".parquet" else None

    def __enter__(self) -> Predictions:
        stream = self._stack.enter_context(atomic_write(self._path))
        self._rows: _Rows = (
            _JsonLinesWriter(stream) if self._arrow is None else self._stack.enter_context(_parquet(stream))
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def add(self, cell: EvaluationJob, model: str, seed: int, scored: ScoredImages) -> None:
        """Write the predictions of all methods of one pass through the images of a cell."""
        classes = list(cell.vocabulary.names)
        shared = {
            "dataset": cell.subject.dataset.name,
            "model": model,
            "bundle": "" if cell.bundle is None else cell.vocabulary.source,
            "seed": seed,
        }
        for rows in _batches(scored, classes, shared):
            self._rows.write(rows)


def _batches(scored: ScoredImages, classes: Sequence[str], shared: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
    photos = scored.photos
    for method, found in scored.methods.items():
        for start in range(0, len(photos), _ROWS):
            part = range(start, min(start + _ROWS, len(photos)))
            yield [
                {
                    **shared,
                    "method": method,
                    "image": photos[at].id,
                    "path": photos[at].name.encode("utf-8", "backslashreplace").decode("utf-8"),
                    "label": classes[scored.labels[at]],
                    "rank": int(found.ranks[at]),
                    "correct": bool(found.ranks[at] == 1),
                    "top": [classes[position] for position in found.top[at].tolist()],
                    "scores": found.scores[at].tolist(),
                }
                for at in part
            ]


class _JsonLinesWriter:
    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def write(self, rows: list[dict[str, Any]]) -> None:
        self._stream.write("".join(json_text(row) + "\n" for row in rows).encode("utf-8"))


class _ParquetWriter(AbstractContextManager["_ParquetWriter"]):
    def __init__(self, stream: BinaryIO, arrow: Any, parquet: Any) -> None:
        text, whole = arrow.string(), arrow.int64()
        self._arrow = arrow
        self._schema = arrow.schema(
            [
                *((name, text) for name in ("dataset", "model", "bundle")),
                ("seed", whole),
                *((name, text) for name in ("method", "image", "path", "label")),
                ("rank", whole),
                ("correct", arrow.bool_()),
                ("top", arrow.list_(text)),
                ("scores", arrow.list_(arrow.float32())),
            ]
        )
        self._writer = parquet.ParquetWriter(stream, self._schema)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    def write(self, rows: list[dict[str, Any]]) -> None:
        self._writer.write_table(self._arrow.Table.from_pylist(rows, schema=self._schema))


def _parquet(stream: BinaryIO) -> _ParquetWriter:
    return _ParquetWriter(stream, _arrow(), require("pyarrow.parquet"))


def _arrow() -> Any:
    return require("pyarrow", purpose="to write parquet files")


class TextListing:
    """Every text that was encoded, once for each table of texts, to be written as lines of JSON."""

    def __init__(self) -> None:
        self._tables: dict[str, ClassTexts] = {}

    def add(self, evaluation: Evaluation) -> None:
        """Remember the texts of all methods and seeds."""
        for plan in evaluation.cell.plans:
            self._tables |= {table.digest: table for table in plan.methods.values()}

    def write(self, path: Path) -> None:
        """Write a line for each text: digest of its table, class, text, its own digest. Replaces a file of that name.

        ``label`` marks the texts "a photo of a {class}." that descriptions are weighed by.

        Raises:
            StorageError: the file cannot be written.
        """
        with atomic_write(path) as stream:
            for digest, table in self._tables.items():
                own = [
                    (table.class_ids[at], text, False) for at, text in zip(table.class_index, table.texts, strict=True)
                ]
                labels = [(one, text, True) for one, text in zip(table.class_ids, table.label_texts, strict=True)]
                for one, text, label in own + labels:
                    row = {"texts_digest": digest, "class": one, "text": text, "label": label}
                    row["sha256"] = sha256_bytes(text.encode("utf-8"))
                    stream.write((json_text(row) + "\n").encode("utf-8"))
