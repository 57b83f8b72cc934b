"""The quality gates: from measures to verdicts. Pure: figures in, results out, so that a verdict can be derived again.

gate                | when it fails                                                        | action
--------------------|----------------------------------------------------------------------|------------------
bootstrap           | no snapshot was applied, or a depth message does not continue it     | abort (hard)
gap_rate            | a gap; with strict any one ends the capture                          | abort (hard) | warn
provenance          | the raw frames of this symbol are not this machine's own record      | mark non-certified
determinism         | the replay's hash is not the recorded one                            | mark non-certified
economics           | spread of a core symbol too wide, or a book that stays crossed       | warn
staleness           | depth (where there is none: all data) was silent for too long        | warn
clock               | the venue's clock is too far away, drifts, was set, or was not asked | warn
duplicate_trades    | a trade id that was there before, or that came behind a higher one   | warn
trade_outside_book  | trades at prices that no book of that time explains                  | warn
bbo_agreement       | the book is not what the venue's own best bid and ask say            | warn
depth_coverage      | the book shows too little to walk it                                 | warn

PASS: as it should be. WARN: not so, and told. FAIL: not so, and it costs the run or the certificate. NOT_APPLICABLE: there was
nothing to judge, and the reason says why. A gate that marks a symbol non-certified proves a claim, so it must PASS; one that
aborts must not FAIL."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import msgspec

from oneprice.data.certify.measures import TRADE_TOLERANCE_BPS, SessionMeasures, SymbolMeasures
from oneprice.data.certify.measures_clock import ClockMeasures
from oneprice.model.errors import ConfigError, unknown_name
from oneprice.model.time import NS_PER_S

_NS_PER_H = 3_600 * NS_PER_S
DETERMINISM = "determinism"  # the gate that only a replay of the whole session can judge
_IMPORT = "import"  # `SessionManifest.source` of what another recorder wrote
_CORE = (
    "BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT", "XRPUSDT", "ETHBTC", "BNBBTC", "SOLBTC", "BTCUSDT_PERP", "ETHUSDT_PERP",
)  # fmt: skip
Figure = int | float | None

_Least = Annotated[float, msgspec.Meta(ge=0.0)]
_Count = Annotated[int, msgspec.Meta(ge=0)]
_Share = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]


class Status(StrEnum):
    PASS = "PASS"
    WARN = "WARN"
    FAIL = "FAIL"
    NOT_APPLICABLE = "NOT_APPLICABLE"


class Action(StrEnum):
    """What a gate that is not passed leads to."""

    ABORT = "abort"
    MARK_NON_CERTIFIED = "mark non-certified"
    WARN = "warn"


class GateRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The thresholds, each the last value that still passes."""

    core_symbols: tuple[str, ...] = _CORE  # session names whose spread is judged: the seed's profile 1
    max_spread_bps_p50: _Least = 5.0  # for core symbols; both are the seed's reading (R0.16)
    max_spread_bps_p95: _Least = 20.0
    max_crossed_intervals: _Count = 0  # longer than one message: no venue matches a book that stays crossed
    # Core symbols change several times a second and a capture gives a silent connection up after 30 s: a quote older than
    # 5 s is one that nobody should trade on, long before the connection is known to be dead.
    max_silence_s: _Least = 5.0
    # Binance refuses a signed request that is more than 1 s ahead of its own clock.
    max_clock_offset_ms: _Least = 1_000.0
    # A quartz that nobody disciplines is some 20 ppm off, 72 ms an hour: beyond this a clock is broken or being dragged.
    max_clock_drift_ms_per_h: _Least = 100.0
    max_clock_jumps: _Count = 0
    # No message comes before it was sent. By the offset it may seem so for what the clock drifted since; beyond this, a clock
    # was set between two probes.
    max_early_ms: _Least = 50.0
    max_duplicate_trades: _Count = 0  # ids are unique and ascend: there is no reason for one
    max_late_trades: _Count = 0
    trade_tolerance_bps: _Least = TRADE_TOLERANCE_BPS  # goes into the measuring
    # A book that lags through a violent second must not condemn a day; a wrong book puts far more trades outside.
    max_trades_outside_share: _Share = 0.001
    min_bbo_agreement: _Share = 0.999  # both are told under one update id, so nearly every difference is a wrong book
    min_depth_levels: _Count = 20  # what the replay hash covers, and what a book-walking backtest reads
    min_depth_reach_bps: _Least = 0.0  # tick sizes differ too much between venues for one distance to suit all


class SessionFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the gates need to know and the tape cannot tell. `replay_equal` is by symbol; not there: it was not replayed."""

    source: str  # of the session manifest: "capture", "import"
    is_strict: bool = False
    has_frames: bool = True  # the raw log is there, whole
    without_depth: frozenset[str] = frozenset()  # symbols whose depth was not asked for
    replay_equal: Mapping[str, bool] = {}


class GateResult(msgspec.Struct, frozen=True, kw_only=True):
    """One gate's verdict on one symbol. `is_hard`: a FAIL ends the run, and a command exits with an error."""

    name: str
    symbol: str
    status: Status
    is_hard: bool
    action: Action
    figures: Mapping[str, Figure]
    reason: str  # a sentence for people; "" for a PASS


class _Verdict(msgspec.Struct, frozen=True):
    status: Status
    reason: str = ""
    figures: Mapping[str, Figure] = {}


def load_gate_rules(path: Path) -> GateRules:
    """The rules with a TOML file's values on top. ConfigError names the file and the key."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as wrong:
        raise ConfigError(f"{path}: the gate rules cannot be read: {wrong.strerror}") from wrong
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as wrong:
        raise ConfigError(f"{path}: not valid TOML: {wrong}") from wrong
    fields = [field.name for field in msgspec.structs.fields(GateRules)]
    for key, value in values.items():
        if key not in fields:
            raise ConfigError(unknown_name("gate rule", key, fields, where=str(path)))
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{path}: {key} = {value} is no threshold; give a number")
    try:
        return msgspec.convert(values, GateRules)
    except msgspec.ValidationError as wrong:
        raise ConfigError(f"{path}: {wrong}") from wrong


def judge(measures: SessionMeasures, facts: SessionFacts, rules: GateRules | None = None) -> tuple[GateResult, ...]:
    """Every gate on every symbol, symbol by symbol in the order of the measures."""
    rules = rules or GateRules()
    span_ns = measures.until_ns - measures.from_ns
    return tuple(
        result
        for one in measures.symbols
        for result in _of_symbol(one, measures.clock_of(one), span_ns, facts, rules)
    )  # fmt: skip


def tier(results: Iterable[GateResult]) -> tuple[str, tuple[str, ...]]:
    """("CERTIFIED", ()) or ("NON_CERTIFIED", why) for the results of one symbol (or of several: all must be certified)."""
    reasons = tuple(
        f"{result.symbol}: {result.name}: {result.reason}"
        for result in results
        if result.status is Status.FAIL
        or (result.action is Action.MARK_NON_CERTIFIED and result.status is not Status.PASS)
    )
    return ("NON_CERTIFIED" if reasons else "CERTIFIED"), reasons


def _of_symbol(
    one: SymbolMeasures, clock: ClockMeasures, span_ns: int, facts: SessionFacts, rules: GateRules
) -> Iterable[GateResult]:
    gap_action = Action.ABORT if facts.is_strict else Action.WARN
    verdicts: tuple[tuple[str, Action, _Verdict], ...] = (
        ("bootstrap", Action.ABORT, _bootstrap(one, facts)),
        ("gap_rate", gap_action, _gap_rate(one, span_ns, facts)),
        ("provenance", Action.MARK_NON_CERTIFIED, _provenance(facts)),
        (DETERMINISM, Action.MARK_NON_CERTIFIED, _determinism(facts.replay_equal.get(one.symbol))),
        ("economics", Action.WARN, _economics(one, rules)),
        ("staleness", Action.WARN, _staleness(one, facts, rules)),
        ("clock", Action.WARN, _clock(one, clock, facts, rules)),
        ("duplicate_trades", Action.WARN, _duplicate_trades(one, rules)),
        ("trade_outside_book", Action.WARN, _trade_outside_book(one, rules)),
        ("bbo_agreement", Action.WARN, _bbo_agreement(one, rules)),
        ("depth_coverage", Action.WARN, _depth_coverage(one, rules)),
    )
    for name, action, verdict in verdicts:
        yield GateResult(
            name=name, symbol=one.symbol, status=verdict.status, is_hard=action is Action.ABORT, action=action,
            figures=verdict.figures, reason=verdict.reason,
        )  # fmt: skip


def _told(wrong: Iterable[str], figures: Mapping[str, Figure], *, otherwise: Status = Status.WARN) -> _Verdict:
    """PASS without anything wrong; else what is wrong, in one sentence."""
    sentence = "; ".join(wrong)
    return _Verdict(otherwise if sentence else Status.PASS, sentence, figures)


def _absent(reason: str, figures: Mapping[str, Figure] | None = None) -> _Verdict:
    return _Verdict(Status.NOT_APPLICABLE, reason, figures or {})


def _bootstrap(one: SymbolMeasures, facts: SessionFacts) -> _Verdict:
    if one.symbol in facts.without_depth:
        return _absent("no depth was asked for")
    figures: dict[str, Figure] = {
        "snapshots": one.snapshots, "messages": one.messages, "unjoined": one.unjoined, "disordered": one.disordered,
    }  # fmt: skip
    wrong = []
    if one.snapshots == 0:
        wrong.append("no snapshot was applied, so no book ever stood")
    if one.unjoined > 0:
        wrong.append(f"{one.unjoined} depth messages belong to no book")
    if one.disordered > 0:
        wrong.append(f"{one.disordered} depth messages do not come behind the one before them")
    if not wrong and one.messages == one.snapshots:
        return _Verdict(Status.WARN, "a snapshot was applied, and no message followed to continue it", figures)
    return _told(wrong, figures, otherwise=Status.FAIL)


def _gap_rate(one: SymbolMeasures, span_ns: int, facts: SessionFacts) -> _Verdict:
    if one.symbol in facts.without_depth:
        return _absent("no depth was asked for")
    per_hour = one.gaps * _NS_PER_H / span_ns if span_ns > 0 else None
    figures: dict[str, Figure] = {"gaps": one.gaps, "gaps_per_h": per_hour}
    strict = ", and the capture was strict" if facts.is_strict else ""
    wrong = [f"gaps in the depth: {one.gaps}{strict}"] if one.gaps > 0 else []
    return _told(wrong, figures, otherwise=Status.FAIL if facts.is_strict else Status.WARN)


def _provenance(facts: SessionFacts) -> _Verdict:
    if facts.source == _IMPORT:
        return _absent(
            "this is another recorder's file: its raw bytes, receive times and what it asked the venue for are not this "
            "machine's own record"
        )
    return _told([] if facts.has_frames else ["the raw frames were not kept"], {}, otherwise=Status.FAIL)


def _determinism(replay_equal: bool | None) -> _Verdict:
    if replay_equal is None:
        return _absent("it was not replayed, so nothing says that the same bytes give the same rows and books")
    return _told([] if replay_equal else ["the replay's hash is not the recorded one"], {}, otherwise=Status.FAIL)


def _economics(one: SymbolMeasures, rules: GateRules) -> _Verdict:
    if one.messages == 0:
        return _absent("there is no depth")
    figures: dict[str, Figure] = {
        "spread_bps_p50": one.spread_bps_p50, "spread_bps_p95": one.spread_bps_p95, "crossed": one.crossed,
        "crossed_intervals": one.crossed_intervals, "crossed_longest_ns": one.crossed_longest_ns, "locked": one.locked,
    }  # fmt: skip
    wrong = []
    if one.symbol.partition("@")[0] in rules.core_symbols:
        for part, spread, limit in (
            ("p50", one.spread_bps_p50, rules.max_spread_bps_p50),
            ("p95", one.spread_bps_p95, rules.max_spread_bps_p95),
        ):
            if spread is not None and spread > limit:
                wrong.append(f"spread {part} {spread:.2f} bps is above {limit:g}")
    if one.crossed_intervals > rules.max_crossed_intervals:
        longest_s = one.crossed_longest_ns / NS_PER_S
        wrong.append(f"times that the book stayed crossed: {one.crossed_intervals}, for up to {longest_s:.3f} s")
    return _told(wrong, figures)


def _staleness(one: SymbolMeasures, facts: SessionFacts, rules: GateRules) -> _Verdict:
    figures: dict[str, Figure] = {"depth_silence_ns": one.depth_silence_ns, "data_silence_ns": one.data_silence_ns}
    has_depth = one.symbol not in facts.without_depth
    what, silence_ns = ("depth", one.depth_silence_ns) if has_depth else ("all data", one.data_silence_ns)
    is_long = silence_ns > rules.max_silence_s * NS_PER_S
    said = f"{what} was silent for {silence_ns / NS_PER_S:.1f} s, which is above {rules.max_silence_s:g} s"
    return _told([said] if is_long else [], figures)


def _clock(one: SymbolMeasures, clock: ClockMeasures, facts: SessionFacts, rules: GateRules) -> _Verdict:
    figures: dict[str, Figure] = {
        "probes": clock.probes, "offset_ms": clock.offset_ms, "error_ms": clock.error_ms,
        "drift_ms_per_h": clock.drift_ms_per_h, "drift_error_ms_per_h": clock.drift_error_ms_per_h,
        "jumps": clock.jumps, "one_way_offset_ms": one.clock_offset_ms,
    }  # fmt: skip
    if clock.offset_ms is None:
        if facts.source == _IMPORT:
            return _absent(
                "the clock was not probed: one-way delays give the offset only together with the quickest message's delay",
                figures,
            )
        return _Verdict(
            Status.WARN, f"{clock.venue} never told its time, so latencies are over its quickest message", figures
        )
    wrong = []
    if abs(clock.offset_ms) > rules.max_clock_offset_ms:
        wrong.append(f"local - {clock.venue} is {clock.offset_ms:.1f} ms, beyond {rules.max_clock_offset_ms:g} ms")
    if clock.drift_ms_per_h is not None and clock.drift_error_ms_per_h is not None:
        least = abs(clock.drift_ms_per_h) - clock.drift_error_ms_per_h  # what the probes' own errors cannot explain
        if least > rules.max_clock_drift_ms_per_h:
            wrong.append(f"the clock drifts by {clock.drift_ms_per_h:.1f} ms an hour")
    if one.clock_offset_ms is not None:
        early_ms = clock.offset_ms - one.clock_offset_ms - (clock.error_ms or 0.0)
        if early_ms > rules.max_early_ms:
            said = f"messages seem to arrive {early_ms:.1f} ms before they were sent"
            wrong.append(f"{said}: a clock was set between two probes")
    if clock.jumps > rules.max_clock_jumps:
        wrong.append(f"times that a clock was set: {clock.jumps}")
    return _told(wrong, figures)


def _duplicate_trades(one: SymbolMeasures, rules: GateRules) -> _Verdict:
    if one.trades_numbered == 0:
        return _absent("its trades carry no ids that can be compared" if one.trades else "there are no trades")
    figures: dict[str, Figure] = {
        "trades": one.trades, "numbered": one.trades_numbered, "duplicates": one.trades_duplicate, "late": one.trades_late,
    }  # fmt: skip
    wrong = []
    if one.trades_duplicate > rules.max_duplicate_trades:
        wrong.append(f"{one.trades_duplicate} of {one.trades_numbered} trades are on the tape before")
    if one.trades_late > rules.max_late_trades:
        wrong.append(f"{one.trades_late} trades came behind one with a higher id")
    return _told(wrong, figures)


def _trade_outside_book(one: SymbolMeasures, rules: GateRules) -> _Verdict:
    if one.trades_checked == 0:
        return _absent("no trade met a book")
    share = one.trades_outside / one.trades_checked
    figures: dict[str, Figure] = {
        "checked": one.trades_checked, "outside": one.trades_outside, "outside_bps_max": one.trade_outside_bps_max,
    }  # fmt: skip
    said = f"{one.trades_outside} of {one.trades_checked} trades fit no book, by up to {one.trade_outside_bps_max} bps"
    return _told([said] if share > rules.max_trades_outside_share else [], figures)


def _bbo_agreement(one: SymbolMeasures, rules: GateRules) -> _Verdict:
    if one.bbo_agreement is None:
        return _absent("no best bid and ask of the venue's own came under the id of a depth message")
    figures: dict[str, Figure] = {"compared": one.bbo_compared, "agreement": one.bbo_agreement}
    said = f"book and quote agree at {one.bbo_agreement:.4%} of {one.bbo_compared} update ids"
    return _told([said] if one.bbo_agreement < rules.min_bbo_agreement else [], figures)


def _depth_coverage(one: SymbolMeasures, rules: GateRules) -> _Verdict:
    if one.depth_levels_p50 is None or one.depth_reach_bps_p50 is None:
        return _absent("no two-sided book stood")
    figures: dict[str, Figure] = {"levels_p50": one.depth_levels_p50, "reach_bps_p50": one.depth_reach_bps_p50}
    wrong = []
    if one.depth_levels_p50 < rules.min_depth_levels:
        wrong.append(f"the shallower side has {one.depth_levels_p50} levels, below {rules.min_depth_levels}")
    if one.depth_reach_bps_p50 < rules.min_depth_reach_bps:
        wrong.append(f"the book reaches {one.depth_reach_bps_p50:.2f} bps, below {rules.min_depth_reach_bps:g}")
    return _told(wrong, figures)
