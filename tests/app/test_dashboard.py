"""The page in a real browser, and the REST and WebSocket beside it, while a run goes on."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
import urllib.request

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
    wait_until_traded(address)
    yield address
    run.terminate()
    assert run.wait(WITHIN_S) == 0


def view(address: str) -> dict:
    with urllib.request.urlopen(f"{address}/api/view", timeout=WITHIN_S) as answer:
        return json.load(answer)


def wait_until_traded(address: str) -> None:
    deadline = time.monotonic() + WITHIN_S
    while True:
        try:
            if view(address)["trades"] > 0:
                return
        except OSError:
            pass
        assert time.monotonic() < deadline, "the page never showed a trade"
        time.sleep(0.2)


def test_the_view_tells_of_feeds_books_and_results(page) -> None:
    seen = view(page)
    assert {feed["state"] for feed in seen["feeds"]} == {"open"}
    assert all(book["valid"] for book in seen["books"])
    assert seen["balanced"] is True
    assert len(seen["pnl"]) > 0


def test_the_stream_sends_the_view_again_and_again(page) -> None:
    async def two() -> list[dict]:
        async with aiohttp.ClientSession() as http, http.ws_connect(f"{page}/api/stream") as socket_:
            return [await socket_.receive_json(timeout=WITHIN_S) for _ in range(2)]

    first, second = asyncio.run(two())
    assert second["events"] > first["events"]


def test_an_unknown_part_is_refused_with_the_known_ones(page) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{page}/api/bookz", timeout=WITHIN_S)
    assert refused.value.code == 404
    assert "books" in refused.value.read().decode()


def test_a_real_browser_shows_the_page(page) -> None:
    drawn(
        page, until=("oneprice", "Opportunities", "Trades on paper", "binance_sbe:BTCUSDT", "balances to the last unit")
    )
