"""Members of tar files by their headers: what tar programs write is read, what is damaged or hostile is one error."""

from __future__ import annotations

import io
import os
import tarfile
import tracemalloc
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from abs_classify.datasets.tar_files import tar_members
from abs_core.errors import DatasetError

LONG = "folder/" * 30 + "image.png"
MEMBERS = {"a.png": b"x" * 700, LONG: b"y", "größe.png": b"", "b.png": b"z" * 512}


def packed(path: Path, form: int = tarfile.GNU_FORMAT, members: dict[str, bytes] = MEMBERS) -> Path:
    with tarfile.open(path, "w", format=form) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def problem(path: Path) -> str:
    with pytest.raises(DatasetError) as caught:
        list(tar_members(path))
    assert caught.value.remedy
    assert "\n" not in str(caught.value)
    return caught.value.message


def header(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


def pax(records: bytes) -> bytes:
    return header("p", len(records), tarfile.XHDTYPE) + records + bytes(-len(records) % 512)


def record(key: str, value: str) -> bytes:
    line = f" {key}={value}\n".encode()
    length = next(number for number in range(1, 10_000) if number == len(str(number)) + len(line))
    return str(length).encode() + line


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_member_is_found_with_its_bytes(tmp_path: Path, form: int) -> None:
    path = packed(tmp_path / "a.tar", form)
    assert {member.name: member.read() for member in tar_members(path)} == MEMBERS


def test_folders_are_left_out_and_one_block_of_zeros_is_an_end(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(header("folder/", kind=tarfile.DIRTYPE) + header("old/") + header("a.png") + bytes(512))
    assert [member.name for member in tar_members(path)] == ["a.png"]


def test_a_name_that_is_not_utf_8_is_written_with_escapes(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT, encoding="latin-1") as archive:
        archive.addfile(tarfile.TarInfo("ä.png"))
    assert [member.name for member in tar_members(path)] == ["\\xe4.png"]


def test_a_cut_between_two_members_or_within_one_is_an_error(tmp_path: Path) -> None:
    whole = packed(tmp_path / "a.tar", members={"a.png": b"x" * 700, "b.png": b"z" * 600}).read_bytes()
    for size in (100, 511, 512, 1024, 1536, 2047, 2048, 2600, 3071, 3072):
        (tmp_path / "a.tar").write_bytes(whole[:size])
        message = problem(tmp_path / "a.tar")
        assert "truncated" in message or "first header is damaged" in message
    for size in (3584, 4096, len(whole)):
        (tmp_path / "a.tar").write_bytes(whole[:size])
        assert len(list(tar_members(tmp_path / "a.tar"))) == 2


def test_every_flipped_bit_of_a_later_header_is_an_error_or_changes_nothing(tmp_path: Path) -> None:
    whole = bytearray(packed(tmp_path / "a.tar", members={"a.png": b"x" * 512, "b.png": b"z" * 512}).read_bytes())
    sound = list(tar_members(tmp_path / "a.tar"))
    for position in (1024, 1030, 1024 + 124, 1024 + 134, 1024 + 156, 1024 + 257):
        for bit in (0, 4, 6):
            damaged = bytearray(whole)
            damaged[position] ^= 1 << bit
            (tmp_path / "a.tar").write_bytes(damaged)
            assert "there is no valid header at byte 1024" in problem(tmp_path / "a.tar")
    whole[600] ^= 1  # inside an image: the tar file has no check value of it
    (tmp_path / "a.tar").write_bytes(whole)
    assert list(tar_members(tmp_path / "a.tar")) == sound


def test_a_header_that_zeros_replace_does_not_end_the_archive(tmp_path: Path) -> None:
    whole = bytearray(packed(tmp_path / "a.tar", members={"a.png": b"x" * 512, "b.png": b"z" * 512}).read_bytes())
    whole[1024:1536] = bytes(512)
    (tmp_path / "a.tar").write_bytes(whole)
    assert "goes on after its end" in problem(tmp_path / "a.tar")


def negative_size() -> bytes:
    block = bytearray(header("a.png"))
    block[124:136] = b"\xff" * 12
    block[148:156] = b"%06o\0 " % tarfile.calc_chksums(bytes(block))[0]
    return bytes(block)


def sparse_map() -> bytes:
    block = bytearray(header("a.png", 512, tarfile.GNUTYPE_SPARSE))
    block[386:482] = b"\xff" * 96
    block[148:156] = b"%06o\0 " % tarfile.calc_chksums(bytes(block))[0]
    return bytes(block) + bytes(512)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (negative_size(), "size -1"),
        (header("a.png", 1 << 60), "is truncated"),
        (pax(record("size", "1" * 5000)) + header("a.png"), "whose size is '1111"),
        (pax(record("size", "-7")) + header("a.png"), "whose size is '-7'"),
        (pax(record("path", "/etc/passwd")) + header("a.png"), "may contain regular files only, got '/etc/passwd'"),
        (pax(record("path", "a/../../b.png")) + header("a.png"), "may contain regular files only"),
        (pax(record("GNU.sparse.map", "9,9")) + header("a.png"), "may contain regular files only"),
        (sparse_map(), "may contain regular files only"),
        (header("a.png", 1 << 35, tarfile.GNUTYPE_LONGNAME), "a header is too large"),
        (header("a", 0, tarfile.GNUTYPE_LONGNAME) * 5000 + header("a.png"), "more than 8 headers"),
        (pax(record("path", "b")) * 5000 + header("a.png"), "more than 8 headers"),
        (pax(b"12 path") + header("a.png"), "PAX records at byte 0 cannot be read"),
        (pax(b"0 path=a\n") + header("a.png"), "PAX records at byte 0 cannot be read"),
        (pax(b"99999999 a=b\n") + header("a.png"), "PAX records at byte 0 cannot be read"),
        (pax(record("path", "b" * 9000)) + header("a.png"), "has a member whose name has 9000 characters"),
        (pax(record("path", "b")), "ends after the long name"),
        (b"\x1f\x8b" + bytes(600), "compressed with gzip"),
        (b"PK\x03\x04" + bytes(600), "a zip file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
        (b"<!DOCTYPE html>", "a web page"),
        (b"", "is empty"),
    ],
)
def test_what_is_hostile_or_no_tar_file_is_named(tmp_path: Path, content: bytes, expected: str) -> None:
    padding = bytes(1024) if content[:1] not in (b"", b"<", b"v") else b""
    (tmp_path / "a.tar").write_bytes(content + padding)
    assert expected in problem(tmp_path / "a.tar")


def test_what_is_no_file_is_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.tar")
    assert "is not a regular file" in problem(tmp_path / "a.tar")
    assert "no such file" in problem(tmp_path / "b.tar")


def test_a_million_zeros_behind_the_end_are_padding_and_a_gigabyte_is_not(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.tar")
    with path.open("r+b") as stream:
        stream.truncate(1 << 20)
        assert len(list(tar_members(path))) == len(MEMBERS)
        stream.truncate(1 << 30)
    assert "more bytes after its end" in problem(path)


@pytest.mark.fuzz
@settings(max_examples=300, deadline=20_000, suppress_health_check=list(HealthCheck))
@given(
    form=st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT]),
    edits=st.lists(st.tuples(st.integers(0, 6000), st.binary(max_size=20)), max_size=4),
    repair=st.booleans(),
    size=st.integers(0, 8000),
)
def test_any_bytes_are_members_or_one_error(
    tmp_path: Path, form: int, edits: list[tuple[int, bytes]], repair: bool, size: int
) -> None:
    members = MEMBERS if form != tarfile.USTAR_FORMAT else {"a.png": b"x" * 700, "b.png": b"z"}
    content = bytearray(packed(tmp_path / "a.tar", form, members).read_bytes())
    for position, data in edits:
        content[position : position + len(data)] = data
    if repair:  # so that the rest of a header is looked at
        for start in range(0, len(content) - 511, 512):
            block = content[start : start + 512]
            if b"ustar" in block[257:263]:
                content[start + 148 : start + 156] = b"%06o\0 " % tarfile.calc_chksums(bytes(block))[0]
    (tmp_path / "a.tar").write_bytes(content[: size or None])
    tracemalloc.start()
    with suppress(DatasetError):
        for member in tar_members(tmp_path / "a.tar"):
            assert len(member.read()) == member.size
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()
