"""Where signed requests may go: for each kind of access the hosts of each exchange, and nothing else.

A host that is not written here gets no signed byte, whatever a configuration, a redirect or a library says. Regional
and spare hosts of an exchange are left out on purpose; adding one is a decision, made in this table."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class Access(StrEnum):
    """How far signed requests may reach."""

    NONE = "none"  # nowhere: paper, demo, backtest
    PRACTICE = "practice"  # this machine only
    TESTNET = "testnet"
    LIVE = "live"


HOSTS: Mapping[Access, Mapping[str, frozenset[str]]] = {
    Access.TESTNET: {
        "binance": frozenset(
            {
                "testnet.binance.vision", "ws-api.testnet.binance.vision", "stream.testnet.binance.vision",
                "testnet.binancefuture.com", "stream.binancefuture.com", "fstream.binancefuture.com",
                "demo-api.binance.com", "demo-ws-api.binance.com", "demo-stream.binance.com",
                "demo-fapi.binance.com", "demo-fstream.binance.com",
            }
        ),
        "bybit": frozenset(
            {"api-testnet.bybit.com", "stream-testnet.bybit.com", "api-demo.bybit.com", "stream-demo.bybit.com"}
        ),
    },
    Access.LIVE: {
        "binance": frozenset(
            {
                "api.binance.com", "ws-api.binance.com", "stream.binance.com",
                "fapi.binance.com", "ws-fapi.binance.com", "fstream.binance.com",
            }
        ),
        "bybit": frozenset({"api.bybit.com", "stream.bybit.com"}),
    },
}  # fmt: skip


def allowed_hosts(access: Access, exchange: str) -> frozenset[str]:
    """The hosts that may get this exchange's signed requests; empty when there is none."""
    if access is Access.PRACTICE:
        return LOOPBACK
    return HOSTS.get(access, {}).get(exchange, frozenset())
