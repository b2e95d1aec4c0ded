"""`--plugin` in the commands that compute."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import PLUGIN, ROOT, Abs

from abs_classify import plugins as plugins_module
from abs_classify.models import registered

EXAMPLE = ROOT / "examples" / "own_method.py"


pytestmark = pytest.mark.usefixtures("clean_plugins")


def test_a_method_of_one_s_own_in_eval_label_and_classify(
    abs_command: Abs, image_folder: Callable[..., Path], small_clips: tuple[str, str], tmp_path: Path
) -> None:
    folder = image_folder("val", cat=2, dog=2)
    common: list[Any] = ["--labels", "cat,dog", "--model", small_clips[0], "--plugin", EXAMPLE]
    ran = abs_command("eval", "--dataset", f"imagefolder:{folder}", "--methods", "clip,median", "--json", *common)
    assert ran.code == 0, ran.err
    _, result = json.loads(ran.out)["results"]
    assert result["method"] == "median"
    assert any(note.startswith("plugin own_method.py: sha256:") for note in result["details"]["notes"])
    ran = abs_command("classify", folder, "--method", "median", "--json", *common)
    assert ran.code == 0, ran.err
    assert [json.loads(line)["method"] for line in ran.out.splitlines()] == ["median"] * 4
    ran = abs_command("label", folder, "--method", "median", "--out", tmp_path / "out", *common)
    assert ran.code == 0, ran.err
    assert len((tmp_path / "out" / "labels.csv").read_text(encoding="utf-8").splitlines()) == 5


def test_without_the_plugin_its_method_is_unknown(abs_command: Abs) -> None:
    assert "unknown method 'median'" in abs_command.refuses("eval", "--dataset", "demo", "--methods", "median")


def test_a_broken_plugin_is_one_line(abs_command: Abs, tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text("1 / 0\n", encoding="utf-8")
    line = abs_command.refuses("classify", "photo.jpg", "--labels", "cat,dog", "--plugin", path)
    assert f"the plugin '{path}' failed at line 1: ZeroDivisionError" in line
    assert "no file" in abs_command.refuses("eval", "--dataset", "demo", "--plugin", tmp_path / "none.py")


def test_lists_show_what_a_plugin_brings_and_where_it_is_from(
    abs_command: Abs, small_clips: tuple[str, str], image_folder: Callable[..., Path], tmp_path: Path
) -> None:
    path = tmp_path / "mine.py"
    path.write_text(PLUGIN % small_clips[0], encoding="utf-8")
    spec = f"mine:{image_folder('val', cat=2, dog=1)}"
    lists = {
        ("methods",): "opposite       the least likely class  [plugin mine.py]",
        ("methods", "opposite"): "opposite: the least likely class  [plugin mine.py]",
        ("models", "ls", "small"): "  plugin            -  not known  [plugin mine.py]",
        ("models", "ls", "small", "--here"): "  plugin            -  not known  [plugin mine.py]",
        ("models", "show", "small"): "plugin         mine.py, sha256:",
        ("datasets", "ls"): "mine:LOCATION        images of mine  [plugin mine.py]",
        ("datasets", "show", spec): f"{spec}: 3 images, 2 classes, 0 without images",
        ("datasets", "check", spec): f"{spec}: complete",
    }
    for arguments, line in lists.items():
        ran = abs_command(*arguments, "--plugin", path)
        assert ran.code == 0, ran.err
        assert line in ran.out, arguments
    (digest,) = {plugin.version for plugin in plugins_module.loaded_plugins()}
    for arguments, name in ((("methods",), "opposite"), (("models", "ls"), "small"), (("datasets", "ls"), "mine")):
        rows = json.loads(abs_command(*arguments, "--json", "--plugin", path).out)
        brought = [row for row in rows if row["plugin"]]
        assert [row["plugin"] for row in brought] == [{"name": "mine.py", "version": digest}]
        assert name in (brought[0].get("name") or brought[0]["usage"])


def test_a_labelled_folder_goes_on_with_the_plugin_and_says_which_it_needs(
    abs_command: Abs,
    small_clips: tuple[str, str],
    image_folder: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path, out = tmp_path / "mine.py", tmp_path / "out"
    path.write_text(PLUGIN % small_clips[0], encoding="utf-8")
    labelling: list[Any] = ["label", f"mine:{image_folder('val', cat=2, dog=2)}", "--labels", "cat,dog", "--out", out]
    labelling += ["--model", "small", "--method", "clip", "--plugin", path]
    assert abs_command(*labelling).code == 0
    settings = json.loads((out / "run.json").read_text(encoding="utf-8"))["settings"]
    assert settings["plugins"] == [
        {"name": plugin.name, "version": plugin.version} for plugin in plugins_module.loaded_plugins()
    ]
    assert abs_command("label", "export", out, "cleanlab", "--plugin", path).code == 0
    assert abs_command("label", "review", out, "--static", tmp_path / "page.html", "--plugin", path).code == 0
    threads: list[int] = []
    monkeypatch.setattr("abs_classify.threads.set_threads", threads.append)
    assert "nothing is decided" in abs_command.refuses("label", "learn", out, "--plugin", path, "--threads", "3")
    assert threads == [3]
    monkeypatch.setattr(plugins_module, "_LOADED", {})
    monkeypatch.setattr(registered, "_LOADERS", {})
    for command in (["label", "learn", out], ["label", "export", out, "cleanlab", "--replace"]):
        line = abs_command.refuses(*command)
        assert "unknown image-text model 'small'" in line
        assert "give its file: --plugin mine.py" in line


def test_a_labelled_folder_that_goes_on_with_another_version_says_so(
    abs_command: Abs, small_clips: tuple[str, str], image_folder: Callable[..., Path], tmp_path: Path
) -> None:
    path, common = tmp_path / "mine.py", [image_folder("val", cat=1, dog=1), "--labels", "cat,dog", "--method", "clip"]
    path.write_text("", encoding="utf-8")
    labelling: list[Any] = ["label", *common, "--model", small_clips[0], "--out", tmp_path / "out"]
    assert "begun with" not in abs_command(*labelling, "--plugin", path).err
    (first,) = plugins_module.loaded_plugins()
    plugins_module._LOADED.clear()
    assert f"begun with the plugin mine.py ({first.version}), which is not loaded" in abs_command(*labelling).err
    path.write_text("# mended\n", encoding="utf-8")
    ran = abs_command(*labelling, "--plugin", path)
    assert f"begun with the plugin mine.py of another version: {first.version}" in ran.err
