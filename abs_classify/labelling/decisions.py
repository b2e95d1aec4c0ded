"""What reviewers decided: append-only files, and what follows from all of them. Imports no torch.

    decisions/alice@laptop.jsonl     the decisions of one reviewer on one machine, a line each
    decisions/alice@laptop.2.jsonl   of a second process of hers that ran at the same time

Each line is canonical JSON. Nobody writes a file that another process may write: the name has the reviewer and the
machine, and a process holds a lock on its file, or takes the next number. All files are read, in any order and however
often a line is in them, so copies that a synchronised folder made of a conflict do no harm.

What is decided on an image follows from the lines on it, sorted by time. An undo takes back the last decision of its
reviewer that is not taken back yet; what is left last is what that reviewer says. Reviewers who say different things
are in conflict, and the image counts as undecided, until one of them decides in view of what the others said
(``resolves``). A decision is timed after all that its process knew on the image, whatever the clocks of other machines.
"""

from __future__ import annotations

import os
import platform
import stat
from bisect import insort
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO
from urllib.parse import quote

from abs_classify.labelling.decision_lines import (
    Action,
    CurrentDecision,
    ReviewDecision,
    ShownBy,
    decision_line,
    parse_decision,
    reviewer_name,
    time_text,
)
from abs_core.canonical import sha256_bytes
from abs_core.errors import StorageError, UsageError
from abs_core.files import lock_file, storage_errors
from abs_core.remarks import Remark, RemarkCounter
from abs_core.text import quoted

__all__ = [
    "Action",
    "CurrentDecision",
    "DecisionLog",
    "ReviewDecision",
    "ReviewDecisions",
    "ShownBy",
    "decision_line",
    "parse_decision",
    "read_decisions",
    "reviewer_name",
]

_FOLDER = "decisions"

# bytes of a line, and what is read at a time
_LONGEST_LINE, _BLOCK = 1 << 16, 1 << 20

_TICK = timedelta(milliseconds=1)


# --- reading ---------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _ReadFile:
    """How far a file was read.

    ``tail`` is what stands behind the last end of a line: the line of a process that was killed, of one that is
    writing, or of an editor that puts no end to the last one.
    """

    identity: tuple[int, int]
    offset: int = 0
    line: int = 0
    skipping: bool = False
    tail: bytes = b""
    problems: RemarkCounter = field(default_factory=RemarkCounter)


def _key(decision: ReviewDecision) -> tuple[Any, ...]:
    """By time; the rest makes the order the same whatever the order of files."""
    return (
        *(decision.time, decision.reviewer, decision.action, decision.label),
        *(decision.shown_by, decision.resolves, decision.model_label, decision.path),
    )


