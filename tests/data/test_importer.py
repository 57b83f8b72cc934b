"""Imports: real recordings become sessions that are whole, and what cannot be used is told in words."""

from __future__ import annotations

import gzip
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from session_world import T0_NS, spot

from oneprice.data.importer import REJECTED, ImportResult, import_recordings
from oneprice.data.recordings import Recording, venue_told_by
from oneprice.data.rederive import first_divergence
from oneprice.data.session import RecordType, Session, joined
from oneprice.model.errors import InputError
from oneprice.model.tape import CLEAR, LAST, Kind
from shared_data import shared

RECORDED = "data/market/binance_2024-08-08"
# What the notes of the recordings say of each file.
DIFFS = {
    "binance_spot:BTCUSDT": 3_451 + 3_044,
    "binance_usdm:BTCUSDT": 6_551,
    "binance_coinm:BTCUSD_PERP": 26_847 + 17_948,
}
QUOTES = {
    "binance_spot:BTCUSDT": 28_040 + 45_134,
    "binance_usdm:BTCUSDT": 66_089,
    "binance_coinm:BTCUSD_PERP": 19_136 + 29_219,
}
TRADES = {
    "binance_spot:BTCUSDT": 9_757 + 10_147,
    "binance_usdm:BTCUSDT": 21_313,
    "binance_coinm:BTCUSD_PERP": 2_286 + 2_949,
}
LOCAL_MINUS_VENUE_MS = -1_270


# -- the recordings of 2024-08-08 -------------------------------------------------------------------------------------


def test_every_message_of_the_recordings_is_on_the_tape(imported: Any) -> None:
    session, result, _ = imported
    rows = joined(list(session.rows()))
    assert (result.rejected, result.lines) == (0, sum(DIFFS.values()) + sum(QUOTES.values()) + sum(TRADES.values()) + 3)
    for index, instrument in enumerate(session.instruments):
        mine = rows[rows["instrument"] == index]
        ends = mine[mine["flags"] & LAST != 0]
        kinds = {
            kind: int((ends["kind"] == int(kind)).sum()) for kind in (Kind.QUOTE, Kind.TRADE, Kind.DEPTH, Kind.GAP)
        }
        assert kinds[Kind.QUOTE] == QUOTES[instrument.key]
        assert kinds[Kind.TRADE] == TRADES[instrument.key]
        assert kinds[Kind.GAP] == 0
        # One snapshot; of the diffs only the few before it are left out.
        assert int((mine["flags"] & CLEAR != 0).sum()) == 1
        assert DIFFS[instrument.key] - 25 < kinds[Kind.DEPTH] - 1 <= DIFFS[instrument.key]
    assert (np.diff(rows["ts_recv_ns"]) >= 0).all(), "the files are merged by receive time"


def test_the_books_of_the_recordings_agree_with_the_venues_own_quotes(imported: Any) -> None:
    quality = {one.instrument: one for one in imported.result.symbols}
    assert list(quality) == sorted(DIFFS)
    for key, one in quality.items():
        assert (one.gaps, one.crossed, one.trades) == (0, 0, TRADES[key])
        assert one.bbo_compared > 500
        assert one.bbo_agreement == 1.0
        assert one.clock_offset_ms == pytest.approx(LOCAL_MINUS_VENUE_MS, abs=10)
    assert imported.result.seconds == pytest.approx(651, abs=1)


def test_rules_are_read_off_the_recordings_and_said_to_be_inferred(imported: Any) -> None:
    coinm, spot_market, usdm = imported.session.instruments
    assert (coinm.canonical, spot_market.canonical, usdm.canonical) == ("BTC/USD:BTC", "BTC/USDT", "BTC/USDT:USDT")
    assert (coinm.price(coinm.tick), coinm.qty(coinm.lot)) == (Decimal("0.1"), 1)
    assert spot_market.price(spot_market.tick) == Decimal("0.01")
    assert spot_market.qty(spot_market.lot) == Decimal("0.000001"), "an order of older, finer rules rests at 100000.00"
    assert (usdm.price(usdm.tick), usdm.qty(usdm.lot)) == (Decimal("0.1"), Decimal("0.001"))
    assert (coinm.inverse, coinm.contract_multiplier) == (True, 100)
    assert all(one.rules_inferred for one in imported.session.instruments)
    assert "inferred from the data" in imported.result.notes[-1]


