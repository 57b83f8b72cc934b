"""On which terms a session is recorded: kept in its manifest, so that whoever goes on with it, finishes it or validates it
does so on the same."""

from __future__ import annotations

from typing import Any

import msgspec

from oneprice.data.certify.gates import GateRules
from oneprice.data.plan import CapturePlan
from oneprice.data.session import SessionManifest
from oneprice.model.errors import InputError


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """`is_strict`: the first gap ends the session. `is_plain`: JSONL without compression."""

    is_strict: bool = False
    is_plain: bool = False
    gates: GateRules = GateRules()


def configuration(plan: CapturePlan, terms: Terms) -> dict[str, Any]:
    """What a manifest keeps of them."""
    return {"plan": plan.recorded(), "terms": msgspec.to_builtins(terms)}


def terms_of(read: SessionManifest) -> Terms:
    """The terms of a session; the usual ones for one that names none (an import, a run). InputError for unreadable ones."""
    try:
        return msgspec.convert(read.configuration.get("terms", {}), Terms)
    except msgspec.ValidationError as wrong:
        raise InputError(f"the session's manifest holds terms that cannot be read: {wrong}") from wrong
