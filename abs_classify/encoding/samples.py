"""Images as they are given, their content ids, and what became of those that cannot be read."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeGuard, TypeVar, Union

from abs_classify.datasets.base import Sample
from abs_classify.encoding.digest_cache import DigestCache
from abs_core.canonical import sha256_bytes
from abs_core.errors import AbsError, ImageError, StorageError
from abs_core.text import valid_unicode

if TYPE_CHECKING:
    from PIL import Image

    from abs_classify.images import LoadedImage

__all__ = [
    "IdentifiedSample",
    "ImageInMemory",
    "ImageInput",
    "OnError",
    "SkippedImage",
    "UnreadableImage",
    "UnreadableSample",
    "as_sample",
    "batched",
    "identify",
    "identify_readable",
    "stopping_error",
]

#: what an image that cannot be read does to a run: ends it, or is left out and reported
OnError = Literal["stop", "skip"]

#: a path, the bytes of a file, a PIL image, or an entry of a data set
ImageInput: TypeAlias = Union[str, Path, bytes, "Image.Image", Sample]
T = TypeVar("T")

# A PIL image is decoded when it is first looked at, and not safely by two threads: one may be in a list twice.
_DECODING = threading.Lock()


@dataclass(frozen=True, eq=False)
class ImageInMemory:
    """An image that is no file.

    Args:
        content: the bytes of a file, or a PIL image, which is turned upright and made RGB as files are.
        name: what to call it in messages and results.
        label: the id of its class, as in ``Sample``.
    """

    content: bytes | Image.Image
    name: str
    label: str = ""

    def load(self) -> LoadedImage:
        """Decode it. The id of a PIL image, which has no file, is that of its pixels.

        Raises:
            ImageError: it is damaged, or of no known format.
        """
        from abs_classify.images import LoadedImage, load_image, upright_rgb

        if isinstance(self.content, bytes):
            return load_image(self.content, self.name)
        with _DECODING:
            pixels = upright_rgb(self.content, repr(self.name))
        return LoadedImage(sha256_bytes(repr(pixels.size).encode() + pixels.tobytes()), pixels)


@dataclass(frozen=True)
class IdentifiedSample:
    """An image and its content id.

    Args:
        sample: where the image is.
        id: the sha256 of its file's bytes, of a PIL image that of its pixels; it names the image in caches and seeds
            its random numbers.
    """

    sample: Sample | ImageInMemory
    id: str

    @property
    def name(self) -> str:
        """What to call it: its path, or container and member."""
        return self.sample.name

    def load(self) -> LoadedImage:
        """Read and decode it.

        Raises:
            ImageError: it cannot be read.
        """
        from abs_classify.images import load_image

        if isinstance(self.sample, ImageInMemory):
            return self.sample.load()
        return load_image(self.sample.read(), self.name)


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
    """The sample of an image that has no label."""
    if isinstance(image, Sample):
        return image
    if isinstance(image, str | Path):
        return Sample(Path(image), "")
    if isinstance(image, bytes):
        return ImageInMemory(image, "image bytes")
    return ImageInMemory(image, os.fsdecode(getattr(image, "filename", "")) or "PIL image")


# Images of one step: after each, digests are remembered and progress is told.
_STEP = 500


def identify(
    samples: Sequence[Sample | ImageInMemory], digests: DigestCache, told: Callable[[int], None] = lambda _: None
) -> list[IdentifiedSample | UnreadableSample]:
    """The content id of each image, or why there is none.

    Args:
        samples: the images.
        digests: remembers the ids of files and of images inside files.
        told: is given how many are done, now and then.
    """
    identified: list[IdentifiedSample | UnreadableSample] = []
    for step in batched(samples, _STEP):
        identified += _identify_step(step, digests)
        told(len(identified))
    return identified


def _identify_step(
    samples: Sequence[Sample | ImageInMemory], digests: DigestCache
) -> Iterator[IdentifiedSample | UnreadableSample]:
    files = [sample.path for sample in samples if _is_file(sample)]
    try:
        known = dict(zip(files, digests.files(files), strict=True))
    except StorageError:
        known = {}  # one of them cannot be read: find out which
    inside = [sample for sample in samples if isinstance(sample, Sample) and sample.source is not None]
    # the container's stamp stands for the member's: a changed shard is read anew
    requests = [(f"image {_name(sample)}", sample.path, partial(_read_id, sample)) for sample in inside]
    outcomes = iter(digests.derived_each(requests))
    for sample in samples:
        try:
            if isinstance(sample, Sample) and sample.source is not None:
                outcome = next(outcomes)
                if isinstance(outcome, AbsError):
                    raise outcome
                yield IdentifiedSample(sample, outcome)
            else:
                image_id = known.get(sample.path) if _is_file(sample) else None
                yield IdentifiedSample(sample, image_id or _content_id(sample, digests))
        except (StorageError, ImageError) as error:
            yield UnreadableSample(sample.name, error)


def _name(sample: Sample) -> str:
    return "" if sample.source is None else sample.source.name


def _read_id(sample: Sample) -> str:
    return sha256_bytes(sample.read())


def identify_readable(
    samples: Sequence[Sample],
    digests: DigestCache,
    on_error: OnError,
    told: Callable[[int], None] = lambda _: None,
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
    for entry in identify(samples, digests, told):
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


def _content_id(sample: Sample | ImageInMemory, digests: DigestCache) -> str:
    if isinstance(sample, ImageInMemory):
        return sha256_bytes(sample.content) if isinstance(sample.content, bytes) else sample.load().id
    return digests.file(sample.path)
