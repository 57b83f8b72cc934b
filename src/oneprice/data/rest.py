"""Market data by REST: sends a venue's `Request` values, within its budget. Nothing here signs anything.

Every host has one `Budget`, shared by all venues behind it; an answer that bans this address (HTTP 429, 418, or what a
venue's own error says) closes the host for as long as it asks. `send` is one attempt; `call` judges the answer with the
venue's `check` and tries again as long as the error says that this can help."""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping

import aiohttp
import msgspec
from yarl import URL

from oneprice.data.backoff import Backoff
from oneprice.data.budget import Budget
from oneprice.model.errors import OnepriceError, VenueError
from oneprice.model.instrument import Instrument
from oneprice.model.time import Clock
from oneprice.venues.base import Request, Venue

_log = logging.getLogger("oneprice.data")
_TIMEOUT_S = 15.0  # of this machine's own time (see `Clock`)
_BANNED = (418, 429)
_BAN_S = 60.0  # a ban whose length the host does not say
_KEPT_HEADERS = ("retry-after", "x-mbx-", "x-bapi-", "x-sapi-", "date")
_PAGES = 100


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What came back, and when (local clock): the two times are the round trip."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    sent_ns: int
    recv_ns: int


class RestClient:
    """The REST market data of one venue at one address. The HTTP session belongs to the caller."""

    def __init__(
        self,
        venue: Venue,
        base: str,
        *,
        http: aiohttp.ClientSession,
        budget: Budget,
        clock: Clock,
        rng: random.Random,
        timeout_s: float = _TIMEOUT_S,
    ) -> None:
        self.venue = venue
        self.base = base.rstrip("/")
        self.budget = budget
        self._http = http
        self._clock = clock
        self._rng = rng
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)

    async def send(self, request: Request) -> Answer:
        """One attempt, as soon as the budget allows. Any HTTP answer is returned; VenueError (transient) if none came.

        An answer that bans this address blocks the host for everybody.
        """
        await self.budget.take(request.weight)
        url = URL(self.base + request.path).with_query(dict(request.query))
        sent_ns = self._clock.now_ns()
        try:
            async with self._http.request(
                request.method, url, headers=request.headers, data=request.body or None, timeout=self._timeout,
                allow_redirects=False,
            ) as response:  # fmt: skip
                body = await response.read()
                status = response.status
                headers = {
                    name: value for name, value in response.headers.items() if name.lower().startswith(_KEPT_HEADERS)
                }
        except (aiohttp.ClientError, TimeoutError, OSError) as lost:
            what = str(lost) or type(lost).__name__
            raise VenueError(
                f"{self.venue.name}: no answer to {request.method} {request.path} from {self.base}: {what}",
                transient=True,
            ) from lost
        answer = Answer(status=status, headers=headers, body=body, sent_ns=sent_ns, recv_ns=self._clock.now_ns())
        self._note_ban(request, answer)
        return answer

    async def call(self, request: Request, *, attempts: int = 5) -> Answer:
        """A successful answer. A GET is asked again while its error says that this can help, then it is raised."""
        backoff = Backoff(self._rng)
        while True:
            try:
                answer = await self.send(request)
                self.venue.rest.check(answer.status, answer.headers, answer.body)
            except OnepriceError as wrong:
                if request.method != "GET" or not wrong.transient or backoff.failures + 1 >= attempts:
                    raise
                wait_s = backoff.next_s()
                _log.warning("%s; asking again in %.1f s", wrong, max(wait_s, self.budget.blocked_s))
                await self._clock.sleep(wait_s)
            else:
                return answer

    async def instruments(self) -> tuple[list[Instrument], list[tuple[Request, Answer]]]:
        """Everything the venue lists, page by page, and the answers that say so (for the raw log).

        Where the list does not say how often funding is paid, the venue's own list of exceptions is asked for, too.
        """
        rest = self.venue.rest
        listed: list[Instrument] = []
        answers: list[tuple[Request, Answer]] = []
        request: Request | None = rest.instruments()
        while request is not None:
            if len(answers) == _PAGES:
                raise VenueError(f"{self.venue.name}: the instrument list does not end after {_PAGES} pages")
            answer = await self.call(request)
            answers.append((request, answer))
            listed += rest.read_instruments(answer.body)
            request = rest.more_instruments(answer.body) if rest.more_instruments is not None else None
        if rest.funding_intervals is not None and rest.read_funding_intervals is not None:
            request = rest.funding_intervals()
            answer = await self.call(request)
            answers.append((request, answer))
            paid_every_ns = rest.read_funding_intervals(answer.body)
            listed = [
                msgspec.structs.replace(
                    instrument,
                    funding_interval_ns=paid_every_ns.get(instrument.symbol, instrument.funding_interval_ns),
                )
                for instrument in listed
            ]
        return listed, answers

    def _note_ban(self, request: Request, answer: Answer) -> None:
        """Block the host for as long as the answer asks: `Retry-After`, or the venue's own way to say it."""
        asked_s: float | None = None
        try:
            self.venue.rest.check(answer.status, answer.headers, answer.body)
        except VenueError as wrong:
            asked_s = wrong.retry_after_s
        except OnepriceError:
            return  # not readable as anything; whoever asked will see that for itself
        if asked_s is None and answer.status not in _BANNED:
            return
        wait_s = _BAN_S if asked_s is None else asked_s
        self.budget.block(wait_s)
        _log.warning(
            "%s: HTTP %d to %s; no request goes to %s for %.0f s", self.venue.name, answer.status, request.path,
            self.base, wait_s,
        )  # fmt: skip
