"""Images as they are given, their content ids, and what became of those that cannot be read."""

from __future__ import annotations

import io
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeGuard, TypeVar, Union, cast

from abs_classify.datasets.base import Sample
from abs_classify.encoding.digest_cache import DigestCache, FileState
from abs_classify.image_arrays import image_of_array, is_array
from abs_classify.image_formats import FORMATS, MAX_FILE_BYTES
from abs_core.canonical import sha256_bytes
from abs_core.errors import AbsError, ImageError, StorageError
from abs_core.text import valid_unicode

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image
    from torch import Tensor

    from abs_classify.images import LoadedImage, Truncated

__all__ = [
    "IdentifiedSample",
    "ImageFacts",
    "ImageInMemory",
    "ImageInput",
    "OnError",
    "SkippedImage",
    "UnreadableImage",
    "UnreadableSample",
    "as_sample",
    "batched",
    "files_only",
    "identify",
    "identify_others",
    "identify_readable",
    "known_ids",
    "remember_ids",
    "stopping_error",
]

#: what an image that cannot be read does to a run: ends it, or is left out and reported
OnError = Literal["stop", "skip"]

#: a path, the bytes of a file, a PIL image, an array or tensor, or an entry of a data set
ImageInput: TypeAlias = Union[str, Path, bytes, "Image.Image", "NDArray[Any]", "Tensor", Sample]
T = TypeVar("T")

# A PIL image is decoded when it is first looked at, and not safely by two threads: one may be in a list twice.
_DECODING = threading.Lock()

# By the identity of PIL images that live: the files that they were opened from, where decoding lets go of them.
_FILES: dict[int, bytes] = {}


@dataclass(frozen=True, eq=False)
class ImageInMemory:
    """An image that is no file.

    Args:
        content: the bytes of a file, or a PIL image, which is turned upright and made RGB as files are.
        name: what to call it in messages and results.
        label: the id of its class, as in ``Sample``.
        file: the bytes of the file that a PIL image was opened from, as far as they are known.
        is_file: whether nobody can have changed the PIL image since: it was not decoded yet.
    """

    content: bytes | Image.Image
    name: str
    label: str = ""
    file: bytes = field(default=b"", repr=False)
    is_file: bool = False

    @classmethod
    def of(cls, image: Image.Image) -> ImageInMemory:
        """A PIL image, with its file if there is one."""
        with _DECODING:
            file = _FILES.get(id(image)) or _file_bytes(image)
            is_file = bool(file) and _is_untouched(image, file)
            if is_file and not getattr(image, "filename", ""):
                _FILES[id(image)] = file
                weakref.finalize(image, _FILES.pop, id(image), None)
        return cls(image, os.fsdecode(getattr(image, "filename", "")) or "PIL image", "", file, is_file)

    def content_id(self, truncated: Truncated = "refuse") -> str:
        """The id of the bytes or of the PIL image, which is decoded only if it must be.

        Raises:
            ImageError: as in ``load``.
        """
        if isinstance(self.content, bytes):
            return sha256_bytes(self.content)
        return sha256_bytes(self.file) if self.is_file else self.load(truncated).id

    def load(self, truncated: Truncated = "refuse") -> LoadedImage:
        """Decode it.

        The id of a PIL image is that of the file it was opened from, if the file gives the same pixels; else of its
        pixels.

        Raises:
            ImageError: it is damaged, or of no known format.
        """
        from abs_classify.images import LoadedImage, load_image, upright_rgb

        if isinstance(self.content, bytes):
            return load_image(self.content, self.name, truncated=truncated)
        remarks: list[str] = []
        with _DECODING:  # which closes the file as well
            pixels = upright_rgb(self.content, repr(self.name), truncated, remarks)
        if self.is_file and truncated == "refuse":
            return LoadedImage(sha256_bytes(self.file), pixels, tuple(remarks))
        with suppress(ImageError):
            if self.file and (opened := load_image(self.file, self.name, truncated=truncated)).pixels == pixels:
                return opened
        return LoadedImage(sha256_bytes(repr(pixels.size).encode() + pixels.tobytes()), pixels, tuple(remarks))


def _is_untouched(image: Image.Image, data: bytes) -> bool:
    """Whether a PIL image was opened from a file and then left alone: not decoded, drafted, or set to another frame."""
    from PIL import Image

    with (
        suppress(Exception),
        Image.open(io.BytesIO(data), formats=FORMATS) as opened,
    ):  # a broken file can raise anything
        tiles = [getattr(entry, "tile", None) for entry in (image, opened)]
        return bool(tiles[0]) and tiles[0] == tiles[1] and (image.size, image.mode) == (opened.size, opened.mode)
    return False


