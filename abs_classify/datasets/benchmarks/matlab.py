"""Variables of MATLAB files (version 5, as the annotations of published data sets), read with scipy in bounded memory.

scipy believes what a file says about sizes: a few bytes can ask for gigabytes, or for a nesting that ends the process.
So the file is walked first: what it unpacks to is bounded, every element lies inside the one that holds it, and no
array has more cells than bytes.
"""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

from abs_core.errors import DatasetError
from abs_core.extras import require

__all__ = ["load_variable"]

_FETCH = "Fetch the official file again"

# bytes of the file, and of all that it unpacks to; the largest official one has 4 MB
_MAX_FILE, _MAX_UNPACKED = 1 << 26, 1 << 27
# a struct array of cell arrays of texts has three
_MAX_DEPTH = 8
_HEADER = 128

_MATRIX, _COMPRESSED = 14, 15
# classes of arrays; sparse ones, objects and functions are in no annotation
_CELL, _STRUCT = 1, 2
_SIMPLE = (4, *range(6, 16))  # text and numbers


class _DamagedError(ValueError):
    pass


def load_variable(file: Path, key: str) -> Any:
    """A variable of a MATLAB file as a numpy array of at least one dimension.

    Raises:
        MissingExtraError: scipy is not installed.
        DatasetError: the file cannot be read, is too large once it is unpacked, or has no such variable.
    """
    loadmat = require("scipy.io", purpose="to read the .mat annotations of this data set").loadmat
    try:
        if file.stat().st_size > _MAX_FILE:
            raise DatasetError(f"{str(file)!r} is larger than {_MAX_FILE >> 20} MB", remedy=_FETCH)
        content = loadmat(io.BytesIO(_unpacked(file.read_bytes())), squeeze_me=True, variable_names=[key])
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DatasetError(f"cannot read {str(file)!r}: {reason}", remedy="Check its permissions") from error
    except DatasetError:
        raise
    except Exception as error:  # scipy raises many kinds for a broken file
        raise DatasetError(f"{str(file)!r} is not a MATLAB file of version 5, or is damaged", remedy=_FETCH) from error
    if key not in content:
        raise DatasetError(f"{str(file)!r} has no variable {key!r}", remedy=_FETCH)
    import numpy as np

    return np.atleast_1d(content[key])


def _unpacked(data: bytes) -> bytes:
    """The same file without compression, after every element was walked."""
    order = {b"IM": "<", b"MI": ">"}[data[126:128]]
    result = bytearray(data[:_HEADER])
    position = _HEADER
    while position < len(data):
        kind, size = struct.unpack_from(f"{order}II", data, position)
        element = data[position : position + 8 + size]
        if kind not in (_MATRIX, _COMPRESSED) or len(element) < 8 + size:
            raise _DamagedError
        position += 8 + size
        if kind == _COMPRESSED:
            inflater = zlib.decompressobj()
            element = inflater.decompress(element[8:], _MAX_UNPACKED - len(result) + 1)
        if len(result) + len(element) > _MAX_UNPACKED:
            raise _DamagedError
        _walk_matrix(element, order, 0)
        result += element
    return bytes(result)


def _walk_matrix(element: bytes, order: str, depth: int) -> None:
    """Check that an array with its tag has no more cells than bytes, and that what it holds lies inside it."""
    parts = list(_parts(element, order))
    if depth > _MAX_DEPTH or len(parts) != 1 or parts[0][0] != _MATRIX:
        raise _DamagedError
    inner = list(_parts(parts[0][1], order))
    if not inner:
        return
    flags, dimensions = inner[0][1], inner[1][1]
    kind = flags[0] if order == "<" else flags[3]
    cells = 1
    for size in struct.unpack(f"{order}{len(dimensions) // 4}i", dimensions[: len(dimensions) // 4 * 4]):
        if size < 0:
            raise _DamagedError
        cells *= size
    held = [content for tag, content in inner if tag == _MATRIX]
    if kind in _SIMPLE:
        # numbers may be stored in fewer bytes than they take
        if cells > max((len(content) for _, content in inner[3:4]), default=0):
            raise _DamagedError
    elif kind == _CELL:
        if cells != len(held):
            raise _DamagedError
    elif kind == _STRUCT:
        width = struct.unpack_from(f"{order}i", inner[3][1])[0]
        fields = len(inner[4][1]) // width if width > 0 else 0
        if cells * fields != len(held) or (not fields and cells > 1):
            raise _DamagedError
    else:
        raise _DamagedError
    for content in held:
        if content:
            _walk_matrix(struct.pack(f"{order}II", _MATRIX, len(content)) + content, order, depth + 1)


def _parts(data: bytes, order: str) -> list[tuple[int, bytes]]:
    """Kind and content of the elements that lie one behind the other, in the long and in the short form."""
    parts: list[tuple[int, bytes]] = []
    position = 0
    while position + 8 <= len(data):
        kind, size = struct.unpack_from(f"{order}II", data, position)
        if kind >> 16:  # up to four bytes, in the tag itself
            kind, size = kind & 0xFFFF, kind >> 16
            start, end = position + 4, position + 8
            if size > 4:
                raise _DamagedError
        else:
            start = position + 8
            end = start + size
            end += -end % 8 if kind != _COMPRESSED else 0
        if start + size > len(data):
            raise _DamagedError
        parts.append((kind, data[start : start + size]))
        position = end
    return parts
