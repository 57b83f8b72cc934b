"""`oneprice kernels`: what there is to compute, what a kernel means, and a kernel over the columns of a file."""

from __future__ import annotations

import time as clock
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
import typer
from rich.markup import escape

from oneprice.app import kernel_pages as pages
from oneprice.app.compiling import telling
from oneprice.app.compiling import warm as compile_all
from oneprice.app.kernel_columns import inputs_from, read_file, times_from
from oneprice.app.kernel_samples import NoSample
from oneprice.app.options import Json
from oneprice.app.output import give, people, progress, say, table
from oneprice.compute.kernels.definition import INT8_NONE, Kernel
from oneprice.compute.kernels.registry import KERNELS, find
from oneprice.compute.kernels.streaming import Outputs, compute
from oneprice.model.errors import InputError, unknown_name

_LIST_EXAMPLES = """Examples:

  oneprice kernels list

  oneprice kernels list --family statistics --json"""
_SHOW_EXAMPLES = """Examples:

  oneprice kernels show rolling_beta

  oneprice kernels show ewma --json"""
_RUN_EXAMPLES = """Examples:

  oneprice kernels run log_returns --file S/BTCUSDT/trades.parquet --input p=price --out returns.parquet

  oneprice kernels run signed_volume --file S/BTCUSDT/trades.parquet --input q=qty --input s=side --time ts_recv

  oneprice kernels run depth_imbalance --file S/BTCUSDT/quotes.parquet --json

  oneprice kernels run turnover --file weights.csv --input W=w_btc,w_eth --input R=r_btc,r_eth

  oneprice kernels run rolling_zscore --file prices.csv --input x=close --time at --param w=30s --json

A book (bk) is columns bid_price_1, bid_qty_1, ask_price_1, ask_qty_1, bid_price_2, …; without numbers, as in quotes.parquet, a
book of one level; bk=PREFIX says what stands before the names. The words buy and sell count as 1 and -1."""
_WARM_EXAMPLES = """Examples:

  oneprice kernels warm

  oneprice kernels warm --family safety

  oneprice kernels warm ewma rolling_beta --json"""
_SHOWN = 20

group = typer.Typer(help="Streaming kernels: list them, explain one, run one over the columns of a file.")
Family = Annotated[str | None, typer.Option(help="Only those of one family, e.g. volatility.")]


def register(app: typer.Typer) -> None:
    app.add_typer(group, name="kernels")


@group.command(name="list", epilog=_LIST_EXAMPLES)
def list_(family: Family = None, as_json: Json = False) -> None:
    """All kernels with what goes in and what comes out."""
    chosen = _chosen(family)
    if not as_json:
        rows = [
            (kernel.name, kernel.family, ", ".join(kernel.inputs), ", ".join(one.name for one in kernel.outputs))
            for kernel in chosen
        ]  # fmt: skip
        people.print(table("", rows, ("kernel", "family", "in", "out")))
        say(f"{len(chosen)} kernels; `oneprice kernels show NAME` explains one")
    give({"kernels": [pages.described(kernel) for kernel in chosen], "count": len(chosen)}, as_json=as_json)


@group.command(epilog=_SHOW_EXAMPLES)
def show(name: Annotated[str, typer.Argument(help="The kernel's name or alias.")], as_json: Json = False) -> None:
    """What a kernel computes: its formula, inputs, outputs, parameters with their ranges, cost, source, and an example."""
    kernel = find(name)
    told = pages.described(kernel)
    with _compiling_told():
        told["example"] = _example(kernel)
    if not as_json:
        say(f"[bold]{kernel.name}[/bold]   {escape(kernel.formula)}")
        for one in told["inputs"]:
            notes = [
                note
                for note in (one["kind"], "may be left out" if one["optional"] else "")
                if note not in ("", "column")
            ]
            _line("in", one["name"], one["help"], notes)
        for output in kernel.outputs:
            _line("out", output.name, output.help, [] if output.kind == "float64" else [output.kind])
        for parameter in kernel.parameters:
            default = "" if parameter.default is None else f"={parameter.default}"
            _line("--param", f"{parameter.name}{default}", parameter.help, [parameter.allowed])
        for what, text in (
            ("from row", kernel.first), ("cost", kernel.cost), ("time", "needs --time" if kernel.needs_time else ""),
            ("merges", "the states of two consecutive pieces" if kernel.merge is not None else ""), ("source", kernel.source),
            ("tested", f"against {kernel.oracle}"), ("note", kernel.differs), ("aliases", ", ".join(kernel.aliases)),
        ):  # fmt: skip
            if text:
                say(f"  {what:9} {escape(text)}")
        if told["example"]:
            say()
            say(escape(told["example"]))
    give(told, as_json=as_json)


