"""Two users of one group and one folder, whatever the umask: both push, pull, yank and collect garbage."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import ROOT

pytestmark = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="NOT TESTED: only root can act as two users"
)

_TEAM, _ADA, _BOB = 4_100_000, 4_100_001, 4_100_002

# What is imported late is imported before the rights are given up: a checkout may be readable by its owner alone.
_SCRIPT = """
import os, sys, tempfile
from pathlib import Path
sys.path.insert(0, "tests")
from bundle_samples import write_cat
from abs_descriptions.bundles.maintenance import collect_garbage
from abs_descriptions.bundles.storage import Blob
from abs_descriptions.bundles.remotes import Remotes
from abs_descriptions.bundles.repository import Repository
from abs_descriptions.bundles.sharing import copy_bundles

def use(home, shared, version, take):
    store, team = Repository.local(home / "bundles"), Repository.open(str(shared))
    bundle = write_cat(home / f"new-{version}.jsonl", f"A cat of {version}.", version=version)
    store.add(bundle.path)
    copy_bundles(f"pets@{version}", store, team)
    Remotes(home / "remotes.json").add(f"remote-{version}", str(shared), default=True)
    team.yank(f"pets@{version}", "by " + version)
    for other in take:
        copy_bundles(f"pets@{other}", team, store)
        team.yank(f"pets@{other}", "and by " + version)
        team.undo_yank(f"pets@{other}")
    # what the one left long ago the other removes
    assert len(collect_garbage(team, delete=True).files) == len(take[:1])
    orphan = f"objects/sha256/00/{'00' * 32}.jsonl"
    team.storage.restore([Blob(orphan, bundle.path, bundle.digest)])
    os.utime(shared / orphan, (0, 0))

with tempfile.TemporaryDirectory() as folder:
    os.mkdir(folder + "/shared")
    use(Path(folder), Path(folder, "shared"), "0.0.1", [])
home, shared, user, group, umask, version, *take = sys.argv[1:]
os.setgroups([int(group)])
os.setgid(int(user))
os.setuid(int(user))
os.umask(int(umask, 8))
use(Path(home), Path(shared), version, take)
"""


def act(user: int, home: Path, shared: Path, umask: str, version: str, *take: str) -> None:
    if not home.exists():
        home.mkdir()
        os.chown(home, user, user)
    arguments = [str(home), str(shared), str(user), str(_TEAM), umask, version, *take]
    command = [sys.executable, "-c", _SCRIPT, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def team() -> Iterator[Path]:
    """A folder of the group's that every user can reach, which pytest's are not."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        path.chmod(0o755)
        (path / "team").mkdir()
        os.chown(path / "team", 0, _TEAM)
        (path / "team").chmod(0o2775)
        yield path / "team"


def test_both_use_a_folder_that_the_first_push_makes(team: Path) -> None:
    shared = team / "bundles"
    act(_ADA, team.parent / "ada", shared, "077", "1.0.0")
    act(_BOB, team.parent / "bob", shared, "077", "1.1.0", "1.0.0")
    act(_ADA, team.parent / "ada", shared, "077", "1.2.0", "1.0.0", "1.1.0")
    for path in [shared, *shared.rglob("*")]:
        assert path.stat().st_gid == _TEAM
        assert path.stat().st_mode & 0o7777 == (0o2775 if path.is_dir() else 0o664), path


def test_both_use_the_store_of_a_home_that_they_share(team: Path) -> None:
    shared, home = team / "bundles", team / "home"
    home.mkdir()
    os.chown(home, 0, _TEAM)
    home.chmod(0o2775)
    act(_ADA, home, shared, "022", "1.0.0")
    act(_BOB, home, shared, "022", "1.2.0", "1.0.0")
