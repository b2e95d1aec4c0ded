"""Many processes in one local store: of two contents of a version one wins, and a version is there whole."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bundle_samples import write_version
from support import ROOT

from abs_descriptions.bundles import Provenance, Rejection, iter_rejected
from abs_descriptions.bundles.repository import Repository

pytestmark = pytest.mark.faults

ADD = """
import sys
from pathlib import Path
from abs_core.errors import AbsError
from abs_descriptions.bundles.repository import Repository
store, ready, go, *paths = map(Path, sys.argv[1:])
ready.touch()
while not go.exists():
    pass
for path in paths:
    try:
        print("added", Repository.local(store).add(path))
    except AbsError as error:
        print("refused", error.message)
"""


@pytest.mark.slow
def test_many_processes_at_once(tmp_path: Path) -> None:
    """Eight processes add twenty versions each; of every version there are two contents, and exactly one wins."""
    versions = [f"1.{number}.0" for number in range(20)]
    for side in ("left", "right"):
        (tmp_path / side).mkdir()
        for version in versions:
            write_version(tmp_path / side, version, text=f"A cat on the {side}.")
    go = tmp_path / "go"
    processes = []
    for number in range(8):
        side = ("left", "right")[number % 2]
        paths = [str(tmp_path / side / f"pets-{version}.jsonl") for version in versions]
        arguments = [str(tmp_path / "store"), str(tmp_path / f"ready-{number}"), str(go), *paths]
        processes.append(
            subprocess.Popen([sys.executable, "-c", ADD, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        )
    deadline = time.monotonic() + 300
    while not all((tmp_path / f"ready-{number}").exists() for number in range(8)) and time.monotonic() < deadline:
        time.sleep(0.01)
    go.touch()
    lines = [line for process in processes for line in process.communicate(timeout=300)[0].splitlines()]
    assert [process.returncode for process in processes] == [0] * 8
    assert len(lines) == 160
    store = Repository.local(tmp_path / "store")
    assert [entry.version for entry in store.list()] == versions
    for entry in store.list():
        assert store.read(entry.reference).digest == entry.digest
        added = {line for line in lines if line.startswith(f"added pets@{entry.version}#")}
        assert added == {f"added {entry}"}
        refused = [line for line in lines if line.startswith(f"refused {store.address} has pets@{entry.version} with")]
        assert len(refused) == 4
    assert not [path for path in store.root.rglob("*") if path.suffix == ".part"]


def raced(tmp_path: Path) -> tuple[Repository, Path]:
    path = write_version(tmp_path, "1.0.0", rejected=[Rejection("cat", "Sure!", "chatty", Provenance("g", 1))]).path
    store = Repository.local(tmp_path / "store")
    store.add(path)
    return store, path


def assert_whole(store: Repository) -> None:
    bundle = store.read("pets@1.0.0")
    assert [rejection.text for rejection in iter_rejected(bundle.path, bundle.header)] == ["Sure!"]
    assert not [path for path in store.root.rglob("*") if path.suffix == ".part"]


def test_version_that_is_added_while_it_is_removed_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process adds the version again between the going of its manifest and that of its bytes."""
    store, path = raced(tmp_path)
    unlink = Path.unlink

    def and_add_again(target: Path, missing_ok: bool = False) -> None:
        unlink(target, missing_ok)
        if target.name == "1.0.0.json":
            monkeypatch.undo()
            Repository.local(store.root).add(path)

    monkeypatch.setattr(Path, "unlink", and_add_again)
    store.remove("pets@1.0.0")
    assert_whole(store)


def test_version_that_is_removed_while_it_is_added_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process removes the version between the look at its bytes and the writing of the manifest."""
    store, path = raced(tmp_path)
    link = os.link

    def after_a_removal(source: Path, target: Path) -> None:
        monkeypatch.undo()
        Repository.local(store.root).remove("pets@1.0.0")
        link(source, target)

    monkeypatch.setattr(os, "link", after_a_removal)
    store.add(path)
    assert_whole(store)
