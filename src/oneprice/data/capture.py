"""Live capture: every feed of every venue on one tape, in the order in which this machine learned it.

One event loop, one clock. What happens on a connection is first written to the raw log, then told to the venue's feed
machine, whose rows go on the tape and whose commands are carried out here. Every few milliseconds the tape is cut: a
TIMER row ends the micro-batch, the batch goes to the recorder and then to whoever listens. A quiet market is cut, too,
only less often, so that what is due can happen. A replay of the tape sees the same batches."""

from __future__ import annotations

import asyncio
import logging
import os
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import aiohttp
import msgspec

from oneprice.data import machines
from oneprice.data.budget import Budgets
from oneprice.data.connection import Feed, Link
from oneprice.data.health import FeedHealth, HealthWatch
from oneprice.data.machines import Closed, Machines, Opened, Reported, with_body
from oneprice.data.plan import CapturePlan, FeedPlan, feeds_of, handshake_headers, same_as_listed, select
from oneprice.data.recover import numbers_taken
from oneprice.data.rest import Answer, RestClient
from oneprice.data.session import FeedEntry, Record, RecordType, Session
from oneprice.model.errors import VenueError
from oneprice.model.instrument import Instrument, InstrumentTable
from oneprice.model.progress import Progress, untold
from oneprice.model.tape import HOLD, GapReason, Kind, Rows, TapeWriter
from oneprice.model.time import NS_PER_S, Clock
from oneprice.venues.base import Channel, Request, Venue
from oneprice.venues.feed import TIME, Command, FeedMachine, Fetch, Reconnect, Send, decode_frame
from oneprice.venues.registry import venue as find_venue

_log = logging.getLogger("oneprice.data")
_CUT_EVERY_S = 0.005
_CUT_ROWS = 4_096
_CUT_IDLE_NS = NS_PER_S // 20  # without rows
_FIRST_PROBES = 4
_FIRST_PROBES_EVERY_S = 0.5
_NO_DATA = b"{}"  # a control frame to every decoder
NO_LINK = -1  # link number of what no link brought
_INSTRUMENTS = "instruments"  # purpose of the answers that list them: of no use to a machine, but part of the record


def make_decoders_ready(venues: Iterable[str], progress: Progress = untold) -> None:
    """Compile what reads these venues' frames (once on a machine, for seconds), while no socket waits for it."""
    names = list(venues)
    for place, name in enumerate(names):
        progress(place / len(names), f"decoder of {name}")
        decode_frame(find_venue(name), InstrumentTable(()), _NO_DATA, TapeWriter())


class Recorder(Protocol):
    """Where a capture is written down: the raw log, and the tape made of it (`session.SessionWriter`)."""

    def frame(self, recv_ns: int, feed: int, type_: RecordType, payload: bytes) -> None: ...

    def rows(self, rows: Rows) -> None: ...

    def add_feed(self, feed: FeedEntry) -> None: ...

    def flush_if_due(self, now_ns: int) -> None: ...


