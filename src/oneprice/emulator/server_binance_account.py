"""Binance's signed calls about an account: balances, fees, and (futures) positions, leverage and margin."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from oneprice.emulator.exchange import Exchange
from oneprice.emulator.http_binance import Gate, Route, as_text
from oneprice.emulator.http_binance_errors import BinanceError, Params, needed, whole
from oneprice.emulator.server_binance_rows import money
from oneprice.model.instrument import Instrument

_MOST_LEVERAGE = 125


class AccountCalls:
    """What an account may ask about itself. Futures accounts are one-way and margined across."""

    def __init__(self, exchange: Exchange, gate: Gate) -> None:
        self._exchange = exchange
        self._gate = gate
        self._leverage: defaultdict[tuple[str, str], int] = defaultdict(lambda: 1)

    def routes(self) -> list[Route]:
        signed, v1 = self._gate.signed, "/fapi/v1"
        if not self._gate.futures:
            return [
                ("GET", "/api/v3/account", signed(self.account, weight=20)),
                ("GET", "/api/v3/account/commission", signed(self._commission, weight=20)),
                ("GET", "/api/v3/rateLimit/order", signed(lambda account, _: self._gate.orders.rules(account), weight=40)),
                ("GET", "/sapi/v1/asset/tradeFee", signed(self._trade_fees)),
                *(
                    ("GET", f"/sapi/v1/{name}", signed(lambda account, params: []))
                    for name in (
                        "capital/config/getall", "margin/allPairs", "margin/isolated/allPairs", "margin/allAssets",
                    )
                ),
            ]  # fmt: skip
        routes = [
            ("GET", f"{v1}/commissionRate", signed(self._commission, weight=20)),
            ("GET", f"{v1}/leverageBracket", signed(self._brackets)),
            ("POST", f"{v1}/leverage", signed(self._set_leverage)),
            ("POST", f"{v1}/marginType", signed(self._set_margin_type)),
            ("POST", f"{v1}/positionSide/dual", signed(self._set_position_mode)),
            ("GET", f"{v1}/positionSide/dual", signed(lambda account, params: {"dualSidePosition": False}, weight=30)),
        ]
        for version in ("/fapi/v2", "/fapi/v3"):
            routes += [
                ("GET", f"{version}/balance", signed(self._balance, weight=5)),
                ("GET", f"{version}/account", signed(self._futures_account, weight=5)),
            ]
        return [
            *routes,
            ("GET", "/fapi/v2/positionRisk", signed(self._positions_v2, weight=5)),
            ("GET", "/fapi/v3/positionRisk", signed(self._positions_v3, weight=5)),
        ]

    def ws_calls(self) -> dict[str, Callable[[Any, Mapping[str, Any]], object]]:
        """What the WebSocket API offers of them."""
        if self._gate.futures:
            return {}

        def status(_: object, params: Mapping[str, Any]) -> object:
            return self.account(self._gate.ws_account(params), {name: as_text(value) for name, value in params.items()})

        return {"account.status": status}

    # -- spot ---------------------------------------------------------------------------------------------------------

    def account(self, account: str, params: Params) -> object:
        """Balances; with `omitZeroBalances` only those that hold something."""
        rates = next(iter(self._exchange.instruments.values()))
        thin = params.get("omitZeroBalances", "false") == "true"
        return {
            "makerCommission": int(rates.maker_fee * 10_000), "takerCommission": int(rates.taker_fee * 10_000),
            "buyerCommission": 0, "sellerCommission": 0,
            "commissionRates": {
                "maker": money(rates.maker_fee), "taker": money(rates.taker_fee), "buyer": money(Decimal(0)),
                "seller": money(Decimal(0)),
            },
            "canTrade": True, "canWithdraw": False, "canDeposit": False, "brokered": False,
            "requireSelfTradePrevention": False, "preventSor": False, "updateTime": self._gate.now_ms(),
            "accountType": "SPOT",
            "balances": [
                {"asset": asset, "free": money(held.free), "locked": money(held.locked)}
                for asset, held in self._exchange.balances(account).items()
                if not thin or held.free + held.locked != 0
            ],
            "permissions": ["SPOT"], "uid": 1,
        }  # fmt: skip

    def _commission(self, account: str, params: Params) -> object:
        instrument = self._instrument(params)
        maker, taker, none = money(instrument.maker_fee), money(instrument.taker_fee), money(Decimal(0))
        if self._gate.futures:
            return {
                "symbol": instrument.symbol, "makerCommissionRate": maker, "takerCommissionRate": taker,
                "rpiCommissionRate": none,
            }  # fmt: skip
        free = {"maker": none, "taker": none, "buyer": none, "seller": none}
        discount = {"enabledForAccount": False, "enabledForSymbol": False, "discountAsset": "BNB", "discount": none}
        return {
            "symbol": instrument.symbol, "standardCommission": free | {"maker": maker, "taker": taker},
            "specialCommission": free, "taxCommission": free, "discount": discount,
        }  # fmt: skip

    def _trade_fees(self, account: str, params: Params) -> object:
        found = [self._instrument(params)] if "symbol" in params else list(self._exchange.instruments.values())
        return [
            {
                "symbol": instrument.symbol, "makerCommission": money(instrument.maker_fee),
                "takerCommission": money(instrument.taker_fee),
            }
            for instrument in found
        ]  # fmt: skip

    # -- futures ------------------------------------------------------------------------------------------------------

    def _balance(self, account: str, params: Params) -> object:
        return [
            {
                "accountAlias": "practice", "asset": asset, "balance": money(held.free + held.locked),
                "crossWalletBalance": money(held.free + held.locked), "crossUnPnl": "0.00000000",
                "availableBalance": money(held.free), "maxWithdrawAmount": money(held.free), "marginAvailable": True,
                "updateTime": self._gate.now_ms(),
            }
            for asset, held in self._exchange.balances(account).items()
        ]  # fmt: skip

    def _futures_account(self, account: str, params: Params) -> object:
        assets = [
            {
                "asset": asset, "walletBalance": money(held.free + held.locked), "unrealizedProfit": "0.00000000",
                "marginBalance": money(held.free + held.locked), "maintMargin": "0.00000000",
                "initialMargin": money(held.locked), "positionInitialMargin": "0.00000000",
                "openOrderInitialMargin": money(held.locked), "crossWalletBalance": money(held.free + held.locked),
                "crossUnPnl": "0.00000000", "availableBalance": money(held.free), "maxWithdrawAmount": money(held.free),
                "marginAvailable": True, "updateTime": self._gate.now_ms(),
            }
            for asset, held in self._exchange.balances(account).items()
        ]  # fmt: skip
        return {"canTrade": True, "assets": assets, "positions": self._positions_v3(account, {})}

    def _positions_v2(self, account: str, params: Params) -> list[dict[str, Any]]:
        """Every symbol, also flat ones."""
        found = [self._instrument(params)] if "symbol" in params else list(self._exchange.instruments.values())
        return [self._position(account, instrument) for instrument in found]

    def _positions_v3(self, account: str, params: Params) -> list[dict[str, Any]]:
        """Symbols with a position or an open order."""
        held = self._exchange.positions(account)
        busy = {symbol for symbol, position in held.items() if position.qty != 0}
        busy |= {order.symbol for order in self._exchange.open_orders(account)}
        return [row for row in self._positions_v2(account, params) if row["symbol"] in busy]

    def _position(self, account: str, instrument: Instrument) -> dict[str, Any]:
        position = self._exchange.positions(account).get(instrument.symbol)
        leverage = self._leverage[account, instrument.symbol]
        mark = Decimal(f"{self._exchange.market_state(instrument.symbol).mark:.8f}")
        qty = instrument.qty(position.qty if position is not None else 0)
        entry = position.entry_price if position is not None else Decimal(0)
        margin = money(abs(mark * qty) / leverage)
        return {
            "symbol": instrument.symbol, "positionSide": "BOTH", "positionAmt": str(qty), "entryPrice": money(entry),
            "breakEvenPrice": money(entry), "markPrice": money(mark), "unRealizedProfit": money((mark - entry) * qty),
            "liquidationPrice": "0", "leverage": str(leverage), "marginType": "cross", "isolatedMargin": "0",
            "isolatedWallet": "0", "notional": money(mark * qty), "marginAsset": instrument.settle,
            "initialMargin": margin, "maintMargin": "0", "positionInitialMargin": margin, "openOrderInitialMargin": "0",
            "adl": 0, "bidNotional": "0", "askNotional": "0", "updateTime": self._gate.now_ms(),
        }  # fmt: skip

    def _brackets(self, account: str, params: Params) -> object:
        bracket = {
            "bracket": 1, "initialLeverage": _MOST_LEVERAGE, "notionalCap": 50_000_000, "notionalFloor": 0,
            "maintMarginRatio": 0.004, "cum": 0.0,
        }  # fmt: skip
        symbols = [self._instrument(params).symbol] if "symbol" in params else list(self._exchange.instruments)
        return [{"symbol": symbol, "brackets": [bracket]} for symbol in symbols]

    def _set_leverage(self, account: str, params: Params) -> object:
        symbol = self._instrument(params).symbol
        needed(params, "leverage")
        leverage = whole(params, "leverage", 0)
        if not 1 <= leverage <= _MOST_LEVERAGE:
            raise BinanceError(-4028, f"Leverage {leverage} is not valid")
        self._leverage[account, symbol] = leverage
        self._exchange.set_leverage(account, symbol, leverage)
        return {"symbol": symbol, "leverage": leverage, "maxNotionalValue": "50000000"}

    def _set_margin_type(self, account: str, params: Params) -> object:
        self._instrument(params)
        if needed(params, "marginType") == "CROSSED":
            raise BinanceError(-4046, "No need to change margin type.")
        raise BinanceError(-4168, "Unable to adjust to isolated-margin mode under the Multi-Assets mode.")

    def _set_position_mode(self, account: str, params: Params) -> object:
        if needed(params, "dualSidePosition") == "false":
            raise BinanceError(-4059, "No need to change position side.")
        raise BinanceError(-4084, "Method is not allowed currently. Upcoming soon.")

    def _instrument(self, params: Params) -> Instrument:
        found = self._exchange.instruments.get(needed(params, "symbol"))
        if found is None:
            raise BinanceError(-1121, "Invalid symbol.")
        return found
