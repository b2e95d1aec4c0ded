"""Parquet files as the Hugging Face hub has them, and how a revision is pinned."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support import ROOT
from web import serve_on_loopback

from abs_classify.datasets import open_dataset
from abs_classify.images import load_image
from abs_core.errors import DatasetError, ImageError, MissingExtraError, UsageError

with_pyarrow = pytest.mark.skipif(importlib.util.find_spec("pyarrow") is None, reason="pyarrow is not installed")
COLORS = ("red", "blue", "lime", "white", "black")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def picture(color: str) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (4, 3), color).save(stream, "PNG")
    return stream.getvalue()


def write(path: Path, labels: list[Any], names: list[str] | None = None, **columns: Any) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    images = [{"bytes": picture(color), "path": None} for color in COLORS[: len(labels)]]
    table = pa.table({"image": images, "label": labels, **columns})
    if names is not None:
        features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path, row_group_size=2)
    return path


@with_pyarrow
def test_the_files_of_a_split_are_read_in_their_order(tmp_path: Path) -> None:
    write(tmp_path / "data" / "test-00001-of-00002.parquet", [1, 1], ["cat", "dog"])
    write(tmp_path / "data" / "test-00000-of-00002.parquet", [0, 1, 0, 0, 1], ["cat", "dog"])
    write(tmp_path / "data" / "train-00000-of-00001.parquet", [0], ["cat", "dog"])
    data = open_dataset(f"hf:{tmp_path}")
    assert [sample.label for sample in data.samples] == ["cat", "dog", "cat", "cat", "dog", "dog", "dog"]
    pixels = [load_image(sample.read(), sample.name).pixels for sample in data.samples[:5]]
    assert [image.getpixel((0, 0)) for image in pixels] == [
        load_image(picture(color)).pixels.getpixel((0, 0)) for color in COLORS
    ]
    assert data.samples[4].name == f"{tmp_path}/data/test-00000-of-00002.parquet::row 4, image"
    assert len({sample.name for sample in data.samples}) == 7
    assert len(open_dataset(f"hf:{tmp_path}?split=train").samples) == 1


@with_pyarrow
def test_items_are_read_by_threads_and_other_processes(tmp_path: Path) -> None:
    write(tmp_path / "test.parquet", ["a", "b", "a", "b", "a"])
    samples = open_dataset(f"hf:{tmp_path}").samples * 20
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda sample: sample.read(), samples)) == [picture(color) for color in COLORS] * 20
    again = pickle.loads(pickle.dumps(samples[3]))
    assert again == samples[3]
    assert again.read() == picture("white")


@with_pyarrow
def test_names_of_a_shipped_set_give_its_ids_and_long_names_are_compared_by_part(tmp_path: Path) -> None:
    names = ["airplane, aeroplane", "car, automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    path = write(tmp_path / "test.parquet", [1, 0], names)
    assert [sample.label for sample in open_dataset(f"hf:{path}?classes=cifar10").samples] == ["automobile", "airplane"]
    assert [sample.label for sample in open_dataset(f"hf:{path}").samples] == ["car, automobile", "airplane, aeroplane"]


@with_pyarrow
def test_strings_are_looked_up_in_a_label_set_that_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "test.parquet", ["Cat", "9"])
    data = open_dataset(f"hf:{path}?classes=cifar10")
    assert [sample.label for sample in data.samples] == ["cat", "truck"]
    assert len(data.classes) == 10
    path = write(tmp_path / "test.parquet", ["cat", "lynx"])
    with pytest.raises(DatasetError, match=r"row 1 of .*: the label 'lynx' is not in the label set 'cifar10'"):
        open_dataset(f"hf:{path}?classes=cifar10")


@with_pyarrow
def test_columns_of_other_names_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "test.parquet", ["x", "y"], kind=["cat", "dog"], photo=[picture("red"), picture("blue")])
    data = open_dataset(f"hf:{path}?image=photo&label=kind")
    assert [sample.label for sample in data.samples] == ["cat", "dog"]
    assert data.samples[1].read() == picture("blue")
    with pytest.raises(DatasetError, match="its columns: image, label, kind, photo"):
        open_dataset(f"hf:{path}?label=nothing")


@with_pyarrow
@pytest.mark.parametrize(
    ("labels", "names", "message"),
    [
        ([0, 2], ["cat", "dog"], "row 1 of .*: the label must be a class number from 0 to 1, got 2"),
        ([0, 1], None, "the classes that they stand for are not given"),
        ([0, None], ["cat", "dog"], "row 1 of .*: the label must be .*, got None"),
        (["cat", " "], None, "row 1 of .* has an empty label"),
        ([1.5, 2.0], None, "row 0 of .*: the label must be .*, got 1.5"),
        ([], None, "have no rows"),
    ],
)
def test_labels_that_cannot_be_used_are_named_by_row(
    tmp_path: Path, labels: list[Any], names: list[str] | None, message: str
) -> None:
    path = write(tmp_path / "test.parquet", labels, names)
    with pytest.raises(DatasetError, match=message):
        open_dataset(f"hf:{path}")


@with_pyarrow
def test_an_image_that_is_only_a_path_is_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "test.parquet"
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"image": [{"bytes": None, "path": "/etc/passwd"}], "label": ["a"]}), path)
    sample = open_dataset(f"hf:{path}").samples[0]
    with pytest.raises(ImageError, match="has no bytes in the file"):
        sample.read()


@with_pyarrow
def test_files_that_are_damaged_or_of_another_split_are_refused(tmp_path: Path) -> None:
    (tmp_path / "test.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(DatasetError, match="is not a parquet file"):
        open_dataset(f"hf:{tmp_path}")
    with pytest.raises(DatasetError, match=r"has no parquet file of the split 'val'; its splits: test"):
        open_dataset(f"hf:{tmp_path}?split=val")
    with pytest.raises(DatasetError, match="has no parquet files"):
        open_dataset(f"hf:{tmp_path / 'none'}")


@with_pyarrow
def test_a_revision_must_be_a_commit_and_a_folder_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"must be a full commit hash, .*, got 'main'"):
        open_dataset(f"hf:owner/name@main?to={tmp_path}")
    with pytest.raises(UsageError, match="must be downloaded before") as caught:
        open_dataset(f"hf:owner/name@{COMMIT}")
    assert f"hf:owner/name@{COMMIT}?to=DIR" in caught.value.remedy


@with_pyarrow
def test_a_folder_is_a_copy_of_one_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    folder = tmp_path / "copy"
    with pytest.raises(MissingExtraError, match="huggingface-hub"):
        open_dataset(f"hf:owner/name@{COMMIT}?to={folder}")
    # files of a fetch that broke off are not taken for all of them
    write(folder / "data" / "test-00000-of-00002.parquet", ["cat"])
    with pytest.raises(MissingExtraError, match="huggingface-hub"):
        open_dataset(f"hf:owner/name@{COMMIT}?to={folder}")
    with pytest.raises(UsageError, match="is a copy of owner/name@"):
        open_dataset(f"hf:owner/name@{COMMIT[::-1]}?to={folder}")


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    """A hub on this machine with one data set at one commit, and the paths that were asked for."""
    stored = {
        "data/test-00000-of-00001.parquet": write(tmp_path / "hub.parquet", [1, 0], ["cat", "dog"]).read_bytes(),
        "data/train-00000-of-00001.parquet": b"not asked for",
        "README.md": b"not asked for",
        "loader.py": b"raise SystemExit('never run')",
    }
    asked: list[str] = []

    class Hub(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            asked.append(self.path)

        def answer(self, code: int, body: bytes, **headers: str) -> None:
            self.send_response(code)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            _, resolve, name = path.partition(f"/datasets/owner/name/resolve/{COMMIT}/")
            if path.startswith("/api/datasets/owner/name"):
                files = [
                    {"type": "file", "path": file, "size": len(data), "oid": file} for file, data in stored.items()
                ]
                info = {
                    "id": "owner/name",
                    "sha": COMMIT,
                    "siblings": [{"rfilename": file["path"]} for file in files],
                }
                body = json.dumps(files if "/tree/" in path else info).encode()
                self.answer(200, body, Content_Type="application/json")
            elif resolve and name in stored:
                etag = hashlib.sha256(stored[name]).hexdigest()
                self.answer(200, stored[name], ETag=f'"{etag}"', X_Repo_Commit=COMMIT)
            else:
                self.answer(404, b"{}")

        def do_HEAD(self) -> None:
            self.do_GET()

    with serve_on_loopback(Hub) as address:
        yield address, asked


@with_pyarrow
@pytest.mark.slow
def test_a_pinned_revision_is_fetched_with_the_hub_client_and_only_its_parquet(
    hub: tuple[str, list[str]], tmp_path: Path
) -> None:
    pytest.importorskip("huggingface_hub")
    address, asked = hub
    copy = tmp_path / "copy"
    code = (
        "from abs_classify.datasets import open_dataset\n"
        f"print([sample.label for sample in open_dataset('hf:owner/name@{COMMIT}?to={copy}').samples])\n"
    )
    environment = {**os.environ, "HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])

    def run() -> str:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    assert run() == "['dog', 'cat']"
    assert [path.name for path in copy.glob("**/*") if path.suffix in (".parquet", ".py", ".md")] == [
        "test-00000-of-00001.parquet"
    ]
    count = len(asked)
    assert run() == "['dog', 'cat']"
    assert len(asked) == count


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    (tmp_path / "test.parquet").touch()
    with pytest.raises(MissingExtraError, match=r"'pyarrow'.*abs-toolkit\[datasets\]"):
        open_dataset(f"hf:{tmp_path}")
