"""The page of a run, with its REST and WebSocket beside it: what flows, what was found and traded, what it came to.

    GET /api/view            the whole view as JSON          GET /api/{feeds,books,sightings,trades,pnl}   parts of it
    WS  /api/stream          the view, twice a second        GET /                                         the page

It listens on loopback; on any other address it wants a token (`ONEPRICE_DASHBOARD_TOKEN`, sent as `?token=` or as a
bearer token). It only reads."""

from __future__ import annotations

import asyncio
import hmac
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec
import uvicorn
from fastapi import FastAPI, Request, Response, WebSocket, WebSocketDisconnect
from nicegui import ui

from oneprice.app.page import build_page
from oneprice.engine.view import RunView
from oneprice.model.errors import InputError

TOKEN_NAME = "ONEPRICE_DASHBOARD_TOKEN"
_STREAM_EVERY_S = 0.5
_GOODBYE_S = 1.0
_PARTS = ("feeds", "books", "sightings", "recent_trades", "pnl")


def make_app(view: Callable[[], RunView], *, token: str | None) -> FastAPI:
    """The FastAPI application over a function that tells the run's view of now."""
    app = FastAPI(title="oneprice", docs_url="/api/docs", openapi_url="/api/openapi.json")

    @app.middleware("http")
    async def guard(request: Request, go_on: Any) -> Response:
        if token is not None and not _may_enter(token, request.query_params.get("token"), request.headers):
            return Response("this dashboard wants its token", status_code=401)
        answer: Response = await go_on(request)
        return answer

    @app.get("/api/view")
    async def whole_view() -> Response:
        return Response(msgspec.json.encode(view()), media_type="application/json")

    @app.get("/api/{part}")
    async def one_part(part: str) -> Response:
        if part not in _PARTS:
            return Response(f"unknown part '{part}'; known: {', '.join(_PARTS)}", status_code=404)
        return Response(msgspec.json.encode(getattr(view(), part)), media_type="application/json")

    @app.websocket("/api/stream")
    async def stream(socket: WebSocket) -> None:
        if token is not None and not _may_enter(token, socket.query_params.get("token"), socket.headers):
            await socket.close(code=4401)
            return
        await socket.accept()
        try:
            while True:
                await socket.send_text(msgspec.json.encode(view()).decode())
                await asyncio.sleep(_STREAM_EVERY_S)
        except (WebSocketDisconnect, RuntimeError):
            return  # the browser has gone; nothing is owed to it

    build_page(view)
    ui.run_with(app, title="oneprice", dark=True, favicon="⚖️", show_welcome_message=False)
    return app


def _may_enter(token: str, given: str | None, headers: Any) -> bool:
    bearer = str(headers.get("authorization", "")).removeprefix("Bearer ")
    return hmac.compare_digest(token, given or bearer)


class _Server(uvicorn.Server):
    """Uvicorn inside our loop: signals stay ours."""

    def install_signal_handlers(self) -> None:
        return


@asynccontextmanager
async def serve_dashboard(
    view: Callable[[], RunView], *, host: str = "127.0.0.1", port: int = 8079
) -> AsyncIterator[str]:
    """Serve the page until the block ends; → its address. A busy port or an open host without a token is an error."""
    token = os.environ.get(TOKEN_NAME)
    if host not in ("127.0.0.1", "localhost", "::1") and token is None:
        raise InputError(f"the dashboard listens on {host} only with a token: set {TOKEN_NAME}")
    on_loopback = host in ("127.0.0.1", "localhost", "::1")
    config = uvicorn.Config(
        make_app(view, token=None if on_loopback else token),
        host=host,
        port=port,
        log_level="critical",
        lifespan="on",
        timeout_graceful_shutdown=1,
    )
    server = _Server(config)
    try:
        listener = config.bind_socket()
    except SystemExit:
        raise InputError(f"port {port} on {host} is busy; give another one with --dashboard PORT") from None
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started and not serving.done():  # noqa: ASYNC110 (Uvicorn offers no event)
            await asyncio.sleep(0.02)
        yield f"http://{host}:{listener.getsockname()[1]}"
    finally:
        # Open pages would hold a graceful end back for as long as they are looked at.
        server.should_exit = True
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(serving), _GOODBYE_S)
        server.force_exit = True
        await serving
