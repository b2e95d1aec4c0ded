"""Result files: a folder for each run, a file for each method, written once and never over another."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from abs_classify.evaluation.predictions import RunPredictions
from abs_classify.evaluation.records import FORMAT, FORMAT_VERSION, PredictionFile, ResultRecord
from abs_classify.evaluation.run_folders import list_run_folders
from abs_core.canonical import digest, sha256_bytes
from abs_core.errors import AbsError, ResultError, StorageError, UnknownNameError
from abs_core.extras import DISTRIBUTION, installed_version
from abs_core.files import ensure_writable, is_file, is_folder, open_regular, publish, sha256_file, storage_errors
from abs_core.text import json_text

__all__ = [
    "PredictionReader",
    "ResultsFolder",
    "RunSummary",
    "StoredResults",
    "file_stem",
    "read_predictions",
    "read_result",
    "read_results",
    "write_predictions",
    "write_result",
]

# the bits of a million images are 170 kB, and a run may skip many images; a larger file is no result
_LARGEST = 64_000_000
_LONGEST_VERSION = 40
_PREDICTIONS = ".predictions.gz"
_AGAIN = "Run the evaluation again; the cache makes that quick"


@dataclass(frozen=True)
class ResultsFolder:
    """Where result files are kept.

    Args:
        root: holds one folder for each run.
    """

    root: Path

    def require_writable(self) -> None:
        """Prove that results can be written, before the work whose results they are.

        Raises:
            StorageError: they cannot; names the option that moves them.
        """
        try:
            ensure_writable(self.root)
        except StorageError as error:
            raise StorageError(
                f"results cannot be written: {error.message}", remedy="Name another folder with --results DIR"
            ) from error

    def write(self, record: ResultRecord) -> Path:
        """Keep a result and return its file.

        The file appears whole, under a name of its own: what was run and the digest of its content.

        Raises:
            StorageError: it cannot be written.
        """
        return write_result(self.root / record.details.run.id, record)

    def write_predictions(self, records: Sequence[ResultRecord], predictions: RunPredictions) -> list[ResultRecord]:
        """Keep the predictions that results follow from, in a file beside them.

        Args:
            records: of one data set, model and label space, not yet written.
            predictions: of all their methods.

        Returns:
            The results, each with the name of the file.

        Raises:
            StorageError: it cannot be written.
        """
        return write_predictions(self.root / records[0].details.run.id, records, predictions)

    def runs(self) -> list[Path]:
        """The folders of all runs, oldest first."""
        return list_run_folders(self.root)

    def find(self, name: str) -> list[Path]:
        """The result files that a name stands for: a file, a folder of them, a run or the beginning of its id, `last`.

        Raises:
            UnknownNameError: there is nothing of that name; lists the newest runs.
            ResultError: a folder without results, or a beginning that several runs share.
        """
        path = Path(name)
        if is_file(path):
            return [path]
        if is_folder(path):
            return _files(path)
        runs = self.runs()
        matches = runs[-1:] if name == "last" else [run for run in runs if name and run.name.startswith(name)]
        if len(matches) > 1:
            raise ResultError(
                f"{name!r} is ambiguous: {len(matches)} runs begin with it", remedy="Write more of the name"
            )
        if not matches:
            newest = [*["last"][: len(runs)], *(run.name for run in reversed(runs[-5:]))]
            raise UnknownNameError("result file, folder or run", name, newest, remedy="See `abs results ls`")
        return _files(matches[0])

    def read(self, names: Sequence[str]) -> StoredResults:
        """The results that names stand for, each once, in the order of the tables.

        Raises:
            UnknownNameError, ResultError: as ``find`` and ``read_result``.
        """
        return _read_all(path for name in names for path in self.find(name))

    def summaries(self) -> list[RunSummary]:
        """What each run holds, oldest first."""
        return [RunSummary.of(run) for run in self.runs()]


def write_result(folder: Path, record: ResultRecord) -> Path:
    """Keep a result in a folder, as ``ResultsFolder.write`` does in that of its run."""
    value = record.model_dump(mode="json")
    name = f"{file_stem(record)}_{_slug(record.method)}-{digest(value).removeprefix('sha256:')[:12]}.json"
    path = folder / name
    if not publish(path, (json_text(value) + "\n").encode("utf-8")):
        raise StorageError(f"the result file {str(path)!r} exists already", remedy="Run the evaluation again")
    return path


def write_predictions(folder: Path, records: Sequence[ResultRecord], predictions: RunPredictions) -> list[ResultRecord]:
    """Keep predictions in a folder, as ``ResultsFolder.write_predictions`` does in that of their run."""
    data = predictions.encode()
    file_digest = sha256_bytes(data)
    name = f"{file_stem(records[0])}-{file_digest.removeprefix('sha256:')[:12]}{_PREDICTIONS}"
    publish(folder / name, data)
    return [record.with_predictions(PredictionFile(name=name, digest=file_digest)) for record in records]


class StoredResults(list[ResultRecord]):
    """Results that were read from files.

    Attributes:
        folders: the id of each run to the folder of its files.
    """

    def __init__(self, records: Iterable[ResultRecord], folders: Mapping[str, Path]) -> None:
        super().__init__(records)
        self.folders = dict(folders)


class PredictionReader:
    """Reads the predictions behind results, each file once.

    Args:
        folders: the id of each run to the folder of its files.
    """

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self._folders = folders
        self._read: dict[tuple[Path, str], RunPredictions] = {}

    @classmethod
    def of(cls, results: object) -> PredictionReader:
        """The reader for results that know the folders of their runs; of others it finds nothing."""
        return cls(getattr(results, "folders", {}))

    def read(self, record: ResultRecord) -> RunPredictions:
        """What the methods of the run of a result said of each image.

        Raises:
            StorageError, ResultError: as ``read_predictions``, or the result is in no file.
        """
        folder, file = self._folders.get(record.details.run.id), record.details.predictions
        if folder is None or file is None:
            raise _not_kept(record)
        if (key := (folder, file.name)) not in self._read:
            self._read[key] = read_predictions(folder, record)
        return self._read[key]

    def find(self, record: ResultRecord) -> RunPredictions | None:
        """The same; None for a result of which none were kept, or whose file is gone.

        Raises:
            StorageError, ResultError: the file is there, and cannot be read.
        """
        folder, file = self._folders.get(record.details.run.id), record.details.predictions
        is_kept = folder is not None and file is not None and is_file(folder / file.name)
        return self.read(record) if is_kept else None


@dataclass(frozen=True)
class RunSummary:
    """What the folder of a run holds.

    Attributes:
        run: its id.
        results: how many results.
        datasets, models, bundles, methods: their names, in the order of the files.
        unreadable: how many files cannot be read.
    """

    run: str
    results: int
    datasets: list[str]
    models: list[str]
    bundles: list[str]
    methods: list[str]
    unreadable: int

    @classmethod
    def of(cls, folder: Path) -> RunSummary:
        """The summary of a run's folder."""
        records, unreadable = [], 0
        for path in sorted(folder.glob("*.json")):
            try:
                records.append(read_result(path))
            except AbsError:
                unreadable += 1
        return cls(
            run=folder.name,
            results=len(records),
            datasets=_unique(record.dataset for record in records),
            models=_unique(record.details.weights.name for record in records),
            bundles=_unique(record.bundle.partition("#")[0] for record in records if record.bundle),
            methods=_unique(record.method for record in records),
            unreadable=unreadable,
        )


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def read_predictions(folder: Path, record: ResultRecord) -> RunPredictions:
    """What the methods of a run said of each image.

    Args:
        folder: of the result's file.
        record: the result of one of the methods.

    Raises:
        StorageError: the file cannot be read, or is gone.
        ResultError: the result was written before predictions were kept, or the file is damaged or of other images.
    """
    file = record.details.predictions
    if file is None:
        raise _not_kept(record)
    if "/" in file.name or "\\" in file.name or not file.name.endswith(_PREDICTIONS):
        raise ResultError(f"{file.name!r} is no name of a file of predictions", remedy=_AGAIN)
    path = folder / file.name
    with storage_errors(path, "read"):
        is_same = sha256_file(path) == file.digest
    predictions = RunPredictions.read(path) if is_same else None
    if predictions is None or digest(list(predictions.images)) != record.details.data.images_digest:
        raise ResultError(f"{str(path)!r} does not hold the predictions of its results", remedy=_AGAIN)
    return predictions


