"""Archives from outside: bundles come out, and everything that climbs, links, swells or is broken stays in."""

from __future__ import annotations

import gzip
import io
import os
import struct
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support import ROOT

from abs_core.errors import BundleError, StorageError
from abs_descriptions.bundles.archives import unpack_bundles

TEXT = b"".join(b'{"class":"cat","text":"A cat with %d whiskers."}\n' % number for number in range(300))


def zipped(members: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


def tarred(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for member, data in members:
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def member(
    name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(data), kind, link
    return info, data


def special_zip(mode: int) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        info = zipfile.ZipInfo("pets.jsonl")
        info.create_system, info.external_attr = 3, mode << 16
        archive.writestr(info, "/etc/passwd")
    return out.getvalue()


SOUND: dict[str, tuple[str, bytes]] = {
    "zip": ("a.zip", zipped({"pets.jsonl": TEXT, "pets.rejected.jsonl": TEXT[:50], "README": b"x"})),
    "zip without compression": ("a.zip", zipped({"pets.jsonl": TEXT, "README": b"x"}, zipfile.ZIP_STORED)),
    "zip with a folder": ("a.zip", zipped({"x/": b"", "x/y/pets.jsonl": TEXT, "__MACOSX/._pets.jsonl": b"x"})),
    "tar": ("a.tar", tarred(member("./", kind=tarfile.DIRTYPE), member("./pets.jsonl", TEXT), member("README", b"x"))),
    "tar.gz": ("a.tar.gz", gzip.compress(tarred(member("pets.jsonl", TEXT), member("README", b"x")))),
    "tar with long names": (
        "a.tgz", gzip.compress(tarred(member("x" * 300 + "/pets.jsonl", TEXT), member("README"),
                                      form=tarfile.GNU_FORMAT))),
}  # fmt: skip


@pytest.mark.parametrize("case", SOUND)
def test_bundles_come_out(tmp_path: Path, case: str) -> None:
    name, data = SOUND[case]
    (tmp_path / name).write_bytes(data)
    out = tmp_path / "out"
    unpacked = unpack_bundles(tmp_path / name, out)
    assert unpacked.bundles == (out / "pets.jsonl",)
    assert (out / "pets.jsonl").read_bytes() == TEXT
    assert len(unpacked.ignored) == 1
    assert {path.name for path in out.iterdir()} <= {"pets.jsonl", "pets.rejected.jsonl"}


def bomb_in_a_header() -> bytes:
    """An extended header that claims, and has, 300 MB."""
    header = tarfile.TarInfo("././@PaxHeader")
    header.type, header.size = tarfile.XHDTYPE, 300_000_000
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=1) as stream:
        stream.write(header.tobuf())
        for _ in range(300):
            stream.write(b"\0" * 1_000_000)
    return out.getvalue()


def lying_zip() -> bytes:
    """A member that says it has 10 bytes and expands to 20 MB."""
    data = bytearray(zipped({"pets.jsonl": b"\0" * 20_000_000}))
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        place = data.index(signature) + offset
        data[place : place + 4] = struct.pack("<I", 10)
    return bytes(data)


def encrypted_zip() -> bytes:
    data = bytearray(zipped({"pets.jsonl": TEXT}))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1
    return bytes(data)


HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "a zip that climbs": (lambda: zipped({"../pets.jsonl": TEXT}), "'../pets.jsonl' would lie outside"),
    "a zip that climbs within": (lambda: zipped({"x/../../pets.jsonl": TEXT}), "would lie outside"),
    "a zip that climbs in Windows": (lambda: zipped({"..\\pets.jsonl": TEXT}), "would lie outside"),
    "an absolute name in a zip": (lambda: zipped({"/tmp/pets.jsonl": TEXT}), "would lie outside"),
    "a drive in a zip": (lambda: zipped({"C:\\pets.jsonl": TEXT}), "would lie outside"),
    "a tar that climbs": (lambda: tarred(member("../pets.jsonl", TEXT)), "would lie outside"),
    "an absolute name in a tar": (lambda: tarred(member("/etc/pets.jsonl", TEXT)), "would lie outside"),
    "a climbing member that is no bundle": (lambda: tarred(member("../../.bashrc", b"x")), "would lie outside"),
    "a name that no disk holds": (
        lambda: tarred(member("x" * 250 + ".jsonl", TEXT)), "has a longer name than a file can have"),
    "a symbolic link in a zip": (lambda: special_zip(0o120777), "is a link or a device"),
    "a device in a zip": (lambda: special_zip(0o020666), "is a link or a device"),
    "a symbolic link in a tar": (
        lambda: tarred(member("pets.jsonl", kind=tarfile.SYMTYPE, link="/etc/passwd")), "is a link, a device"),
    "a hard link in a tar": (
        lambda: tarred(member("pets.jsonl", kind=tarfile.LNKTYPE, link="/etc/passwd")), "is a link, a device"),
    "a device in a tar": (lambda: tarred(member("pets.jsonl", kind=tarfile.CHRTYPE)), "is a link, a device"),
    "a pipe in a tar": (lambda: tarred(member("pets.jsonl", kind=tarfile.FIFOTYPE)), "is a link, a device"),
    "a zip that swells": (lambda: zipped({"pets.jsonl": b"\0" * 50_000_000}), "more than 200 times its size"),
    "a zip that swells in many": (
        lambda: zipped({f"{i}.jsonl": b"\0" * 1_000_000 for i in range(50)}), "more than 200 times its size"),
    "a zip whose unread members swell": (
        lambda: zipped({"pets.jsonl": TEXT, "x.bin": b"\0" * 50_000_000, "y.jsonl": b"\0" * 50_000_000}), "200 times"),
    "a tar.gz that swells": (
        lambda: gzip.compress(tarred(member("pets.jsonl", b"\0" * 50_000_000))), "more than 200 times its size"),
    "a tar.gz that swells unread": (
        lambda: gzip.compress(tarred(member("x.bin", b"\0" * 50_000_000))), "more than 200 times its size"),
    "a header that swells": (bomb_in_a_header, "its headers are larger"),
    "a zip that lies about sizes": (lying_zip, "broken one"),
    "many members": (lambda: zipped({f"{i}.txt": b"" for i in range(1001)}), "more than 1000 members"),
    "many members in a tar": (
        lambda: tarred(*(member(f"{i}.txt", os.urandom(600)) for i in range(1001))), "more than 1000 members"),
    "an encrypted zip": (encrypted_zip, "is encrypted"),
    "a zip with another compression": (lambda: zipped({"pets.jsonl": TEXT}, zipfile.ZIP_LZMA), "with deflate"),
    "two of one name": (lambda: zipped({"a/pets.jsonl": TEXT, "b/pets.jsonl": TEXT}), "two members are called"),
    "two of one name on some disks": (
        lambda: zipped({"pets.jsonl": TEXT, "Pets.jsonl": TEXT}), "two members are called"),
    "no bundle": (lambda: zipped({"README": TEXT}), "there is no bundle"),
    "only rejected completions": (lambda: zipped({"pets.rejected.jsonl": TEXT}), "there is no bundle"),
    "nothing": (lambda: b"", "not a zip, tar or tar.gz archive"),
    "an empty zip": (lambda: zipped({}), "there is no bundle"),
    "no archive": (lambda: TEXT, "not a zip, tar or tar.gz archive"),
    "a truncated zip": (lambda: zipped({"pets.jsonl": TEXT})[:-30], "not a zip, tar or tar.gz archive"),
    "a truncated tar": (lambda: tarred(member("pets.jsonl", TEXT))[:2000], "broken one"),
    "a truncated tar.gz": (lambda: gzip.compress(tarred(member("pets.jsonl", TEXT)))[:300], "broken one"),
    "a zip with another content": (
        lambda: zipped({"pets.jsonl": TEXT}, zipfile.ZIP_STORED).replace(b"A cat with 7 ", b"A dog with 7 "),
        "Bad CRC-32"),
    "a tar.gz with another content": (
        lambda: gzip.compress(tarred(member("pets.jsonl", TEXT)))[:-8] + b"\0" * 8, "broken one"),
    "terminal escapes": (lambda: zipped({"../\x1b[2J\u202epets.jsonl": TEXT}), "'../\\x1b[2J\\u202epets.jsonl'"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_archive_is_refused(tmp_path: Path, case: str) -> None:
    build, words = HOSTILE[case]
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "a.archive"
    path.write_bytes(build())
    with pytest.raises(BundleError) as caught:
        unpack_bundles(path, tmp_path / "in" / "out")
    assert caught.value.message.startswith(f"{path}: ")
    assert words in caught.value.message
    assert caught.value.remedy
    assert str(caught.value).isprintable()
    assert {entry.name for entry in tmp_path.iterdir()} == {"in"}
    written = [file for file in tmp_path.rglob("*") if file.is_file() and file != path]
    assert all(file.parent == tmp_path / "in" / "out" for file in written)


@pytest.mark.slow
def test_table_in_the_docs_is_what_is_said(tmp_path: Path) -> None:
    """docs/broken-bundles.md shows every case with its message; on a change write its rows again from here."""
    rows = []
    for case, (build, _) in HOSTILE.items():
        path = tmp_path / "birds.archive"
        path.write_bytes(build())
        message, _ = attempt(path, tmp_path / "out")
        shown = message.replace(f"{tmp_path}/", "").partition(". Ask for")[0]
        # What Python's libraries say in brackets is theirs to change.
        rows.append(f"| {case} | `{shown.partition(' (')[0]}` |\n")
    assert "".join(rows) in (ROOT / "docs" / "broken-bundles.md").read_text(encoding="utf-8")


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.zip")
    with pytest.raises(BundleError, match="not a file"):
        unpack_bundles(tmp_path / "pipe.zip", tmp_path)
    with pytest.raises(StorageError, match=r"none\.zip"):
        unpack_bundles(tmp_path / "none.zip", tmp_path)


@pytest.mark.fuzz
@settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(
    case=st.sampled_from(sorted(SOUND)),
    edits=st.lists(st.tuples(st.integers(0, 10**6), st.binary(min_size=1, max_size=4)), min_size=1, max_size=4),
    cut=st.none() | st.integers(0, 10**6),
)
@example(case="tar with long names", edits=[(1099, b".")], cut=None)
@pytest.mark.slow
def test_edited_archives_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, case: str, edits: list[tuple[int, bytes]], cut: int | None
) -> None:
    data = bytearray(SOUND[case][1])
    for place, new in edits:
        start = place % len(data)
        data[start : start + len(new)] = new
    folder = tmp_path_factory.mktemp("archive")
    path = folder / "a"
    path.write_bytes(bytes(data if cut is None else data[: cut % len(data)]))
    message, bundles = attempt(path, folder / "out")
    assert message.startswith(f"{path}: " if not bundles else "")
    assert message.isprintable()
    assert all(bundle.parent == folder / "out" for bundle in bundles)


def attempt(path: Path, folder: Path) -> tuple[str, tuple[Path, ...]]:
    try:
        return "", unpack_bundles(path, folder).bundles
    except BundleError as error:
        return str(error), ()
