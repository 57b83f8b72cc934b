"""What to do about a broken law of one price. A strategy is a small class: what it needs, and what it sees and wants on
a micro-batch; it does no I/O, holds no orders and inherits nothing from the engine."""
