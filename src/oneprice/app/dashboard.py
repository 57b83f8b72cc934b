"""A page over something that goes on (a run, a recording), with its REST and WebSocket beside it.

    GET /api/view            the whole view as JSON          GET /api/{part}      a part of it: feeds, books, gates, …
    WS  /api/stream          the view, twice a second        GET /                the page

It listens on loopback; on any other address it wants a token (`ONEPRICE_DASHBOARD_TOKEN`, sent as `?token=` or as a
bearer token). It only reads."""

from __future__ import annotations

import asyncio
import hmac
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple

import msgspec
import uvicorn
from fastapi import FastAPI, Request, Response, WebSocket, WebSocketDisconnect
from nicegui import ui

from oneprice.model.errors import InputError

TOKEN_NAME = "ONEPRICE_DASHBOARD_TOKEN"
_STREAM_EVERY_S = 0.5
_GOODBYE_S = 1.0
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Page(NamedTuple):
    """What is shown: a function that tells the view of now, the names of its parts, and what builds the page in NiceGUI."""

    view: Callable[[], msgspec.Struct]
    parts: tuple[str, ...]
    build: Callable[[], None]


def make_app(page: Page, *, token: str | None) -> FastAPI:
    """The FastAPI application over a page."""
    view = page.view
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
        if part not in page.parts:
            return Response(f"unknown part '{part}'; known: {', '.join(page.parts)}", status_code=404)
        return Response(msgspec.json.encode(getattr(view(), part)), media_type="application/json")

    @app.websocket("/api/stream")
    async def stream(browser: WebSocket) -> None:
        if token is not None and not _may_enter(token, browser.query_params.get("token"), browser.headers):
            await browser.close(code=4401)
            return
        await browser.accept()
        try:
            while True:
                await browser.send_text(msgspec.json.encode(view()).decode())
                await asyncio.sleep(_STREAM_EVERY_S)
        except (WebSocketDisconnect, RuntimeError):
            return  # the browser has gone; nothing is owed to it

    page.build()
    ui.run_with(app, title="oneprice", dark=True, favicon="⚖️", show_welcome_message=False)
    return app


def _may_enter(token: str, given: str | None, headers: Any) -> bool:
    bearer = str(headers.get("authorization", "")).removeprefix("Bearer ")
    return hmac.compare_digest(token, given or bearer)


class _Server(uvicorn.Server):
    """Uvicorn inside our loop: signals stay ours."""

    def install_signal_handlers(self) -> None:
        return


def listen(port: int, *, host: str = "127.0.0.1") -> socket.socket:
    """Take a page's port, before anything else is begun. InputError for one that is busy, and for an open host without a
    token."""
    if host not in _LOOPBACK and os.environ.get(TOKEN_NAME) is None:
        raise InputError(f"the dashboard listens on {host} only with a token: set {TOKEN_NAME}")
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as refused:
        reason = os.strerror(refused.errno).lower() if refused.errno else str(refused)
        raise InputError(
            f"port {port} on {host} cannot be taken ({reason}); give another one with --dashboard PORT"
        ) from None


@asynccontextmanager
async def serve_dashboard(page: Page, listener: socket.socket) -> AsyncIterator[str]:
    """Serve a page on a port that `listen` took until the block ends; → its address."""
    host, port = listener.getsockname()[:2]
    token = None if host in _LOOPBACK else os.environ.get(TOKEN_NAME)
    config = uvicorn.Config(
        make_app(page, token=token), log_level="critical", lifespan="on", timeout_graceful_shutdown=1
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started and not serving.done():  # noqa: ASYNC110 (Uvicorn offers no event)
            await asyncio.sleep(0.02)
        yield f"http://{host}:{port}"
    finally:
        # Open pages would hold a graceful end back for as long as they are looked at.
        server.should_exit = True
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(serving), _GOODBYE_S)
        server.force_exit = True
        await serving
