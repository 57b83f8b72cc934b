"""What a run came to: the object that every command which trades gives back, and that the run folder keeps."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from oneprice.engine.statistics import OpportunitySummary


class RunSummary(msgspec.Struct, frozen=True, kw_only=True):
    """Money is in USDT at the last mid prices, rounded to eight decimals for reading (the ledger holds it exactly).

    `net_pnl = gross_edge - fees - slippage + funding`: `gross_edge` is what the trades would be worth at the end, had
    they been filled at the prices they were decided on, `slippage` what the fills cost against those. A balance that
    only changed its price is no result.
    """

    mode: str
    run_dir: str
    seconds: float  # receive time of the last row minus that of the first
    events: int
    rows_per_s: float  # of the engine, wall clock; not part of any proof
    batches: int
    gaps: int
    resyncs: int
    opportunities: int
    opportunities_by_type: Mapping[str, OpportunitySummary]
    trades: int
    orders: int
    fills: int
    refused: int
    gross_edge: float
    fees: float
    slippage: float
    funding: float
    net_pnl: float
    balanced: bool
    decisions: int
    decision_hash: str
    reconciled: bool | None = None  # live: whether the venues' positions at the end are the run's
    kill_switch: str = ""  # why it was thrown
    note: str = ""
