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
from abs_classify.evaluation.job import Evaluation, RankedPass
from abs_classify.evaluation.records import ResultRecord
from abs_core.canonical import sha256_bytes
from abs_core.errors import UsageError
from abs_core.extras import require
from abs_core.files import atomic_write
from abs_core.text import escape_formula, json_text, valid_unicode

if TYPE_CHECKING:
    from abs_classify.methods.class_texts import ClassTexts

__all__ = ["PredictionWriter", "TextListing", "write_csv"]

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
        {name: escape_formula(cell) if isinstance(cell, str) else cell for name, cell in row.items()} for row in rows
    )
    with atomic_write(path) as stream:
        stream.write(text.getvalue().encode("utf-8"))


def _csv_row(record: ResultRecord) -> dict[str, Any]:
    details = record.details
    difference = details.difference
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
        "acc1_low": details.top1.low,
        "acc1_high": details.top1.high,
        "acc1_mean_over_seeds": details.seeds.mean,
        "acc1_sd_over_seeds": details.seeds.deviation,
        "seeds": len(details.seeds.seeds),
        "first_seed": details.seeds.seeds[0],
        "minus": None if difference is None else difference.second,
        "difference": None if difference is None else difference.difference,
        "difference_low": None if difference is None else difference.low,
        "difference_high": None if difference is None else difference.high,
        "p_value": None if difference is None else difference.p_value,
        "images": details.data.images,
        "skipped": len(details.data.skipped),
        "remarks": "; ".join(f"{remark.count} {remark.kind}" for remark in details.data.remarks),
        "classes": details.classes.count,
        "split": details.data.split,
        "spec": details.data.spec,
        "control": details.texts.control,
        "texts": details.texts.count,
        "texts_digest": details.texts.digest,
        "tower": details.weights.tower,
        "attention": details.weights.attention,
        "dtype": details.weights.dtype,
        "device": details.weights.device,
        "run": details.run.id,
        "created": details.run.created,
    }


class _Rows(Protocol):
    """Takes rows, some at a time."""

    def write(self, rows: list[dict[str, Any]]) -> None: ...


class PredictionWriter(AbstractContextManager["PredictionWriter"]):
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
                f"predictions go to a .jsonl or .parquet file, got {str(path)!r}",
                remedy="Change the ending of its name",
            )
        self._path = path
        self._stack = ExitStack()
        self._arrow = _arrow() if path.suffix.lower() == ".parquet" else None

    def __enter__(self) -> PredictionWriter:
        stream = self._stack.enter_context(atomic_write(self._path))
        self._rows: _Rows = (
            _JsonLinesWriter(stream) if self._arrow is None else self._stack.enter_context(_parquet(stream))
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def add(self, ranked: RankedPass) -> None:
        """Write the predictions of all methods of one pass through the images of a job."""
        label_space = ranked.job.label_space
        shared = {
            "dataset": ranked.job.split.dataset.name,
            "model": ranked.model,
            "bundle": "" if label_space.descriptions is None else label_space.source,
            "seed": ranked.seed,
        }
        for rows in _batches(ranked.scored, list(label_space.names), shared):
            self._rows.write(rows)


def _batches(scored: ScoredImages, classes: Sequence[str], shared: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
    images = scored.images
    for method, ranking in scored.methods.items():
        for start in range(0, len(images), _ROWS):
            yield [
                {
                    **shared,
                    "method": method,
                    "image": images[row].id,
                    "path": valid_unicode(images[row].name),
                    "label": classes[scored.labels[row]],
                    "rank": int(ranking.ranks[row]),
                    "correct": bool(ranking.ranks[row] == 1),
                    "top": [classes[class_index] for class_index in ranking.top[row].tolist()],
                    "scores": ranking.scores[row].tolist(),
                }
                for row in range(start, min(start + _ROWS, len(images)))
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
        for plan in evaluation.job.plans:
            self._tables |= {table.digest: table for table in plan.methods.values()}

    def write(self, path: Path) -> None:
        """Write a line for each text: digest of its table, class, text, its own digest. Replaces a file of that name.

        ``label`` marks the texts "a photo of a {class}." that descriptions are weighed by.

        Raises:
            StorageError: the file cannot be written.
        """
        with atomic_write(path) as stream:
            for digest, table in self._tables.items():
                class_of_text = [table.class_ids[position] for position in table.class_index]
                texts = [(*pair, False) for pair in zip(class_of_text, table.texts, strict=True)]
                labels = [(*pair, True) for pair in zip(table.class_ids, table.label_texts, strict=True)]
                for class_id, text, label in texts + labels:
                    row = {"texts_digest": digest, "class": class_id, "text": text, "label": label}
                    row["sha256"] = sha256_bytes(text.encode("utf-8"))
                    stream.write((json_text(row) + "\n").encode("utf-8"))
