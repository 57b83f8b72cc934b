"""What the pages have in common: cards, figures, tables, and how numbers and times are written."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from nicegui import ui

from oneprice.model.time import NS_PER_S

REFRESH_S = 0.5
CARD = "bg-slate-900 border border-slate-800 rounded-lg shadow-none"
# A cell of text is shown as it is; a cell of {text, look, why} as a chip that explains itself when it is pointed at.
_CELL = """
<q-td :props="props">
  <span v-if="props.value && props.value.look" :class="props.value.look" :title="props.value.why">{{ props.value.text }}</span>
  <template v-else>{{ props.value }}</template>
</q-td>
"""


def headline() -> Any:
    """The page's title; → the label beside it."""
    ui.query("body").classes("bg-slate-950 text-slate-100")
    with ui.row().classes("w-full items-baseline px-2"):
        ui.label("oneprice").classes("text-2xl font-semibold")
        return ui.label().classes("text-slate-400 text-sm")


def figure_card(name: str) -> Any:
    """A card for one large figure; → its label."""
    with ui.card().classes(f"{CARD} px-4 py-2 gap-0 grow"):
        ui.label(name).classes("text-xs uppercase tracking-wide text-slate-400")
        return ui.label("–").classes("text-2xl font-mono")


def columns(*names: str, left: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Table columns: the first and those named are set to the left, the others to the right."""
    return [
        {"name": name, "label": name, "field": name, "align": "left" if place == 0 or name in left else "right"}
        for place, name in enumerate(names)
    ]


def table(title: str, columns: list[dict[str, Any]], row_key: str) -> Any:
    """A card with a table that scrolls."""
    with ui.card().classes(f"{CARD} w-full p-0 gap-0"):
        ui.label(title).classes("text-sm text-slate-300 px-4 pt-3 font-medium")
        made = (
            ui.table(columns=columns, rows=[], row_key=row_key)
            .props("dense flat dark hide-bottom virtual-scroll")
            .classes("w-full bg-transparent max-h-80 text-slate-200")
        )
        made.add_slot("body-cell", _CELL)
        return made


def chip(text: str, colours: str, why: str = "") -> dict[str, str]:
    """A cell of a table, as a chip."""
    return {"text": text, "look": f"rounded px-2 py-0.5 text-xs font-mono {colours}", "why": why}


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.2f}"


def time_of_day(ts_ns: int) -> str:
    return f"{datetime.fromtimestamp(ts_ns / NS_PER_S, UTC):%H:%M:%S.%f}"[:-3]


def duration(ns: int) -> str:
    """Hours, minutes and seconds: 1:07:42."""
    minutes, seconds = divmod(max(ns, 0) // NS_PER_S, 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
