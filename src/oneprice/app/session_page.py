"""A session as one HTML file that needs nothing but a browser: what it holds by instrument, how good it is, where it has
holes. Tables are written here; charts are drawn by `session_page.js` with Plotly, which is inside the file, as is its style.
The page forbids itself the network (Content-Security-Policy), so a browser proves that nothing is fetched."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from plotly.offline import get_plotlyjs

from oneprice import __version__
from oneprice.data.certify.gaps import GapEntry
from oneprice.data.certify.gates import Status
from oneprice.data.certify.publish import Certificate, SymbolVerdict
from oneprice.data.export.samples import Samples, SymbolSamples
from oneprice.data.export.samples_pass import DEPTH_BPS, DEPTH_MESSAGES, HIGH, LOW, TRADES
from oneprice.data.session import CLOSED, Session, SessionManifest
from oneprice.model.time import NS_PER_MS, NS_PER_S, iso_ms

_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
_GAPS_SHOWN = 200
_SPARK_POINTS = 96
_DASH = "–"
_LOOKS = {Status.PASS: "good", Status.WARN: "warn", Status.FAIL: "bad", Status.NOT_APPLICABLE: "none"}
_NOTES = (
    "Times are receive times in UTC. Each point stands for one bucket of {bucket}; what lies inside a bucket is not thinned "
    "out: lines show the last value or the median, bands and thin lines the lowest and the highest.",
    "Spread and mid are those of the recorded book, weighted by the time for which it stood so. Quantiles are exact to 1.1 %.",
    "Depth is what could be bought or sold within {depth} bps of the mid when the bucket ended, as far as the recorded book "
    "reaches.",
    "Trades: the lowest and the highest price in a bucket by the taker's side, at the time they were received.",
    "Latency is receive time − venue time − clock offset of depth messages, quotes and trades (snapshots apart). Where no "
    "clock probes were recorded, the offset is that of the quickest message, and latencies are what others took beyond it.",
    "Gaps are shaded from where the book was lost to the snapshot that made it whole again. A book is whole while it has two "
    "sides and no gap.",
)


def session_page(session: Session, samples: Samples) -> str:
    """The page. Same session, same bytes."""
    certificate = certificate_of(session)
    verdicts = certificate.symbols if certificate is not None else {}
    shown = [symbol for symbol in samples.symbols if symbol.messages.any() or symbol.gaps]
    silent = [symbol.name for symbol in samples.symbols if symbol not in shown]
    assets = files("oneprice.app")
    bucket = _duration(samples.bucket_ns)
    notes = [note.format(bucket=bucket, depth=_words(f"{bps:g}" for bps in DEPTH_BPS)) for note in _NOTES]
    if silent:
        notes.insert(0, f"Nothing was received of {_words(silent)}.")
    title = session.folder.resolve().name
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)} · oneprice</title>
<style>{(assets / "session_page.css").read_text("utf-8")}</style>
<script>document.documentElement.dataset.theme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";</script>
</head>
<body>
<div class="frame">
{_navigation(shown)}
<main>
<h1>{escape(title)}</h1>
<p class="under">{_span(samples)}</p>
{_figures(session, samples, certificate)}
{_overview(shown, samples, verdicts)}
{"".join(_section(number, symbol, verdicts.get(symbol.name)) for number, symbol in enumerate(shown))}
<section class="notes" id="notes">{"".join(f"<p>{escape(note)}</p>" for note in notes)}
<p>Written by oneprice {escape(__version__)}.</p></section>
</main>
</div>
<script type="application/json" id="samples">{_as_script(_numbers(shown, samples))}</script>
<script>{get_plotlyjs()}</script>
<script>{(assets / "session_page.js").read_text("utf-8")}</script>
</body>
</html>
"""


def certificate_of(session: Session) -> Certificate | None:
    """What the session's manifest says that it is worth; None where nobody has judged it."""
    told = session.manifest.certificate
    return msgspec.convert(told, Certificate) if told else None


