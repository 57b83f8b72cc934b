"""The page in a real browser, and the REST and WebSocket beside it, while a run goes on."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress

import aiohttp
import pytest
from browser import drawn

from patience import WITHIN_S


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    out = tmp_path_factory.mktemp("page") / "R"
    run = subprocess.Popen(
        [sys.executable, "-m", "oneprice", "demo", "--dashboard", str(port), "--out", str(out)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    view_once(address, lambda _: True)
    yield address
    run.terminate()
    assert run.wait(WITHIN_S) == 0


def view(address: str) -> dict:
    with urllib.request.urlopen(f"{address}/api/view", timeout=WITHIN_S) as answer:
        return json.load(answer)


def view_once(address: str, told: Callable[[dict], bool]) -> dict:
    """The first view that tells what is wanted. The page answers before its feeds stand, and trades may begin before the
    last of them does."""
    deadline, seen = time.monotonic() + WITHIN_S, {}
    while time.monotonic() < deadline:
        with suppress(OSError):  # nobody listens yet
            seen = view(address)
            if told(seen):
                return seen
        time.sleep(0.2)
    raise AssertionError(f"the page never told it; last: {seen}")


def test_the_view_tells_of_feeds_books_and_results(page) -> None:
    def all_told(seen: dict) -> bool:
        feeds_stand = {feed["state"] for feed in seen["feeds"]} == {"open"}
        books_stand = bool(seen["books"]) and all(book["valid"] for book in seen["books"])
        return feeds_stand and books_stand and seen["trades"] > 0

    seen = view_once(page, all_told)
    assert seen["balanced"] is True
    assert len(seen["pnl"]) > 0


def test_the_stream_sends_the_view_again_and_again(page) -> None:
    async def until_more_happened() -> None:
        async with (
            asyncio.timeout(WITHIN_S),
            aiohttp.ClientSession() as http,
            http.ws_connect(f"{page}/api/stream", max_msg_size=0) as stream,
        ):
            first = await stream.receive_json()
            while (await stream.receive_json())["events"] <= first["events"]:
                pass

    asyncio.run(until_more_happened())


def test_an_unknown_part_is_refused_with_the_known_ones(page) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{page}/api/bookz", timeout=WITHIN_S)
    assert refused.value.code == 404
    assert "books" in refused.value.read().decode()


def test_a_real_browser_shows_the_page(page) -> None:
    drawn(
        page, until=("oneprice", "Opportunities", "Trades on paper", "binance_sbe:BTCUSDT", "balances to the last unit")
    )
