"""Exact money: Decimal arithmetic that raises instead of losing a digit, and the one place where rounding is allowed.

The operators of `Decimal` round silently at 28 digits, and a price times a quantity times a fee can be longer. What
books money therefore runs inside `exact()`, where a lost digit is an error. Only a division rounds (an inverse
contract's value in coins): to `SMALLEST`, half to even, and always before the amount is posted, so that both sides see
the same number."""

from __future__ import annotations

from contextlib import AbstractContextManager
from decimal import (
    ROUND_HALF_EVEN,
    Context,
    Decimal,
    DivisionByZero,
    Inexact,
    InvalidOperation,
    Overflow,
    localcontext,
)  # fmt: skip

_EXACT = Context(prec=200, traps=[Inexact, InvalidOperation, DivisionByZero, Overflow])
_ROUNDING = Context(prec=200, rounding=ROUND_HALF_EVEN, traps=[InvalidOperation, DivisionByZero, Overflow])
SMALLEST = Decimal("1e-12")


def exact() -> AbstractContextManager[Context]:
    """A block in which `Decimal` arithmetic is exact, or raises `decimal.Inexact`.

    >>> with exact():
    ...     print(Decimal("1e20") + Decimal("1e-20"))
    100000000000000000000.00000000000000000001
    """
    return localcontext(_EXACT)


def divide_rounded(dividend: Decimal, divisor: Decimal) -> Decimal:
    """The quotient at 12 decimals, half to even.

    >>> divide_rounded(Decimal(1), Decimal(3))
    Decimal('0.333333333333')
    """
    return _ROUNDING.quantize(_ROUNDING.divide(dividend, divisor), SMALLEST)
