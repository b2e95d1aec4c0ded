"""A dataset repository of the Hugging Face hub, or a folder in one. What is read belongs to one commit; a push is one
commit.

A commit names the one that it follows, and the hub refuses it if that is no longer the last one. So of two pushes of
one version the later one starts again, finds the version there, and does not write.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Generator, Sequence
from itertools import islice
from typing import Any

from abs_core.errors import StorageError, UsageError
from abs_core.extras import require
from abs_core.locations import Location
from abs_core.service_errors import may_pass, problem_of, retried, status_of
from abs_descriptions.bundles.storage.base import BLOCK, MAX_NAMES, Blob, ListedFile, Storage

__all__ = ["HubStorage"]

_COMMIT = re.compile(r"[0-9a-f]{40}")
_ATTEMPTS = 6
_TIMEOUT = 30.0  # seconds
_MAX_FILES = 1_000_000


class HubStorage(Storage):
    """A dataset repository, or a folder in one, as a storage.

    Args:
        location: of the repository. The token is the one that the hub's client finds.
    """

    keeps_deleted = "in earlier commits of the repository"

    def __init__(self, location: Location) -> None:
        hub = require("huggingface_hub")
        self._add, self._delete = hub.CommitOperationAdd, hub.CommitOperationDelete
        self._api: Any = hub.HfApi()
        self._files: Any = hub.HfFileSystem(skip_instance_cache=True)
        self._location, self._repo, self._revision = location, location.path, location.revision or "main"
        self._prefix = f"{location.folder}/" if location.folder else ""
        self._commit = ""
        self.address = location.at_revision(self._revision)

    def names(self, folder: str) -> Sequence[str]:
        try:
            path = self._path(folder)
            paths = retried(lambda: self._files.ls(path, detail=False))
        except FileNotFoundError:
            return []
        except StorageError:
            raise
        except Exception as error:
            raise problem_of(error, "read", self.address) from None
        return [str(path).rpartition("/")[2] for path in islice(paths, MAX_NAMES)]

    def blocks(self, path: str) -> Generator[bytes, None, None]:
        try:
            full_path = self._path(path)
            stream, block = retried(lambda: self._open(full_path))
            with stream:
                while block:
                    yield block
                    block = stream.read(BLOCK)
        except (FileNotFoundError, StorageError):
            raise
        except Exception as error:
            if status_of(error) == 404:
                raise FileNotFoundError(path) from None
            raise problem_of(error, "read", self.address) from None

    def _open(self, path: str) -> tuple[Any, bytes]:
        """A file and its first block, which is when the hub is asked for it."""
        stream = self._files.open(path, "rb", block_size=0, cache_type="none")
        try:
            return stream, stream.read(BLOCK)
        except BaseException:
            stream.close()
            raise

    def check_writable(self) -> None:
        if _COMMIT.fullmatch(self._revision):
            raise UsageError(f"{self.address} is a commit, which cannot change", remedy="Push to a branch")

    def publish(self, blobs: Sequence[Blob], path: str, data: bytes) -> bool:
        manifest = (self._add(path_in_repo=self._prefix + path, path_or_fileobj=data),)

        def write() -> bool:
            if self._has(path):
                return False
            self._write_commit([*self._additions(blobs), *manifest], f"Add {path}")
            return True

        return self._write_until_it_lasts(write)

    def files(self, folder: str) -> Sequence[ListedFile]:
        if not self._commit:
            self._move_to(self._last_commit())
        place = (self._prefix + folder).strip("/") or None
        try:
            entries = retried(
                lambda: list(
                    islice(
                        self._api.list_repo_tree(
                            self._repo, place, recursive=True, revision=self._commit, repo_type="dataset"
                        ),
                        _MAX_FILES,
                    )
                )
            )
        except Exception as error:
            if place is not None and type(error).__name__ in ("EntryNotFoundError", "RemoteEntryNotFoundError"):
                return []
            raise problem_of(error, "read", self.address) from None
        sizes = [(str(entry.path), getattr(entry, "size", None)) for entry in entries]
        return [ListedFile(path.removeprefix(self._prefix), size, None) for path, size in sizes if size is not None]

    def restore(self, blobs: Sequence[Blob]) -> None:
        def write() -> bool:
            self._write_commit(self._additions(blobs), f"Restore {len(blobs)} files")
            return True

        self.check_writable()
        self._write_until_it_lasts(write)

    def delete(self, files: Sequence[ListedFile]) -> Sequence[ListedFile]:
        """As for every storage, in one commit on the one that was listed: the hub refuses it after any other."""
        self.check_writable()
        if not files:
            return files
        removals = [self._delete(path_in_repo=self._prefix + file.path, is_folder=False) for file in files]
        try:
            self._write_commit(removals, f"Remove {len(files)} files that nothing names")
        except StorageError:
            raise
        except Exception as error:
            if status_of(error) in (409, 412):
                raise StorageError(
                    f"{self.address} was just changed; nothing was removed", remedy="Try again"
                ) from None
            raise problem_of(error, "write", self.address) from None
        return files

    def _additions(self, blobs: Sequence[Blob]) -> list[Any]:
        return [self._add(path_in_repo=self._prefix + blob.path, path_or_fileobj=str(blob.file)) for blob in blobs]

    def _write_until_it_lasts(self, write: Callable[[], bool]) -> bool:
        """Write on the last commit, again on the next one where another came between; what ``write`` returned."""
        for attempt in range(_ATTEMPTS):
            self._move_to(self._last_commit())
            try:
                return write()
            except StorageError:
                raise
            except Exception as error:
                # of a commit that failed it is not known whether it was made: the next round finds it, or makes it
                if status_of(error) not in (409, 412) and not may_pass(error):
                    raise problem_of(error, "write", self.address) from None
                time.sleep(0.2 * 2**attempt)
        raise StorageError(f"{self.address} keeps changing or failing", remedy="Try again later")

    def _write_commit(self, operations: Sequence[Any], message: str) -> None:
        """Write one commit that follows the one that is read, and read at it from now on."""
        info = self._api.create_commit(
            repo_id=self._repo,
            repo_type="dataset",
            revision=self._revision,
            parent_commit=self._commit,
            operations=operations,
            commit_message=message,
        )
        commit = self._require_commit(info.oid)
        added = {operation.path_in_repo for operation in operations if isinstance(operation, self._add)}
        present = (
            self._api.get_paths_info(self._repo, sorted(added), revision=commit, repo_type="dataset") if added else ()
        )
        if {entry.path for entry in present} != added:  # the client leaves out what a .gitignore there names
            raise StorageError(
                f"the commit {commit} of {self.address} lacks a part of what was pushed",
                remedy="Take lines that match objects/ or versions/ out of its .gitignore, and push again",
            )
        self._move_to(commit)

    def _has(self, path: str) -> bool:
        try:
            # Not the file system's exists(), which takes a failed request for a no.
            present = retried(
                lambda: self._api.get_paths_info(
                    self._repo, [self._prefix + path], revision=self._commit, repo_type="dataset"
                )
            )
        except Exception as error:
            raise problem_of(error, "read", self.address) from None
        return bool(present)

    def _path(self, path: str) -> str:
        if not self._commit:
            self._move_to(self._last_commit())
        return f"datasets/{self._repo}@{self._commit}/{self._prefix}{path}"

    def _move_to(self, commit: str) -> None:
        """Read at this commit from now on."""
        self._commit = commit
        self.address = self._location.at_revision(commit)

    def _last_commit(self) -> str:
        try:
            info = retried(
                lambda: self._api.repo_info(self._repo, repo_type="dataset", revision=self._revision, timeout=_TIMEOUT)
            )
        except Exception as error:
            raise problem_of(error, "read", self.address) from None
        return self._require_commit(info.sha)

    def _require_commit(self, commit: object) -> str:
        if not isinstance(commit, str) or not _COMMIT.fullmatch(commit):
            raise StorageError(f"the hub names no commit for {self.address}", remedy="Try again later")
        return commit
