"""What a weights file is, by its first bytes and its directory, and what to do with one that is no checkpoint.

A file of ``torch.save`` is a zip archive with one pickle, or a row of pickles. A pickle is a program; here it is read
as text, without running it, so that one that wants more than tensors is named before torch sees it. Imports no torch.
"""

from __future__ import annotations

import io
import pickletools
import re
import shlex
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from abs_classify.image_formats import HEAD_BYTES, file_format
from abs_core.errors import WeightsError
from abs_core.files import storage_errors
from abs_core.text import format_bytes, quoted

__all__ = ["STATE_REMEDY", "check_pickle", "is_safetensors", "refuse_foreign"]

#: What to do where a file holds more than tensors, or cannot be read safely.
STATE_REMEDY = (
    "Use the model's safetensors file, or save its tensors alone where the model was made: "
    "torch.save(model.state_dict(), 'weights.pt')"
)

_FETCH = "Fetch the file again"
_FORMATS = "Give a .safetensors file, or a file of torch.save with tensors alone"
_ZIP = b"PK\3\4"


class _Foreign(NamedTuple):
    """What a file is that is no checkpoint, and what to do about it."""

    what: str
    remedy: str


def is_safetensors(head: bytes) -> bool:
    """Whether a file that begins so is a safetensors file, whatever its name says."""
    return len(head) > 9 and head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= 100_000_000


def refuse_foreign(path: Path) -> bytes:
    """Refuse what is plainly no checkpoint.

    Returns:
        The first bytes of the file.

    Raises:
        WeightsError: it is empty, a pointer to a large file, a web page, or of another library's format.
        StorageError: it cannot be read.
    """
    with storage_errors(path, "read"), path.open("rb") as stream:
        head = stream.read(HEAD_BYTES)
    foreign = _find_foreign(path, head)
    if foreign is not None:
        raise WeightsError(f"{str(path)!r} {foreign.what}", remedy=foreign.remedy)
    return head


def _find_foreign(path: Path, head: bytes) -> _Foreign | None:
    if not head:
        return _Foreign("is empty", _FETCH)
    if is_safetensors(head) or head.startswith((_ZIP, b"\x80")):
        return None
    unknown = _Foreign("is not in a checkpoint format", _FORMATS)
    return _pointer(path, head) or _named(head) or unknown


def _pointer(path: Path, head: bytes) -> _Foreign | None:
    """A small text that large-file storage leaves in the place of a file."""
    folder, name = shlex.quote(str(path.parent)), shlex.quote(path.name)
    if head.startswith((b"version https://git-lfs", b"version https://hawser")):
        size = re.search(rb"^size (\d{1,18})\s*$", head, re.MULTILINE)
        holder = f" for a file of {format_bytes(int(size[1]))}" if size else ""
        return _Foreign(
            f"is a Git LFS pointer{holder}, not the weights themselves",
            f"Run: git -C {folder} lfs pull --include {name} (or download the file from its page)",
        )
    if head.startswith(b"# xet version"):
        return _Foreign(
            "is a Xet pointer, not the weights themselves", "Install git-xet and pull again, or use `hf download`"
        )
    if head.startswith(b"/annex/objects/") or b".git/annex/objects/" in head[:200]:
        return _Foreign("is a git-annex pointer, not the weights themselves", f"Run in {folder}: git annex get {name}")
    if re.match(rb"(md5: |outs:\s*\n- md5)", head):
        return _Foreign("is a DVC pointer, not the weights themselves", f"Run in {folder}: dvc pull {name}")
    return None


_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file of Keras"),
    (b"GGUF", "a GGUF file of llama.cpp"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x1f\x8b", "a gzip file"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"\xfd7zXZ\0", "an xz file"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard file"),
    (b"BZh", "a bzip2 file"),
    (b"Rar!", "a RAR archive"),
    (b"\x08\x01\x12", "an ONNX model"),
)


def _named(head: bytes) -> _Foreign | None:
    for signature, what in _SIGNATURES:
        if head.startswith(signature):
            return _Foreign(f"is {what}, not a checkpoint", _FORMATS)
    if head[257:262] == b"ustar":
        return _Foreign("is a tar archive", "Unpack it and name the weights file in it")
    known = file_format(head)
    if known is not None:
        is_page = known.name == "an HTML page"
        return _Foreign(
            f"is {known.name}, not a checkpoint",
            "Download the file itself: a page came in its place, such as one that asks for an account"
            if is_page
            else _FORMATS,
        )
    if head.lstrip()[:1] in (b"{", b"["):
        return _Foreign("is JSON text, not a checkpoint", _FORMATS)
    return None


#: What the pickle of a state dict may name: dictionaries, tensors and their storages, and simple values.
_PLAIN = re.compile(
    r"collections (OrderedDict|Counter)"
    r"|torch (\w+Storage|Size|device|Tensor|bool|bfloat16|(float|u?int|complex|q[u]?int)\d+\w*|float|int|double|half)"
    r"|torch\.storage _?(Untyped|Typed)Storage"
    r"|torch\._utils _rebuild_(tensor|tensor_v2|tensor_v3|parameter|parameter_with_state|qtensor|sparse_tensor)"
    r"|torch\._tensor _rebuild_from_type_v2"
    r"|torch\.nn\.parameter (Parameter|Buffer)"
    r"|torch\.serialization _get_layout"
    r"|_codecs encode"
)