def _not_kept(record: ResultRecord) -> ResultError:
    return ResultError(
        f"the result of {record.method!r} of run {record.details.run.id} has no predictions of each image",
        remedy=f"{_AGAIN}. In Python they are kept with results=FOLDER",
    )


def read_results(path: Path) -> StoredResults:
    """The results of a file, of all files in a folder, or of all runs in a results folder, in the order of the tables.

    Raises:
        StorageError, ResultError: as ``read_result``, or the folder holds no results.
    """
    return _read_all(_files(path) if is_folder(path) else [path])


def _read_all(paths: Iterable[Path]) -> StoredResults:
    read = [(read_result(path), path.parent) for path in dict.fromkeys(paths)]
    folders = {record.details.run.id: folder for record, folder in read}
    return StoredResults(sorted((record for record, _ in read), key=_order), folders)


def _order(record: ResultRecord) -> tuple[str, str, str, str, int, str]:
    from abs_classify.methods.table import METHODS

    names = list(METHODS)
    row = record.method.partition("(")[0]
    place = names.index(row) if row in names else len(names)
    return (
        record.details.data.spec,
        record.details.weights.name,
        record.bundle,
        record.details.run.id,
        place,
        record.method,
    )


def read_result(path: Path) -> ResultRecord:
    """Read a result file.

    Raises:
        StorageError: it cannot be read.
        ResultError: it is no result file, is damaged, or is of another format version.
    """
    with storage_errors(path, "read"), open_regular(path) as stream:
        data = stream.read(_LARGEST + 1)
    shown = str(path)
    if len(data) > _LARGEST:
        raise ResultError(f"{shown!r} is too large for a result file", remedy="Name a file that `abs eval` wrote")
    try:
        value: Any = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ResultError(f"{shown!r} is not valid JSON", remedy="Name a file that `abs eval` wrote") from error
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise ResultError(f"{shown!r} is not a result file of `abs eval`", remedy="Name a file that `abs eval` wrote")
    if value.get("format_version") != FORMAT_VERSION:
        raise _other_version(shown, value.get("format_version"))
    try:
        return ResultRecord.model_validate_json(json.dumps(value))
    except ValidationError as error:
        raise _invalid(shown, value, error) from error


