"""The images in tar and zip files, shards of webdataset among them. Nothing is unpacked to the disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import TypeVar

from abs_classify.datasets.folders import BY_CONTENT, is_image, unused_kind
from abs_classify.datasets.tar_files import Member, tar_members
from abs_classify.datasets.zip_files import ZipMember, zip_members
from abs_classify.image_formats import HEAD_BYTES, file_format
from abs_classify.labelling.locations import Container, ListedImage
from abs_core.errors import DatasetError
from abs_core.files import open_regular
from abs_core.remarks import RemarkCounter

__all__ = ["count_tar_images", "count_zip_images", "tar_images", "zip_images"]

T = TypeVar("T")

# the largest image in a tar file, as in a zip file
_MAX_IMAGE = 1 << 28

# members from which the number of all is estimated
_SAMPLE = 500


def tar_images(archive: Container, remarks: RemarkCounter) -> Iterator[ListedImage]:
    """The images in an uncompressed tar file; if it is damaged, those before the damage and a row that says so."""

    def left_out(name: str) -> None:
        remarks.add("left out: a link, device or path outside in a tar file", f"{archive.shown}::{name}")

    def head(member: Member) -> bytes:
        stream.seek(member.offset)
        return stream.read(min(member.size, HEAD_BYTES))

    def image(member: Member, problem: str) -> ListedImage:
        if member.size > _MAX_IMAGE:
            problem = f"has more than {_MAX_IMAGE >> 20} MB"
        return archive.image(member.name, (member.offset, member.size), problem)

    try:
        with open_regular(archive.path) as stream:
            members = tar_members(archive.file, left_out)
            yield from _images(archive, members, lambda member: member.name, head, image, remarks)
    except OSError as error:
        yield archive.failure(f"cannot be read ({(error.strerror or str(error)).lower()})")
    except DatasetError as error:
        yield archive.failure(error.message)


def zip_images(archive: Container, remarks: RemarkCounter) -> Iterator[ListedImage]:
    """The images in a zip file; those that are encrypted or may be bombs have a problem."""

    def image(member: ZipMember, problem: str) -> ListedImage:
        extent = (member.offset, member.packed, member.size, member.checksum, member.method)
        return archive.image(member.name, extent, member.problem or problem)

    try:
        with open_regular(archive.path) as stream:
            members = zip_members(archive.file)
            yield from _images(archive, members, lambda member: member.name, lambda it: it.head(stream), image, remarks)
    except OSError as error:
        yield archive.failure(f"cannot be read ({(error.strerror or str(error)).lower()})")
    except DatasetError as error:
        yield archive.failure(error.message)


def _images(
    archive: Container,
    members: Iterator[T],
    name_of: Callable[[T], str],
    head_of: Callable[[T], bytes],
    image_of: Callable[[T, str], ListedImage],
    remarks: RemarkCounter,
) -> Iterator[ListedImage]:
    """The members that are images by name or content; the others are counted."""
    for member in members:
        name = name_of(member)
        shown = f"{archive.shown}::{name}"
        *folders, file = name.split("/")
        if file.startswith(".") or "__MACOSX" in folders:
            remarks.add("left out: a hidden file in an archive", shown)
        elif is_image(file):
            yield image_of(member, "")
        else:
            found = file_format(head_of(member))
            if found is None or not found.is_image:
                remarks.add(f"left out: {unused_kind(found)}", shown)
                continue
            if found.readable:
                remarks.add(BY_CONTENT, shown)
            yield image_of(member, "" if found.readable else unused_kind(found))


def count_tar_images(archive: Container) -> int:
    """About how many images a tar file has, by the size of the first ones."""
    members: list[Member] = []
    try:
        with open_regular(archive.path) as stream:
            size = stream.seek(0, 2)
        members += islice(tar_members(archive.file, lambda _: None), _SAMPLE)
    except (OSError, DatasetError):
        return 1
    images = sum(is_image(member.name) for member in members)
    if len(members) < _SAMPLE:
        return images
    return round(images * size / (members[-1].offset + members[-1].size))


def count_zip_images(archive: Container) -> int:
    """How many files in a zip file have names of images."""
    try:
        return sum(is_image(member.name.rpartition("/")[2]) for member in zip_members(archive.file))
    except DatasetError:
        return 1
