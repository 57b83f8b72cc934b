"""`oneprice decode`: what does this frame mean? Bytes of one venue, as the tape would hold them."""

from __future__ import annotations

import binascii
import sys
from pathlib import Path
from typing import Annotated

import typer

from oneprice.app.output import give, people, table
from oneprice.data.infer import instruments_of_frame
from oneprice.model.errors import InputError
from oneprice.model.tape import TapeEvent, TapeWriter, view
from oneprice.venues.feed import decode_frame
from oneprice.venues.registry import venue as find_venue


def register(app: typer.Typer) -> None:
    app.command(name="decode", epilog=_EXAMPLES)(decode)


_EXAMPLES = """Examples:

  oneprice decode --venue binance_usdm '{"e":"markPriceUpdate","E":1562305380000,"s":"BTCUSDT","p":"11794.15",…}'

  oneprice decode --venue binance_sbe --hex 3200112701000000…

  tail -1 frames.txt | oneprice decode --venue bybit_linear -"""


def decode(
    frame: Annotated[
        str, typer.Argument(help="The frame's text, `@FILE` for a file's bytes, or `-` for standard input.")
    ],
    venue: Annotated[str, typer.Option(help="The venue whose wire it is: binance_spot, binance_sbe, bybit_linear, …")],
    is_hex: Annotated[bool, typer.Option("--hex", help="The text is hexadecimal (binary frames).")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object on the last line of standard output.")
    ] = False,
) -> None:
    """What a venue's frame means: its rows on the tape, or what kind of control message it is."""
    spoken = find_venue(venue)
    payload = _bytes_of(frame, is_hex=is_hex)
    instruments = instruments_of_frame(spoken, payload)
    tape = TapeWriter()
    status, control = decode_frame(spoken, instruments, payload, tape)
    events = [view(row, instruments) for row in tape.take()]
    if not as_json:
        if control is not None:
            people.print(f"control message: {control.kind} {control.message}".rstrip())
        people.print(table(f"{venue}: {len(events)} rows", [_cells(event) for event in events], _COLUMNS))
    give({"venue": venue, "status": status, "control": control, "rows": events}, as_json=as_json)


_COLUMNS = ("kind", "instrument", "side", "price", "qty", "value", "sequence", "venue time ns")


def _cells(event: TapeEvent) -> tuple[str, ...]:
    value = "" if event.value == 0.0 else repr(event.value)
    return (
        event.kind, event.instrument, event.side, event.price, event.qty, value, str(event.sequence),
        str(event.ts_venue_ns),
    )  # fmt: skip


def _bytes_of(frame: str, *, is_hex: bool) -> bytes:
    if frame == "-":
        raw = sys.stdin.buffer.read()
    elif frame.startswith("@"):
        raw = Path(frame[1:]).read_bytes()
    else:
        raw = frame.encode()
    if not is_hex:
        return raw.strip() if raw[:1] in b'{[ \n"' else raw
    try:
        return binascii.unhexlify(b"".join(raw.split()))
    except binascii.Error as wrong:
        raise InputError(f"--hex: not hexadecimal: {wrong}") from wrong
