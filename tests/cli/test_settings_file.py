"""Configuration files that are odd, hostile, or somebody else's."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from abs_cli.settings_file import SettingsFile, find_settings_files, read_settings_file, users_file
from abs_core.errors import AbsError


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(0o600)
    return path


def read(path: Path) -> SettingsFile:
    file = read_settings_file(path, is_own=True)
    assert file is not None
    return file


@pytest.mark.parametrize(
    "content",
    [
        "[eval]\nviews = 3\non_error = 'skip'\n",
        "\ufeff[eval]\nviews = 3\non-error = 'skip'\n",
        "[eval]\r\nviews = 3\r\non-error = 'skip'\r\n",
        "eval = {views = 3, on_error = 'skip'}",
        "eval.views = 3\neval.on-error = 'skip'",
    ],
    ids=["plain", "BOM", "CRLF", "inline", "dotted"],
)
def test_the_same_in_other_ways(tmp_path: Path, content: str) -> None:
    assert read(written(tmp_path / "abs.toml", content)).tables == {"eval": {"views": 3, "on-error": "skip"}}


def test_the_line_of_a_key_is_said_where_it_is_sure(tmp_path: Path) -> None:
    content = '# views\n[eval]\n\nbatch_size = 3\n["bundle".push]\nwith-parents = true\neval.views = 2\n'
    file = read(written(tmp_path / "abs.toml", content))
    assert file.place("eval", "batch-size") == f"{file.path}, line 4"
    assert file.place("bundle push", "with-parents") == f"{file.path}, line 6"
    assert file.place("eval") == f"{file.path}, line 2"
    assert file.place("eval", "none") == str(file.path)
    text = read(written(tmp_path / "abs.toml", "[eval]\ncontrol = '''\nviews = 7\n'''\nviews = 2\n"))
    assert text.place("eval", "views") == str(text.path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[eval\n", r"abs\.toml, line 1: not valid TOML: expected"),
        ("[eval]\nviews = \n", r"abs\.toml, line 2: not valid TOML: invalid value"),
        ("[eval]\nviews = 3\nviews = 4\n", r"abs\.toml, line 3: not valid TOML: cannot overwrite a value"),
        ("[eval]\non-error = 'skip'\non_error = 'stop'\n", r"'on-error' is given twice, also as 'on_error'"),
        (b"[eval]\n# caf\xe9\n", r"abs\.toml, line 2: this is not UTF-8\. Save it as UTF-8"),
        ("[eval]\n".encode("utf-16"), r"abs\.toml is UTF-16, not UTF-8"),
        (b"[eval]\n\x00\n", r"abs\.toml, line 2: not valid TOML: "),
        ('[defaults]\nhome = "C:\\Users\\ann"\n', r"in single quotes: 'C:\\Users\\ann'"),
        ('[defaults]\nhome = "D:\\photos"\n', r"in single quotes: 'C:\\Users\\ann'"),
        ("views = " + "[" * 30_000, r"not valid TOML: it is nested too deeply"),
        ("views = " + "9" * 10_000, r"not valid TOML: a number is too long"),
        ("#" * 1_100_000, r"cannot be read: it is larger than 1024 KiB"),
        ("[eval]\nviews = '\x1b[2J", r"not valid TOML: "),
    ],
)
def test_what_is_no_configuration_is_said_on_one_line(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(AbsError, match=message) as caught:
        read(written(tmp_path / "abs.toml", content))
    assert str(caught.value).isprintable()


def test_what_is_no_file_is_refused_and_does_not_block(tmp_path: Path) -> None:
    assert read_settings_file(tmp_path / "none.toml", is_own=True) is None
    assert read_settings_file(written(tmp_path / "file", "") / "abs.toml", is_own=True) is None
    (tmp_path / "folder").mkdir()
    with pytest.raises(AbsError, match=r"folder' cannot be read: it is a folder"):
        read(tmp_path / "folder")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(AbsError, match=r"pipe' cannot be read: it is no regular file"):
        read(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(AbsError, match=r"loop' cannot be read: too many levels of symbolic links"):
        read(tmp_path / "loop")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    assert read_settings_file(tmp_path / "dangling", is_own=True) is None


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such rights")
def test_a_file_that_others_may_have_written_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "abs.toml", "[eval]\nviews = 3\n")
    (tmp_path / "link.toml").symlink_to(path)
    path.chmod(0o602)
    for name in (path, tmp_path / "link.toml"):
        with pytest.raises(AbsError, match=r"can be written by others, so it is not read\. .* chmod go-w "):
            read(name)
    # the file of a working folder may be that of a group; what it may set is limited instead
    assert read_settings_file(path, is_own=False) is not None
    path.chmod(0o620)
    monkeypatch.setattr("abs_cli.settings_file._is_private_group", lambda _group: False)
    with pytest.raises(AbsError, match="can be written by others"):
        read(path)
    monkeypatch.setattr("abs_cli.settings_file._is_private_group", lambda _group: True)
    assert read(path).tables
    path.chmod(0o600)
    monkeypatch.setattr(os, "getuid", lambda: path.stat().st_uid + 1)
    if path.stat().st_uid == 0:
        assert read(path).tables  # of the administrator
    else:
        with pytest.raises(AbsError, match="belongs to another user, so it is not read"):
            read(path)


@pytest.mark.skipif(sys.platform == "win32" or os.getuid() != 0, reason="only root gives files away")
def test_a_file_of_another_user_is_not_read(tmp_path: Path) -> None:
    path = written(tmp_path / "abs.toml", "[eval]\nviews = 3\n")
    os.chown(path, 12345, 12345)
    with pytest.raises(AbsError, match="belongs to another user, so it is not read"):
        read(path)


@pytest.mark.parametrize(
    ("table", "secret"),
    [
        ('[gen-descriptions]\napi_key = "{0}"', "anything"),
        ('[gen-descriptions]\napi-key = "{0}"', "sk-0123456789abcdef0123"),
        ('[gen-descriptions]\nkey-variable = "{0}"', "sk-proj-0123456789abcdef0123"),
        ('[gen-descriptions]\nbase-url = "{0}"', "https://ann:geheim@host/v1"),
        ('[gen-descriptions.extra-body]\nuser_token = "{0}"', "anything"),
        ('[gen-descriptions]\nextra-body = {{headers = ["Bearer {0}"]}}', "0123456789"),
        ('[defaults]\nplugin = ["{0}"]', "hf_0123456789abcdefghijklmn"),
        ('[anything]\npassword = "{0}"', "anything else"),
    ],
)
def test_a_secret_is_refused_and_not_repeated(tmp_path: Path, table: str, secret: str) -> None:
    with pytest.raises(AbsError, match="must not be in a configuration file") as caught:
        read(written(tmp_path / "abs.toml", table.format(secret)))
    assert secret not in str(caught.value).replace("holds a key or a password", "")
    assert "put it into a variable such as OPENAI_API_KEY" in str(caught.value)


def test_keys_of_requests_stay_as_they_are(tmp_path: Path) -> None:
    content = '[gen-descriptions]\nmax_tokens = 5\n[gen-descriptions.extra_body]\nreasoning_effort = "low"\n'
    tables = read(written(tmp_path / "abs.toml", content)).tables
    assert tables == {"gen-descriptions": {"max-tokens": 5, "extra-body": {"reasoning_effort": "low"}}}


def test_which_files_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("ABS_CONFIG")
    work = tmp_path / "work"
    (work / "below").mkdir(parents=True)
    monkeypatch.chdir(work)
    assert find_settings_files() == []
    own = users_file()
    assert own is not None
    assert own.name == "abs.toml"
    own.parent.mkdir(parents=True)
    written(own, "[eval]\nviews = 1\n")
    local = written(work / "abs.toml", "[eval]\nviews = 2\n")
    assert [(file.path, file.is_own) for file in find_settings_files()] == [(own, True), (local, False)]
    monkeypatch.chdir(work / "below")  # a folder above is not searched
    assert [file.path for file in find_settings_files()] == [own]
    monkeypatch.setenv("ABS_CONFIG", "../abs.toml")
    assert [(file.path.resolve(), file.is_own) for file in find_settings_files()] == [(local, True)]
    monkeypatch.chdir(work)  # one file is not two
    monkeypatch.setenv("ABS_CONFIG", str(local))
    assert [(file.path, file.is_own) for file in find_settings_files()] == [(local, True)]
    monkeypatch.setenv("ABS_CONFIG", os.devnull)
    assert find_settings_files() == []
    monkeypatch.setenv("ABS_CONFIG", "missing.toml")
    with pytest.raises(AbsError, match=r"ABS_CONFIG names .*missing\.toml', which is not there"):
        find_settings_files()


def test_a_working_folder_that_is_gone_has_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ABS_CONFIG", str(written(tmp_path / "own.toml", "")))
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert [file.path for file in find_settings_files()] == [tmp_path / "own.toml"]