def _invalid(shown: str, value: dict[str, Any], error: ValidationError) -> ResultError:
    """The error for a file that breaks a rule: it is damaged, unless another release wrote it by other rules."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    problem = f"at {place}: {first['msg'].lower()}"
    details: Any = value.get("details")
    versions: Any = details.get("versions") if isinstance(details, dict) else None
    writer: Any = versions.get(DISTRIBUTION) if isinstance(versions, dict) else None
    reader = installed_version(DISTRIBUTION)
    if isinstance(writer, str) and reader and writer != reader:
        return ResultError(
            f"the result file {shown!r} was written by {DISTRIBUTION} {writer[:_LONGEST_VERSION]}, and this is {reader}"
            f"; {problem}",
            remedy="Use the version that wrote it, or run the evaluation again",
        )
    return ResultError(f"the result file {shown!r} is damaged {problem}", remedy=_AGAIN)


def _other_version(shown: str, version: object) -> ResultError:
    newer = isinstance(version, int) and version > FORMAT_VERSION
    way_on = "Update abs-toolkit" if newer else "Run the evaluation again; the cache makes that quick"
    return ResultError(
        f"{shown!r} is of version {version!r} of the result format, and this is version {FORMAT_VERSION}",
        remedy=f"{way_on}. docs/results.md says what changed between versions",
    )


def _files(folder: Path) -> list[Path]:
    # of a run, or of all runs in the folder that `abs eval --results` names
    paths = sorted(folder.glob("*.json")) or sorted(folder.glob("*/*.json"))
    if not paths:
        below = any(folder.glob("*/*/*.json"))  # such as the parent of the folders of shares
        remedy = f"Name those in it, as in {folder}/*" if below else "See `abs results ls`"
        raise ResultError(f"the folder {str(folder)!r} holds no result files", remedy=remedy)
    return paths


def file_stem(record: ResultRecord) -> str:
    """What was run, short and fit for a file name: data set, model and bundle."""
    parts = (record.dataset, record.details.weights.name, record.bundle.partition("#")[0])
    return "_".join(_slug(part) for part in parts if part)


def _slug(text: str) -> str:
    # of a place on the disk the kind and the last part: imagefolder:/long/way/birds is imagefolder-birds
    kind, colon, place = text.partition(":")
    short = f"{kind}-{Path(place).name}" if colon else text
    return re.sub(r"[^A-Za-z0-9.@-]+", "-", short).strip("-.")[:60] or "x"
