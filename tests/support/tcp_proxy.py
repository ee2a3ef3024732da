"""A TCP proxy that can stop forwarding, as a broken network does, and that can require TLS."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from urllib.parse import urlsplit, urlunsplit

_TLS_REQUEST = bytes.fromhex("0000000804d2162f")
_REFUSAL = b"SFATAL\0C28000\0Mno pg_hba.conf entry: connections without TLS are refused\0\0"


class TcpProxy:
    """Forwards bytes to `server`. With a `tls` context it accepts only Postgres clients that use TLS."""

    def __init__(self, server: tuple[str, int], tls: ssl.SSLContext | None = None) -> None:
        self._server = server
        self._tls = tls
        self._open = asyncio.Event()
        self._lost: list[asyncio.Event] = []
        self._loop = asyncio.new_event_loop()
        self.port = 0

    def stop_answering(self) -> None:
        """Accept connections but forward nothing from now on; the kernel still acknowledges what clients send."""
        self._loop.call_soon_threadsafe(self._open.clear)

    def resume_answering(self) -> None:
        self._loop.call_soon_threadsafe(self._open.set)

    def lose_connections(self) -> None:
        """Forward nothing more on the connections there are, and do not close them; later ones work."""
        self._loop.call_soon_threadsafe(self._lose)

    def _lose(self) -> None:
        self._open.clear()
        # Without this reference, the tasks that wait for the event would be garbage while they are pending.
        self._lost.append(self._open)
        self._open = asyncio.Event()
        self._open.set()

    def run(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        self._open.set()
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        self._loop.run_forever()
        server.close()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.run_until_complete(asyncio.sleep(0.1))  # transports close in a later iteration of the loop
        self._loop.close()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer), suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            if self._tls is not None and not await self._agree_on_tls(reader, writer):
                return
            is_open = self._open
            await is_open.wait()
            inner_reader, inner_writer = await asyncio.open_connection(*self._server)
            with closing(inner_writer):
                await asyncio.gather(
                    self._pump(reader, inner_writer, is_open), self._pump(inner_reader, writer, is_open)
                )

    async def _agree_on_tls(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        if await reader.readexactly(8) == _TLS_REQUEST:
            writer.write(b"S")
            await writer.start_tls(self._tls)
            return True
        writer.write(b"E" + (len(_REFUSAL) + 4).to_bytes(4, "big") + _REFUSAL)
        await writer.drain()
        return False

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_open: asyncio.Event) -> None:
        try:
            while data := await reader.read(65_536):
                await is_open.wait()
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()


@contextmanager
def tcp_proxy(url: str, tls: ssl.SSLContext | None = None) -> Iterator[tuple[TcpProxy, str]]:
    """Run a proxy to the server of a URL; gives it and the URL through it."""
    address = urlsplit(url)
    assert address.hostname is not None
    assert address.port is not None
    made, started = TcpProxy((address.hostname, address.port), tls), threading.Event()
    thread = threading.Thread(target=made.run, args=[started])
    thread.start()
    assert started.wait(10)
    through = address.netloc.replace(f":{address.port}", f":{made.port}")
    try:
        yield made, urlunsplit(address._replace(netloc=through))
    finally:
        made.stop()
        thread.join()
