"""Long commands on images, to be killed; see ``kill_scenarios``."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

from kill_scenarios import Scenario, assert_same_rows, stored_rows, stored_views
from killed_commands import Kill, KilledRun, KillServer
from support import colour

from abs_classify.labelling.decisions import DecisionLog, ReviewDecision
from abs_classify.labelling.label_folder import LabelFolder
from abs_core.canonical import sha256_bytes

#: What differs from run to run: times, and the run's name.
_PASSING = re.compile(
    r'"(run|seconds|stage_seconds|created|id)": ?("[^"]*"|[\d.]+|\{[^{}]*\})'
    r"|\d{8}T\d{6}\.\d+Z-\w+|\d{4}-\d\d-\d\d[T ][\d:]+|\d+(\.\d+)? (s|ms)\b"
)


def without_times(text: str) -> str:
    return _PASSING.sub("*", text)


def save_photos(folder: Path, count: int = 9) -> Path:
    """Images of two classes in folders, and one in both."""
    for number in range(count):
        path = folder / ("cat" if number % 2 else "car") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        colour(number, (24, 20)).save(path)
    return folder


_COMPUTED = re.compile(r"computed: .*?, (\d+) of \d+ views")


class ImageScenario(Scenario):
    """A command that encodes images; ``shared`` has the folder of the photos and of a model."""

    @property
    def model(self) -> list[str]:
        return ["--model", f"local-dir:{self.shared['model']}", "--attention", "self", "--threads", "1", "--views", "3"]

    @property
    def labels(self) -> list[str]:
        return ["--labels", "cat,car"]

    @property
    def photos(self) -> str:
        return str(self.shared["photos"])

    def run(self, server: KillServer, kill: Kill | None = None, **options: Any) -> KilledRun:
        before = stored_views(self)
        done = super().run(server, kill, **options)
        if done.code == 0 and (line := _COMPUTED.search(done.err)):
            # what it computed was not stored when it began; images that have their rows of results are not asked for
            fresh = stored_views(self) - before
            assert int(line[1]) == len(fresh), (done.err, len(before), sorted(fresh))
        return done

    def check_work(self, kills: int, whole: Scenario) -> None:
        assert_same_rows(stored_rows(self), stored_rows(whole))


class Label(ImageScenario):
    name: ClassVar[str] = "label"

    @property
    def arguments(self) -> list[str | Path]:
        form = ("--format", "csv", "--format", "jsonl", "--format", "parquet")
        return ["label", self.photos, *self.labels, "--out", self.folder / "out", *form, *self.model]

    def results(self) -> Any:
        from pyarrow.parquet import read_table

        out = self.folder / "out"
        files = {name: (out / name).read_bytes() for name in ("labels.csv", "labels.jsonl", "run.json", "classes.json")}
        with closing(sqlite3.connect(out / "rows.sqlite")) as base:
            rows = base.execute("SELECT * FROM rows ORDER BY number").fetchall()
        return files, rows, read_table(out / "labels.parquet").to_pylist()


class Eval(ImageScenario):
    name: ClassVar[str] = "eval"

    @property
    def arguments(self) -> list[str | Path]:
        out = self.folder / "out"
        written = ("--report", out / "page", "--predictions", out / "predictions.jsonl", "--texts", out / "texts.jsonl")
        data = ("--dataset", f"imagefolder:{self.photos}", "--methods", "clip,wca,abs")
        return ["eval", *data, *self.model, *written, "--export-csv", out / "rows.csv"]

    def results(self) -> Any:
        out = self.folder / "out"
        files = {name: (out / name).read_bytes() for name in ("predictions.jsonl", "texts.jsonl")}
        newest = sorted((self.home / "results").iterdir())[-1]
        records = {
            path.name.split("-")[-2]: without_times(path.read_text(encoding="utf-8")) for path in newest.glob("*.json")
        }
        page = without_times((out / "page" / "index.html").read_text(encoding="utf-8"))
        assert len(records) == 3
        return files, records, sha256_bytes(page.encode())


class Features(ImageScenario):
    name: ClassVar[str] = "features"
    suffix: ClassVar[str] = "npz"

    @property
    def arguments(self) -> list[str | Path]:
        rows = ("--of", "views", "--method", "abs", "--labels", "cat,car")
        return ["features", self.photos, "--out", self.folder / f"out.{self.suffix}", *rows, *self.model]

    def results(self) -> Any:
        if self.suffix == "parquet":
            from pyarrow.parquet import read_table

            return read_table(self.folder / "out.parquet").to_pylist()
        import numpy as np

        with np.load(self.folder / "out.npz") as arrays:
            return {name: arrays[name].tobytes() for name in arrays.files}


class FeaturesParquet(Features):
    name: ClassVar[str] = "features (parquet)"
    suffix: ClassVar[str] = "parquet"


class BundleScenario(ImageScenario):
    """A command that needs a bundle."""

    def prepare(self) -> None:
        super().prepare()
        shutil.copytree(self.shared["bundle"], self.home / "bundles")


class Score(BundleScenario):
    name: ClassVar[str] = "bundle score"

    @property
    def arguments(self) -> list[str | Path]:
        data = ("--dataset", f"imagefolder:{self.photos}")
        return ["bundle", "score", "zoo@1.0.0", *data, "--out", self.folder / "out", *self.model]

    def results(self) -> Any:
        out, (kept,) = self.folder / "out", (self.home / "scores").rglob("*.json")
        texts = [out / "scores.json", out / "scores.csv", out / "index.html", kept]
        return [without_times(path.read_text(encoding="utf-8")) for path in texts]


class FilterByImages(BundleScenario):
    name: ClassVar[str] = "filter-descriptions --images"
    refusal: ClassVar[str] = "1.1.0 exists already"

    @property
    def arguments(self) -> list[str | Path]:
        # as long as there is no version 1.1.0, the same command makes it
        chosen = ("--images", self.photos, "--keep", "2", "--version", "1.1.0")
        return ["filter-descriptions", "zoo@1.0.0", *chosen, *self.model]

    def results(self) -> Any:
        return bundle_files(self.home / "bundles")


def bundle_files(folder: Path) -> dict[str, str]:
    """What a place has of every version, without when it was made."""
    return {
        path.relative_to(folder).as_posix(): without_digests(path.read_text(encoding="utf-8"))
        for path in sorted((folder / "versions").rglob("*.json"))
    } | {
        without_digests(path.read_text(encoding="utf-8")): "" for path in sorted((folder / "objects").rglob("*.jsonl"))
    }


def without_digests(text: str) -> str:
    """A header has the time, so the digest of a bundle has it, too."""
    return re.sub(r'"(created|digest)":"[^"]*"', "*", text)


class Learn(ImageScenario):
    name: ClassVar[str] = "label learn"

    def prepare(self) -> None:
        super().prepare()
        shutil.copytree(self.shared["labelled"] / "home", self.home)
        shutil.copytree(self.shared["labelled"] / "out", self.folder / "out")

    @property
    def arguments(self) -> list[str | Path]:
        return ["label", "learn", self.folder / "out"]

    def results(self) -> Any:
        from pyarrow.parquet import read_table

        out = self.folder / "out"
        learned = {path.name: path.read_bytes() for path in (out / "learned").glob("[!.]*")}
        tables = (out / "labels.csv").read_bytes(), (out / "labels.jsonl").read_bytes()
        return learned, tables, read_table(out / "labels.parquet").to_pylist()


def review(out: Path) -> None:
    """Have every image of a folder decided on, some of them as drawn at random."""
    folder = LabelFolder.open(out)
    decisions = []
    for row in folder.rows():
        label = "cat" if "cat/" in row.path else "car"
        decisions.append(ReviewDecision(row.image_id, "label", label, shown_by="random"))
    with DecisionLog(out, "ada") as log:
        log.append(decisions)


class Prune(ImageScenario):
    """Packs are merged while rows are added, and all of them are removed."""

    name: ClassVar[str] = "cache prune"

    def prepare(self) -> None:
        super().prepare()
        shutil.copytree(self.shared["labelled"] / "home", self.home)

    @property
    def arguments(self) -> list[str | Path]:
        return ["cache", "prune", "--older-than", "0", "--max-size", "0"]

    def run(self, server: KillServer, kill: Kill | None = None, **options: Any) -> KilledRun:
        return Scenario.run(self, server, kill, **options)

    def results(self) -> Any:
        return stored_rows(self), json.loads((self.home / "cache" / "last-run.json").read_bytes())
