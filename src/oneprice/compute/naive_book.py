"""The book as anybody would write it: two dictionaries. It is the oracle that the ladder is held against."""

from __future__ import annotations

_MASK = (1 << 64) - 1


class NaiveBook:
    """One instrument's levels by side; prices and quantities are mantissas, quantity 0 removes a level."""

    def __init__(self) -> None:
        self.sides: tuple[dict[int, int], dict[int, int]] = ({}, {})

    def clear(self) -> None:
        for side in self.sides:
            side.clear()

    def set_level(self, side: int, price: int, qty: int) -> None:
        if qty:
            self.sides[side][price] = qty
        else:
            self.sides[side].pop(price, None)

    def best(self, side: int) -> int:
        levels = self.sides[side]
        if not levels:
            return 0
        return min(levels) if side else max(levels)

    def levels(self, side: int) -> list[tuple[int, int]]:
        """From the touch outward."""
        return sorted(self.sides[side].items(), reverse=side == 0)

    def sweep(self, taker: int, qty: int) -> tuple[int, int, int]:
        """(filled, Σ price × quantity, worst price), exactly."""
        left, notional, worst = qty, 0, 0
        for price, here in self.levels(1 if taker > 0 else 0):
            if left == 0:
                break
            taken = min(left, here)
            notional += price * taken
            left -= taken
            worst = price
        return qty - left, notional, worst

    def state_hash(self) -> int:
        total = 0
        for side, levels in enumerate(self.sides):
            for price, qty in levels.items():
                mixed = (price * 0x9E3779B97F4A7C15 + side) & _MASK
                mixed ^= (qty * 0xC2B2AE3D27D4EB4F) & _MASK
                mixed ^= mixed >> 29
                total = (total + mixed * 0xBF58476D1CE4E5B9) & _MASK
        return total
