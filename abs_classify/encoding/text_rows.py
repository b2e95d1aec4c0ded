"""The features of many texts as one matrix: in memory, or in a file that the memory of this process need not hold.

Features of a million descriptions take gigabytes. What matches them goes through them in order and in blocks, so a file
that the operating system reads ahead, and shares between processes that fork, serves as well as memory does.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from abs_core.errors import CacheError

__all__ = ["LARGE_MATRIX", "fill_rows", "take_rows"]

#: bytes from which on a matrix is a file, where there is a folder for it
LARGE_MATRIX = 1 << 28

# texts whose rows are looked up, encoded and kept together
_TEXTS_AT_ONCE = 8192

# rows that are copied at once
_ROWS_AT_ONCE = 1 << 16


def fill_rows(texts: Sequence[str], rows_of: Callable[[Sequence[str]], np.ndarray], scratch: Path | None) -> np.ndarray:
    """The rows of texts, [n, d], asked for in blocks.

    Args:
        texts: at least one.
        rows_of: gives the rows [k, d] of some texts.
        scratch: folder of the file for a large matrix, which has no name there and ends with this process; None keeps
            every matrix in memory.

    Raises:
        CacheError: the folder has no room for the matrix, or may not be written.
    """
    matrix: np.ndarray | None = None
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        rows = rows_of(texts[start : start + _TEXTS_AT_ONCE])
        if matrix is None:
            matrix = _new_matrix(len(texts), rows, scratch)
        matrix[start : start + len(rows)] = rows
    assert matrix is not None
    return matrix


def take_rows(matrix: np.ndarray, positions: Sequence[int], scratch: Path | None) -> np.ndarray:
    """The rows of ``matrix`` at ``positions``: part of it where these are 0, 1, 2 ..., else a matrix of its own.

    Raises:
        CacheError: as in ``fill_rows``.
    """
    index = np.asarray(positions, dtype=np.int64)
    if len(index) <= len(matrix) and bool((index == np.arange(len(index))).all()):
        return matrix[: len(index)]
    taken = _new_matrix(len(index), matrix, scratch)
    for start in range(0, len(index), _ROWS_AT_ONCE):
        block = slice(start, start + _ROWS_AT_ONCE)
        taken[block] = matrix[index[block]]
    return taken


def _new_matrix(count: int, like: np.ndarray, scratch: Path | None) -> np.ndarray:
    """An uninitialised matrix of ``count`` rows such as those of ``like``."""
    shape = (count, *like.shape[1:])
    size = int(np.prod(shape)) * like.itemsize
    if scratch is None or size < LARGE_MATRIX:
        return np.empty(shape, dtype=like.dtype)
    try:
        scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=scratch) as stream:
            # a full disk is an error here, and not a signal at the first row that has no place
            os.posix_fallocate(stream.fileno(), 0, size) if hasattr(os, "posix_fallocate") else stream.truncate(size)
            return np.memmap(stream, dtype=like.dtype, mode="r+", shape=shape)
    except OSError as error:
        raise CacheError(
            f"the features of {count:,} class texts need {size / 1e9:.1f} GB in {scratch}: {error.strerror or error}",
            remedy="Free room there, or name another folder with --cache DIR or ABS_CACHE",
        ) from error