@group.command(epilog=_RUN_EXAMPLES)
def run(
    name: Annotated[str, typer.Argument(help="The kernel's name or alias.")],
    file: Annotated[Path, typer.Option(help="A Parquet or CSV file.")],
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", help="INPUT=COLUMN where the column is not called as the input; COLUMN,COLUMN of a matrix."),
    ] = None,
    parameters: Annotated[list[str] | None, typer.Option("--param", help="PARAMETER=VALUE (repeat).")] = None,
    time: Annotated[str | None, typer.Option(help="Column with the time of each row: ns, or date and time.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Parquet or CSV file to write the outputs to; null where there is none.")
    ] = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Compute a kernel over the columns of a file."""
    kernel = find(name)
    given = {key: _value(kernel, key, text) for key, text in (_pair(one, "--param") for one in parameters or [])}
    values = kernel.values(given)
    frame = read_file(file)
    times = times_from(kernel, values, frame, file, time)
    columns = inputs_from(kernel, values, frame, file, dict(_pair(one, "--input") for one in inputs or []))
    with _compiling_told():
        found = _frame(compute(kernel, times, **columns, **given))
    if time is not None and kernel.ready is None and time not in found.columns:
        found.insert_column(0, frame[time])
    if out is not None:
        found.write_csv(out) if out.suffix == ".csv" else found.write_parquet(out)
    if not as_json:
        rows = [tuple(_shown(one) for one in row) for row in found.tail(_SHOWN).rows()]
        what = "rows" if kernel.ready is None else "answers"
        people.print(table(f"the last of {len(found):,} {what}", rows, tuple(found.columns)))
    last = found.row(-1, named=True) if len(found) else {}
    give({"kernel": kernel.name, "rows": len(found), "last": last, "out": str(out or "")}, as_json=as_json)


@group.command(epilog=_WARM_EXAMPLES)
def warm(
    names: Annotated[list[str] | None, typer.Argument(help="Kernels; by default all.")] = None,
    family: Family = None,
    as_json: Json = False,
) -> None:
    """Compile kernels now, on all cores, so that none has to be when it is first used; compiled code is kept on disk."""
    if names and family is not None:
        raise InputError(f"{', '.join(names)} and --family {family}: name kernels or a family, not both")
    chosen = [find(name) for name in names] if names else _chosen(family)
    began = clock.perf_counter()
    with progress("compiling", total=float(len(chosen))) as advance:
        took = compile_all(chosen, advance)
    seconds = clock.perf_counter() - began
    if not as_json:
        say(f"{len(chosen)} kernels are ready; {len(took) or 'none'} had to be compiled ({seconds:.1f} s)")
    give({"kernels": len(chosen), "compiled": took, "seconds": seconds}, as_json=as_json)


def _chosen(family: str | None) -> list[Kernel]:
    families = {kernel.family for kernel in KERNELS.values()}
    if family is not None and family not in families:
        raise InputError(unknown_name("family", family, families))
    return [kernel for kernel in KERNELS.values() if family in (None, kernel.family)]


def _example(kernel: Kernel) -> str:
    """A call and its outputs; none for a kernel of another package whose inputs we know nothing of."""
    try:
        return f"{pages.IMPORTS}\n{pages.example(kernel)}"
    except NoSample:
        return ""


@contextmanager
def _compiling_told() -> Iterator[None]:
    """A line for people when something has to be compiled, with the seconds that it took."""
    with telling(
        lambda name: people.print(f"compiling {name} (once; kept on disk)", end="", highlight=False),
        lambda name, seconds: people.print(f": {seconds:.1f} s", highlight=False),
    ):
        yield


def _line(what: str, name: str, means: str, notes: list[str]) -> None:
    told = f"{means} ({'; '.join(notes)})" if means and notes else means or "; ".join(notes)
    say(f"  {what:9} [bold]{escape(name)}[/bold] {escape(told)}".rstrip())


def _frame(outputs: Outputs) -> pl.DataFrame:
    """Outputs as a table; null where there is no value."""
    found = pl.DataFrame(outputs)
    return found.with_columns(
        pl.when(pl.col(pl.Int8) != INT8_NONE).then(pl.col(pl.Int8)).name.keep(), pl.col(pl.Float64).fill_nan(None)
    )


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.10g}" if isinstance(value, float | np.floating) else str(value)


def _pair(text: str, option: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise InputError(f"{option} {text}: write NAME=VALUE")
    return key, value


def _value(kernel: Kernel, name: str, text: str) -> Any:
    """A parameter's text as the value that its kind takes; what no kind takes is told by the kernel."""
    kind = next((one.kind for one in kernel.parameters if one.name == name), "choice")
    if kind == "bool":
        return {"true": True, "false": False}.get(text.lower(), text)
    if kind in ("choice", "duration"):
        return text
    numbers = [_number(part, is_whole=kind in ("int", "window")) for part in text.split(",")]
    return numbers[0] if len(numbers) == 1 else tuple(numbers)


def _number(text: str, *, is_whole: bool) -> Any:
    try:
        return int(text) if is_whole else float(text)
    except ValueError:
        return text
