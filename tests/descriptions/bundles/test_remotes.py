"""Names for places: what a word means, what is kept, and what is refused."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from abs_core.errors import StorageError, UnknownNameError, UsageError
from abs_descriptions.bundles.remotes import Remotes


@pytest.fixture
def remotes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Remotes:
    """No remotes yet, and a working folder with a folder ``near``."""
    (tmp_path / "work" / "near").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    return Remotes(tmp_path / "home" / "remotes.json")


def test_a_word_is_a_remote_and_then_a_folder_that_exists(remotes: Remotes, caplog: pytest.LogCaptureFixture) -> None:
    assert remotes.find("near").location == "near"
    assert remotes.find("new", or_new_folder=True).location == "new"
    with pytest.raises(UnknownNameError, match="unknown remote 'new'"):
        remotes.find("new")
    remotes.add("near", "s3://team/bundles")
    assert (remotes.find("near").location, remotes.find("near").name) == ("s3://team/bundles", "near")
    assert "near means the remote, s3://team/bundles; write ./near for the folder" in caplog.text
    for text in ("./near", "near/", "../work/near", "~/near", "file:///near", ".", ".."):
        assert remotes.find(text).location == text
    with pytest.raises(UnknownNameError, match=r"unknown remote 'naer' \(did you mean 'near'\?\)") as unknown:
        remotes.find("naer", or_new_folder=True)
    assert "write ./naer for a folder" in unknown.value.remedy


def test_the_default_is_meant_where_nothing_is_given(remotes: Remotes) -> None:
    with pytest.raises(UsageError, match="no default remote"):
        remotes.find(None)
    remotes.add("a", "s3://team/a", default=True)
    remotes.add("b", "shared")
    assert remotes.find(None).location == "s3://team/a"
    assert remotes.choose_default("b").location == str(Path.cwd() / "shared")
    assert remotes.find(None).name == "b"
    assert [(remote.name, remote.is_default) for remote in remotes.list()] == [("a", False), ("b", True)]
    assert remotes.remove("b").is_default
    with pytest.raises(UsageError, match="no default remote"):
        remotes.find(None)
    for change in (remotes.remove, remotes.choose_default):
        with pytest.raises(UnknownNameError, match="unknown remote 'b'"):
            change("b")


@pytest.mark.parametrize(
    ("name", "location", "problem"),
    [
        ("a", "s3://team/b", "is s3://team/a already"),
        ("a/b", "s3://team/b", "must be a word"),
        ("", "s3://team/b", "must be a word"),
        ("..", "s3://team/b", "must be a word"),
        ("b\x1b[31m", "s3://team/b", r"got 'b\\x1b\[31m'"),
        ("b", "https://ada:SECRET@example.org/b", "'@'"),
        ("b", "https://example.org/b?token=SECRET", "query"),
        ("b", "https://example.org/hf_SECRETSECRETSECRETSECRETSECRETSE", "access token"),
        ("b", "hf://datasets/org/b@hf_SECRETSECRETSECRETSECRETSECRETSE", "access token"),
        ("b", "ftp://AKIASECRETSECRETSECR/b", "access token"),
    ],
)
def test_what_is_no_name_or_holds_a_secret_is_refused(
    remotes: Remotes, tmp_path: Path, name: str, location: str, problem: str
) -> None:
    remotes.add("a", "s3://team/a")
    before = (tmp_path / "home" / "remotes.json").read_bytes()
    with pytest.raises(UsageError, match=problem) as refused:
        remotes.add(name, location)
    assert "SECRET" not in str(refused.value)
    assert (tmp_path / "home" / "remotes.json").read_bytes() == before


@pytest.mark.parametrize(
    "change",
    [
        {"format_version": 2},
        {"default": 3},
        {"remotes": {"a": {"location": "s3://ada:SECRET@team/a"}}},
        {"remotes": {"a/b": {"location": "s3://team/a"}}},
        {"token": "SECRET"},
    ],
)
def test_a_file_that_others_changed_is_refused(remotes: Remotes, tmp_path: Path, change: dict[str, object]) -> None:
    remotes.add("a", "s3://team/a")
    file = tmp_path / "home" / "remotes.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    for use in (remotes.list, lambda: remotes.find("a"), lambda: remotes.add("b", "s3://team/b")):
        with pytest.raises(StorageError, match="holds no remotes") as refused:
            use()
        assert "SECRET" not in str(refused.value)


def test_names_that_are_given_at_once_are_all_kept(remotes: Remotes) -> None:
    threads = [threading.Thread(target=remotes.add, args=(f"r{number}", "s3://team/a")) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(remotes.list()) == 12
