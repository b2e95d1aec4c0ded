"""What a folder that several users write hands on to what is made below it: its group, its mode, its default ACL.

As in a Git repository that a group shares: without it only the first to write below a folder could write there again,
whatever the setgid bit says, because the usual umask takes the group's right to write.
"""

from __future__ import annotations

import os
import stat
import struct
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = ["InheritedPermissions", "create_folder", "create_folders"]

# of acl(5), as Linux keeps it in an extended attribute: version 2, then tag, permissions and id of each entry
_DEFAULT_ACL = "system.posix_acl_default"
_VERSION, _ENTRY = struct.Struct("<I"), struct.Struct("<HHI")
_USER, _GROUP, _MASK, _OTHER = 1, 4, 16, 32


@dataclass(frozen=True)
class InheritedPermissions:
    """The permissions of what is made below a folder.

    Args:
        group: its id.
        mode: of folders, with setgid; files have it without the right to execute.
    """

    group: int
    mode: int

    @classmethod
    def of(cls, folder: Path) -> InheritedPermissions:
        """Those that a folder hands on. Where it has a default ACL this decides on the mode, as it does for the system.

        Raises:
            OSError: the folder cannot be examined.
        """
        status = folder.stat()
        mode, default = stat.S_IMODE(status.st_mode), _default_mode(folder)
        return cls(status.st_gid, mode if default is None else (mode & ~0o777) | default)

    def apply(self, path: Path, *, is_folder: bool = False) -> None:
        """Give them to a file or a folder of ours; the group only where we belong to it.

        Raises:
            OSError: the mode cannot be changed.
        """
        if hasattr(os, "chown") and path.stat().st_gid != self.group:
            with suppress(PermissionError):
                os.chown(path, -1, self.group)
        mode = self.mode if is_folder else self.mode & 0o666
        if stat.S_IMODE(path.stat().st_mode) != mode:
            path.chmod(mode)


def create_folder(path: Path) -> None:
    """Create a folder, and those above it that are missing.

    Below a folder that is meant for a group, with setgid or a default ACL, they have its permissions; elsewhere those
    that the umask leaves.

    Raises:
        OSError: one cannot be created.
    """
    above = next((parent for parent in path.parents if parent.exists()), path)
    if path.exists() or not _is_shared(above):
        path.mkdir(parents=True, exist_ok=True)
    else:
        create_folders(path, above)


def create_folders(path: Path, root: Path) -> InheritedPermissions:
    """Create a folder and those between it and ``root``, with the permissions of ``root``, which are returned.

    Raises:
        OSError: one cannot be created.
    """
    create_folder(root)
    permissions = InheritedPermissions.of(root)
    for folder in reversed([path, *path.parents]):
        if root in folder.parents and not folder.is_dir():
            _create(folder, permissions)
    return permissions


def _create(folder: Path, permissions: InheritedPermissions) -> None:
    # Renamed when it is as it should be: one of a process that was killed in between would keep the others out.
    part = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".", suffix=".part"))
    try:
        permissions.apply(part, is_folder=True)
        part.rename(folder)
    except OSError:
        with suppress(OSError):
            part.rmdir()
        if not folder.is_dir():  # else another process was faster
            raise


def _is_shared(folder: Path) -> bool:
    return bool(folder.stat().st_mode & stat.S_ISGID) or _default_mode(folder) is not None


def _default_mode(folder: Path) -> int | None:
    """The mode that a default ACL gives to what is made in a folder; None without one."""
    try:
        data = os.getxattr(folder, _DEFAULT_ACL)
    except (AttributeError, OSError):  # not on Linux; no ACL, or a file system without any
        return None
    if len(data) < _VERSION.size or (len(data) - _VERSION.size) % _ENTRY.size:
        return None
    rights = {tag: bits & 7 for tag, bits, _ in _ENTRY.iter_unpack(data[_VERSION.size :])}
    if not {_USER, _GROUP, _OTHER} <= rights.keys():
        return None
    mode: int = rights[_USER] << 6 | rights.get(_MASK, rights[_GROUP]) << 3 | rights[_OTHER]
    return mode
