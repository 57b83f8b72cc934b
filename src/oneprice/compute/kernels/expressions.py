"""Arithmetic between columns, for features that need no kernel: `1e4 * (mark / index - 1)`."""

from __future__ import annotations

import ast

from oneprice.compute.kernels.definition import KernelError

_SIGNS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*"}


def parsed(text: str) -> ast.expr:
    """The expression. KernelError for what is not one of names, numbers, + - * / and parentheses."""
    try:
        tree = ast.parse(text, mode="eval").body
    except SyntaxError as wrong:
        raise KernelError(f"the expression {text!r} cannot be read: {wrong.msg}") from wrong
    _check(tree, text)
    return tree


def _check(node: ast.expr, text: str) -> None:
    match node:
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub() | ast.Mult() | ast.Div(), right=right):
            _check(left, text)
            _check(right, text)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            _check(operand, text)
        case ast.Name() | ast.Attribute(value=ast.Name()):
            pass
        case ast.Constant(value=int() | float()) if not isinstance(node.value, bool):
            pass
        case _:
            raise KernelError(
                f"the expression {text!r} holds {ast.unparse(node)}; it may hold names, numbers, + - * / and parentheses"
            )


def names_in(node: ast.expr) -> list[str]:
    """Columns and features that it reads (`price`, `macd.signal`), each once, in their order."""
    match node:
        case ast.BinOp(left=left, right=right):
            found = [*names_in(left), *names_in(right)]
        case ast.UnaryOp(operand=operand):
            found = names_in(operand)
        case ast.Name() | ast.Attribute():
            found = [ast.unparse(node)]
        case _:
            found = []
    return list(dict.fromkeys(found))


def source_of(node: ast.expr, places: dict[str, str]) -> str:
    """Source for the compiled loop, names replaced by where they stand. Quotients go through `ratio`: x/0 is NaN, no error."""
    match node:
        case ast.BinOp(left=left, op=ast.Div(), right=right):
            return f"ratio({source_of(left, places)}, {source_of(right, places)})"
        case ast.BinOp(left=left, op=op, right=right):
            return f"({source_of(left, places)} {_SIGNS[type(op)]} {source_of(right, places)})"
        case ast.UnaryOp(operand=operand):
            return f"(-{source_of(operand, places)})"
        case ast.Constant(value=value):
            return repr(float(value))  # type: ignore[arg-type]
        case _:
            return places[ast.unparse(node)]
