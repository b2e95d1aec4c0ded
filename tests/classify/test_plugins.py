"""Plugins: what they register works wherever names do, results name them, and a broken one is one clear error."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support import PLUGIN, colour

from abs_classify import (
    Classifier,
    attribute_gain,
    encode,
    evaluate,
    load_model,
    load_plugins,
    measure_usage,
    register_dataset,
    register_model,
    score_bundle,
)
from abs_classify import plugins as plugins_module
from abs_classify.classifier import as_label_space
from abs_classify.datasets import open_dataset
from abs_classify.methods.table import METHODS
from abs_classify.plugins import plugin_of
from abs_core.errors import DatasetError, ModelError, UnknownNameError, UsageError

pytestmark = pytest.mark.usefixtures("clean_plugins")


def write(path: Path, source: str) -> Path:
    path.write_text(source, encoding="utf-8")
    return path


def test_what_a_plugin_registers_is_evaluated_and_named_in_the_results(
    tmp_path: Path, image_folder: Any, small_clips: tuple[str, str]
) -> None:
    path = write(tmp_path / "mine.py", PLUGIN % small_clips[0])
    (plugin,) = load_plugins([path])
    assert load_plugins([path]) == (plugin,)
    folder = image_folder("val", cat=3, dog=3)
    mine, usual = (
        evaluate(dataset, model, ["clip", method], labels=["cat", "dog"], cache=tmp_path / "cache")
        for dataset, model, method in (
            (f"mine:{folder}", "small", "opposite"),
            (f"imagefolder:{folder}", small_clips[0], "cupl"),
        )
    )
    clip, opposite = mine
    assert (clip.dataset, clip.model) == (f"mine:{folder}", "small")
    assert (clip.right == usual[0].right).all()
    assert (opposite.right == ~clip.right).all()
    assert f"plugin mine.py: {plugin.version}" in opposite.details.notes
    assert usual.work.images_computed == 0  # the same digest by another name


def test_a_registered_model_is_loaded_where_a_name_is_taken(small_clips: tuple[str, str], tmp_path: Path) -> None:
    devices = []

    def load(device: str) -> Any:
        devices.append(device)
        return load_model(small_clips[1], device=device)

    register_model("small", load)
    register_model("small", load)
    classifier = Classifier("small", ["cat", "dog"], method="clip", cache=tmp_path)
    assert devices == []
    assert next(classifier.classify([colour(0)])).name in ("cat", "dog")
    assert load_model("small", device="cpu").digest == load_model(small_clips[1], device="cpu").digest
    with pytest.raises(UsageError, match="'small' is already registered"):
        register_model("small", lambda device: load(device))
    with pytest.raises(UsageError, match="'a/b' is no name of a model"):
        register_model("a/b", load)
    with pytest.raises(UsageError, match="dtype"):
        load_model("small", dtype="bfloat16")


def test_a_loader_that_gives_no_model_is_named() -> None:
    register_model("broken", lambda device: SimpleNamespace(name="broken"))  # type: ignore[arg-type, return-value]
    with pytest.raises(ModelError, match="loader of 'broken' gave SimpleNamespace, which lacks digest, embed_dim"):
        load_model("broken", device="cpu")


def test_prefixes_of_data_sets_are_not_taken_twice() -> None:
    def opener(location: str) -> Any:
        raise UsageError(f"opened {location}")

    register_dataset("mine", opener)
    with pytest.raises(UsageError, match="opened here:x"):
        open_dataset("mine:here:x")
    for prefix, message in (("demo", "already registered"), ("mine", "already registered"), ("A", "is no prefix")):
        with pytest.raises(UsageError, match=message):
            register_dataset(prefix, lambda location: opener(location))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("\n\nx = (\n", "failed at line 3: SyntaxError"),
        ("import os\n\ndef f():\n    raise ValueError('no')\nf()\n", "failed at line 4: ValueError: no"),
        ("import no_such_module_at_all\n", "failed at line 1: ModuleNotFoundError"),
        ("import sys\nsys.exit(3)\n", "failed at line 2: SystemExit: 3"),
        (
            "from abs_classify import register_model\nregister_model('a b', print)\n",
            "failed at line 2: 'a b' is no name",
        ),
    ],
)
def test_a_broken_plugin_is_one_error_with_its_line(tmp_path: Path, source: str, message: str) -> None:
    path, before = write(tmp_path / "broken.py", source), set(sys.modules)
    with pytest.raises(UsageError, match=rf"plugin '{path}' {message}"):
        load_plugins([path])
    assert not [name for name in set(sys.modules) - before if name.startswith("abs_plugin_")]


def test_a_plugin_that_is_not_there_or_changed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no file"):
        load_plugins([tmp_path])
    path = write(tmp_path / "a.py", "x = 1\n")
    load_plugins([path])
    write(path, "x = 2\n")
    with pytest.raises(UsageError, match="changed after it was loaded"):
        load_plugins([path])


def test_plugins_of_packages_are_loaded_once_and_broken_ones_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(
        tmp_path / "abs_plugin_of_package.py", "calls = []\ndef start():\n    calls.append(1)\n    1 / len(calls[1:])\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    entry = EntryPoint("mine", "abs_plugin_of_package:start", plugins_module.GROUP)
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: EntryPoints([entry]))
    with pytest.raises(UsageError, match=r"'mine' .* failed at .*abs_plugin_of_package\.py:4: ZeroDivisionError"):
        load_plugins()
    sys.modules["abs_plugin_of_package"].calls = [1]
    assert [plugin.name for plugin in load_plugins()] == ["mine"]
    assert load_plugins() == plugins_module.loaded_plugins()
    assert sys.modules["abs_plugin_of_package"].calls == [1, 1]


def test_nothing_beside_the_work_is_loaded_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "conftest.py", "raise SystemExit")
    write(tmp_path / "plugin.py", "raise SystemExit")
    monkeypatch.chdir(tmp_path)
    assert load_plugins() == ()
    assert "opposite" not in METHODS


def test_a_plugin_that_failed_is_loaded_again_when_it_is_mended(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.py", PLUGIN % "embedded" + "\n1 / 0\n")
    with pytest.raises(UsageError, match="ZeroDivisionError"):
        load_plugins([path])
    assert "opposite" not in METHODS
    assert plugin_of("method", "opposite") is None
    with pytest.raises(UnknownNameError):
        open_dataset("mine:here")
    (plugin,) = load_plugins([write(path, PLUGIN % "embedded")])
    for kind, name in (("method", "opposite"), ("model", "small"), ("data set", "mine")):
        assert plugin_of(kind, name) == plugin  # type: ignore[arg-type]


def test_a_name_that_is_taken_is_refused_with_who_has_it(tmp_path: Path) -> None:
    load_plugins([write(tmp_path / "first.py", PLUGIN % "embedded")])
    second = write(tmp_path / "second.py", PLUGIN % "embedded")
    with pytest.raises(UsageError, match=r"second\.py' failed .*'opposite' .* for a method of the plugin first\.py"):
        load_plugins([second])
    assert [plugin.name for plugin in plugins_module.loaded_plugins()] == ["first.py"]


def test_features_and_usage_name_the_plugins(tmp_path: Path, small_clips: tuple[str, str]) -> None:
    model = load_model(small_clips[0], device="cpu")
    assert "plugins" not in encode([colour(0)], model=model).info
    (plugin,) = load_plugins([write(tmp_path / "mine.py", PLUGIN % "embedded")])
    recorded = [{"name": "mine.py", "version": plugin.version}]
    encoded = encode([colour(0)], model=model)
    assert encoded.info["plugins"] == recorded
    assert f"plugin mine.py: {plugin.version}" in encoded.notes
    described = Classifier(model, {"cat": ["fur"], "dog": ["a tail"]}, method="abs-pixels", attention="none", views=2)
    assert measure_usage(described, [colour(0)]).parameters["plugins"] == recorded


def test_scores_and_attributions_name_the_plugins(
    tmp_path: Path, small_clips: tuple[str, str], image_folder: Any
) -> None:
    (plugin,) = load_plugins([write(tmp_path / "mine.py", PLUGIN % "embedded")])
    spec = f"imagefolder:{image_folder('val', cat=2, dog=2)}"
    space = as_label_space({"cat": ["fur"], "dog": ["a tail"]}, {})
    note = f"plugin mine.py: {plugin.version}"
    shared: dict[str, Any] = {"model": small_clips[0], "views": 2, "attention": "norm", "cache": tmp_path / "cache"}
    assert note in score_bundle(space, dataset=spec, **shared).remarks
    assert note in attribute_gain(space, spec, **shared).remarks


DATASET = """
from pathlib import Path
from abs_classify import register_dataset
from abs_classify.datasets import Dataset, Sample
from abs_core.labels import ClassLabel

