"""What the instruments of a session are called: the names of their folders, and `tradingsymbol` in their files."""

from __future__ import annotations

from collections import Counter

from oneprice.model.instrument import Instrument, InstrumentKind, InstrumentTable

PERP = "_PERP"


def session_symbol(instrument: Instrument) -> str:
    """The name of an instrument among those of one venue."""
    symbol = instrument.symbol.upper().replace("/", "-")
    is_marked = symbol.endswith(PERP) or instrument.kind is not InstrumentKind.PERP
    return symbol if is_marked else symbol + PERP


def session_names(instruments: InstrumentTable) -> tuple[str, ...]:
    """Each instrument's name, in the order of the table: `BTCUSDT` on a spot market, `BTCUSDT_PERP` for the perpetual.

    Instruments of several venues that would share a name carry their venue, too: `BTCUSDT@bybit_spot`.
    """
    plain = [session_symbol(instrument) for instrument in instruments]
    counts = Counter(plain)
    return tuple(
        name if counts[name] == 1 else f"{name}@{instrument.venue}"
        for name, instrument in zip(plain, instruments, strict=True)
    )
