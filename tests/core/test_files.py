"""Files are there whole or not at all, and errors name the path and the remedy."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from abs_core.errors import StorageError
from abs_core.files import atomic_write, ensure_writable, sha256_file


def test_a_file_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file.bin"
    with atomic_write(target) as stream:
        stream.write(b"whole")
        assert not target.exists()
    assert target.read_bytes() == b"whole"
    assert sorted(p.name for p in target.parent.iterdir()) == ["file.bin"]


def test_an_error_leaves_the_old_file_and_no_part(tmp_path: Path) -> None:
    target = tmp_path / "file.bin"
    target.write_bytes(b"old")

    def stop_halfway() -> None:
        with atomic_write(target) as stream:
            stream.write(b"half")
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        stop_halfway()
    assert target.read_bytes() == b"old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file.bin"]


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        with atomic_write(tmp_path / "shared") as stream:
            stream.write(b"x")
    finally:
        os.umask(old)
    assert (tmp_path / "shared").stat().st_mode & 0o777 == 0o640


def test_a_parent_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("x")
    with pytest.raises(StorageError, match="plain"), atomic_write(tmp_path / "plain" / "child"):
        pass


def test_sha256_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"abc" * 100_000)
    assert sha256_file(path) == "sha256:" + hashlib.sha256(b"abc" * 100_000).hexdigest()
    with pytest.raises(StorageError, match="absent"):
        sha256_file(tmp_path / "absent")


def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(0o555)
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents[:2]:
        parent.chmod(0o755)
    code = (
        "import os, sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
        "from pathlib import Path\n"
        "from abs_core.errors import StorageError\n"
        "from abs_core.files import ensure_writable\n"
        "if os.getuid() == 0: os.setuid(65534)\n"
        "try: ensure_writable(Path(sys.argv[1]) / 'cache')\n"
        "except StorageError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(locked)], capture_output=True, text=True, check=False, cwd="/"
    )
    assert "locked" in done.stdout, done.stderr
    assert "permission denied" in done.stdout
    ensure_writable(tmp_path / "open")
