"""What is killed: long commands with small inputs, what holds after each kill, and what comes of them in the end.

A scenario is one command in a folder of its own. ``kill_often`` has it killed and resumed, again and again, and
compares what is there in the end with what an undisturbed run left.
"""

from __future__ import annotations

import gzip
import json
import random
import re
import shutil
import signal
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from killed_commands import CrashPoint, Kill, KilledRun, KillServer

from abs_classify.encoding.feature_store import DiskStore
from abs_classify.encoding.packs import read_entries, read_header
from abs_core.files import is_leftover
from abs_descriptions.bundles.maintenance import verify_repository
from abs_descriptions.bundles.repository import Repository
from abs_descriptions.generation.journal import Journal

#: Seconds between two runs by their clocks: what was left behind by the first is abandoned for the second.
TWO_DAYS = 172_800.0


@dataclass
class Scenario:
    """A command that is killed.

    Args:
        folder: everything that it writes is below, and nothing else.
        shared: what all scenarios of its kind read: images, models, servers.
    """

    folder: Path
    shared: Mapping[str, Any]

    name: ClassVar[str] = ""
    #: what the command says when it had come to its end before
    refusal: ClassVar[str] = ""

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def arguments(self) -> list[str | Path]:
        """The command."""
        raise NotImplementedError

    @property
    def environment(self) -> dict[str, str]:
        return {}

    def prepare(self) -> None:
        """Make what must be there before the first run."""
        self.folder.mkdir(parents=True)

    def results(self) -> Any:
        """What must be the same after an undisturbed run and after one that was killed and resumed."""
        raise NotImplementedError

    def check(self) -> None:
        """Whatever is there is whole."""
        check_files(self.folder)

    def check_work(self, kills: int, whole: Scenario) -> None:
        """Nothing that was finished was done again; called at the end, with the undisturbed scenario."""

    def is_finished(self, ran: KilledRun) -> bool:
        """Whether a run came to its end; commands that make a version refuse to make it again."""
        return ran.code == 0 or (ran.code == 2 and bool(self.refusal) and self.refusal in ran.err)

    def run(self, server: KillServer, kill: Kill | None = None, **options: Any) -> KilledRun:
        """Run it."""
        (self.folder / "tmp").mkdir(exist_ok=True)
        environment = {"TMPDIR": str(self.folder / "tmp"), **self.environment}
        arguments = ["--home", self.home, *self.arguments]
        return server.run(arguments, [self.folder], kill=kill, environment=environment, **options)

    def leftovers(self) -> list[Path]:
        """What is there and serves nothing: half-written files, claims and lists of dead processes."""
        paths = self.folder.rglob("*")
        return sorted(path for path in paths if _is_left(path) and not any(map(is_leftover, _above(path, self.folder))))


def _above(path: Path, root: Path) -> Sequence[str]:
    return path.relative_to(root).parts[:-1]


def _is_left(path: Path) -> bool:
    in_temporary = path.parent.name == "tmp"
    return is_leftover(path.name) or path.suffix in (".claim", ".uses", ".incomplete") or in_temporary


# --- what is whole ---------------------------------------------------------------------------------------------------


def check_files(folder: Path) -> None:
    """Every file that bears its final name can be read to its end."""
    for path in sorted(folder.rglob("*")):
        inner = path.relative_to(folder).parts
        if path.is_file() and not any(map(is_leftover, inner)) and inner[0] != "tmp" and ".locks" not in inner:
            _check_file(path)
    store = DiskStore(folder / "home" / "cache") if (folder / "home" / "cache" / "features").is_dir() else None
    if store is not None:
        assert [pack for pack in store.verify() if pack.damaged] == []
    if (folder / "home" / "bundles").is_dir():
        check_repository(folder / "home" / "bundles")


def check_repository(folder: Path) -> None:
    """Every version that is announced is whole."""
    check = verify_repository(Repository.local(folder))
    assert check.is_sound, check


