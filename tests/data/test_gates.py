"""Each gate: what passes it, what fails it, what that leads to, and which thresholds can be set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from session_world import T0_NS
from tape_world import WORLD, depth, quote, row, tape_of

from oneprice.data.certify.gates import (
    Action,
    GateResult,
    GateRules,
    SessionFacts,
    Status,
    judge,
    load_gate_rules,
    tier,
)
from oneprice.data.certify.measures import Measuring, SessionMeasures, SymbolMeasures, measure
from oneprice.data.certify.measures_clock import ClockMeasures
from oneprice.data.rederive import first_divergence
from oneprice.data.session import Session
from oneprice.model.errors import ConfigError
from oneprice.model.tape import Kind, Rows
from oneprice.model.time import NS_PER_S

GATES = (
    "bootstrap", "gap_rate", "provenance", "determinism", "economics", "staleness", "clock", "duplicate_trades",
    "trade_outside_book", "bbo_agreement", "depth_coverage",
)  # fmt: skip
PASS, WARN, FAIL, ABSENT = Status.PASS, Status.WARN, Status.FAIL, Status.NOT_APPLICABLE
NAME = "BTCUSDT"
GOOD = SymbolMeasures(
    instrument="binance_spot:BTCUSDT", symbol=NAME, rows=90_000, messages=36_000, snapshots=1, unjoined=0, disordered=0,
    gaps=0, quotes=5_000, trades=4_000, trades_numbered=4_000, trades_duplicate=0, trades_late=0, trades_checked=4_000,
    trades_outside=0, trade_outside_bps_max=0.0, crossed=3, crossed_intervals=0, crossed_longest_ns=10, locked=5,
    spread_bps_p50=0.01, spread_bps_p95=0.2, depth_levels_p50=400, depth_reach_bps_p50=50.0, depth_silence_ns=NS_PER_S,
    data_silence_ns=NS_PER_S, bbo_compared=1_000, bbo_agreement=1.0, bbo_disagreements=(), clock_offset_ms=4.0,
    latency_ms_p50=3.0, latency_ms_p99=9.0, latency_basis="probed", first_ns=T0_NS, last_ns=T0_NS + 3_600 * NS_PER_S,
)  # fmt: skip
CLOCK = ClockMeasures(
    venue="binance_spot", probes=120, offset_ms=2.0, error_ms=1.0, drift_ms_per_h=1.0, drift_error_ms_per_h=2.0, jumps=0
)
FACTS = SessionFacts(source="capture", replay_equal={NAME: True})
UNASKED = {"probes": 0, "offset_ms": None, "error_ms": None, "drift_ms_per_h": None, "drift_error_ms_per_h": None}


def verdicts(
    changed: Mapping[str, Any] | None = None, *, clock: Mapping[str, Any] | None = None,
    facts: Mapping[str, Any] | None = None, rules: GateRules | None = None,
) -> dict[str, GateResult]:  # fmt: skip
    """Every gate on an hour of good capture in which something is changed."""
    replace = msgspec.structs.replace
    measures = SessionMeasures(
        rows=90_000, from_ns=T0_NS, until_ns=T0_NS + 3_600 * NS_PER_S, symbols=(replace(GOOD, **(changed or {})),),
        clocks=(replace(CLOCK, **(clock or {})),),
    )  # fmt: skip
    results = judge(measures, replace(FACTS, **(facts or {})), rules)
    assert tuple(result.name for result in results) == GATES
    return {result.name: result for result in results}


def test_a_good_capture_passes_every_gate_and_is_certified() -> None:
    found = verdicts()
    assert {result.status for result in found.values()} == {PASS}
    assert {result.reason for result in found.values()} == {""}
    assert tier(found.values()) == ("CERTIFIED", ())


@pytest.mark.parametrize(
    ("gate", "changed", "facts", "status", "said"),
    [
        ("bootstrap", {"snapshots": 0}, {}, FAIL, "no snapshot"),
        ("bootstrap", {"unjoined": 2}, {}, FAIL, "2 depth messages belong to no book"),
        ("bootstrap", {"disordered": 1}, {}, FAIL, "1 depth messages do not come behind"),
        ("bootstrap", {"messages": 1}, {}, WARN, "no message followed"),
        ("bootstrap", {}, {"without_depth": frozenset({NAME})}, ABSENT, "no depth was asked for"),
        ("gap_rate", {"gaps": 3}, {}, WARN, "gaps in the depth: 3"),
        ("gap_rate", {"gaps": 1}, {"is_strict": True}, FAIL, "strict"),
        ("gap_rate", {}, {"without_depth": frozenset({NAME})}, ABSENT, "no depth was asked for"),
        ("provenance", {}, {"has_frames": False}, FAIL, "raw frames were not kept"),
        ("provenance", {}, {"source": "import"}, ABSENT, "another recorder's file"),
        ("determinism", {}, {"replay_equal": {NAME: False}}, FAIL, "hash is not the recorded one"),
        ("determinism", {}, {"replay_equal": {}}, ABSENT, "not replayed"),
        ("economics", {"spread_bps_p50": 5.1}, {}, WARN, "spread p50 5.10 bps is above 5"),
        ("economics", {"spread_bps_p95": 21.0}, {}, WARN, "spread p95 21.00 bps is above 20"),
        ("economics", {"crossed_intervals": 1, "crossed_longest_ns": 208_000_000}, {}, WARN, "crossed: 1, for up to 0.208 s"),
        ("economics", {"messages": 0}, {}, ABSENT, "no depth"),
        ("staleness", {"depth_silence_ns": 6 * NS_PER_S}, {}, WARN, "depth was silent for 6.0 s"),
        (
            "staleness", {"data_silence_ns": 7 * NS_PER_S}, {"without_depth": frozenset({NAME})}, WARN,
            "all data was silent for 7.0 s",
        ),
        ("duplicate_trades", {"trades_duplicate": 1}, {}, WARN, "1 of 4000 trades are on the tape before"),
        ("duplicate_trades", {"trades_late": 2}, {}, WARN, "2 trades came behind one with a higher id"),
        ("duplicate_trades", {"trades_numbered": 0}, {}, ABSENT, "no ids"),
        ("duplicate_trades", {"trades_numbered": 0, "trades": 0}, {}, ABSENT, "no trades"),
        ("trade_outside_book", {"trades_outside": 5, "trade_outside_bps_max": 31.5}, {}, WARN, "5 of 4000 trades fit no book"),
        ("trade_outside_book", {"trades_checked": 0}, {}, ABSENT, "no trade met a book"),
        ("bbo_agreement", {"bbo_agreement": 0.99}, {}, WARN, "agree at 99.0000% of 1000 update ids"),
        ("bbo_agreement", {"bbo_agreement": None, "bbo_compared": 0}, {}, ABSENT, "came under the id"),
        ("depth_coverage", {"depth_levels_p50": 19}, {}, WARN, "19 levels, below 20"),
        ("depth_coverage", {"depth_levels_p50": None, "depth_reach_bps_p50": None}, {}, ABSENT, "no two-sided book"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_by_its_own_gate_and_no_other(
    gate: str, changed: Mapping[str, Any], facts: Mapping[str, Any], status: Status, said: str
) -> None:
    found = verdicts(changed, facts=facts)
    assert (found[gate].status, found[gate].symbol) == (status, NAME)
    assert said in found[gate].reason
    others = {name for name, result in found.items() if result.status is not PASS} - {gate}
    # A run that asked for no depth is judged by neither of the gates that are about its sequence.
    assert others <= ({"bootstrap", "gap_rate"} if "without_depth" in facts else set())


@pytest.mark.parametrize(
    ("clock", "changed", "said"),
    [
        ({"offset_ms": -1_001.0}, {"clock_offset_ms": -999.0}, "local - binance_spot is -1001.0 ms"),
        ({"drift_ms_per_h": -103.0}, {}, "drifts by -103.0 ms an hour"),
        ({"jumps": 2}, {}, "clock was set: 2"),
        ({"offset_ms": 60.0}, {}, "55.0 ms before they were sent"),
        (UNASKED, {}, "never told its time"),
    ],
)
def test_a_clock_that_cannot_be_relied_on_is_told(
    clock: Mapping[str, Any], changed: Mapping[str, Any], said: str
) -> None:
    found = verdicts(changed, clock=clock)
    assert (found["clock"].status, found["clock"].action) == (WARN, Action.WARN)
    assert said in found["clock"].reason


def test_a_drift_that_the_probes_errors_explain_is_none() -> None:
    """Two minutes of capture tell the slope to some hundred ms an hour and no better."""
    assert verdicts(clock={"drift_ms_per_h": 800.0, "drift_error_ms_per_h": 701.0})["clock"].status is PASS
    assert verdicts(clock={"drift_ms_per_h": 800.0, "drift_error_ms_per_h": 699.0})["clock"].status is WARN
    assert verdicts(clock={"drift_ms_per_h": None, "drift_error_ms_per_h": None})["clock"].status is PASS


def test_the_spread_is_judged_where_the_seed_says_so() -> None:
    wide = {"spread_bps_p50": 80.0, "spread_bps_p95": 300.0}
    for name, status in ((NAME, WARN), ("BTCUSDT@bybit_spot", WARN), ("BTCUSDT_PERP", WARN), ("PEPEUSDT", PASS)):
        assert verdicts({"symbol": name, **wide})["economics"].status is status
    assert verdicts({"spread_bps_p50": None, "spread_bps_p95": None})["economics"].status is PASS


@pytest.mark.parametrize(
    ("rule", "gate", "measured", "beyond"),
    [
        ("max_spread_bps_p50", "economics", "spread_bps_p50", 1e-9),
        ("max_spread_bps_p95", "economics", "spread_bps_p95", 1e-9),
        ("max_crossed_intervals", "economics", "crossed_intervals", 1),
        ("max_duplicate_trades", "duplicate_trades", "trades_duplicate", 1),
        ("max_late_trades", "duplicate_trades", "trades_late", 1),
        ("min_bbo_agreement", "bbo_agreement", "bbo_agreement", -1e-9),
        ("min_depth_levels", "depth_coverage", "depth_levels_p50", -1),
        ("min_depth_reach_bps", "depth_coverage", "depth_reach_bps_p50", -1e-9),
        ("max_clock_offset_ms", "clock", "offset_ms", 1e-9),
        ("max_clock_jumps", "clock", "jumps", 1),
    ],
)
def test_a_threshold_is_the_last_value_that_passes_and_can_be_set(
    rule: str, gate: str, measured: str, beyond: float, tmp_path: Path
) -> None:
    path = tmp_path / "rules.toml"
    for limit in {getattr(GateRules(), rule), 0.5 if "agreement" in rule else 7}:
        path.write_text(f"{rule} = {limit}\n")
        rules = load_gate_rules(path)
        assert msgspec.structs.replace(rules, **{rule: getattr(GateRules(), rule)}) == GateRules()
        for value, status in ((limit, PASS), (limit + beyond, WARN)):
            if gate == "clock":
                found = verdicts({"clock_offset_ms": None}, clock={measured: value}, rules=rules)
            else:
                found = verdicts({measured: value}, rules=rules)
            assert found[gate].status is status, value


def test_silences_and_shares_have_limits_too() -> None:
    rules = GateRules(max_silence_s=2.5, max_trades_outside_share=0.25)
    for silence_ns, status in ((2_500_000_000, PASS), (2_500_000_001, WARN)):
        assert verdicts({"depth_silence_ns": silence_ns}, rules=rules)["staleness"].status is status
    for outside, status in ((1_000, PASS), (1_001, WARN)):
        assert verdicts({"trades_outside": outside}, rules=rules)["trade_outside_book"].status is status
    for early_ms, status in ((49.0, PASS), (51.0, WARN)):
        clock = {"offset_ms": GOOD.clock_offset_ms + early_ms + 1.0} if GOOD.clock_offset_ms is not None else {}
        assert verdicts(clock=clock)["clock"].status is status


# -- what it leads to -------------------------------------------------------------------------------------------------


def test_gates_are_hard_as_the_seed_says() -> None:
    for is_strict in (False, True):
        found = verdicts(facts={"is_strict": is_strict})
        hard = {name for name, result in found.items() if result.is_hard}
        assert hard == {"bootstrap", "gap_rate"} if is_strict else {"bootstrap"}
        assert {result.action for result in found.values() if result.is_hard} == {Action.ABORT}
        marking = {name for name, result in found.items() if result.action is Action.MARK_NON_CERTIFIED}
        assert marking == {"provenance", "determinism"}


@pytest.mark.parametrize(
    ("changed", "facts", "costs"),
    [
        ({"gaps": 4, "spread_bps_p50": 9.0, "trades_late": 1, "depth_levels_p50": 3}, {}, []),
        ({"gaps": 1}, {"is_strict": True}, ["gap_rate"]),
        ({"snapshots": 0}, {}, ["bootstrap"]),
        ({}, {"replay_equal": {NAME: False}}, ["determinism"]),
        ({}, {"replay_equal": {}}, ["determinism"]),
        ({}, {"has_frames": False}, ["provenance"]),
        ({"unjoined": 1}, {"source": "import", "replay_equal": {}}, ["bootstrap", "provenance", "determinism"]),
        ({}, {"without_depth": frozenset({NAME})}, []),
    ],
)  # fmt: skip
def test_the_tier_is_lost_by_failures_and_by_what_was_not_proven(
    changed: Mapping[str, Any], facts: Mapping[str, Any], costs: list[str]
) -> None:
    found = verdicts(changed, facts=facts)
    name, reasons = tier(found.values())
    assert name == ("NON_CERTIFIED" if costs else "CERTIFIED")
    assert reasons == tuple(f"{NAME}: {gate}: {found[gate].reason}" for gate in costs)


def test_a_session_is_certified_when_all_its_symbols_are() -> None:
    good, bad = verdicts(), verdicts({"symbol": "ETHUSDT"})  # of which no replay is known
    name, (reason,) = tier([*good.values(), *bad.values()])
    assert name == "NON_CERTIFIED"
    assert reason.startswith("ETHUSDT: determinism: ")


# -- rules from a file ------------------------------------------------------------------------------------------------


def test_rules_of_a_file_stand_above_the_usual_ones(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text('core_symbols = ["PEPEUSDT"]\nmax_spread_bps_p50 = 12\nmin_depth_levels = 5\n')
    rules = load_gate_rules(path)
    assert rules == GateRules(core_symbols=("PEPEUSDT",), max_spread_bps_p50=12.0, min_depth_levels=5)
    assert verdicts({"symbol": "PEPEUSDT", "spread_bps_p50": 12.5}, rules=rules)["economics"].status is WARN
    assert verdicts({"spread_bps_p50": 12.5}, rules=rules)["economics"].status is PASS
    path.write_text("# nothing\n")
    assert load_gate_rules(path) == GateRules()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("max_spread_bps_p59 = 3", "max_spread_bps_p50"),
        ("max_silence = 3", "max_silence_s"),
        ("[gates]\nmax_silence_s = 3", "gates"),
        ('max_silence_s = "long"', "max_silence_s"),
        ("max_silence_s = -1", "max_silence_s"),
        ("max_silence_s = nan", "max_silence_s"),
        ("max_silence_s = inf", "max_silence_s"),
        ("min_bbo_agreement = 1.5", "min_bbo_agreement"),
        ("max_late_trades = 0.5", "max_late_trades"),
        ("core_symbols = 3", "core_symbols"),
        ("max_silence_s = ", "not valid TOML"),
        ("# \udcff", "not valid TOML"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused_by_its_name_and_key(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigError) as refused:
        load_gate_rules(path)
    assert str(path) in str(refused.value)
    assert said in str(refused.value)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: the gate rules cannot be read"):
        load_gate_rules(tmp_path / "none.toml")


# -- from tapes -------------------------------------------------------------------------------------------------------

LEVELS: Any = ([(990 - k, 1) for k in range(30)], [(991 + k, 1) for k in range(30)])
AT = T0_NS + NS_PER_S
SNAPSHOT = depth(T0_NS, 10, *LEVELS, whole=True)


def trade(at_ns: int, price: int, trade_id: int) -> Rows:
    return row(Kind.TRADE, at_ns, price=price, qty=1, sequence=trade_id)


@pytest.mark.parametrize(
    ("gates", "parts"),
    [
        (set(), [SNAPSHOT, depth(AT, 11, [(990, 2)]), quote(AT, 11, (990, 2), (991, 1)), trade(AT, 991, 1)]),
        ({"bootstrap"}, [depth(AT, 11, [(990, 2)])]),
        ({"bootstrap"}, [SNAPSHOT, depth(AT, 12, [(990, 2)]), depth(AT, 11, [(990, 3)])]),
        ({"gap_rate"}, [SNAPSHOT, depth(AT, 11), row(Kind.GAP, AT, value=1.0), depth(AT, 20, *LEVELS, whole=True)]),
        ({"economics"}, [SNAPSHOT, depth(AT, 11, [(995, 1)]), depth(AT, 12, [(980, 1)]), depth(AT, 13, [(995, 0)])]),
        (set(), [SNAPSHOT, depth(AT, 11, [(995, 1)]), depth(AT, 12, [(995, 0)])]),  # crossed for one message
        ({"staleness"}, [SNAPSHOT, depth(AT, 11), row(Kind.TIMER, AT + 6 * NS_PER_S, -1)]),
        ({"duplicate_trades"}, [SNAPSHOT, depth(AT, 11), trade(AT, 991, 7), trade(AT, 991, 7)]),
        ({"duplicate_trades"}, [SNAPSHOT, depth(AT, 11), trade(AT, 991, 7), trade(AT, 991, 6)]),
        ({"trade_outside_book"}, [SNAPSHOT, trade(T0_NS + 1, 900, 1), depth(AT + 2, 11)]),
        ({"bbo_agreement"}, [SNAPSHOT, depth(AT, 11), quote(AT, 11, (990, 2), (991, 1))]),
        ({"depth_coverage"}, [depth(T0_NS, 10, [(990, 1)], [(991, 1)], whole=True), depth(AT, 11)]),
    ],
)  # fmt: skip
def test_each_gate_tells_its_tape(gates: set[str], parts: list[Rows]) -> None:
    probe = row(Kind.CLOCK, T0_NS, venue_ns=T0_NS, sequence=1_000, value=0.0)
    rules = GateRules(max_spread_bps_p50=20.0)  # a tick of this world is 10 bps
    measuring = Measuring(WORLD)
    measuring.add(tape_of(probe, *parts))
    measures = measuring.result()
    results = [result for result in judge(measures, SessionFacts(source="capture"), rules) if result.symbol == NAME]
    told = {result.name for result in results if result.status in (WARN, FAIL)}
    assert told - ({"depth_coverage"} if "bootstrap" in gates else set()) == gates


# -- sessions ---------------------------------------------------------------------------------------------------------


def of_session(session: Session, *, is_strict: bool = False) -> dict[tuple[str, str], GateResult]:
    """The gates of a whole session, replayed from its raw log. Silent is what says nothing for two seconds."""
    measures = measure(session)
    is_equal = first_divergence(session) is None
    replay_equal = {one.symbol: is_equal for one in measures.symbols}
    facts = SessionFacts(source=session.manifest.source, is_strict=is_strict, replay_equal=replay_equal)
    return {(one.symbol, one.name): one for one in judge(measures, facts, GateRules(max_silence_s=2.0))}


def test_the_faults_of_a_capture_are_told_where_they_happened(faulty: Session) -> None:
    found = of_session(faulty)
    usdm, spot = "{}_PERP@binance_usdm", "{}@binance_spot"
    broken = {spot.format("BTCUSDT"), usdm.format("BTCUSDT"), usdm.format("ETHUSDT"), "ETHUSDT_PERP@bybit_linear"}
    assert {symbol for (symbol, name), one in found.items() if name == "gap_rate" and one.status is WARN} == broken
    crossed = {symbol: one.figures for (symbol, name), one in found.items() if name == "economics"}
    assert {symbol for symbol, figures in crossed.items() if figures["crossed"]} == {spot.format("ETHUSDT")}
    # The market may move past the false bid at once: only what stays crossed is told.
    stayed = crossed[spot.format("ETHUSDT")]["crossed_intervals"] != 0
    assert (found[spot.format("ETHUSDT"), "economics"].status is WARN) == stayed
    for (symbol, name), one in found.items():
        if name == "clock":  # all of Bybit has one REST address
            assert (one.status is WARN) == ("bybit" in symbol), one
        if name == "staleness":
            assert (one.status is WARN) == ("bybit_spot" in symbol), one
        if name in ("bootstrap", "provenance", "determinism", "trade_outside_book", "depth_coverage"):
            assert one.status is PASS, one
        if name == "duplicate_trades":  # the linear stream's trade ids are no numbers
            assert one.status is (ABSENT if "bybit_linear" in symbol else PASS), one
        if name == "bbo_agreement":
            expected = {PASS, WARN} if symbol == spot.format("ETHUSDT") else {ABSENT} if "bybit" in symbol else {PASS}
            assert one.status in expected, one
    assert tier(found.values()) == ("CERTIFIED", ())


def test_the_same_faults_cost_a_strict_capture_its_tier(faulty: Session) -> None:
    found = of_session(faulty, is_strict=True)
    failed = {key: one for key, one in found.items() if one.status is FAIL}
    assert {name for _, name in failed} == {"gap_rate"}
    assert all(one.is_hard and one.action is Action.ABORT for one in failed.values())
    name, reasons = tier(found.values())
    assert (name, len(reasons)) == ("NON_CERTIFIED", 4)
    untouched = [one for (symbol, _), one in found.items() if symbol == "BTCUSDT_PERP@bybit_linear"]
    assert tier(untouched) == ("CERTIFIED", ())


def test_a_recording_says_in_words_what_it_cannot_prove(imported: Any) -> None:
    session: Session = imported.session
    results = judge(measure(session), SessionFacts(source=session.manifest.source))
    assert not [one for one in results if one.status is FAIL]
    absent = {name for name in GATES if all(one.status is ABSENT for one in results if one.name == name)}
    assert absent == {"provenance", "determinism", "clock"}
    warned = {(one.symbol, one.name) for one in results if one.status is WARN}
    assert warned == {("BTCUSDT_PERP", "staleness")}, "its file ends five minutes before the others"
    for symbol in ("BTCUSDT", "BTCUSDT_PERP", "BTCUSD_PERP"):
        name, reasons = tier(one for one in results if one.symbol == symbol)
        assert name == "NON_CERTIFIED"
        assert ["another recorder's file" in reasons[0], "not replayed" in reasons[1]] == [True, True]
