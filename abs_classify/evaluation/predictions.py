"""What every method said of every image of an evaluation, kept beside its results for tables, tests and pages.

One file for each data set, model and label space: arrays as safetensors, gzipped. Of the first seed it has the best
classes with their scores, of each further one the best class; of all of them the rank of the true class.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from abs_core.canonical import canonical_json
from abs_core.errors import ResultError
from abs_core.files import storage_errors
from abs_core.text import valid_unicode

if TYPE_CHECKING:
    from abs_classify.evaluation.job import RankedPass

__all__ = ["MethodPredictions", "PredictionCollector", "RunPredictions"]

_FORMAT, _FORMAT_VERSION = "abs-predictions", "1"

# bytes of a file when it is unpacked: ten million images of one method take a third of it
_LARGEST = 1 << 30
_STEP = 1 << 20
_REMEDY = "Run the evaluation again; the cache makes that quick"


@dataclass(frozen=True, eq=False)
class MethodPredictions:
    """What one method said with one seed.

    Args:
        method: its name.
        seed: of what it draws; the first one of the run for a method that draws nothing.
        top: int64 [n, k], positions of the best classes, best first.
        scores: float32 [n, k], their scores; empty [n, 0] for seeds after the first.
        ranks: int64 [n], the place of the true class from 1 on; 0 where an image could not be read with this seed.
    """

    method: str
    seed: int
    top: NDArray[np.int64]
    scores: NDArray[np.float32]
    ranks: NDArray[np.int64]

    @property
    def predicted(self) -> NDArray[np.int64]:
        """[n], the position of the class that the method chose."""
        return self.top[:, 0]

    @property
    def right(self) -> NDArray[np.bool_]:
        """[n], whether it is the true one."""
        return np.equal(self.ranks, 1)


@dataclass(frozen=True, eq=False)
class RunPredictions:
    """The images of an evaluation, and what its methods said of them.

    Args:
        images: ids, ``sha256:...``; two images of one content have one id.
        paths: what the data set calls them.
        labels: int64 [n], positions of the true classes.
        class_ids, class_names: of the C candidate classes.
        passes: of each method and seed, in the order in which they were computed.
        share: what else is known of a share of images, see ``ShareParts``; None where these are all images.
    """

    images: Sequence[str]
    paths: Sequence[str]
    labels: NDArray[np.int64]
    class_ids: Sequence[str]
    class_names: Sequence[str]
    passes: Sequence[MethodPredictions] = field(default_factory=list)
    share: Mapping[str, Any] | None = None

    def of(self, method: str) -> list[MethodPredictions]:
        """What a method said with each seed, the first one of the run first; none if it was not run."""
        return [predictions for predictions in self.passes if predictions.method == method]

    def encode(self) -> bytes:
        """The bytes of the file; equal predictions give equal bytes."""
        from safetensors.numpy import save

        ids = b"".join(bytes.fromhex(image.removeprefix("sha256:")) for image in self.images)
        arrays: dict[str, NDArray[Any]] = {
            "images": np.frombuffer(ids, np.uint8).reshape(-1, 32),
            "labels": _narrow(self.labels),
        }
        for number, predictions in enumerate(self.passes):
            arrays[f"{number}.top"] = _narrow(predictions.top)
            arrays[f"{number}.scores"] = predictions.scores.astype(np.float32)
            arrays[f"{number}.ranks"] = _narrow(predictions.ranks)
        contents: dict[str, Any] = {
            "classes": [list(pair) for pair in zip(self.class_ids, self.class_names, strict=True)],
            "paths": list(self.paths),
            "passes": [[predictions.method, predictions.seed] for predictions in self.passes],
        }
        if self.share is not None:
            contents["share"] = self.share
        metadata = {"format": _FORMAT, "format_version": _FORMAT_VERSION, "contents": canonical_json(contents)}
        # safetensors writes the metadata in the order of a hash table; of one entry there is one order
        data = save(dict(sorted(arrays.items())), {"predictions": canonical_json(metadata)})
        return gzip.compress(data, 6, mtime=0)

    @classmethod
    def read(cls, path: Path) -> RunPredictions:
        """Read a file.

        Raises:
            StorageError: it cannot be read.
            ResultError: it is no such file, is damaged, or is of another version.
        """
        with storage_errors(path, "read"):
            packed = path.read_bytes()
        try:
            return _decode(_unpack(packed))
        except _OtherVersionError as error:
            raise ResultError(
                f"{str(path)!r} is of version {error.version!r} of its format, and this is version {_FORMAT_VERSION}",
                remedy=f"Update abs-toolkit, or: {_REMEDY[0].lower()}{_REMEDY[1:]}",
            ) from None
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError, zlib.error) as error:
            raise ResultError(f"{str(path)!r} holds no predictions, or is damaged", remedy=_REMEDY) from error


class _OtherVersionError(Exception):
    def __init__(self, version: object) -> None:
        self.version = version


class PredictionCollector:
    """Takes in the rankings of an evaluation, seed by seed, and makes its predictions of them."""

    def __init__(self) -> None:
        self._passes: list[RankedPass] = []

    def add(self, ranked: RankedPass) -> None:
        """Take in the rankings of a seed."""
        self._passes.append(ranked)

    def take(self) -> RunPredictions:
        """The predictions of what was taken in since the last time, at least one seed."""
        passes, self._passes = self._passes, []
        first = passes[0]
        images, names = first.scored.images, first.job.label_space.names
        position_of = {image: position for position, image in enumerate(images)}
        return RunPredictions(
            [image.id for image in images],
            [valid_unicode(image.name) for image in images],
            np.array(first.scored.labels, np.int64),
            list(names),
            list(names.values()),
            [
                _method_predictions(ranked, method, None if ranked is first else position_of, len(images))
                for ranked in passes
                for method in ranked.scored.methods
            ],
        )


def _method_predictions(
    ranked: RankedPass, method: str, position_of: dict[Any, int] | None, count: int
) -> MethodPredictions:
    ranking = ranked.scored.methods[method]
    if position_of is None:
        return MethodPredictions(method, ranked.seed, ranking.top, ranking.scores, ranking.ranks)
    places = np.array([position_of.get(image, -1) for image in ranked.scored.images], np.int64)
    known = places >= 0
    top, ranks = np.zeros((count, 1), np.int64), np.zeros(count, np.int64)
    top[places[known], 0], ranks[places[known]] = ranking.top[known, 0], ranking.ranks[known]
    return MethodPredictions(method, ranked.seed, top, np.zeros((count, 0), np.float32), ranks)


def _narrow(values: NDArray[np.int64]) -> NDArray[Any]:
    return values.astype(np.uint16 if values.size == 0 or values.max() < 1 << 16 else np.uint32)


def _unpack(packed: bytes) -> bytes:
    unpacking, parts, size = zlib.decompressobj(16 + zlib.MAX_WBITS), [], 0
    rest = packed
    while not unpacking.eof:
        part = unpacking.decompress(rest, _STEP)
        rest = unpacking.unconsumed_tail
        size += len(part)
        if size > _LARGEST or not (part or rest):
            raise ValueError("too large, or cut off")
        parts.append(part)
    return b"".join(parts)


def _decode(data: bytes) -> RunPredictions:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays = load(data)
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    metadata = json.loads(header["__metadata__"]["predictions"])
    if metadata["format"] != _FORMAT:
        raise ValueError("another format")
    if metadata["format_version"] != _FORMAT_VERSION:
        raise _OtherVersionError(metadata["format_version"])
    contents = json.loads(metadata["contents"])
    ids, labels = arrays["images"], arrays["labels"].astype(np.int64)
    class_ids, class_names = ([str(pair[side]) for pair in contents["classes"]] for side in (0, 1))
    images, paths = [f"sha256:{row.tobytes().hex()}" for row in ids], [str(path) for path in contents["paths"]]
    if ids.shape != (len(paths), 32) or labels.shape != (len(paths),) or (labels >= len(class_ids)).any():
        raise ValueError("parts that contradict each other")
    passes = [
        _decode_pass(arrays, number, str(method), int(seed), len(paths), len(class_ids))
        for number, (method, seed) in enumerate(contents["passes"])
    ]
    return RunPredictions(images, paths, labels, class_ids, class_names, passes, contents.get("share"))


def _decode_pass(
    arrays: dict[str, NDArray[Any]], number: int, method: str, seed: int, count: int, classes: int
) -> MethodPredictions:
    top, ranks = (arrays[f"{number}.{name}"].astype(np.int64) for name in ("top", "ranks"))
    scores = arrays[f"{number}.scores"].astype(np.float32)
    is_sound = top.ndim == scores.ndim == 2 and top.shape[1] >= 1 and scores.shape[1] in (0, top.shape[1])
    if not is_sound or {len(top), len(scores), len(ranks)} != {count} or ranks.shape != (count,):
        raise ValueError("parts that contradict each other")
    if (top >= classes).any() or (ranks > classes).any():
        raise ValueError("classes that do not exist")
    return MethodPredictions(method, seed, top, scores, ranks)
