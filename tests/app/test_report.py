"""The HTML report: one file, no network, and in it what the session holds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from browser import drawn
from command import oneprice

from oneprice.data.session import Session


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A session in which a book was lost, and the page of it."""
    folder = tmp_path_factory.mktemp("report") / "S"
    captured = oneprice(
        "capture-session", "--emulated", "--speed", "5", "--symbols", "BTCUSDT,BTCUSDT_PERP", "--include-trades",
        "--include-funding", "--duration-secs", "60", "--fault", "gap@binance_spot:BTCUSDT,at=50", "--out-dir", folder,
        "--json",
    )  # fmt: skip
    assert captured.code == 0, captured.err
    done = oneprice("report", folder, "--json")
    assert done.code == 0, done.err
    assert (done.json["symbols"], done.json["gaps"]) == (["BTCUSDT", "BTCUSDT_PERP"], 1)
    assert done.json["report"] == str(folder / "report.html")
    return folder, (folder / "report.html").read_text()


def test_the_page_is_one_file_and_the_session_stays_intact(reported: tuple[Path, str]) -> None:
    folder, page = reported
    markup = re.sub(r"(<script[^>]*>).*?</script>", r"\1", page, flags=re.S)
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?:https?:)?//|<script[^>]*src|<link""", markup)
    assert "default-src 'none'" in page, "and a browser would refuse what a script asks for"
    assert len(page) < 15e6
    assert Session.open(folder).check() == []


def test_a_browser_without_a_network_draws_every_chart(reported: tuple[Path, str]) -> None:
    texts = ("CERTIFIED", "gap rate", "gaps in the depth: 1", "sequence", "mark − index, bps", "BTCUSDT_PERP")
    shown = drawn((reported[0] / "report.html").as_uri(), until=texts)
    assert shown.count("main-svg") >= 4, "two symbols with two charts each"


def test_a_session_that_is_none_is_told(tmp_path: Path) -> None:
    done = oneprice("report", tmp_path / "nowhere", "--json")
    assert (done.code, "no such session" in done.json["error"]) == (4, True)