def _file_bytes(image: Image.Image) -> bytes:
    """The file that a PIL image was opened from, as far as it knows it; empty if it does not, or cannot be read."""
    stream = getattr(image, "fp", None)
    with suppress(OSError, ValueError, AttributeError):
        if stream is not None:
            position = stream.tell()
            stream.seek(0)
            try:
                return bytes(stream.read(MAX_FILE_BYTES))
            finally:
                stream.seek(position)
        path = Path(os.fsdecode(getattr(image, "filename", "")))
        return path.read_bytes() if path.is_file() and path.stat().st_size <= MAX_FILE_BYTES else b""
    return b""


@dataclass(frozen=True)
class IdentifiedSample:
    """An image and its content id.

    Args:
        sample: where the image is.
        id: the sha256 of its file's bytes, of a PIL image without a file that of its pixels; it names the image in
            caches and seeds its random numbers.
        truncated: what is done if its file ends early.
    """

    sample: Sample | ImageInMemory
    id: str
    truncated: Truncated = "refuse"

    @property
    def name(self) -> str:
        """What to call it: its path, or container and member."""
        return self.sample.name

    @property
    def path(self) -> Path | None:
        """Its file; None where it is none of its own, as bytes and members of archives."""
        if isinstance(self.sample, Sample):
            return self.sample.path if self.sample.source is None else None
        file_name = getattr(self.sample.content, "filename", "")
        return Path(os.fsdecode(file_name)) if file_name else None

    def load(self) -> LoadedImage:
        """Read and decode it.

        Raises:
            ImageError: it cannot be read.
        """
        from abs_classify.images import load_image

        if isinstance(self.sample, ImageInMemory):
            return self.sample.load(self.truncated)
        return load_image(self.sample.read(), self.name, truncated=self.truncated)

    def load_unchanged(self) -> LoadedImage:
        """Read and decode it, for a run that goes on without images that cannot be read.

        Raises:
            UnreadableImage: it cannot be read, or has changed since it was identified.
        """
        try:
            loaded = self.load()
        except ImageError as error:
            raise UnreadableImage(self, error) from error
        if loaded.id != self.id:
            changed = ImageError(f"{self.name!r} changed while it was read", remedy="Run the command again")
            raise UnreadableImage(self, changed)
        return loaded


@dataclass(frozen=True)
class ImageFacts:
    """What is known of an image that was decoded once, and is kept with its features.

    Args:
        width, height: upright, in pixels.
        remarks: what was guessed, scaled or left out to make its pixels.
    """

    width: int
    height: int
    remarks: tuple[str, ...] = ()

    @classmethod
    def of(cls, image: LoadedImage) -> ImageFacts:
        """The facts of a decoded image."""
        return cls(image.pixels.width, image.pixels.height, image.remarks)


@dataclass(frozen=True)
class UnreadableSample:
    """An image whose bytes cannot be read, and why."""

    name: str
    error: AbsError


class UnreadableImage(Exception):  # noqa: N818 - not an error for the user until a run decides that it is one
    """An image that turned out to be unreadable when it was decoded, so that a run may leave it out and go on."""

    def __init__(self, image: IdentifiedSample, error: ImageError) -> None:
        super().__init__(str(error))
        self.image = image
        self.error = error


@dataclass(frozen=True)
class SkippedImage:
    """An image that could not be used, and why."""

    name: str
    reason: str

    @classmethod
    def of(cls, name: str, error: AbsError) -> SkippedImage:
        """With the message of an error as the reason, and both in valid Unicode, which file names need not be."""
        return cls(valid_unicode(name), valid_unicode(error.message))


def as_sample(image: ImageInput) -> Sample | ImageInMemory:
    """The sample of an image that has no label.

    Raises:
        UsageError: an array that is no image.
    """
    if isinstance(image, Sample):
        return image
    if isinstance(image, str | Path):
        return Sample(Path(image), "")
    if isinstance(image, bytes):
        return ImageInMemory(image, "image bytes")
    if is_array(image):
        return replace(ImageInMemory.of(image_of_array(image)), name="image array")
    return ImageInMemory.of(cast("Image.Image", image))


# Images of one step: after each, digests are remembered and progress is told.
_STEP = 500


def identify(
    samples: Sequence[Sample | ImageInMemory],
    digests: DigestCache,
    told: Callable[[int], None] = lambda _: None,
    *,
    truncated: Truncated = "refuse",
) -> list[IdentifiedSample | UnreadableSample]:
    """The content id of each image, or why there is none.

    Args:
        samples: the images.
        digests: remembers the ids of files and of images inside files.
        told: is given how many are done, now and then.
        truncated: as in ``load_image``.
    """
    identified: list[IdentifiedSample | UnreadableSample] = []
    for step in batched(samples, _STEP):
        identified += _identify_step(step, digests, truncated)
        told(len(identified))
    return identified


