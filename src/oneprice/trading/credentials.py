"""API keys: from the environment only, and never in a repr, a log, a file or an error."""

from __future__ import annotations

import os
from collections.abc import Mapping

from oneprice.model.errors import ConfigError
from oneprice.trading.hosts import Access


class Credentials:
    """A key and its secret. Printing, formatting or encoding it shows neither."""

    __slots__ = ("key", "secret")

    def __init__(self, key: str, secret: str) -> None:
        self.key, self.secret = key, secret

    def __repr__(self) -> str:
        return "Credentials(hidden)"

    def __reduce__(self) -> str:
        raise TypeError("credentials are not written anywhere")

    def hidden_in(self, text: str) -> str:
        """The text without the key and the secret, should they be in it."""
        return text.replace(self.key, "(key)").replace(self.secret, "(secret)")


def credentials_from_environment(
    family: str, access: Access, environment: Mapping[str, str] = os.environ
) -> Credentials:
    """The keys of an exchange: `BINANCE_API_KEY` and `BINANCE_API_SECRET`; on testnet `BINANCE_TESTNET_API_KEY`….

    The names differ so that a live key in the environment is never sent to a testnet, nor the other way round.
    ConfigError names what is missing.
    """
    prefix = family.upper() + ("_TESTNET" if access is Access.TESTNET else "")
    names = (f"{prefix}_API_KEY", f"{prefix}_API_SECRET")
    missing = [name for name in names if not environment.get(name, "").strip()]
    if missing:
        raise ConfigError(
            f"{family}: {' and '.join(missing)} must be set in the environment to send orders ({access}); without them only "
            "market data can be read"
        )
    return Credentials(*(environment[name].strip() for name in names))
