"""What open_clip publishes, read without importing it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import open_clip
import pytest

from abs_classify.models import open_clip_sources as catalogue
from abs_classify.models.open_clip_sources import _read_files, read_catalogue
from abs_classify.models.registry import available_models
from abs_classify.models.weights import PUBLISHED_TORCHSCRIPT
from abs_core.extras import package_folder


def test_every_published_torchscript_is_one_that_open_clip_would_fetch() -> None:
    addresses = {
        open_clip.get_pretrained_url(arch, "openai").split("/")[-2]: arch
        for arch in open_clip.list_pretrained_models_by_tag("openai")
        if not arch.endswith("-quickgelu")
    }
    assert addresses == PUBLISHED_TORCHSCRIPT


def test_the_files_say_what_the_library_says() -> None:
    from_files = _read_files(package_folder("open_clip"))
    assert from_files.published
    # other tests add architectures to the library
    architectures = [arch for arch in open_clip.list_models() if arch in from_files.configs]
    assert list(from_files.configs) == architectures
    assert {arch: open_clip.get_model_config(arch) for arch in architectures} == from_files.configs
    pairs = [(arch, tag) for arch, tags in from_files.published.items() for tag in tags]
    assert pairs == open_clip.list_pretrained()
    for arch, tag in pairs:
        assert from_files.weights(arch, tag) == open_clip.get_pretrained_cfg(arch, tag)
    assert from_files.weights("ViT-B-16", "nothing") == from_files.weights("nothing", "openai") == {}


def test_what_open_clip_knows_is_read_without_importing_it() -> None:
    code = (
        "import sys\nfrom abs_classify.models.registry import available_models\nprint(len(available_models()))\n"
        "print([name for name in ('torch', 'open_clip', 'numpy') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [str(len(available_models())), "[]"]


@pytest.mark.parametrize("text", ["_PRETRAINED = make()\n", "_PRETRAINED = {'a': 1 +}\n", "weights = {}\n", None])
def test_a_file_that_is_written_otherwise_is_not_believed(
    text: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, installed = read_catalogue().names(), package_folder("open_clip")
    shutil.copytree(installed / "model_configs", tmp_path / "model_configs")
    shutil.copy(installed / "constants.py", tmp_path)
    if text is not None:
        (tmp_path / "pretrained.py").write_text(text)
    monkeypatch.setattr(catalogue, "package_folder", lambda _: tmp_path)
    monkeypatch.delitem(sys.modules, "open_clip")
    monkeypatch.setattr(catalogue, "require", lambda _: open_clip)
    assert read_catalogue().names() == expected
