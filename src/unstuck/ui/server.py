"""The server: on this machine alone, on the first free port, until Ctrl-C."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
from types import FrameType

import uvicorn

from unstuck.ui.app import make_app
from unstuck.ui.guard import Guard, new_token
from unstuck.ui.library import Library

HOST = "127.0.0.1"
MORE_PORTS = 100  # that are tried when one is in use
ENDING_SECONDS = 2  # that answers under way have when the server ends


class Server:
    """Serves the runs of a library. Raises OSError when it cannot listen."""

    def __init__(self, library: Library, port: int = 0) -> None:
        self._socket = listen(port)
        self.port: int = self._socket.getsockname()[1]
        self.token = new_token()
        self.guard = Guard(_App(library), self.token, self.port)

    def address(self, path: str = "") -> str:
        """Return the address of a page, token included."""
        return f"http://{HOST}:{self.port}/{self.token}/{path}"

    def address_once(self, path: str = "") -> str:
        """Return an address that leads to a page one time only."""
        return f"http://{HOST}:{self.port}/{self.guard.ticket()}/{path}"

    def serve(self) -> None:
        """Answer requests until the process is interrupted; raises KeyboardInterrupt then."""
        app = self.guard.app
        assert isinstance(app, _App)
        config = uvicorn.Config(
            self.guard,
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=ENDING_SECONDS,
        )
        _Uvicorn(config, app.closing).run(sockets=[self._socket])


class _App:
    """The application, made within the loop that it runs in."""

    def __init__(self, library: Library) -> None:
        self.closing = asyncio.Event()
        self._made = make_app(library, self.closing)

    async def __call__(self, scope: object, receive: object, send: object) -> None:
        await self._made(scope, receive, send)  # type: ignore[arg-type]


class _Uvicorn(uvicorn.Server):
    """Tells open streams of events that the end has come, so that it does not wait for them."""

    def __init__(self, config: uvicorn.Config, closing: asyncio.Event) -> None:
        super().__init__(config)
        self._closing = closing

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._closing.set()
        super().handle_exit(signal.Signals(sig), frame)


def listen(port: int) -> socket.socket:
    """Return a socket that listens on this port, or on the next one that is free; raises OSError."""
    for candidate in range(port, min(port + MORE_PORTS, 65_535) + 1) if port else (0,):
        made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if os.name != "nt":  # where it would let two servers share a port
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind((HOST, candidate))
            made.listen()
        except OSError as error:
            made.close()
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            return made
    raise OSError(errno.EADDRINUSE, f"the ports from {port} to {port + MORE_PORTS} are all in use")