class ReviewDecisions:
    """All decisions in a folder of a labelling run, or in any folder of their files.

    Not safe for threads that refresh it at once.

    Args:
        folder: the folder of the run; ``decisions/`` in it need not exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / _FOLDER
        self._only = ""
        self._changed: set[str] = set()
        self._unread = RemarkCounter()
        self._clear()

    def _clear(self) -> None:
        self._files: dict[str, _ReadFile] = {}
        self._seen: set[ReviewDecision] = set()
        self._lines: dict[str, list[ReviewDecision]] = {}
        self._current: dict[str, CurrentDecision] = {}

    @classmethod
    def at(cls, place: Path) -> ReviewDecisions:
        """The decisions in a file, in the folder of a run, or in a folder of such files.

        Raises:
            UsageError: there is nothing.
            StorageError: it cannot be read.
        """
        decisions = cls(place)
        if place.is_file():
            decisions.folder, decisions._only = place.parent, place.name
        elif not place.is_dir():
            raise UsageError(f"there are no decisions in {quoted(str(place), 300)}", remedy="Check the path")
        elif not decisions.folder.is_dir():
            if not any(place.glob("*.jsonl")) and not (place / "run.json").exists():
                raise UsageError(f"the folder {quoted(str(place), 300)} has no decisions", remedy="Check the path")
            decisions.folder = place
        decisions.refresh()
        return decisions

    @property
    def current(self) -> Mapping[str, CurrentDecision]:
        """What is decided on each image that has a decision, by image id; with conflicts, see ``settled``."""
        return MappingProxyType(self._current)

    @property
    def settled(self) -> dict[str, CurrentDecision]:
        """What is decided on each image, by image id, without those on which reviewers disagree."""
        return {image: decision for image, decision in self._current.items() if not decision.conflict}

    @property
    def problems(self) -> tuple[Remark, ...]:
        """The lines and files that were left out, counted by reason; each is named by its file and number."""
        counter = RemarkCounter(self._unread.remarks)
        for name, state in sorted(self._files.items()):
            counter.extend(state.problems.remarks)
            if state.tail and not state.skipping:
                try:
                    parse_decision(state.tail)
                except ValueError:
                    counter.add("left out: the end of a file, cut off in its last line", name)
        return counter.remarks

    def of_image(self, image_id: str) -> tuple[ReviewDecision, ...]:
        """All decisions that were ever made on an image, in the order of their times."""
        return tuple(self._lines.get(image_id, ()))

    def __contains__(self, decision: ReviewDecision) -> bool:
        return decision in self._seen

    def take_changes(self) -> set[str]:
        """The ids of the images whose ``current`` changed since this was called last, whoever called ``refresh``."""
        changed, self._changed = self._changed, set()
        return changed

    def __iter__(self) -> Iterator[ReviewDecision]:
        """All decisions, image by image."""
        for lines in self._lines.values():
            yield from lines

    def refresh(self) -> set[str]:
        """Read what was written since the last time.

        Returns:
            The ids of the images whose ``current`` changed.

        Raises:
            StorageError: the folder cannot be read.
        """
        names = self._names()
        before: dict[str, CurrentDecision] | None = None
        if not self._files.keys() <= names.keys() or any(
            _was_replaced(self._files[name], status) for name, status in names.items() if name in self._files
        ):
            # what a file no longer says must be forgotten, so all are read again
            before = self._current
            self._clear()
        touched: set[str] = set()
        for name, status in names.items():
            state = self._files.setdefault(name, _ReadFile((status.st_dev, status.st_ino)))
            if status.st_size > state.offset + len(state.tail):
                touched.update(decision.image_id for decision in self._new_lines(name, state) if self._insert(decision))
        changed = {image for image in touched if self._settle(image)}
        if before is not None:
            changed = {image for image in {*before, *self._current} if before.get(image) != self._current.get(image)}
        self._changed |= changed
        return changed

    def _names(self) -> dict[str, os.stat_result]:
        self._unread = RemarkCounter()
        names: dict[str, os.stat_result] = {}
        try:
            with os.scandir(self.folder) as entries:
                for entry in entries:
                    is_wanted = entry.name.endswith(".jsonl") and not entry.name.startswith(".")
                    if entry.name != self._only if self._only else not is_wanted:
                        continue
                    with suppress(FileNotFoundError):
                        status = entry.stat()
                        if stat.S_ISREG(status.st_mode):
                            names[entry.name] = status
                        else:
                            self._unread.add("left out: not a file", entry.name)
        except FileNotFoundError:
            return {}
        except OSError as error:
            with storage_errors(self.folder, "read"):
                raise error
        return dict(sorted(names.items()))

    def _new_lines(self, name: str, state: _ReadFile) -> Iterator[ReviewDecision]:
        try:
            stream = (self.folder / name).open("rb")
        except OSError as error:
            self._unread.add(f"left out: a file that cannot be read ({(error.strerror or str(error)).lower()})", name)
            return
        with stream, storage_errors(self.folder / name, "read"):
            stream.seek(state.offset)
            state.tail = b""
            while block := stream.read(_BLOCK):
                *lines, tail = (state.tail + block).split(b"\n")
                for line in lines:
                    state.offset += len(line) + 1
                    state.line += 1
                    if state.skipping:  # the rest of a line that is too long
                        state.skipping = False
                    elif line.strip():
                        yield from _decision_of(line, f"{name}, line {state.line}", state.problems)
                if len(tail) > _LONGEST_LINE:
                    if not state.skipping:
                        state.problems.add("left out: a line that is too long", f"{name}, line {state.line + 1}")
                    state.skipping = True
                    state.offset += len(tail)
                    tail = b""
                state.tail = tail
        if state.tail and not state.skipping:
            # complete all the same, if it parses; read again with its end, it is the same decision
            yield from _decision_of(state.tail, name, None)

    def _insert(self, decision: ReviewDecision) -> bool:
        if decision in self._seen:
            return False
        self._seen.add(decision)
        insort(self._lines.setdefault(decision.image_id, []), decision, key=_key)
        return True

    def _settle(self, image: str) -> bool:
        before, after = self._current.get(image), _current(self._lines[image])
        if after is None:
            self._current.pop(image, None)
        else:
            self._current[image] = after
        return before != after


def read_decisions(folder: Path) -> ReviewDecisions:
    """The decisions in the folder of a labelling run; ``refresh`` reads what is added later.

    Raises:
        StorageError: they cannot be read.
    """
    decisions = ReviewDecisions(folder)
    decisions.refresh()
    return decisions


def _was_replaced(state: _ReadFile, status: os.stat_result) -> bool:
    return state.identity != (status.st_dev, status.st_ino) or status.st_size < state.offset + len(state.tail)


def _decision_of(line: bytes, place: str, problems: RemarkCounter | None) -> Iterator[ReviewDecision]:
    try:
        if len(line) > _LONGEST_LINE:
            raise ValueError("that is too long")
        yield parse_decision(line)
    except ValueError as error:
        if problems is not None:
            problems.add(f"left out: a line {error}", place)


def _current(lines: Sequence[ReviewDecision]) -> CurrentDecision | None:
    """What follows from all decisions on an image, sorted by time; None if all were taken back."""
    standing: dict[str, list[ReviewDecision]] = {}
    for decision in lines:
        stack = standing.setdefault(decision.reviewer, [])
        if decision.action != "undo":
            stack.append(decision)
        elif stack:
            stack.pop()
    said = [stack[-1] for stack in standing.values() if stack]
    if not said:
        return None
    said.sort(key=_key)
    last, agreeing, is_conflict = said[-1], said, False
    others: list[ReviewDecision] = []
    if any(decision.outcome != last.outcome for decision in said):
        resolving = next((decision for decision in reversed(said) if decision.resolves), None)
        is_conflict = resolving is None or any(
            decision.outcome != resolving.outcome for decision in said[said.index(resolving) :]
        )
        if resolving is not None and not is_conflict:
            last = resolving
        agreeing = [decision for decision in said if decision.outcome == last.outcome]
        others = [decision for decision in said if decision.outcome != last.outcome]
    is_drawn = any(decision.shown_by == "random" for stack in standing.values() for decision in stack)
    return CurrentDecision(
        action=last.action,
        label=last.label,
        reviewers=tuple(decision.reviewer for decision in agreeing),
        time=agreeing[-1].time,
        shown_by="random" if is_drawn else "chosen",
        conflict=is_conflict,
        others=tuple(others),
        model_label=last.model_label,
        path=last.path,
    )


# --- writing ---------------------------------------------------------------------------------------------------------


class DecisionLog:
    """The file into which one process writes the decisions of one reviewer.

    It is made with the first decision, and belongs to this process until ``close``.

    Args:
        folder: the folder of the run.
        reviewer: who decides.
        known: the decisions that are known already; read from the folder if None.

    Raises:
        UsageError: the name is none, see ``reviewer_name``.
    """

    def __init__(self, folder: Path, reviewer: str, known: ReviewDecisions | None = None) -> None:
        self.reviewer = reviewer_name(reviewer)
        self._known = known if known is not None else ReviewDecisions(folder)
        self._stream: BinaryIO | None = None

    def append(self, decisions: Iterable[ReviewDecision]) -> list[ReviewDecision]:
        """Write decisions; when this returns, they are on the disk, and ``known`` has them.

        Args:
            decisions: their reviewer and time are set here.

        Returns:
            What was written.

        Raises:
            StorageError: they cannot be written; then none is.
        """
        self._known.refresh()
        times: dict[str, datetime] = {}
        written = []
        for decision in decisions:
            times[decision.image_id] = moment = self._time_of(decision.image_id, times.get(decision.image_id))
            written.append(replace(decision, reviewer=self.reviewer, time=time_text(moment)))
        data = b"".join(map(decision_line, written))
        for decision, line in zip(written, data.splitlines(), strict=True):
            try:
                parse_decision(line)
            except ValueError as error:  # it would be left out when it is read
                raise UsageError(
                    f"a decision on {quoted(decision.image_id, 80)} is {error}", remedy="Correct it"
                ) from None
        if written:
            self._write(data)
            self._known.refresh()
        return written

    def close(self) -> None:
        """Let another process use the file."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def __enter__(self) -> DecisionLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _time_of(self, image_id: str, previous: datetime | None) -> datetime:
        """Now, or just after the last decision on the image."""
        lines = self._known.of_image(image_id)
        if previous is None and lines:
            previous = datetime.fromisoformat(lines[-1].time)
        now = datetime.now(UTC)
        return now if previous is None else max(now, previous + _TICK)

    def _write(self, data: bytes) -> None:
        folder = self._known.folder
        with storage_errors(folder, "write in"):
            if self._stream is None:
                folder.mkdir(parents=True, exist_ok=True)
                self._stream = _free_file(folder, self.reviewer)
                _sync_folder(folder)
            handle = self._stream.fileno()
            size = os.fstat(handle).st_size
            self._stream.seek(max(size - 1, 0))
            if self._stream.read(1) not in (b"", b"\n"):
                data = b"\n" + data  # behind what a killed process left
            try:
                rest = memoryview(data)
                while rest:
                    rest = rest[os.write(handle, rest) :]
                os.fsync(handle)
            except OSError:
                with suppress(OSError):
                    os.ftruncate(handle, size)
                raise


def _sync_folder(folder: Path) -> None:
    """Let the name of a new file outlive a power cut, where the system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _free_file(folder: Path, reviewer: str) -> BinaryIO:
    """A file of the reviewer on this machine that no other process writes."""
    stem = f"{_file_name(reviewer)}@{_file_name(platform.node() or 'localhost')}"
    for number in range(1, 1000):
        stream = (folder / (f"{stem}.jsonl" if number == 1 else f"{stem}.{number}.jsonl")).open("ab+", buffering=0)
        if lock_file(stream, wait=False):
            return stream
        stream.close()
    raise StorageError(
        f"a thousand processes of {quoted(reviewer)} write in {str(folder)!r}", remedy="End some of them"
    )


def _file_name(text: str) -> str:
    """A text as a part of a file name, on every system; a different one for each text."""
    name = quote(text, safe="").replace("~", "%7E")
    name = "%2E" + name[1:] if name.startswith(".") else name
    return name if len(name) <= 80 else f"{name[:60]}-{sha256_bytes(text.encode())[7:19]}"
