"""A page as a real browser draws it."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import aiohttp

from patience import WITHIN_S

_CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--window-size=1400,6000", "--remote-debugging-port=0",
)  # fmt: skip


def drawn(address: str, until: Sequence[str]) -> str:
    """The page's document without its scripts, once all these texts stand in it; AssertionError where they never do."""
    assert _CHROMIUM is not None, "no Chromium here; on Debian: apt-get install chromium"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [_CHROMIUM, *_FLAGS, f"--user-data-dir={profile}", address]
        browser = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            return asyncio.run(_watched(Path(profile), until))
        finally:
            with suppress(ProcessLookupError):
                os.killpg(browser.pid, signal.SIGKILL)
            browser.wait()


# What a browser says over its DevTools protocol: the page as it is at that moment, however long drawing it took.
_DOCUMENT = """(() => {
  const page = document.documentElement.cloneNode(true);
  page.querySelectorAll("script").forEach((script) => script.remove());
  return page.outerHTML;
})()"""
_ASK = {"id": 1, "method": "Runtime.evaluate", "params": {"expression": _DOCUMENT, "returnByValue": True}}


async def _watched(profile: Path, until: Sequence[str]) -> str:
    page, missing = "", list(until)
    with suppress(TimeoutError):
        async with (
            asyncio.timeout(WITHIN_S),
            aiohttp.ClientSession() as http,
            http.ws_connect(await _page_socket(http, profile), max_msg_size=0) as socket,
        ):
            while missing:
                await asyncio.sleep(0.1)
                await socket.send_json(_ASK)
                told = await socket.receive_json()  # an error, where the page is about to change
                page = told.get("result", {}).get("result", {}).get("value", "")
                missing = [text for text in until if text not in page]
    assert not missing, f"the page never showed {missing}: {page[:2000]}"
    return page


async def _page_socket(http: aiohttp.ClientSession, profile: Path) -> str:
    """Where the browser answers about its page: it writes its port into a file, and lists its pages there."""
    while True:
        with suppress(OSError, IndexError, aiohttp.ClientError):  # not there yet, still empty, not listening yet
            port = (profile / "DevToolsActivePort").read_text().split()[0]
            async with http.get(f"http://127.0.0.1:{port}/json/list") as answer:
                for target in await answer.json():
                    if target["type"] == "page":
                        return target["webSocketDebuggerUrl"]
        await asyncio.sleep(0.05)
