"""Signatures of private requests, as pure functions: what is signed, and in which form it travels.

A signer takes the bytes to sign and gives the signature's text; the other functions say which bytes a venue wants
signed. Clocks are the caller's: a timestamp comes in as an argument. Keys live in the signer's closure, so that no
`repr`, log line or traceback of values shows them.

venue, wire          | signed                                                      | goes as
---------------------|-------------------------------------------------------------|------------------------------------
Binance REST         | the percent-encoded query, directly followed by the body    | `signature`, last parameter
Binance WebSocket API| all parameters by name, `name=value` with `&`, not encoded   | `signature` among the parameters
Bybit REST           | timestamp + key + receive window + query or body as sent    | header `X-BAPI-SIGN`
Bybit WebSocket      | `GET/realtime` + expiry                                     | third argument of `auth`"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping
from urllib.parse import quote, urlencode

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from oneprice.model.errors import InputError

Signer = Callable[[bytes], str]


def hmac_signer(secret: str) -> Signer:
    """Signs with HMAC-SHA256, lower-case hex: the usual key of both venues."""
    key = secret.encode()

    def sign(payload: bytes) -> str:
        return hmac.new(key, payload, hashlib.sha256).hexdigest()

    return sign


def ed25519_signer(pem: bytes) -> Signer:
    """Signs with an Ed25519 key given as unencrypted PEM, base64. `InputError` for any other key; it quotes nothing."""
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # `from None`: the cause could carry a part of the key.
        raise InputError("the Ed25519 key is not an unencrypted private key in PEM form") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError(f"an Ed25519 key is needed, this PEM holds a {type(key).__name__}")

    def sign(payload: bytes) -> str:
        return base64.b64encode(key.sign(payload)).decode()

    return sign


def binance_query(params: Mapping[str, str | int], sign: Signer, *, body: str = "") -> str:
    """The whole query string of a signed REST call, in the order of `params`, signature last.

    Since 2026-01-15 the percent-encoded form is what is signed; for ASCII symbols both forms are the same. The
    signature itself is encoded, too, because base64 holds `+`, `/` and `=`.
    """
    query = urlencode({name: str(value) for name, value in params.items()}, quote_via=quote, safe="")
    signature = quote(sign((query + body).encode()), safe="")
    return f"{query}&signature={signature}" if query else f"signature={signature}"


def binance_ws_params(params: Mapping[str, str | int], sign: Signer) -> dict[str, str | int]:
    """The parameters of a signed WebSocket API request (`apiKey` and `timestamp` among them) with their signature."""
    signed = "&".join(f"{name}={params[name]}" for name in sorted(params))
    return {**params, "signature": sign(signed.encode())}


def bybit_headers(
    *, key: str, sign: Signer, timestamp_ms: int, payload: str, recv_window_ms: int = 5000
) -> dict[str, str]:
    """The headers of a signed v5 call. `payload` is the query string of a GET or the body of a POST, byte for byte as
    it is sent."""
    return {
        "X-BAPI-API-KEY": key,
        "X-BAPI-TIMESTAMP": str(timestamp_ms),
        "X-BAPI-RECV-WINDOW": str(recv_window_ms),
        "X-BAPI-SIGN": sign(f"{timestamp_ms}{key}{recv_window_ms}{payload}".encode()),
    }


def bybit_ws_auth(*, key: str, sign: Signer, expires_ms: int) -> list[str | int]:
    """The arguments of `{"op":"auth","args":[…]}`; the venue refuses it once `expires_ms` has passed."""
    return [key, expires_ms, sign(f"GET/realtime{expires_ms}".encode())]
