"""`oneprice emulate --session`: a recording served to anybody's client by the real command."""

from __future__ import annotations

import asyncio
import gzip
import json
import shutil
import signal
import sys
from pathlib import Path

import aiohttp
import pytest
from command import oneprice

from patience import WITHIN_S
from shared_data import shared

SPOT = "data/market/binance_2024-08-08/spot_btcusdt_20240808.gz"


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> tuple[Path, list[bytes]]:
    """A short session, and the frames that were streamed in it."""
    folder = tmp_path_factory.mktemp("recording")
    with gzip.open(shared(SPOT)) as whole:
        lines = [next(whole).rstrip() for _ in range(2_000)]
    (folder / "cut").write_bytes(b"\n".join(lines))
    done = oneprice("import-recording", folder / "cut", "--out", folder / "S", "--json")
    assert done.code == 0, done.err
    frames = [line.partition(b" ")[2] for line in lines]
    return folder / "S", [frame for frame in frames if frame.startswith(b'{"stream"')]


async def test_the_command_serves_a_session_until_it_is_told_to_stop(recording) -> None:
    folder, frames = recording
    arguments = ["emulate", "--session", str(folder), "--speed", "max", "--json"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "oneprice", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        async with asyncio.timeout(WITHIN_S), aiohttp.ClientSession() as http:
            at = json.loads(await process.stdout.readline())["endpoints"]["binance_spot"]
            named = "btcusdt@depth@100ms/btcusdt@bookTicker/btcusdt@trade"
            async with http.ws_connect(f"{at['ws']['public']}/stream?streams={named}") as socket:
                assert [(await socket.receive_str()).encode() for _ in frames] == frames
                async with http.get(f"{at['rest']}/api/v3/time") as answer:
                    assert (answer.status, "not in this recording" in await answer.text()) == (404, True)
                process.send_signal(signal.SIGINT)
                _, said = await process.communicate()  # a client that stays does not keep it
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, said.decode()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--session", "nowhere"], 4, "nowhere: no such session"),
        (["--session", "DAMAGED"], 4, "000000.frames"),
        (["--session", "S", "--speed", "0"], 2, "above 0"),
        (["--session", "S", "--speed", "fast"], 2, "give a number above 0, or max"),
        (["--session", "S", "--fault", "gap@binance_spot"], 2, "--fault"),
        (["--speed", "2"], 2, "--session"),
    ],
)
def test_what_cannot_be_served_is_said_at_once(recording, tmp_path, arguments, code, said) -> None:
    shutil.copytree(recording[0], tmp_path / "S")
    log = shutil.copytree(recording[0], tmp_path / "DAMAGED") / "frames" / "000000.frames"
    content = bytearray(log.read_bytes())
    content[len(content) // 2] ^= 0xFF
    log.write_bytes(content)
    done = oneprice("emulate", *arguments, "--duration-secs", "1", "--json", cwd=tmp_path)
    assert done.code == code, done.err
    assert said in done.json["error"]
    assert "Traceback" not in done.err