def test_an_imported_session_is_closed_whole_and_gives_its_tape_again(imported: Any) -> None:
    session, result, progress = imported
    assert (session.state, session.check()) == ("closed", [])
    assert first_divergence(session) is None
    types = [record.type for record in session.records() if record.type is not RecordType.TEXT]
    assert types == [RecordType.OPENED] * 3 + [RecordType.ANSWER] * 3
    done = [step for step, _ in progress]
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0.0, 1.0)
    assert session.manifest.statistics == {"lines": result.lines, "rejected": 0}


# -- small recordings -------------------------------------------------------------------------------------------------


def spot_lines(count: int) -> list[bytes]:
    with gzip.open(shared(f"{RECORDED}/spot_btcusdt_20240808.gz")) as file:
        return [file.readline().rstrip() for _ in range(count)]


def an_import(folder: Path, *files: tuple[str, list[bytes]], **options: Any) -> ImportResult:
    paths = []
    for name, lines in files:
        paths.append(folder / name)
        content = b"\n".join(lines) + b"\n"
        paths[-1].write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return import_recordings(paths, folder / "S", **options)


def tape_of(result: ImportResult) -> bytes:
    return b"".join(rows.tobytes() for rows in Session.open(Path(result.session)).rows())


def rejected_of(result: ImportResult) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(result.session) / REJECTED).read_text().splitlines()]


def test_files_of_one_market_that_follow_each_other_are_one_connection(tmp_path: Path) -> None:
    lines = spot_lines(1_200)
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    whole = an_import(tmp_path / "one", ("day.gz", lines))
    # The later file comes first by name: what counts is time.
    parts = an_import(tmp_path / "two", ("a.gz", lines[700:]), ("b.txt", lines[:700]))
    assert tape_of(parts) == tape_of(whole)
    assert parts.symbols[0].gaps == 0


def test_epoch_seconds_are_read_to_the_digits_that_they_have(tmp_path: Path) -> None:
    lines = []
    for line in spot_lines(300):
        ns, _, frame = line.partition(b" ")
        lines.append(b"%s.%s: %s" % (ns[:10], ns[10:16], frame))
    result = an_import(tmp_path, ("recording", lines))
    (quality,) = result.symbols
    assert (result.rejected, quality.gaps) == (0, 0)
    first_ns = int(spot_lines(1)[0].split()[0])
    assert result.session
    assert next(Session.open(Path(result.session)).records()).recv_ns == first_ns // 1_000 * 1_000


def test_a_recording_in_epoch_seconds_of_another_recorder_is_read(tmp_path: Path) -> None:
    """A file of four spot markets from 2021, its first line an address."""
    result = import_recordings([shared("data/market/cryptofeed_samples/BINANCE.ws.1.0.gz")], tmp_path / "S")
    assert {one.instrument for one in result.symbols} == {
        f"binance_spot:{name}" for name in ("BLZETH", "LRCBTC", "NKNUSDT", "RUNEEUR")
    }
    (address, *others) = rejected_of(result)
    assert (address["line"], address["reason"][:24]) == (1, "not of the form '<local ")
    assert address["begins"].startswith("wss://stream.binance.com")
    assert all("candle" in one["reason"] or "kline" in one["begins"] for one in others)
    assert sum("no book stands at the end" in note for note in result.notes) == 4, "its snapshots are in another file"


def test_unusable_lines_are_counted_and_kept_with_file_line_and_reason(tmp_path: Path) -> None:
    lines = spot_lines(600)
    lines[40] = b"not a line"
    lines[90] = lines[90][:60]
    lines[200] = lines[200].replace(b'"data":{', b'"data":[', 1)
    lines[400] = b""
    lines[500] = b"\xff\xfe" + lines[500]
    result = an_import(tmp_path, ("r.gz", lines), instruments=[spot()])
    kept = rejected_of(result)
    assert [(one["file"], one["line"]) for one in kept] == [("r.gz", n) for n in (41, 91, 201, 501)]
    assert (result.rejected, result.lines) == (4, 599)
    assert kept[0]["begins"] == "not a line"
    assert kept[0]["reason"].startswith("not of the form")
    assert "malformed" in kept[2]["reason"]
    assert Session.open(Path(result.session)).check() == [], "the rejected lines are part of what is sealed"
    assert first_divergence(Session.open(Path(result.session))) is None


