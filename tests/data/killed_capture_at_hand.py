"""What the capturing processes of `killed_capture.py` are forked from: imported, it has loaded all compiled code they need."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from oneprice.data.infer import Steps, infer_instrument
from oneprice.data.machines import Machines
from oneprice.data.session import SessionWriter
from oneprice.model.instrument import InstrumentTable
from oneprice.model.tape import TapeWriter
from oneprice.venues.registry import venue

with TemporaryDirectory() as _folder:
    _table = InstrumentTable([infer_instrument(venue("binance_spot"), "BTCUSDT", Steps())])
    SessionWriter(Path(_folder) / "S", _table, source="test", created_ns=0).close(closed_ns=0)
    _machine = Machines(_table, TapeWriter()).machine("binance_spot")
    _machine.opened(0, (), 0)
    _machine.frame(0, b'{"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate","s":"BTCUSDT"}}', 0)