def _check_file(path: Path) -> None:
    data = path.read_bytes()
    match path.suffix:
        case ".json":
            json.loads(data)
        case ".jsonl" if path.parent.name == "journals":
            with Journal(path, read_only=True) as journal:
                assert journal.damaged == [], path
        case ".jsonl" | ".csv" if path.stem == "labels":  # rows are added to it; the next run cuts a torn line off
            complete, _, _ = data.rpartition(b"\n")
            for line in complete.splitlines() if path.suffix == ".jsonl" else ():
                json.loads(line)
        case ".jsonl":
            assert not data or data.endswith(b"\n"), path
            for line in data.splitlines():
                json.loads(line)
        case ".csv":
            assert data.endswith(b"\n"), path
        case ".html":
            assert data.rstrip().endswith(b"</html>"), path
        case ".gz":
            gzip.decompress(data)
        case ".sqlite":
            with closing(sqlite3.connect(path)) as base:
                assert base.execute("PRAGMA integrity_check").fetchone() == ("ok",), path
        case ".parquet":
            from pyarrow.parquet import read_table

            read_table(path)
        case ".npz":
            import numpy as np

            with np.load(path) as arrays:
                assert all(arrays[name].size for name in arrays.files)


# --- kills -----------------------------------------------------------------------------------------------------------


@dataclass
class KillReport:
    """What happened to a scenario.

    Args:
        name: of the scenario.
        kills: how often it was ended before its end, by signal.
        runs: how often it was started.
        steps: crash points of an undisturbed run, by what was about to happen.
        most_left: leftovers after a kill, at most, and their bytes.
        left: names of leftovers after the last run.
    """

    name: str
    kills: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    steps: Counter[str] = field(default_factory=Counter)
    most_left: tuple[int, int] = (0, 0)
    left: list[str] = field(default_factory=list)

    def note_leftovers(self, paths: Sequence[Path]) -> None:
        size = sum(path.stat().st_size for path in paths if path.is_file())
        self.most_left = max(self.most_left[0], len(paths)), max(self.most_left[1], size)

    def __str__(self) -> str:
        kills = ", ".join(f"{count} {name}" for name, count in sorted(self.kills.items()))
        return (
            f"{self.name}: {kills} in {self.runs} runs of {sum(self.steps.values())} crash points; leftovers: at most "
            f"{self.most_left[0]} of {self.most_left[1]} bytes after a kill, {len(self.left)} in the end"
        )


#: Steps between which something is half done, and how often they are chosen beside the others.
_DANGEROUS = {"os.rename": 6, "os.link": 6, "os.remove": 4, "fsync": 4, "open": 2, "http.client.send": 4}


def _kind(point: CrashPoint, root: Path) -> tuple[str, str]:
    """What is the same in every run: the step, and the path without what is random in it."""
    path = str(point.path.relative_to(root)) if point.path.is_relative_to(root) else ""
    return point.step, re.sub(r"[0-9a-f]{8,}|\.[a-z0-9_]{8}\.part|\d{8}T\S*", "*", path)


def choose_points(points: Sequence[CrashPoint], root: Path, draw: random.Random) -> Iterator[int]:
    """Numbers of crash points without end: first one of each kind, then more of the dangerous ones."""
    kinds: dict[tuple[str, str], list[int]] = {}
    for point in points:
        kinds.setdefault(_kind(point, root), []).append(point.number)
    first = [draw.choice(numbers) for numbers in kinds.values()]
    draw.shuffle(first)
    yield from first
    weights = [_DANGEROUS.get(point.step, 1) for point in points]
    while True:
        yield draw.choices([point.number for point in points], weights)[0]


def kill_often(
    server: KillServer,
    make: Callable[[Path], Scenario],
    folder: Path,
    *,
    kills: int,
    seed: int = 0,
    most: int = 4,
) -> KillReport:
    """Kill a command at crash points and at random moments, resume it, and compare.

    Args:
        server: has the processes.
        make: the scenario in a folder.
        folder: for everything.
        kills: how many are wanted.
        seed: of all choices.
        most: kills of one home before the command is let run to its end.
    """
    draw = random.Random(seed)
    whole = make(folder / "whole")
    whole.prepare()
    done = whole.run(server, log=True)
    assert done.code == 0, done.err
    assert_flushed(done.points)
    whole.check()
    wanted = whole.results()
    report = KillReport(whole.name, steps=Counter(point.step for point in done.points))
    numbers = choose_points(done.points, whole.folder, draw)
    chain = 0
    while report.kills.total() < kills:
        chain += 1
        scenario = make(folder / f"chain{chain}")
        scenario.prepare()
        stopped = _chain(server, scenario, report, numbers, draw, min(most, kills - report.kills.total()), done.seconds)
        last = scenario.run(server, later=TWO_DAYS * (len(stopped) + 1))
        report.runs += 1
        assert scenario.is_finished(last), (stopped, last.err)
        scenario.check()
        assert_same(scenario.results(), wanted, stopped)
        scenario.check_work(len(stopped), whole)
        report.left += [path.name for path in scenario.leftovers()]
        shutil.rmtree(scenario.folder)
    return report