# a state dict of a thousand tensors has forty thousand
_MOST_OPERATIONS = 2_000_000
# a legacy file: magic number, version, facts about the machine, the object itself
_PICKLES = 4


def check_pickle(path: Path) -> None:
    """Make sure that a file of ``torch.save`` holds tensors and nothing that would have to be built by code.

    Raises:
        WeightsError: it names other objects, its archive is broken or would unpack to more than it is, or it is no file
            of ``torch.save``.
        StorageError: it cannot be read.
    """
    with storage_errors(path, "read"), path.open("rb") as stream:
        if stream.read(4) == _ZIP:
            names, is_module = _scan(path, io.BytesIO(_read_zipped_pickle(path)), 1)
        else:
            stream.seek(0)
            names, is_module = _scan(path, _BoundedReader(stream, path.stat().st_size), _PICKLES)
    other = [name for name in names if not _PLAIN.fullmatch(name)]
    if not other:
        return
    # a class of the model's own says more than what Python and torch put beside it
    other.sort(key=lambda name: (name.startswith(("__builtin__ ", "builtins ")), name.startswith("torch"), name))
    first = quoted(".".join(other[0].split(" ")), 100)
    if is_module:
        raise WeightsError(
            f"{str(path)!r} holds a whole model as a Python object ({_listed(other, first)}), whose reading runs code",
            remedy=STATE_REMEDY,
        )
    raise WeightsError(
        f"{str(path)!r} holds objects besides tensors ({_listed(other, first)}); reading them could run code",
        remedy=STATE_REMEDY,
    )


def _listed(names: list[str], first: str) -> str:
    return first if len(names) == 1 else f"{first} and {len(names) - 1} more"


class _BoundedReader:
    """A file of which no more is read than it has: reading ahead of its end would ask for the memory first."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream, self._size = stream, size
        self.readline, self.tell = stream.readline, stream.tell

    def read(self, count: int) -> bytes:
        return self._stream.read(min(count, self._size - self._stream.tell()))


def _scan(path: Path, stream: Any, pickles: int) -> tuple[set[str], bool]:
    """The objects that pickles name, and whether one is a module: it has parameters and modules of its own."""
    names: set[str] = set()
    texts: set[str] = set()
    try:
        for count, (code, argument) in enumerate(_operations(stream, pickles)):
            if count > _MOST_OPERATIONS:
                raise ValueError(f"more than {_MOST_OPERATIONS} operations")
            if code in ("GLOBAL", "INST"):
                names.add(str(argument))
            elif code in ("STACK_GLOBAL", "EXT1", "EXT2", "EXT4"):
                # the name is put together while the pickle runs
                names.add("a computed name")
            elif argument in ("_parameters", "_modules"):
                texts.add(str(argument))
    except (ValueError, KeyError, IndexError, EOFError, OverflowError) as error:
        # a pickle that is none of torch names what it wants before it ends
        if not any(not _PLAIN.fullmatch(name) for name in names):
            raise WeightsError(
                f"{str(path)!r} is damaged, or not a file of torch.save: {_reason(error)}", remedy=f"{_FETCH}, whole"
            ) from error
    return names, len(texts) > 1


def _operations(stream: Any, pickles: int) -> Iterator[tuple[str, object]]:
    for _ in range(pickles):
        for operation, argument, _ in pickletools.genops(stream):
            yield operation.name, argument


def _read_zipped_pickle(path: Path) -> bytes:
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            _check_entries(path, entries, size)
            pickles = [entry for entry in entries if entry.filename.endswith("/data.pkl")]
            return archive.read(pickles[0])
    except WeightsError:
        raise
    except Exception as error:  # zipfile raises many kinds for a broken directory
        raise WeightsError(
            f"{str(path)!r} is a damaged zip archive: {_reason(error)}", remedy="Fetch the file again, whole"
        ) from error


def _check_entries(path: Path, entries: list[zipfile.ZipInfo], size: int) -> None:
    names = [entry.filename for entry in entries]
    if sum(name.endswith("/data.pkl") for name in names) != 1:
        is_numpy = bool(names) and all(name.endswith(".npy") for name in names)
        if is_numpy:
            raise WeightsError(f"{str(path)!r} is an archive of NumPy arrays, not a checkpoint", remedy=_FORMATS)
        raise WeightsError(
            f"{str(path)!r} is a zip archive, and no checkpoint is in it",
            remedy="Unpack it and name the weights file in it",
        )
    # torch stores and does not compress, so whatever unpacks to more than the file is made to fill the memory
    if any(entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 for entry in entries):
        raise WeightsError(
            f"{str(path)!r} is compressed or encrypted, unlike files of torch.save",
            remedy="Save it with torch.save again, or unpack and name the file in it",
        )
    if sum(entry.file_size for entry in entries) > size:
        raise WeightsError(f"{str(path)!r} states larger tensors than it holds", remedy=_FETCH)


def _reason(error: Exception) -> str:
    return quoted((str(error).strip().splitlines() or [type(error).__name__])[0].rstrip("."), 120)
