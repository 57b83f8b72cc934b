"""A program that trades on the paper venue until it is killed. It writes a line for each thing that it counts as done:
`order N` once the ledger has an order and before the venue gets it, `fill N trade_id` once a fill is in the ledger.

    python killed_trader.py LEDGER ROUNDS

Started again on the same ledger it repeats the same run, as a restart repeats its tape, and goes on behind it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from oneprice.model.order import Side
from oneprice.trading.paper import Latency, PaperVenue
from trading.market import SPOT, TABLE, Account, Market, depth_rows, fills, order


def main(path: Path, rounds: int) -> None:
    account = Account(path)
    market = Market(PaperVenue(TABLE, Latency(order_ms=1, report_ms=1)))
    market.snapshot(SPOT, [(9_990_000, 1)], [(10_000_000, 1)])
    for number in range(1, rounds + 1):
        market.feed(
            depth_rows(
                SPOT, [(9_990_000, 900 + number % 7), (9_980_000, 500)], [(10_000_000, 900 + number % 5)],
                ts_ns=market.now_ns,
            )
        )  # fmt: skip
        one = order(number, SPOT, Side.BUY if number % 2 else Side.SELL, 1_000, 10_000_000 if number % 2 else 9_980_000)
        account.record(one)
        os.write(1, f"order {number}\n".encode())
        reports = market.send(one)
        account.book(one, reports)
        for report in fills(reports):
            os.write(1, f"fill {number} {report.trade_id}\n".encode())
    os.write(1, b"done\n")
    account.ledger.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
