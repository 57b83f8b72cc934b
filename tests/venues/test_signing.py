"""Signatures against the venues' own vectors, and against ccxt where a venue gives none."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import parse_qs, parse_qsl, unquote

import ccxt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from oneprice.model.errors import InputError
from oneprice.venues.signing import (
    binance_query,
    binance_ws_params,
    bybit_headers,
    bybit_ws_auth,
    ed25519_signer,
    hmac_signer,
)
from shared_data import shared

NOW_MS = 1_700_000_000_123


def _vectors() -> list[Any]:
    cases = []
    for venue in ("binance_spot", "binance_usdm"):
        vector = json.loads(shared(f"data/wire/{venue}/vector_signature_hmac.json").read_bytes())
        cases += [pytest.param(vector["secret"], case, id=f"{venue}: {case['use']}") for case in vector["cases"]]
    return cases


@pytest.mark.parametrize(("secret", "case"), _vectors())
def test_the_venues_own_vectors_come_out(secret: str, case: dict[str, str]) -> None:
    sign = hmac_signer(secret)
    if "WebSocket" in case["use"]:
        params = dict(pair.split("=", 1) for pair in case["payload"].split("&"))
        backwards: dict[str, str | int] = dict(reversed(params.items()))
        assert binance_ws_params(backwards, sign) == {**params, "signature": case["signature"]}
    else:
        params = dict(parse_qsl(case["payload"]))
        assert binance_query(params, sign) == f"{case['payload']}&signature={case['signature']}"
        # Part of it in the body: the signature is the same, because both are signed in one piece.
        split = case["payload"].index("&timeInForce=GTC")
        query = binance_query(dict(parse_qsl(case["payload"][:split])), sign, body=case["payload"][split:])
        assert query.endswith(f"&signature={case['signature']}")


def test_an_ed25519_signature_is_base64_and_survives_the_query_string() -> None:
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    sign = ed25519_signer(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    for number in range(40):  # among forty signatures some hold each of + / =
        query, _, tail = binance_query({"symbol": "BTCUSDT", "timestamp": number}, sign).rpartition("&signature=")
        assert not set(tail) & set("+/=")
        key.public_key().verify(base64.b64decode(unquote(tail)), query.encode())


@pytest.mark.parametrize("pem", [b"", b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"])
def test_a_broken_key_is_refused_without_being_quoted(pem: bytes) -> None:
    with pytest.raises(InputError, match="PEM") as refused:
        ed25519_signer(pem)
    assert refused.value.__cause__ is None
    assert "c2VjcmV0" not in str(refused.value)


def test_a_key_of_another_kind_is_refused_by_its_kind() -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    with pytest.raises(InputError, match="RSA"):
        ed25519_signer(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


@pytest.mark.parametrize(
    ("method", "path", "params"),
    [
        ("GET", "v5/account/wallet-balance", {"accountType": "UNIFIED", "coin": "USDT"}),
        ("POST", "v5/order/create", {"category": "linear", "symbol": "BTCUSDT", "side": "Buy", "qty": "0.001"}),
    ],
)
def test_bybits_headers_are_those_that_ccxt_sends(method: str, path: str, params: dict[str, str]) -> None:
    peer = ccxt.bybit({"apiKey": "the-key", "secret": "the-secret", "options": {"recvWindow": 5000}})
    peer.nonce = lambda: NOW_MS
    sent = peer.sign(path, ["private"], method, params)
    payload = sent["body"] if method == "POST" else sent["url"].partition("?")[2]
    assert payload
    ours = bybit_headers(key="the-key", sign=hmac_signer("the-secret"), timestamp_ms=NOW_MS, payload=payload)
    theirs = {name.upper(): value for name, value in sent["headers"].items()}
    assert {name: theirs[name] for name in ours} == ours


def test_binances_query_is_signed_as_ccxt_signs_it() -> None:
    peer = ccxt.binance({"apiKey": "the-key", "secret": "the-secret"})
    peer.nonce = lambda: NOW_MS
    sent = peer.sign("account", ["private"], "GET", {"omitZeroBalances": "true"})
    query = sent["url"].partition("?")[2]
    params: dict[str, str | int] = {name: values[0] for name, values in parse_qs(query).items() if name != "signature"}
    assert binance_query(params, hmac_signer("the-secret")) == query


def test_bybits_stream_is_opened_with_the_expiry_signed() -> None:
    sign = hmac_signer("the-secret")
    assert bybit_ws_auth(key="the-key", sign=sign, expires_ms=5) == ["the-key", 5, sign(b"GET/realtime5")]