def _navigation(shown: Sequence[SymbolSamples]) -> str:
    parts = ['<nav><div class="brand">oneprice</div><a href="#overview"><span>Overview</span></a>']
    venue = ""
    for number, symbol in enumerate(shown):
        if symbol.instrument.venue != venue:
            venue = symbol.instrument.venue
            parts.append(f'<div class="venue">{escape(venue)}</div>')
        gaps = f'<span class="badge bad" title="gaps">{len(symbol.gaps):,}</span>' if symbol.gaps else ""
        label = symbol.name.removesuffix(f"@{venue}")
        parts.append(f'<a href="#symbol-{number}"><span>{escape(label)}</span>{gaps}</a>')
    parts.append('<a href="#notes"><span>How to read it</span></a>')
    return "".join(parts) + '<button id="theme" type="button">light / dark</button></nav>'


def _figures(session: Session, samples: Samples, certificate: Certificate | None) -> str:
    read: SessionManifest = session.manifest
    look = "good" if session.state == CLOSED else "warn"
    state = f'<span class="badge {look}" title="{escape(read.stop_reason)}">{escape(session.state)}</span>'
    gaps = sum(len(symbol.gaps) for symbol in samples.symbols)
    trades = sum(int(symbol.messages[:, TRADES].sum()) for symbol in samples.symbols)
    figures = [
        ("state", state),
        *((("tier", _tier(certificate.tier)),) if certificate is not None else ()),
        ("venues", f"{len(read.venues):,}"),
        ("symbols", f"{len(samples.symbols):,}"),
        ("rows", f"{samples.rows:,}"),
        ("frames", f"{read.frames:,}"),
        ("trades", f"{trades:,}"),
        ("gaps", f'<span class="badge bad">{gaps:,}</span>' if gaps else "0"),
        ("source", escape(read.source or _DASH)),
    ]
    return (
        f'<dl class="figures">{"".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in figures)}</dl>'
    )