def assert_flushed(points: Sequence[CrashPoint]) -> None:
    """A power cut finds no empty file under a final name: the disk has the bytes of a file before it is renamed.

    Features and their index are exempt: they are compared with their checksums when they are read.
    """
    torn = [str(point.path) for point in points if point.state == "unsynced"]
    assert [path for path in torn if not {"features", "index", "hf"} & set(Path(path).parts)] == []


def assert_same(results: Any, wanted: Any, why: object) -> None:
    """Say where results differ, and not all of them."""
    if results != wanted:
        parts = zip(results, wanted, strict=True) if isinstance(wanted, tuple | list) else [(results, wanted)]
        different = [(str(part)[:3000], str(other)[:3000]) for part, other in parts if part != other]
        raise AssertionError(why, different)


def _chain(
    server: KillServer,
    scenario: Scenario,
    report: KillReport,
    numbers: Iterator[int],
    draw: random.Random,
    most: int,
    seconds: float,
) -> list[Kill]:
    """Kill one scenario several times; the kills that hit."""
    stopped: list[Kill] = []
    for number in range(most):
        kill = _draw(numbers, draw, seconds)
        # so much later that what the last one left may go
        ran = scenario.run(server, kill, later=TWO_DAYS * number)
        report.runs += 1
        if scenario.is_finished(ran):
            break  # it ended before its kill
        if kill.signal == signal.SIGKILL:
            assert ran.was_killed, (kill, ran)
        else:
            # while it ends nothing can be interrupted any more
            assert ran.code in (130, 3, -kill.signal), (kill, ran)
            assert "Traceback" not in ran.err, (kill, ran.err)
        stopped.append(kill)
        report.kills[signal.Signals(kill.signal).name] += 1
        scenario.check()
        report.note_leftovers(scenario.leftovers())
    return stopped


def _draw(numbers: Iterator[int], draw: random.Random, seconds: float) -> Kill:
    chosen = signal.SIGKILL if draw.random() < 0.8 else draw.choice([signal.SIGTERM, signal.SIGINT])
    if draw.random() < 0.7:
        return Kill(point=next(numbers), signal=chosen)
    return Kill(delay=draw.uniform(0.01, seconds), signal=chosen)


# --- features --------------------------------------------------------------------------------------------------------


def stored_rows(scenario: Scenario) -> Counter[str]:
    """Stage, space, item and number of each row of the store, as often as packs have it."""
    rows: Counter[str] = Counter()
    store = DiskStore(scenario.home / "cache")
    for path in sorted((scenario.home / "cache" / "features").glob("*/*.safetensors")):
        with path.open("rb") as stream:
            header = read_header(stream)
            entries = read_entries(stream, header)
        space = store.describe(header.space)
        name = f"{space.stage if space is not None else 'unknown'} {header.space[:8]}"
        for entry in entries:
            item, start = bytes(entry["id"][:4]).hex(), int(entry["start"])
            rows.update(f"{name} {item} {row}" for row in range(start, start + int(entry["count"])))
    return rows


def stored_views(scenario: Scenario) -> set[str]:
    """The rows of views of images that the store has."""
    return {row for row in stored_rows(scenario) if row.startswith("view-features")}


def assert_same_rows(rows: Counter[str], wanted: Counter[str]) -> None:
    """Say which rows of features are missing, and which were computed twice."""
    missing, surplus = sorted((wanted - rows).elements()), sorted((rows - wanted).elements())
    assert not missing, f"{len(missing)} of {wanted.total()} rows are missing: {missing}"
    assert not surplus, f"{len(surplus)} rows more than {wanted.total()}: {surplus}"