def test_a_lost_diff_is_a_gap_and_the_note_says_that_no_book_stands(tmp_path: Path) -> None:
    lines = spot_lines(900)
    diffs = [place for place, line in enumerate(lines) if b"depthUpdate" in line]
    del lines[diffs[40]]
    result = an_import(tmp_path, ("r.gz", lines))
    assert result.symbols[0].gaps == 1
    assert result.notes[0] == (
        "binance_spot:BTCUSDT: no book stands at the end, because no snapshot joins the depth before it"
    )


def test_a_gzip_that_ends_in_the_middle_is_kept_up_to_there(tmp_path: Path) -> None:
    content = gzip.compress(b"\n".join(spot_lines(1_500)))
    path = tmp_path / "cut.gz"
    path.write_bytes(content[: len(content) // 2])
    result = import_recordings([path], tmp_path / "S")
    assert result.notes[0].startswith(f"{path}: ends in the middle")
    assert f"read up to line {result.lines}" in result.notes[0]
    assert result.lines > 300
    assert (result.symbols[0].gaps, result.rejected) == (0, 0)


def test_a_gzip_with_a_changed_byte_is_kept_up_to_there(tmp_path: Path) -> None:
    content = bytearray(gzip.compress(b"\n".join(spot_lines(1_500))))
    content[len(content) // 2] ^= 0x55
    path = tmp_path / "changed.gz"
    path.write_bytes(content)
    result = import_recordings([path], tmp_path / "S")
    assert result.notes[0].startswith(f"{path}: ends in the middle")
    assert result.symbols[0].rows > 1_000


def test_a_clock_that_steps_back_does_not_turn_the_tape_back(tmp_path: Path) -> None:
    lines = spot_lines(400)
    for place in range(200, 400):
        ns, _, frame = lines[place].partition(b" ")
        lines[place] = b"%d %s" % (int(ns) - 10_000_000_000, frame)
    result = an_import(tmp_path, ("r.gz", lines))
    rows = joined(list(Session.open(Path(result.session)).rows()))
    assert (np.diff(rows["ts_recv_ns"]) >= 0).all()
    assert (result.symbols[0].gaps, result.rejected) == (0, 0)


def test_snapshots_that_nobody_needs_are_left_out_and_counted(tmp_path: Path) -> None:
    lines = spot_lines(500)
    (snapshot,) = (line for line in lines if b"lastUpdateId" in line)
    ns = lines[450].split()[0]
    lines[450:450] = [ns + b" " + snapshot.partition(b" ")[2]] * 3
    result = an_import(tmp_path, ("r.gz", lines))
    assert (result.symbols[0].gaps, result.rejected) == (0, 0)
    assert "binance_spot:BTCUSDT: 3 snapshots were left out, because the book stood" in result.notes


def test_a_snapshot_without_a_symbol_in_a_recording_of_several_is_refused(tmp_path: Path) -> None:
    lines = spot_lines(300)
    other = [line.replace(b"BTCUSDT", b"ETHUSDT").replace(b"btcusdt", b"ethusdt") for line in lines[:5]]
    result = an_import(tmp_path, ("r.gz", other + lines))
    (kept,) = rejected_of(result)
    assert kept["reason"] == "a snapshot that names no symbol, in a recording of several"


def test_recordings_that_overlap_are_noted(tmp_path: Path) -> None:
    lines = spot_lines(500)
    result = an_import(tmp_path, ("a.gz", lines[:400]), ("b.gz", lines[300:]))
    assert any("both hold BTCUSDT" in note and "on the tape twice" in note for note in result.notes)
    assert result.symbols[0].gaps == 0, "depth that is there twice is applied once"


def test_given_rules_take_the_place_of_inferred_ones(tmp_path: Path) -> None:
    given = spot(tick=1, lot=1, qty_exponent=-8, taker_fee=Decimal("0.00075"))
    result = an_import(tmp_path, ("r.gz", spot_lines(300)), instruments=[given, spot("ETHUSDT")])
    assert list(Session.open(Path(result.session)).instruments) == [given]
    assert not any("inferred" in note for note in result.notes)


# -- what is refused before anything is written -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([b"hello", b"world"], "not one line is of the form '<local ns> <json>' or '<epoch seconds>: <json>'"),
        ([], "not one line is of the form"),
        ([b'1723161253937085768 {"some":"json"}'], "do not tell which venue they are of; name it with --venue"),
        (
            [b'1723161253937085768 {"topic":"orderbook.50.BTCUSDT","type":"snapshot","data":{"s":"BTCUSDT"}}'],
            "do not tell which venue they are of; name it with --venue",
        ),
        (
            [
                b'1723161253937085768 {"stream":"x","data":{"e":"depthUpdate","s":"BTCUSDT","U":1,"u":2,"pu":0}}',
                b'1723161253937085769 {"stream":"x","data":{"e":"depthUpdate","s":"BTCUSDT","U":1,"u":2}}',
            ],
            "holds frames of binance_spot, binance_usdm; give each venue a file of its own",
        ),
        (
            [b'1723161253937085768 {"stream":"x","data":{"e":"depthUpdate","s":"XYZABC","U":1,"u":2}}'],
            "which currencies trade in 'XYZABC'",
        ),
    ],
)
def test_what_is_no_recording_of_one_venue_is_refused(tmp_path: Path, lines: list[bytes], says: str) -> None:
    with pytest.raises(InputError, match=says):
        an_import(tmp_path, ("recording.txt", lines))
    assert not (tmp_path / "S").exists()


def test_missing_and_doubled_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no recording was named"):
        import_recordings([], tmp_path / "S")
    with pytest.raises(InputError, match=r"nowhere\.gz: this recording cannot be read: No such file"):
        import_recordings([tmp_path / "nowhere.gz"], tmp_path / "S")
    with pytest.raises(InputError, match="this recording cannot be read: Is a directory"):
        import_recordings([tmp_path], tmp_path / "S")
    file = tmp_path / "r.txt"
    file.write_bytes(b"\n".join(spot_lines(20)))
    with pytest.raises(InputError, match="was named twice"):
        import_recordings([file, tmp_path / "." / "r.txt"], tmp_path / "S")
    with pytest.raises(InputError, match="unknown venue 'binance_spt'; did you mean 'binance_spot'"):
        import_recordings([file], tmp_path / "S", venue="binance_spt")


# -- which venue's wire it is -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "venue"),
    [
        ("binance_spot/depth_diff.json", "binance_spot"),
        ("binance_spot/book_ticker.json", None),  # without its stream's name it could be anybody's
        ("binance_spot/trade_combined.json", "binance_spot"),
        ("binance_spot/agg_trade.json", "binance_spot"),
    ],
)
def test_a_frame_tells_its_venue_only_where_no_other_could_have_sent_it(payload: str, venue: str | None) -> None:
    assert venue_told_by(shared(f"data/wire/{payload}").read_bytes()[:400]) == venue


@pytest.mark.parametrize(
    ("file", "venue"),
    [("spot_btcusdt_20240808.gz", "binance_spot"), ("usdm_btcusdt_20240808.gz", "binance_usdm"),
     ("cm_btcusd_perp_20240809.gz", "binance_coinm")],
)  # fmt: skip
def test_every_frame_of_a_recording_tells_the_same_venue(file: str, venue: str) -> None:
    recording = Recording(shared(f"{RECORDED}/{file}"))
    assert recording.venue.name == venue
    assert {told for line in recording.lines() if (told := venue_told_by(line.frame[:400]))} == {venue}


def test_a_named_venue_wins_over_what_frames_leave_open(tmp_path: Path) -> None:
    frame = (
        b'{"topic":"orderbook.50.BTCUSDT","type":"snapshot","ts":1,"data":{"s":"BTCUSDT","b":[["10.5","2"]],'
        b'"a":[["11","0.5"]],"u":7,"seq":9},"cts":1}'
    )
    result = an_import(tmp_path, ("r.txt", [b"%d %s" % (T0_NS, frame)]), venue="bybit_linear")
    (one,) = result.symbols
    assert (one.instrument, one.messages, one.rows) == ("bybit_linear:BTCUSDT", 1, 2)
