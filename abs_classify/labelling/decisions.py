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

import json
import os
import platform
import re
import stat
import sys
import unicodedata
from bisect import insort
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, Literal, TypeAlias
from urllib.parse import quote

from abs_core.canonical import canonical_json, sha256_bytes
from abs_core.errors import StorageError, UsageError
from abs_core.files import lock_file, storage_errors
from abs_core.remarks import Remark, RemarkCounter
from abs_core.text import quoted, valid_unicode

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

#: the model's label is right; another label is; none of the classes is; the reviewer's last decision on it is undone
Action: TypeAlias = Literal["accept", "label", "reject", "undo"]

#: how an image came before the reviewer: drawn at random, or chosen (by doubt, by class, by a search)
ShownBy: TypeAlias = Literal["random", "chosen"]

_FOLDER, _VERSION = "decisions", 1
_ACTIONS, _SHOWN_BY = ("accept", "label", "reject", "undo"), ("random", "chosen")
_TEXTS = ("action", "image", "label", "model_label", "path", "reviewer", "shown_by", "time")
_OPTIONAL = {"label": "", "model_label": "", "path": "", "shown_by": "chosen", "resolves": False, "version": _VERSION}

# bytes of a line, characters of a reviewer's name, and what is read at a time
_LONGEST_LINE, _LONGEST_NAME, _BLOCK = 1 << 16, 64, 1 << 20

_IMAGE_ID = re.compile(r"sha256:[0-9a-f]{64}")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z")
_TICK = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class ReviewDecision:
    """One decision of one reviewer, a line of a file.

    Attributes:
        image_id: the image that it is on, whatever its path.
        action: what was decided.
        label: the id of the class that the image shows, for ``accept`` and ``label``; empty otherwise.
        shown_by: how the image was chosen; only those drawn at random say how right the labels are.
        reviewer: who; ``DecisionLog`` sets it.
        time: when, in UTC, ISO 8601 with milliseconds; ``DecisionLog`` sets it.
        path: of the image, for people who read the file.
        model_label: the id of the model's label at that time; empty if it had none.
        resolves: whether it was made in view of the decisions of others, and overrules them.
    """

    image_id: str
    action: Action
    label: str = ""
    shown_by: ShownBy = "chosen"
    reviewer: str = ""
    time: str = ""
    path: str = ""
    model_label: str = ""
    resolves: bool = False

    @property
    def outcome(self) -> tuple[bool, str]:
        """What the image is said to show: whether it is one of the classes, and which."""
        return self.action != "reject", self.label


@dataclass(frozen=True, slots=True)
class CurrentDecision:
    """What is decided on an image, by all its reviewers.

    Attributes:
        action: ``accept``, ``label`` or ``reject``. Of a conflict, what was said last.
        label: the id of the class; empty for ``reject``.
        reviewers: who says so.
        time: when it was said last.
        shown_by: ``random`` if the image was decided when it was drawn at random, also where it was corrected later.
        conflict: whether reviewers disagree, so that nothing is decided.
        others: what other reviewers say instead; overruled, if there is no conflict.
        model_label: the id of the label that the reviewer saw; empty if there was none.
        path: of the image at that time.
    """

    action: Action
    label: str
    reviewers: tuple[str, ...]
    time: str
    shown_by: ShownBy
    conflict: bool
    others: tuple[ReviewDecision, ...]
    model_label: str
    path: str

    @property
    def reviewer(self) -> str:
        """Who says so, as text."""
        return ", ".join(self.reviewers)


# --- lines -----------------------------------------------------------------------------------------------------------


def decision_line(decision: ReviewDecision) -> bytes:
    """The line of a decision, with its end."""
    value = {field.name: getattr(decision, field.name) for field in fields(ReviewDecision)}
    value = {name: valid_unicode(text) if isinstance(text, str) else text for name, text in value.items()}
    value["image"] = value.pop("image_id")
    return canonical_json({**value, "version": _VERSION}).encode() + b"\n"


def parse_decision(line: bytes) -> ReviewDecision:
    """The decision of a line.

    Raises:
        ValueError: it is none; the text says why, and shows nothing of the line.
    """
    try:
        value = json.loads(line.decode())
    except (ValueError, RecursionError):
        raise ValueError("that is not JSON") from None
    if not isinstance(value, dict):
        raise ValueError("that is not a JSON object")
    value = {**_OPTIONAL, **value}
    if value["version"] != _VERSION:
        raise ValueError("of another version of the toolkit")
    for name in _TEXTS:
        if not isinstance(value.get(name), str):
            raise ValueError(f"without a valid {name}")
    action, label, shown_by = value["action"], value["label"], value["shown_by"]
    valid = {
        "image": _IMAGE_ID.fullmatch(value["image"]),
        "action": action in _ACTIONS,
        "label": bool(label) == (action in ("accept", "label")),
        "shown_by": shown_by in _SHOWN_BY,
        "resolves": isinstance(value["resolves"], bool),
        "reviewer": (reviewer := _known_name(value["reviewer"])),
        "time": (time := _normal_time(value["time"])),
    }
    if not all(valid.values()):
        raise ValueError(f"without a valid {next(name for name, is_valid in valid.items() if not is_valid)}")
    texts = [text if text.isascii() else valid_unicode(text) for text in (label, value["path"], value["model_label"])]
    label, path, model_label = sys.intern(texts[0]), texts[1], sys.intern(texts[2])
    return ReviewDecision(value["image"], action, label, shown_by, reviewer, time, path, model_label, value["resolves"])


@lru_cache(maxsize=256)
def _known_name(name: str) -> str:
    try:
        return reviewer_name(name)
    except UsageError:
        return ""


def reviewer_name(name: str) -> str:
    """The name of a reviewer as it is kept.

    Raises:
        UsageError: it is empty, too long, or has characters that cannot be shown.
    """
    text = name if name.isascii() else unicodedata.normalize("NFC", valid_unicode(name))
    text = text.strip()
    if not text or len(text) > _LONGEST_NAME or not text.isprintable():
        raise UsageError(
            f"a reviewer's name must have 1 to {_LONGEST_NAME} printable characters, got {quoted(name)}",
            remedy="Give another name with --reviewer",
        )
    return text


def _normal_time(text: str) -> str:
    """A time in the one form that sorts as the times do; empty if it is none."""
    try:
        moment = datetime.fromisoformat(text)
        if not 1970 <= moment.year < 9000:
            return ""
        if _TIME.fullmatch(text):
            return text
        return _time_text(moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC))
    except (ValueError, OverflowError):
        return ""


def _time_text(moment: datetime) -> str:
    return moment.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


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
        self._unread = RemarkCounter()
        self._clear()

    def _clear(self) -> None:
        self._files: dict[str, _ReadFile] = {}
        self._seen: set[ReviewDecision] = set()
        self._lines: dict[str, list[ReviewDecision]] = {}
        self._current: dict[str, CurrentDecision] = {}

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
        return changed

    def _names(self) -> dict[str, os.stat_result]:
        self._unread = RemarkCounter()
        names: dict[str, os.stat_result] = {}
        try:
            with os.scandir(self.folder) as entries:
                for entry in entries:
                    if entry.name.startswith(".") or not entry.name.endswith(".jsonl"):
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
            written.append(replace(decision, reviewer=self.reviewer, time=_time_text(moment)))
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
