"""`oneprice kernels`: what there is to compute, what a kernel means, and a kernel over the columns of a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer
from rich.markup import escape

from oneprice.app.options import Json
from oneprice.app.output import give, people, say, table
from oneprice.compute.kernels.definition import Kernel, Parameter
from oneprice.compute.kernels.registry import KERNELS, find
from oneprice.compute.kernels.streaming import compute
from oneprice.model.errors import InputError

_LIST_EXAMPLES = """Examples:

  oneprice kernels list

  oneprice kernels list --family statistics --json"""
_SHOW_EXAMPLES = """Examples:

  oneprice kernels show rolling_beta

  oneprice kernels show ewma --json"""
_RUN_EXAMPLES = """Examples:

  oneprice kernels run log_returns --file S/BTCUSDT/trades.parquet --input p=price --time ts_recv --out returns.parquet

  oneprice kernels run rolling_zscore --file prices.csv --input x=close --param w=50 --json"""
_SHOWN = 20

group = typer.Typer(help="Streaming kernels: list them, explain one, run one over the columns of a file.")


def register(app: typer.Typer) -> None:
    app.add_typer(group, name="kernels")


@group.command(name="list", epilog=_LIST_EXAMPLES)
def list_(
    family: Annotated[str | None, typer.Option(help="Only those of one family, e.g. volatility.")] = None,
    as_json: Json = False,
) -> None:
    """All kernels with what goes in and what comes out."""
    families = sorted({kernel.family for kernel in KERNELS.values()})
    if family is not None and family not in families:
        raise InputError(f"there is no family '{family}'; there are {', '.join(families)}")
    chosen = [kernel for kernel in KERNELS.values() if family in (None, kernel.family)]
    if not as_json:
        rows = [
            (kernel.name, kernel.family, ", ".join(kernel.inputs), ", ".join(one.name for one in kernel.outputs), kernel.cost)
            for kernel in chosen
        ]  # fmt: skip
        people.print(table("", rows, ("kernel", "family", "in", "out", "cost")))
        say(f"{len(chosen)} kernels; `oneprice kernels show NAME` explains one")
    give({"kernels": [kernel.described() for kernel in chosen], "count": len(chosen)}, as_json=as_json)


@group.command(epilog=_SHOW_EXAMPLES)
def show(name: Annotated[str, typer.Argument(help="The kernel's name or alias.")], as_json: Json = False) -> None:
    """What a kernel computes: its formula, inputs, outputs, parameters with their ranges, cost and source."""
    kernel = find(name)
    if not as_json:
        say(f"[bold]{kernel.name}[/bold]   {escape(kernel.formula)}")
        for what, text in (
            ("in", ", ".join(kernel.inputs)), ("out", ", ".join(f"{one.name} {one.help}".strip() for one in kernel.outputs)),
            ("from row", kernel.first), ("cost", kernel.cost), ("source", kernel.source), ("note", kernel.differs),
            ("aliases", ", ".join(kernel.aliases)),
        ):  # fmt: skip
            if text:
                say(f"  {what:9} {escape(text)}")
        for parameter in kernel.parameters:
            say(
                f"  --param {parameter.name}={_default(parameter)}   {parameter.allowed}; {escape(parameter.help)}".rstrip(
                    "; "
                )
            )
    give(kernel.described(), as_json=as_json)


@group.command(epilog=_RUN_EXAMPLES)
def run(
    name: Annotated[str, typer.Argument(help="The kernel's name or alias.")],
    file: Annotated[Path, typer.Option(help="A Parquet or CSV file.")],
    inputs: Annotated[
        list[str] | None, typer.Option("--input", help="INPUT=COLUMN, for each input that is not called as its column.")
    ] = None,
    parameters: Annotated[list[str] | None, typer.Option("--param", help="PARAMETER=VALUE (repeat).")] = None,
    time: Annotated[str | None, typer.Option(help="Column with the time of each row: ns, or date and time.")] = None,
    out: Annotated[Path | None, typer.Option(help="Parquet or CSV file to write the outputs to.")] = None,
    as_json: Json = False,
) -> None:
    """Compute a kernel over the columns of a file."""
    kernel = find(name)
    frame = _read(file)
    values = {key: _value(kernel, key, text) for key, text in (_pair(one, "--param") for one in parameters or [])}
    unread = kernel.unread(kernel.values(values))
    sources = {one: one for one in kernel.inputs if one not in unread} | dict(
        _pair(one, "--input") for one in inputs or []
    )
    columns = {one: _column(frame, source, file).to_numpy() for one, source in sources.items()}
    times = None if time is None else _column(frame, time, file)
    if times is not None:
        times = times.dt.timestamp("ns") if times.dtype.is_temporal() else times
    found = pl.DataFrame(compute(kernel, None if times is None else times.to_numpy(), **columns, **values))
    if out is not None:
        found.write_csv(out) if out.suffix == ".csv" else found.write_parquet(out)
    if not as_json:
        rows = [tuple("–" if one is None else f"{one:.10g}" for one in row) for row in found.tail(_SHOWN).rows()]
        people.print(table(f"the last of {len(found):,} rows", rows, tuple(found.columns)))
    last = found.row(-1, named=True) if len(found) else {}
    give({"kernel": kernel.name, "rows": len(found), "last": last, "out": str(out or "")}, as_json=as_json)


def _read(file: Path) -> pl.DataFrame:
    try:
        return pl.read_csv(file, try_parse_dates=True) if file.suffix == ".csv" else pl.read_parquet(file)
    except (OSError, pl.exceptions.PolarsError) as wrong:
        raise InputError(f"{file}: cannot be read: {wrong}") from wrong


def _column(frame: pl.DataFrame, name: str, file: Path) -> pl.Series:
    if name not in frame.columns:
        raise InputError(f"{file} has no column '{name}'; it has {', '.join(frame.columns)}")
    return frame[name]


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


def _default(parameter: Parameter) -> str:
    return "…" if parameter.default is None else f"{parameter.default}"