def _overview(shown: Sequence[SymbolSamples], samples: Samples, verdicts: Mapping[str, SymbolVerdict]) -> str:
    names = ("symbol", "venue", "mid", "messages", "trades", "spread bps<br>p50 / p95", "latency ms<br>p50 / p99",
             f"depth ±{DEPTH_BPS[-1]:g} bps<br>bids / asks", "book whole", "gaps")  # fmt: skip
    heads = "".join(f"<th{' class=text' if place < 3 else ''}>{name}</th>" for place, name in enumerate(names))
    lines = []
    for number, symbol in enumerate(shown):
        widest = [_typical(symbol.depth[:, side, -1]) for side in (0, 1)]
        cells = [
            f'<td class="text"><a href="#symbol-{number}">{escape(symbol.name)}</a></td>',
            f'<td class="text"><small>{escape(symbol.instrument.venue)}</small></td>',
            f'<td class="text">{_spark(symbol.mid)}</td>',
            *(
                f"<td>{text}</td>"
                for text in (
                    f"{int(symbol.messages.sum()):,}",
                    f"{int(symbol.messages[:, TRADES].sum()):,}",
                    f"{_number(symbol.spread_p50_bps)} / {_number(symbol.spread_p95_bps)}",
                    f"{_number(symbol.latencies.p50_ms)} / {_number(symbol.latencies.p99_ms)}",
                    f"{_short(widest[0])} / {_short(widest[1])} <small>{escape(symbol.instrument.quote)}</small>",
                    _whole(symbol, samples),
                    f'<span class="badge bad">{len(symbol.gaps):,}</span>' if symbol.gaps else "0",
                )
            ),
        ]
        if verdicts:
            cells.append(f"<td>{_tier(verdicts[symbol.name].tier)}</td>")
        lines.append(f"<tr>{''.join(cells)}</tr>")
    tier = "<th>tier</th>" if verdicts else ""
    return (
        f'<div class="card scroll" id="overview"><table><thead><tr>{heads}{tier}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _section(number: int, symbol: SymbolSamples, verdict: SymbolVerdict | None) -> str:
    instrument, latencies = symbol.instrument, symbol.latencies
    messages = symbol.messages.sum(axis=0)
    facts = [
        instrument.venue, instrument.canonical, instrument.kind.value, f"tick {instrument.price(instrument.tick):f}",
        f"lot {instrument.qty(instrument.lot):f}", f"{int(messages[DEPTH_MESSAGES]):,} depth messages",
        f"{int(messages[TRADES]):,} trades",
    ]  # fmt: skip
    crossed_ns = int(symbol.crossed_ns.sum())
    if crossed_ns:
        facts.append(f"crossed for {_duration(crossed_ns)}")
    beyond = "" if latencies.is_probed else " beyond the quickest message"
    chart = (
        '<div class="latencies"></div>'
        if latencies.messages
        else '<p class="none">No message carries a venue time.</p>'
    )
    badge, gates = (f" {_tier(verdict.tier)}", _gates(verdict)) if verdict is not None else ("", "")
    return f"""
<section id="symbol-{number}" data-symbol="{number}">
<header><h2>{escape(symbol.name)}</h2>{badge}<span class="facts">{escape(" · ".join(facts))}</span></header>
{gates}<div class="card"><div class="series"></div></div>
<div class="below">
<div class="card"><h3>Latency of {latencies.messages:,} messages{beyond}</h3>{chart}</div>
<div class="card scroll"><h3>Gaps</h3>{_gap_table(symbol.gaps)}</div>
</div>
</section>"""


def _gates(verdict: SymbolVerdict) -> str:
    """Every gate as a badge, and a sentence for each that is not passed."""
    badges = "".join(
        f'<span class="badge {_LOOKS[gate.status]}" title="{escape(gate.reason or gate.status)}">'
        f"{escape(gate.name.replace('_', ' '))}</span>"
        for gate in verdict.gates
    )
    reasons = "".join(
        f"<p><b>{escape(gate.name.replace('_', ' '))}</b> {escape(gate.reason)}</p>"
        for gate in verdict.gates
        if gate.reason
    )
    return f'<div class="card gates">{badges}{reasons}</div>\n'


def _gap_table(gaps: Sequence[GapEntry]) -> str:
    if not gaps:
        return '<p class="none">None: every depth message followed the one before it.</p>'
    lines = [
        f'<tr><td class="text">{iso_ms(gap.at_ns)[11:-1]}</td><td class="text">{escape(gap.reason)}</td>'
        f"<td>{gap.last_good_id or _DASH}</td><td>{gap.expected_id or _DASH}</td><td>{gap.received_id or _DASH}</td>"
        f"<td>{_duration(gap.invalid_ns) if gap.repaired_ns else 'not repaired'}</td></tr>"
        for gap in gaps[:_GAPS_SHOWN]
    ]
    more = f'<p class="none">and {len(gaps) - _GAPS_SHOWN:,} more</p>' if len(gaps) > _GAPS_SHOWN else ""
    return (
        '<table class="gaps"><thead><tr><th class="text">at</th><th class="text">reason</th><th>last good id</th>'
        "<th>expected</th><th>received</th><th>book lost for</th></tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table>{more}"
    )


def _numbers(shown: Sequence[SymbolSamples], samples: Samples) -> dict[str, Any]:
    return {
        "start_ms": samples.start_ns / NS_PER_MS,
        "bucket_ms": samples.bucket_ns / NS_PER_MS,
        "buckets": samples.buckets,
        "first_ms": samples.first_ns / NS_PER_MS,
        "last_ms": samples.last_ns / NS_PER_MS,
        "depth_bps": DEPTH_BPS,
        "symbols": [_numbers_of(symbol, samples.last_ns) for symbol in shown],
    }


def _numbers_of(symbol: SymbolSamples, last_ns: int) -> dict[str, Any]:
    latencies = symbol.latencies
    price_digits = 2 - symbol.instrument.price_exponent  # a mid lies between two ticks
    return {
        "quote": symbol.instrument.quote,
        "mid": _prices(symbol.mid, price_digits),
        "mid_low": _prices(symbol.mid_range[:, LOW], price_digits),
        "mid_high": _prices(symbol.mid_range[:, HIGH], price_digits),
        "trades": [_trade_marks(symbol, side, price_digits) for side in (0, 1)],
        "bought": _compact(symbol.volume[:, 0]),
        "sold": _compact(symbol.volume[:, 1]),
        "spread_p50": _compact(symbol.spread_bps[:, 0]),
        "spread_p95": _compact(symbol.spread_bps[:, 1]),
        "spread_high": _compact(symbol.spread_range_bps[:, HIGH]),
        "depth": [[_compact(symbol.depth[:, side, k]) for k in range(len(DEPTH_BPS))] for side in (0, 1)],
        "messages": symbol.messages.T.tolist(),
        "latency_count": latencies.messages,
        "latency_p50": _compact(symbol.latency_ms[:, 0]),
        "latency_p99": _compact(symbol.latency_ms[:, 1]),
        "latency_edges": _compact(latencies.edges_ms),
        "latency_counts": latencies.counts.tolist(),
        "latency_p50_ms": latencies.p50_ms,
        "latency_p99_ms": latencies.p99_ms,
        "has_funding": symbol.has_funding,
        "basis": _compact(symbol.basis_bps),
        "basis_low": _compact(symbol.basis_range_bps[:, LOW]),
        "basis_high": _compact(symbol.basis_range_bps[:, HIGH]),
        "funding_bps": _compact(symbol.funding_rate * 1e4),
        "gaps": [[gap.at_ns / NS_PER_MS, (gap.repaired_ns or last_ns) / NS_PER_MS] for gap in symbol.gaps],
    }


def _trade_marks(symbol: SymbolSamples, side: int, digits: int) -> dict[str, Any]:
    """The lowest and highest trade of every bucket in order of time; one mark where they are the same trade."""
    prices, times = symbol.trade_price[:, side], symbol.trade_ns[:, side]
    marks = sorted({(int(at), float(price)) for at, price in zip(times.ravel(), prices.ravel(), strict=True) if at})
    return {"at_ms": [at / NS_PER_MS for at, _ in marks], "price": [round(price, digits) for _, price in marks]}


def _compact(values: NDArray[np.float64]) -> list[float | None]:
    """Five digits are more than a screen shows; what is not a number becomes null."""
    return [float(f"{value:.5g}") if np.isfinite(value) else None for value in values.tolist()]


def _prices(values: NDArray[np.float64], digits: int) -> list[float | None]:
    return [round(value, digits) if np.isfinite(value) else None for value in values.tolist()]


def _as_script(value: dict[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _spark(values: NDArray[np.float64]) -> str:
    """The mid over the session as a line without axes."""
    places = np.flatnonzero(np.isfinite(values))
    if len(places) < 2:
        return ""
    places = places[np.unique(np.linspace(0, len(places) - 1, _SPARK_POINTS).astype(np.int64))]
    low, high = float(values[places].min()), float(values[places].max())
    tall = (high - low) or 1.0
    points = " ".join(
        f"{120 * place / max(1, len(values) - 1):.1f},{24 - 22 * (values[place] - low) / tall:.1f}" for place in places
    )
    return f'<svg class="spark" viewBox="0 0 120 26" preserveAspectRatio="none"><polyline points="{points}"/></svg>'


def _whole(symbol: SymbolSamples, samples: Samples) -> str:
    share = int(symbol.book_ns.sum()) / max(1, samples.last_ns - samples.first_ns)
    return f"{np.floor(share * 1e4) / 1e2:.2f} %"  # rounded down: 100 % is said of nothing less


def _typical(values: NDArray[np.float64]) -> float | None:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else None


def _span(samples: Samples) -> str:
    return (
        f"{iso_ms(samples.first_ns)} to {iso_ms(samples.last_ns)} · {_duration(samples.last_ns - samples.first_ns)} · "
        f"{samples.buckets:,} buckets of {_duration(samples.bucket_ns)}"
    )


def _duration(ns: int) -> str:
    if ns < NS_PER_S:
        return f"{ns / NS_PER_MS:.3g} ms" if ns < 999.5 * NS_PER_MS else "1 s"
    if ns < 60 * NS_PER_S:
        return f"{ns / NS_PER_S:.3g} s"
    minutes, seconds = divmod(ns // NS_PER_S, 60)
    hours, minutes = divmod(minutes, 60)
    return " ".join(f"{n} {unit}" for n, unit in ((hours, "h"), (minutes, "min"), (seconds, "s")) if n)


def _number(value: float | None) -> str:
    return _DASH if value is None else f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _short(value: float | None) -> str:
    """A large amount in three digits.

    >>> _short(1_234_567.0)
    '1.23 M'
    """
    if value is None:
        return _DASH
    for scale, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= scale:
            return f"{value / scale:.3g}{unit}"
    return f"{value:.3g}"


def _tier(tier: str) -> str:
    return f'<span class="badge {"good" if tier == "CERTIFIED" else "warn"}">{escape(tier)}</span>'


def _words(names: Iterable[str]) -> str:
    *before, last = names
    return f"{', '.join(before)} and {last}" if before else last
