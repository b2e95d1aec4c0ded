"""Weights files: where they are, what they are, and what to do with one that is no checkpoint. Imports no torch.

A file of ``torch.save`` is a zip archive with one pickle, or a row of pickles. A pickle is a program; here it is read
as text, without running it, so that one that wants more than tensors is named before torch sees it.

Nothing is downloaded unless the caller says so.
"""

from __future__ import annotations

import io
import json
import pickletools
import re
import shlex
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from abs_classify.image_formats import HEAD_BYTES, file_format
from abs_classify.models.hub_downloads import fetch_large_file
from abs_core.errors import WeightsError
from abs_core.files import storage_errors
from abs_core.text import format_bytes, quoted
from abs_core.text_files import LFS_POINTER

__all__ = [
    "CONFIG_FILE",
    "OPEN_CLIP_FILES",
    "PUBLISHED_TORCHSCRIPT",
    "STATE_REMEDY",
    "TRANSFORMER_FILES",
    "cached_file",
    "check_pickle",
    "hub_file",
    "is_safetensors",
    "is_torchscript",
    "no_downloads",
    "read_json",
    "refuse_foreign",
    "refuse_pointer",
]

#: The configuration that open_clip puts beside the weights of a model.
CONFIG_FILE = "open_clip_config.json"

#: The weights of a model of open_clip, in the order in which they are looked for.
OPEN_CLIP_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")

#: The weights of a model of timm or transformers, in the order in which they are looked for.
TRANSFORMER_FILES = ("model.safetensors", "pytorch_model.bin")

#: sha256 of OpenAI's TorchScript archives, as in the download addresses of openai/CLIP, and the model each one holds.
PUBLISHED_TORCHSCRIPT: dict[str, str] = {
    "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762": "RN50",
    "8fa8567bab74a42d41c5915025a8e4538c3bdbe8804a470a72f30b0d94fab599": "RN101",
    "7e526bd135e493cef0776de27d5f42653e6b4c8bf9e0f653bb11773263205fdd": "RN50x4",
    "52378b407f34354e150460fe41077663dd5b39c54cd0bfd2b27167a4a06ec9aa": "RN50x16",
    "be1cfb55d75a9666199fb2206c106743da0f6468c9d327f3e0d0a543a9919d9c": "RN50x64",
    "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af": "ViT-B-32",
    "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f": "ViT-B-16",
    "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836": "ViT-L-14",
    "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02": "ViT-L-14-336",
}

# an index of a large model has a hundred thousand lines
_LARGEST_JSON = 64 * 2**20


@contextmanager
def no_downloads() -> Iterator[None]:
    """Inside the block no library that uses huggingface_hub reaches a network; what is not in its cache is missing."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def hub_file(repository: str, names: Sequence[str], *, allow_download: bool) -> Path | None:
    """The first of several files of a Hugging Face repository that is in the local cache, or can be fetched.

    Args:
        repository: ``organisation/name``.
        names: file names, most wanted first.
        allow_download: whether to reach the network for what is not in the cache.

    Returns:
        The file, or None if there is none.
    """
    from huggingface_hub import errors, hf_hub_download

    for name in names:
        if allow_download:
            fetch_large_file(repository, name)
        try:
            return Path(hf_hub_download(repository, name, local_files_only=not allow_download))
        except (OSError, ValueError, errors.EntryNotFoundError, errors.HfHubHTTPError):
            # not in the cache, not in the repository, or no way there: the caller says what to do
            continue
    return None


def cached_file(repository: str, name: str) -> Path | None:
    """A file of a Hugging Face repository in the local cache; None if it is not there."""
    try:
        from huggingface_hub import constants
    except ModuleNotFoundError:
        return None
    folder = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"
    # the client takes longer to import than all else that a list of models needs
    if not repository or not folder.is_dir():
        return None
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(repository, name)
    return Path(path) if isinstance(path, str) else None


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive: a zip file with code in it. Nothing of it is run."""
    try:
        with path.open("rb") as stream:
            if stream.read(4) != b"PK\3\4":
                return False
        with zipfile.ZipFile(path) as archive:
            return any("/code/" in name for name in archive.namelist())
    except Exception:  # zipfile raises many kinds for a broken directory; whoever reads the file says what is wrong
        return False


def refuse_pointer(path: Path, text: str) -> None:
    """Refuse a file that large-file storage has not filled in.

    Raises:
        WeightsError: ``text``, which is in the file, is a pointer to another file.
    """
    pointer = _pointer(path, text[:HEAD_BYTES].encode())
    if pointer is not None:
        raise WeightsError(f"{str(path)!r} {pointer.what}", remedy=pointer.remedy)


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        WeightsError: the file cannot be read, or holds no JSON object.
    """
    try:
        if path.stat().st_size > _LARGEST_JSON:
            raise WeightsError(f"{str(path)!r} has more than {_LARGEST_JSON >> 20} MiB", remedy="Fetch the file again")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise WeightsError(f"cannot read {str(path)!r}: {error.strerror}", remedy="Check the path") from error
    except UnicodeDecodeError as error:
        raise WeightsError(f"{str(path)!r} is not UTF-8 text", remedy="Fetch the file again") from error
    refuse_pointer(path, text)
    try:
        content = json.loads(text)
    except RecursionError:
        raise WeightsError(f"{str(path)!r} is nested too deeply", remedy="Fetch the file again") from None
    except ValueError as error:
        raise WeightsError(f"{str(path)!r} is not JSON: {error}", remedy="Fetch the file again") from error
    if not isinstance(content, dict):
        raise WeightsError(f"{str(path)!r} is not a JSON object", remedy="Fetch the file again")
    return content


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
    if head.startswith((LFS_POINTER, b"version https://hawser")):
        size = re.search(rb"^size (\d{1,18})\s*$", head, re.MULTILINE)
        holder = f" for a file of {format_bytes(int(size[1]))}" if size else ""
        return _Foreign(
            f"is a Git LFS pointer{holder}, not the file itself",
            f"Run: git -C {folder} lfs pull --include {name} (or download the file from its page)",
        )
    if head.startswith(b"# xet version"):
        return _Foreign("is a Xet pointer, not the file itself", "Install git-xet and pull again, or use `hf download`")
    if head.startswith(b"/annex/objects/") or b".git/annex/objects/" in head[:200]:
        return _Foreign("is a git-annex pointer, not the file itself", f"Run in {folder}: git annex get {name}")
    if re.match(rb"(md5: |outs:\s*\n- md5)", head):
        return _Foreign("is a DVC pointer, not the file itself", f"Run in {folder}: dvc pull {name}")
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

_COMPUTED = "names in the manner of pickle protocol 4 or newer, which torch.save uses only on request"

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
    other.sort(
        key=lambda name: (
            name == _COMPUTED,
            name.startswith(("__builtin__ ", "builtins ")),
            name.startswith("torch"),
            name,
        )
    )
    if other[0] == _COMPUTED:
        raise WeightsError(f"{str(path)!r} holds {_COMPUTED}; reading them could run code", remedy=STATE_REMEDY)
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
                names.add(_COMPUTED)
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
