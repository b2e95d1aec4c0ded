"""Folders that a group shares hand on their group, mode and default ACL, whatever the umask of whoever writes."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from abs_core.files import atomic_write, publish
from abs_core.permissions import InheritedPermissions, create_folder, create_folders

_TEAM = 4_000_123


@pytest.fixture(params=[0o022, 0o077], autouse=True)
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    old = os.umask(request.param)
    yield
    os.umask(old)


def shared_folder(path: Path, mode: int) -> Path:
    path.mkdir()
    path.chmod(mode)
    return path


def set_default_acl(folder: Path) -> None:
    """Let a team write whatever is made in a folder, as `setfacl -d -m g:TEAM:rwx` does."""
    nobody = 0xFFFFFFFF
    entries = [(1, 7, nobody), (4, 5, nobody), (8, 7, _TEAM), (16, 7, nobody), (32, 0, nobody)]
    data = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    try:
        os.setxattr(folder, "system.posix_acl_default", data)
    except (AttributeError, OSError):
        pytest.skip("NOT TESTED: this file system has no access control lists")


def test_a_folder_below_one_that_a_group_shares_is_shared(tmp_path: Path) -> None:
    team = shared_folder(tmp_path / "team", 0o2775)
    create_folder(team / "a" / "b")
    assert (team / "a" / "b").stat().st_mode & 0o7777 == (team / "a").stat().st_mode & 0o7777 == 0o2775
    create_folder(team / "a" / "b")
    assert list(team.iterdir()) == [team / "a"]


@pytest.mark.parametrize("mode", [0o777, 0o1777])
def test_a_folder_below_any_other_is_as_the_umask_says(tmp_path: Path, mode: int) -> None:
    create_folder(shared_folder(tmp_path / "public", mode) / "mine")
    left = os.umask(0)
    os.umask(left)
    assert (tmp_path / "public" / "mine").stat().st_mode & 0o7777 == 0o777 & ~left


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="NOT TESTED: only root may give groups")
def test_the_group_is_that_of_the_root_also_without_setgid(tmp_path: Path) -> None:
    root = shared_folder(tmp_path / "team", 0o770)
    os.chown(root, -1, _TEAM)
    assert publish(root / "a" / "manifest", b"x", rights_of=root)
    for path, mode in ((root / "a", 0o770), (root / "a" / "manifest", 0o660)):
        assert (path.stat().st_gid, path.stat().st_mode & 0o7777) == (_TEAM, mode)


def test_a_default_acl_decides_on_what_is_made(tmp_path: Path) -> None:
    root = shared_folder(tmp_path / "team", 0o755)
    set_default_acl(root)
    with atomic_write(root / "a" / "b" / "object", rights_of=root) as stream:
        stream.write(b"x")
    assert publish(root / "a" / "manifest", b"x", rights_of=root)
    (root / "by the system").mkdir()
    (root / "file of the system").touch()

    def acl(path: Path, kind: str = "access") -> bytes:
        return os.getxattr(path, f"system.posix_acl_{kind}")

    for folder in (root / "a", root / "a" / "b"):
        assert acl(folder) == acl(root / "by the system")
        assert acl(folder, "default") == acl(root, "default")
    for file in (root / "a" / "b" / "object", root / "a" / "manifest"):
        assert acl(file) == acl(root / "file of the system")


def test_whoever_is_faster_made_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = shared_folder(tmp_path / "team", 0o2775)
    apply = InheritedPermissions.apply

    def overtaken(self: InheritedPermissions, path: Path, *, is_folder: bool = False) -> None:
        (root / "a").mkdir()
        (root / "a" / "theirs").touch()
        apply(self, path, is_folder=is_folder)

    monkeypatch.setattr(InheritedPermissions, "apply", overtaken)
    create_folders(root / "a", root)
    assert [path.name for path in root.rglob("*")] == ["a", "theirs"]
