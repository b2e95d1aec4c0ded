"""Replies that are paid for: under what a reply is recorded, and where a run looks for one before it asks.

A reply is recorded under the model, the conversation, the parameters that were really sent, and its number among the
replies to the same conversation. So it is found again under another address of the server, after another question was
put first in the prompt set, and by a bundle of another name, whose journal is beside this one's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from abs_core.canonical import digest
from abs_core.errors import StorageError
from abs_core.remarks import Remark, RemarkCounter
from abs_descriptions.generation.journal import Journal, JournalEntry
from abs_descriptions.generation.providers.base import (
    Adaptation,
    Outcome,
    Provider,
    Request,
    Tokens,
    request_digest,
)

__all__ = ["PaidReplies", "PaidReply", "reply_digest"]

# The part of a provider's key that says where a model runs and not which model it is.
_ADDRESS = "base_url"


_UNCHANGED = Adaptation()


def reply_digest(
    provider: Mapping[str, Any], request: Request, number: int, adaptation: Adaptation = _UNCHANGED
) -> str:
    """``sha256:...`` of everything that determines a reply: what identifies it in a journal.

    Args:
        provider: the key of a provider, without what does not identify the model.
        request: what is asked.
        number: of the reply among those to the same conversation.
        adaptation: how the request is changed for the model.
    """
    asked = {
        "provider": dict(provider),
        "messages": [[turn.role, turn.content] for turn in request.messages],
        "parameters": adaptation.applied_to(request.parameters).key(),
        "number": number,
    }
    return digest(asked if request.answer == "text" else {**asked, "answer": request.answer})


@dataclass(frozen=True, slots=True)
class PaidReply:
    """A reply of an earlier run.

    Args:
        request: the digest under which it was recorded.
        outcome: the reply, or what is wrong with it by the rules of today.
        server: the address that answered; empty if it is not known.
    """

    request: str
    outcome: Outcome
    server: str


class PaidReplies:
    """The replies in the journal of a run and in those beside it. A ``with`` block closes the others.

    Args:
        journal: of the run; None records nothing and finds nothing.
        provider: the language model.
        beside: further journals, which are only read. One that cannot be read is passed over.
        by_server: whether only replies from the provider's own address count.
    """

    def __init__(
        self,
        journal: Journal | None,
        provider: Provider,
        *,
        beside: Sequence[Path] = (),
        by_server: bool = False,
    ) -> None:
        self._journal, self._beside = journal, list(beside)
        self._others: list[Journal] = []
        self._opened = ExitStack()
        self._model = provider.model
        self._full_key = dict(provider.key())
        self.server = str(self._full_key.get(_ADDRESS, ""))
        self._key = {name: value for name, value in self._full_key.items() if by_server or name != _ADDRESS}
        self._remarks = RemarkCounter()

    def __enter__(self) -> PaidReplies:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    @property
    def remarks(self) -> tuple[Remark, ...]:
        """What a reader must know of the replies that were found."""
        return self._remarks.remarks

    @property
    def is_empty(self) -> bool:
        """Whether there are no outcomes at all."""
        return all(journal.is_empty for journal in self._journals())

    def known_adaptation(self) -> Adaptation | None:
        """How an earlier run changed its requests for this model at this address; None if none did."""
        for journal in self._journals():
            known = journal.adaptations(self._model, self.server)
            if known:
                return known[-1]
        return None

    def find(self, request: Request, number: int) -> PaidReply | None:
        """The reply to a request if an earlier run paid for it. It is in the journal of the run from then on.

        Args:
            request: what is asked.
            number: of the reply among those to the same conversation.

        Raises:
            StorageError: the journal cannot be read or written.
        """
        if self._journal is None:
            return None
        for journal in self._journals():
            for name in self._names(journal, request, number):
                entry = journal.entry(name)
                if entry is not None:
                    self._keep(journal, name, request, number, entry)
                    return PaidReply(entry.request, entry.reply, entry.server)
        return None

    def lost(self, request: Request, number: int) -> Tokens:
        """The tokens of all failed attempts at a request, by the journal of the run."""
        if self._journal is None:
            return Tokens()
        names = dict.fromkeys(self._names(self._journal, request, number))
        return sum((self._journal.lost(name) for name in names), Tokens())

    def add(self, request: Request, number: int, outcome: Outcome, context: Mapping[str, Any]) -> PaidReply:
        """Record an outcome.

        Args:
            request: what was asked.
            number: of the reply among those to the same conversation.
            outcome: what came of it.
            context: further keys of the line, for human readers: class, prompt, sample.

        Returns:
            The outcome as a later run will find it.

        Raises:
            StorageError: the journal cannot be written.
        """
        name = reply_digest(self._key, request, number, outcome.adaptation)
        if self._journal is not None:
            about = {"model": self._model, **({"server": self.server} if self.server else {})}
            form = {"answer": request.answer} if request.answer != "text" else {}
            outcome = self._journal.add(name, outcome, {**context, **about, **form})
        return PaidReply(name, outcome, self.server)

    def _names(self, journal: Journal, request: Request, number: int) -> Iterator[str]:
        """The digests under which a journal may have the reply, the likeliest first."""
        for adaptation in reversed(journal.adaptations(self._model)):
            yield reply_digest(self._key, request, number, adaptation)
        yield reply_digest(self._key, request, number)
        if journal.may_be_old:
            yield request_digest(self._full_key, request)

    def _keep(self, journal: Journal, found: str, request: Request, number: int, entry: JournalEntry) -> None:
        """Have the journal of the run find a reply by itself next time, and tell where it comes from."""
        own = self._journal
        if entry.server and entry.server != self.server:
            self._remarks.add("replies reused from another address", entry.server)
        if journal is not own:
            self._remarks.add("replies reused from the journal of another bundle", journal.path.stem)
        if own is None or own.is_read_only:
            return
        if journal.may_be_old and found == request_digest(self._full_key, request):
            # From now on it is found under every address. The digest of the old line is in bundles.
            about = {"was": found, "model": self._model, **({"server": self.server} if self.server else {})}
            own.copy(found, journal, {"request": reply_digest(self._key, request, number), **about})
        elif journal is not own:
            own.copy(found, journal, {})

    def _journals(self) -> Iterator[Journal]:
        """The journal of the run, and those beside it, which are opened only when they are needed."""
        if self._journal is None:
            return
        yield self._journal
        yield from list(self._others)
        while self._beside:
            path = self._beside.pop(0)
            try:
                journal = self._opened.enter_context(Journal(path, read_only=True))
            except StorageError:
                continue  # it is not needed: what it has can be asked again
            if not journal.is_empty:
                self._others.append(journal)
                yield journal