class Capture:
    """A plan, ready to run. `instruments` numbers what it captures; `tape` holds the rows since the last cut. `links` and
    `batches`: how many numbers of connections and of micro-batches its session has given already."""

    def __init__(
        self,
        plan: CapturePlan,
        *,
        instruments: InstrumentTable,
        feeds: Sequence[FeedPlan],
        clients: Mapping[str, RestClient],
        listed: Sequence[Record],
        headers: Mapping[str, Mapping[str, str]],
        budgets: Budgets,
        clock: Clock,
        rng: random.Random,
        links: int = 0,
        batches: int = 0,
    ) -> None:
        self.plan = plan
        self.instruments = instruments
        self.feed_plans = tuple(feeds)
        self.tape = TapeWriter()
        self.machines = Machines(instruments, self.tape)
        self.batches = batches
        self._clients = clients
        self._listed = listed
        self._clock = clock
        self._feeds = [
            Feed(
                feed, find_venue(feed.venue), sink=self, clock=clock, rng=rng, headers=headers[feed.venue],
                connects=budgets.connects_of(find_venue(feed.venue), feed.address),
            )
            for feed in feeds
        ]  # fmt: skip
        self._health = HealthWatch(self._feeds, self.machines)
        self._recorder: Recorder | None = None
        self._on_rows: Callable[[Rows], None] = _ignore
        self._tasks: asyncio.TaskGroup | None = None
        self._links: dict[int, tuple[Link, FeedMachine]] = {}
        self._next_link = links
        self._cut_ns = 0
        self._stops = False
        self._hold = 0

    @classmethod
    async def prepare(
        cls,
        plan: CapturePlan,
        *,
        http: aiohttp.ClientSession,
        clock: Clock,
        rng: random.Random,
        environ: Mapping[str, str] = os.environ,
        discover: Callable[[Sequence[Instrument]], Sequence[Instrument]] | None = None,
        resumed: Session | None = None,
    ) -> Capture:
        """Ask every venue of a plan what it lists, choose the plan's instruments and lay out the connections.

        A venue for which the plan names no symbols is left to `discover`, which picks from all that those venues list.
        A capture that goes on with the session `resumed` takes the instruments from there, and numbers its connections
        and batches after those that the session has.
        InputError for what the plan names and a venue does not have, and for an instrument of `resumed` that is not
        traded as it was; VenueError for a venue that does not answer.
        """
        budgets = Budgets(clock)
        venues = {name: find_venue(name) for name in plan.venues}
        headers = {name: handshake_headers(venue, plan, environ) for name, venue in venues.items()}
        clients = {
            name: RestClient(
                venue, plan.endpoints_of(venue).rest, http=http, clock=clock, rng=rng,
                budget=budgets.of(venue, plan.endpoints_of(venue).rest),
            )
            for name, venue in venues.items()
        }  # fmt: skip
        try:
            async with asyncio.TaskGroup() as tasks:
                asked = {name: tasks.create_task(clients[name].instruments()) for name in venues}
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from failed  # one venue without an answer is enough to say so
        markets = {name: asked[name].result()[0] for name in venues}
        chosen = _chosen(plan, markets, discover) if resumed is None else _kept(resumed.instruments, markets)
        feeds: list[FeedPlan] = []
        listed: list[Record] = []
        for name, venue in venues.items():
            feeds += feeds_of(
                venue, plan.endpoints_of(venue), chosen[name], plan.venues[name].streamed(venue),
                plan.symbols_per_connection,
            )  # fmt: skip
            listed += [_listing(venue, request, answer) for request, answer in asked[name].result()[1]]
        if resumed is None:
            table, links, batches = InstrumentTable(one for ours in chosen.values() for one in ours), 0, 0
        else:
            table, (links, batches) = resumed.instruments, numbers_taken(resumed)
        make_decoders_ready(venues)
        return cls(
            plan, instruments=table, feeds=feeds, clients=clients, headers=headers, clock=clock,
            budgets=budgets, listed=sorted(listed, key=lambda record: record.recv_ns), rng=rng,
            links=links, batches=batches,
        )  # fmt: skip

    async def run(self, *, recorder: Recorder | None = None, on_rows: Callable[[Rows], None] | None = None) -> None:
        """Capture until cancelled. `on_rows` gets each micro-batch, after the recorder; it must be quick, because the
        sockets wait for it. What it raises ends the capture."""
        self._recorder = recorder
        self._on_rows = on_rows or _ignore
        if recorder is not None:
            for record in self._listed:
                recorder.frame(record.recv_ns, record.feed, record.type, record.payload)
        try:
            async with asyncio.TaskGroup() as self._tasks:
                for feed in self._feeds:
                    self._tasks.create_task(feed.run())
                for name, wanted in self.plan.venues.items():
                    machine = self.machines.machine(name)
                    self._tasks.create_task(self._probe(machine))
                    for channel, every_s in wanted.polls(machine.venue).items():
                        self._start_polling(machine, channel, every_s)
                try:
                    await self._cut_regularly()
                finally:
                    self._stops = True  # connections that close from here on are no gaps: the tape ends with them
        finally:
            if self.tape.n > 0:
                self._cut(self._clock.now_ns())

    def report(self, reported: Reported) -> None:
        """Put what a live venue said of an order on the tape."""
        self._tell(NO_LINK, RecordType.REPORT, msgspec.json.encode(reported))

    def hold(self, is_on: bool) -> None:
        """Say on the tape, from the next batch on, whether anything new may be begun."""
        self._hold = HOLD if is_on else 0

    def health(self) -> list[FeedHealth]:
        """How each feed is, in the order of `feed_plans`."""
        return self._health.of(self._clock.now_ns())

    def clock_offset_ms(self, venue: str) -> float | None:
        """Local − venue clock, from the quickest of the last round trips; None before the first."""
        return self._health.offset_of(venue).offset_ms

    # -- FeedSink -----------------------------------------------------------------------------------------------------

    def link_opened(self, feed: Feed, link: Link) -> int:
        number = self._next_link
        self._next_link += 1
        machine = self.machines.machine(feed.plan.venue)
        self._links[number] = (link, machine)
        if self._recorder is not None:
            plan = feed.plan
            self._recorder.add_feed(
                FeedEntry(number=number, venue=plan.venue, path=plan.path, address=plan.address)
            )  # fmt: skip
        opened = Opened(venue=feed.plan.venue, path=feed.plan.path, subscriptions=feed.plan.subscriptions)
        self._tell(number, RecordType.OPENED, msgspec.json.encode(opened))
        return number

    def link_frame(self, number: int, payload: bytes, is_binary: bool, recv_ns: int) -> None:
        if self._recorder is not None:
            self._recorder.frame(recv_ns, number, RecordType.BINARY if is_binary else RecordType.TEXT, payload)
        commands = self._links[number][1].frame(number, payload, recv_ns)
        if commands:
            self._do(commands)
        if self.tape.n >= _CUT_ROWS:
            self._cut(recv_ns)

    def link_closed(self, number: int, reason: GapReason) -> None:
        link, machine = self._links.pop(number)
        statistics = machine.statistics_of(number)
        if not self._stops:
            self._tell(number, RecordType.CLOSED, msgspec.json.encode(Closed(venue=machine.venue.name, reason=reason)))
        self._health.link_closed(link.feed, statistics)

    def last_data_ns(self, number: int) -> int:
        known = self._links.get(number)
        return known[1].statistics_of(number).data_ns if known is not None else 0

    # -- doing --------------------------------------------------------------------------------------------------------

    def _tell(self, number: int, type_: RecordType, payload: bytes) -> None:
        """Write something down, tell it to the machines, and do what they ask for."""
        record = Record(self._clock.now_ns(), number, type_, payload)
        if self._recorder is not None:
            self._recorder.frame(record.recv_ns, number, type_, payload)
        self._do(self.machines.tell(record))

    def _do(self, commands: Sequence[Command]) -> None:
        if self._stops:
            return
        for command in commands:
            match command:
                case Send(feed=number, payload=payload):
                    if number in self._links:
                        self._links[number][0].send(payload)
                case Fetch(instrument=index):
                    assert self._tasks is not None
                    machine = self.machines.machine(self.instruments[index].venue)
                    self._tasks.create_task(self._fetch(machine, command))
                case Reconnect(feed=number, reason=reason):
                    if number in self._links:
                        self._links[number][0].replace(reason)

    async def _fetch(self, machine: FeedMachine, fetch: Fetch) -> None:
        """Send a request when it is due, and tell the machine what came of it."""
        await self._clock.sleep(fetch.after_s)
        if not machine.wants(fetch):
            return
        name = machine.venue.name
        try:
            answer = await self._clients[name].send(fetch.request)
        except VenueError as lost:
            _log.warning("%s", lost)
            now_ns = self._clock.now_ns()
            answer = Answer(status=0, headers={}, body=b"", sent_ns=now_ns, recv_ns=now_ns)
        said = machines.Answer(
            venue=name, fetch=msgspec.structs.replace(fetch, sent_ns=answer.sent_ns), status=answer.status,
            headers=answer.headers,
        )  # fmt: skip
        before = self.tape.n
        self._tell(NO_LINK, RecordType.ANSWER, with_body(said, answer.body))
        if fetch.purpose == TIME:
            self._health.on_clock_rows(name, self.tape.rows[before : self.tape.n])

    async def _probe(self, machine: FeedMachine) -> None:
        """Ask a venue for its time, often at first, so that the offset is soon known."""
        probes = 0
        while True:
            await self._fetch(machine, machine.probe())
            probes += 1
            await self._clock.sleep(_FIRST_PROBES_EVERY_S if probes < _FIRST_PROBES else self.plan.probe_every_s)

    def _start_polling(self, machine: FeedMachine, channel: Channel, every_s: float) -> None:
        """Poll a channel of all instruments of a venue, each at a part of the period of its own."""
        assert self._tasks is not None
        wanted = [machine.poll(channel, index) for index, _ in self.instruments.of_venue(machine.venue.name)]
        fetches = [fetch for fetch in wanted if fetch is not None]
        every_ns = int(every_s * NS_PER_S)
        for place, fetch in enumerate(fetches):
            self._tasks.create_task(self._poll(machine, fetch, every_ns, place * every_ns // len(fetches)))

    async def _poll(self, machine: FeedMachine, fetch: Fetch, every_ns: int, offset_ns: int) -> None:
        """Ask again and again at the times of a fixed grid: whole periods since 1970, and `offset_ns`.

        A time at which the answer before has not come yet, or the venue's budget has nothing left, is left out: a poll is
        never queued (books that wait for a snapshot go first) and never made up for, and each keeps the time it came at.
        """
        budget = self._clients[machine.venue.name].budget
        due_ns = 0
        while True:
            now_ns = self._clock.now_ns()
            next_ns = (now_ns - offset_ns) // every_ns * every_ns + every_ns + offset_ns
            due_ns = max(due_ns + every_ns, next_ns)  # a sleep that ends early is no reason to ask twice
            await self._clock.sleep((due_ns - now_ns) / NS_PER_S)
            if budget.allows(fetch.request.weight):
                await self._fetch(machine, fetch)

    async def _cut_regularly(self) -> None:
        while True:
            await self._clock.sleep(_CUT_EVERY_S)
            now_ns = self._clock.now_ns()
            if self.tape.n > 0 or now_ns - self._cut_ns >= _CUT_IDLE_NS:
                self._cut(now_ns)

    def _cut(self, now_ns: int) -> None:
        """End the micro-batch and hand it on."""
        self.batches += 1
        self._cut_ns = now_ns
        self.tape.append(Kind.TIMER, recv_ns=now_ns, sequence=self.batches, aux=self._hold)
        rows = self.tape.take()
        self._health.on_rows(rows, now_ns)
        if self._recorder is not None:
            self._recorder.rows(rows)
            self._recorder.flush_if_due(now_ns)
        try:
            self._on_rows(rows)
        except BaseException:
            self._stops = True  # nothing further is started while this takes the capture down
            raise


def _chosen(
    plan: CapturePlan,
    markets: Mapping[str, Sequence[Instrument]],
    discover: Callable[[Sequence[Instrument]], Sequence[Instrument]] | None,
) -> dict[str, list[Instrument]]:
    """By venue, the instruments that the plan names, or that are discovered where it names none."""
    open_to_choice = [
        instrument for name, market in markets.items() if not plan.venues[name].symbols for instrument in market
    ]
    discovered = list(discover(open_to_choice)) if discover is not None and open_to_choice else open_to_choice
    return {
        name: select(find_venue(name), market, plan.venues[name].symbols)
        or [instrument for instrument in discovered if instrument.venue == name]
        for name, market in markets.items()
    }


def _kept(table: InstrumentTable, markets: Mapping[str, Sequence[Instrument]]) -> dict[str, list[Instrument]]:
    """By venue, the instruments that a session has already."""
    return {
        name: same_as_listed(market, [instrument for _, instrument in table.of_venue(name)])
        for name, market in markets.items()
    }


def _listing(venue: Venue, request: Request, answer: Answer) -> Record:
    """An answer that lists instruments, as a record of the raw log."""
    fetch = Fetch(purpose=_INSTRUMENTS, instrument=-1, request=request, sent_ns=answer.sent_ns)
    said = machines.Answer(venue=venue.name, fetch=fetch, status=answer.status, headers=answer.headers)
    return Record(answer.recv_ns, NO_LINK, RecordType.ANSWER, with_body(said, answer.body))


def _ignore(rows: Rows) -> None:
    """Nobody listens."""
