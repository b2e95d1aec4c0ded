"""A dataset repository of the Hugging Face hub. What is read belongs to one commit; a push is one commit.

A commit names the one that it follows, and the hub refuses it if that is no longer the last one. So of two pushes of
one version the later one starts again, finds the version there, and does not write.
"""

from __future__ import annotations

import re
import time
from collections.abc import Generator, Sequence
from itertools import islice
from typing import Any

from abs_core.errors import StorageError, UsageError
from abs_core.extras import require
from abs_descriptions.bundles.storage.base import (
    BLOCK,
    MAX_NAMES,
    Blob,
    Location,
    Storage,
    may_pass,
    problem_of,
    retried,
    status_of,
)

__all__ = ["HubStorage"]

_COMMIT = re.compile(r"[0-9a-f]{40}")
_ATTEMPTS = 6
_TIMEOUT = 30.0  # seconds


class HubStorage(Storage):
    """A dataset repository as a storage.

    Args:
        location: of the repository. The token is the one that the hub's client finds.
    """

    def __init__(self, location: Location) -> None:
        hub = require("huggingface_hub")
        self._add = hub.CommitOperationAdd
        self._api: Any = hub.HfApi()
        self._files: Any = hub.HfFileSystem(skip_instance_cache=True)
        self._repo, self._revision = location.path, location.revision or "main"
        self._commit = ""
        self.address = f"hf://datasets/{self._repo}@{self._revision}"

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
        for attempt in range(_ATTEMPTS):
            self._move_to(self._last_commit())
            if self._has(path):
                return False
            try:
                self._move_to(self._write_commit(self._commit, blobs, path, data))
            except StorageError:
                raise
            except Exception as error:
                # of a commit that failed it is not known whether it was made: the next round finds it, or makes it
                if status_of(error) not in (409, 412) and not may_pass(error):
                    raise problem_of(error, "write", self.address) from None
                time.sleep(0.2 * 2**attempt)
            else:
                return True
        raise StorageError(f"{self.address} keeps changing or failing", remedy="Try again later")

    def _write_commit(self, parent: str, blobs: Sequence[Blob], path: str, data: bytes) -> str:
        """Write one commit that follows ``parent``; its hash."""
        additions = [self._add(path_in_repo=blob.path, path_or_fileobj=str(blob.file)) for blob in blobs]
        info = self._api.create_commit(
            repo_id=self._repo,
            repo_type="dataset",
            revision=self._revision,
            parent_commit=parent,
            operations=[*additions, self._add(path_in_repo=path, path_or_fileobj=data)],
            commit_message=f"Add {path}",
        )
        commit = self._require_commit(info.oid)
        pushed = {path, *(blob.path for blob in blobs)}
        present = self._api.get_paths_info(self._repo, sorted(pushed), revision=commit, repo_type="dataset")
        if {entry.path for entry in present} != pushed:  # the client leaves out what a .gitignore there names
            raise StorageError(
                f"the commit {commit} of {self.address} lacks a part of what was pushed",
                remedy="Take lines that match objects/ or versions/ out of its .gitignore, and push again",
            )
        return commit

    def _has(self, path: str) -> bool:
        try:
            # Not the file system's exists(), which takes a failed request for a no.
            present = retried(
                lambda: self._api.get_paths_info(self._repo, [path], revision=self._commit, repo_type="dataset")
            )
        except Exception as error:
            raise problem_of(error, "read", self.address) from None
        return bool(present)

    def _path(self, path: str) -> str:
        if not self._commit:
            self._move_to(self._last_commit())
        return f"datasets/{self._repo}@{self._commit}/{path}"

    def _move_to(self, commit: str) -> None:
        """Read at this commit from now on."""
        self._commit = commit
        self.address = f"hf://datasets/{self._repo}@{commit}"

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
