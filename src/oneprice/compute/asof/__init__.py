"""ASOF joins: for every row of one table the row of another that was the latest, the next or the nearest in time.

`joins` joins whole tables, `streaming` joins inputs that are still arriving, with declared lateness. Both rest on `matching`,
which finds row numbers from times and coded keys; `columns` makes these from what the user has, without copies."""

from oneprice.compute.asof.joins import asof_align, asof_join, asof_rows
from oneprice.compute.asof.streaming import StreamingAsof

__all__ = ["StreamingAsof", "asof_align", "asof_join", "asof_rows"]