CLASSES = (ClassLabel("cat", "cat"), ClassLabel("dog", "dog"))

def open_mine(location):
    %s

register_dataset("mine", open_mine)
"""


@pytest.mark.parametrize(
    ("opener", "message"),
    [
        ("raise ValueError('bad')", "failed at line 10: ValueError: bad"),
        ("return None", "gave NoneType instead of a data set"),
        ("return Dataset('m', ('cat', 'dog'), [])", "gave classes that are no tuple of ClassLabel"),
        ("return Dataset('m', CLASSES, iter([]))", "gave samples that are no sequence"),
        ("return Dataset('m', CLASSES, [Sample('a.png', 'cat')])", "gave a sample without a Path"),
        ("return Dataset('m', CLASSES, [Sample(Path('a.png'), 'cow')])", "gave a sample with the label ''cow''"),
    ],
)
def test_a_data_set_that_is_none_is_refused_by_name(opener: str, message: str, tmp_path: Path) -> None:
    load_plugins([write(tmp_path / "own.py", DATASET % opener)])
    with pytest.raises(
        DatasetError, match=rf"the opener of the data set prefix 'mine' of the plugin own\.py {message}"
    ):
        open_dataset("mine:here")


def test_a_model_that_fails_is_refused_by_name(tmp_path: Path) -> None:
    load_plugins(
        [
            write(
                tmp_path / "own.py",
                "import torch\nfrom abs_classify import register_model, wrap\n"
                "def image(x):\n    if x.mean() > 1:\n        raise RuntimeError('boom')\n"
                "    return x.mean((2, 3)) / (1 - x.mean())\n"
                "def text(texts): return torch.ones(len(texts), 3)\n"
                "def load(device):\n    return wrap((image, text), lambda i: torch.zeros(3, 8, 8), None, name='mine',"
                " version='1', context_length=9)\n"
                "register_model('mine', load)\nregister_model('broken', lambda device: 1 / 0)\n",
            )
        ]
    )
    model = load_model("mine", device="cpu")
    with pytest.raises(ModelError, match=r"image encoder of 'mine' of the plugin own\.py failed at line 5: .* boom"):
        model.encode_image(2 * torch.ones(1, 3, 8, 8))
    with pytest.raises(ModelError, match=r"image encoder of 'mine' of the plugin own\.py gives numbers that are not"):
        model.encode_image(torch.ones(1, 3, 8, 8))
    with pytest.raises(ModelError, match=r"loader of 'broken' of the plugin own\.py failed at line 11: ZeroDiv"):
        load_model("broken", device="cpu")