def identify_others(
    samples: Sequence[Sample | ImageInMemory],
    failures: Mapping[int, AbsError],
    digests: DigestCache,
    *,
    truncated: Truncated = "refuse",
) -> list[IdentifiedSample | UnreadableSample]:
    """As ``identify``, without looking at images that must not be read.

    Args:
        samples, digests, truncated: as there.
        failures: by their place, why.
    """
    readable = [sample for place, sample in enumerate(samples) if place not in failures]
    identified = iter(identify(readable, digests, truncated=truncated))
    return [
        UnreadableSample(sample.name, failures[place]) if place in failures else next(identified)
        for place, sample in enumerate(samples)
    ]


def files_only(samples: Sequence[Sample | ImageInMemory]) -> list[Sample | None]:
    """The images that another process can read; None for those that are in this one's memory."""
    return [sample if isinstance(sample, Sample) else None for sample in samples]


def _identify_step(
    samples: Sequence[Sample | ImageInMemory], digests: DigestCache, truncated: Truncated
) -> Iterator[IdentifiedSample | UnreadableSample]:
    files = [sample.path for sample in samples if _is_file(sample)]
    known = dict(zip(files, digests.files_each(files), strict=True))
    inside = [sample for sample in samples if isinstance(sample, Sample) and sample.source is not None]
    # the container's stamp stands for the member's: a changed shard is read anew
    requests = [(_inside(sample), sample.path, partial(_read_id, sample)) for sample in inside]
    outcomes = iter(digests.derived_each(requests))
    for sample in samples:
        try:
            if isinstance(sample, ImageInMemory):
                outcome: str | AbsError = sample.content_id(truncated)
            else:
                outcome = known[sample.path] if sample.source is None else next(outcomes)
            if isinstance(outcome, AbsError):
                raise outcome
            yield IdentifiedSample(sample, outcome, truncated)
        except (StorageError, ImageError) as error:
            yield UnreadableSample(sample.name, error)


def known_ids(samples: Sequence[Sample], digests: DigestCache) -> list[str | None]:
    """The content id of each image that is remembered; None where the image would have to be read."""
    return digests.known_each([_digest_request(sample) for sample in samples])


def remember_ids(ids: Sequence[tuple[Sample, FileState, str]], digests: DigestCache) -> None:
    """Remember the ids of images that another process has read, where their files did not change since.

    Args:
        ids: of each image, the state of its file before it was read, and its id.
        digests: remembers them.
    """
    digests.remember_each([(*_digest_request(sample), state, image_id) for sample, state, image_id in ids])


def _digest_request(sample: Sample) -> tuple[tuple[str, ...], Path]:
    """What the id of an image is remembered by."""
    return () if _is_file(sample) else (_inside(sample),), sample.path


def _inside(sample: Sample) -> str:
    return f"image {_name(sample)}"


def _name(sample: Sample) -> str:
    return "" if sample.source is None else sample.source.name


def _read_id(sample: Sample) -> str:
    return sha256_bytes(sample.read())


def identify_readable(
    samples: Sequence[Sample],
    digests: DigestCache,
    on_error: OnError,
    told: Callable[[int], None] = lambda _: None,
    *,
    truncated: Truncated = "refuse",
) -> tuple[list[IdentifiedSample], list[SkippedImage]]:
    """The images whose bytes can be read, in order, and the others.

    Args:
        samples, digests, told: as in ``identify``.
        on_error: whether an image that cannot be read ends the run.

    Raises:
        ImageError: an image cannot be read and ``on_error`` is "stop".
    """
    readable: list[IdentifiedSample] = []
    skipped: list[SkippedImage] = []
    for entry in identify(samples, digests, told, truncated=truncated):
        if isinstance(entry, IdentifiedSample):
            readable.append(entry)
        elif on_error == "stop":
            raise stopping_error(entry.error) from entry.error
        else:
            skipped.append(SkippedImage.of(entry.name, entry.error))
    return readable, skipped


def stopping_error(error: AbsError) -> ImageError:
    """The error of an image that ends a run, with what would have let the run go on."""
    remedy = error.remedy or "Restore the file"
    return ImageError(error.message, remedy=f"{remedy}, or use --on-error skip")


def batched(items: Iterable[T], size: int) -> Iterator[Sequence[T]]:
    """Cut items into runs of ``size``, the last one shorter; no run is taken before it is asked for."""
    if isinstance(items, Sequence):
        for start in range(0, len(items), size):
            yield items[start : start + size]
        return
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def _is_file(sample: Sample | ImageInMemory) -> TypeGuard[Sample]:
    return isinstance(sample, Sample) and sample.source is None
