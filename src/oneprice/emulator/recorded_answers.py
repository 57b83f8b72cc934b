"""Recorded REST answers and the streams beside them: which answer a request gets, and who waits for whom.

An answer waits until every stream of its venue has come to the moment at which it was recorded. A stream that is sent as
fast as its client reads waits in turn, at each snapshot that was recorded, until the client has fetched it; a client that
leaves one unfetched for a second does not use them, and its stream waits no more."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence

import msgspec

from oneprice.emulator.recorded_values import RecordedAnswer

_HELD_S = 5.0  # an answer is not held back for longer: the client would give it up
_UNFETCHED_S = 1.0
_UNSIGNED = frozenset({"signature", "timestamp", "recvWindow"})  # of a query: differ from call to call

Key = tuple[str, str, tuple[tuple[str, str], ...]]  # method, path, query without order and signature


class Entry(msgspec.Struct, eq=False):
    """An answer, and whether a client has got it."""

    answer: RecordedAnswer
    is_given: bool = False


class Position(msgspec.Struct, eq=False):
    """How far one client's stream is, in recorded time."""

    at_ns: int


class Answers:
    """The answers of one venue, and the positions of its streams."""

    def __init__(self, answers: Sequence[RecordedAnswer]) -> None:
        self._entries = [Entry(answer) for answer in sorted(answers, key=lambda one: one.recv_ns)]
        self._by_key: defaultdict[Key, list[Entry]] = defaultdict(list)
        for entry in self._entries:
            answer = entry.answer
            self._by_key[_key(answer.method, answer.path, answer.query)].append(entry)
        self._asked: Counter[Key] = Counter()
        self._streams: list[Position] = []
        self._news = asyncio.Event()

    async def give(self, method: str, path: str, query: Mapping[str, str]) -> RecordedAnswer | None:
        """The next answer to a request (after the last one that one again), as soon as it is due; None for a request that
        was never recorded."""
        key = _key(method, path, query)
        if key not in self._by_key:
            return None
        entries = self._by_key[key]
        entry = entries[min(self._asked[key], len(entries) - 1)]
        self._asked[key] += 1
        await self._wait_until(lambda: all(at.at_ns >= entry.answer.recv_ns for at in self._streams), _HELD_S)
        entry.is_given = True
        self._news.set()
        return entry.answer

    # -- streams ------------------------------------------------------------------------------------------------------

    def begin(self, at_ns: int, *, is_again: bool) -> Position:
        """A stream begins. One that was served before gets the answers that it got then."""
        if is_again:
            for key, entries in self._by_key.items():
                self._asked[key] = sum(entry.answer.recv_ns < at_ns for entry in entries)
            for entry in self._entries:
                entry.is_given = entry.answer.recv_ns < at_ns
        self._streams.append(Position(at_ns))
        return self._streams[-1]

    def end(self, position: Position) -> None:
        """A stream ended: no answer waits for it any more."""
        self._streams = [other for other in self._streams if other is not position]
        self._news.set()

    def after(self, at_ns: int) -> list[Entry]:
        """What was answered after a recorded moment, in order."""
        return [entry for entry in self._entries if entry.answer.recv_ns > at_ns]

    async def let_out(self, position: Position, entry: Entry) -> None:
        """A stream has come to an answer: whoever waits for it gets it before the stream goes on."""
        position.at_ns = entry.answer.recv_ns
        self._news.set()
        await asyncio.sleep(0)

    async def wait_given(self, entry: Entry) -> bool:
        """Wait until a client has got an answer; False when it does not come for it."""
        return await self._wait_until(lambda: entry.is_given, _UNFETCHED_S)

    async def _wait_until(self, happened: Callable[[], bool], within_s: float) -> bool:
        try:
            async with asyncio.timeout(within_s):
                while not happened():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            return False
        return True


def _key(method: str, path: str, query: Mapping[str, str]) -> Key:
    return method, path, tuple(sorted((name, value) for name, value in query.items() if name not in _UNSIGNED))
