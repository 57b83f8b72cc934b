"""The decision log: what was decided, on what, and why; one JSON object a line, each sealed with the hash of all before.

    {"n":12,"ts_ns":…,"by":"triangular","what":"enter","key":"…","reason":"…","inputs":{…},"hash":"9f0c…"}

`hash` is SHA-256 over the previous line's hash and this line without its `hash`. The last one is the run's decision
hash: two runs with the same hash decided the same, in the same order, for the same reasons. The log holds nothing that
the tape and the configuration do not determine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from oneprice.model.errors import SessionError

_GENESIS = "0" * 64
_ENCODER = msgspec.json.Encoder(order="deterministic")


class Decision(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of the log, without its number and hash."""

    ts_ns: int
    by: str
    what: str
    key: str = ""
    reason: str = ""
    inputs: Mapping[str, Any] = {}


class DecisionLog:
    """Appends decisions to a file (or only hashes them, when there is no file) and carries the chain's hash.

    Nothing reaches the file before `flush`: whoever flushes has seen to it that the tape behind the decisions is there.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._file = path.open("wb", buffering=0) if path is not None else None
        self._pending = bytearray()
        self.count = 0
        self.hash = _GENESIS

    def record(self, decision: Decision) -> None:
        fields = {"n": self.count, **msgspec.to_builtins(decision)}
        body = _ENCODER.encode(fields)
        self.hash = hashlib.sha256(self.hash.encode() + body).hexdigest()
        self.count += 1
        if self._file is not None:
            self._pending += body[:-1] + b',"hash":"' + self.hash.encode() + b'"}\n'

    def flush(self) -> None:
        """Hand everything to the operating system: it survives the death of this process from here on."""
        while self._file is not None and self._pending:
            del self._pending[: self._file.write(self._pending)]

    def close(self) -> None:
        self.flush()
        if self._file is not None:
            self._file.close()


def require_beginning(recorded: Path, again: Path) -> None:
    """SessionError unless the recorded log is a beginning of the one made again."""
    if not recorded.exists():
        return
    ours, theirs = read_decisions(recorded), read_decisions(again)
    for line, parsed in ours:
        other = next(theirs, None)
        if other is None or other[0] != line:
            raise SessionError(
                f"{recorded}: decision {parsed['n']} does not come out of the tape again; `oneprice verify-run` shows where "
                "they part, and nothing was changed"
            )


def read_decisions(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Each line of a log, raw and parsed; a last line that a crash cut short is left out."""
    with path.open("rb") as lines:
        for line in lines:
            if line.endswith(b"\n"):
                yield line, msgspec.json.decode(line)
