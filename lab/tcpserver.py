# SPDX-License-Identifier: GPL-2.0-or-later
"""A bare TCP server for tests of connections as such: `python -m lab.tcpserver echo|sink|source PORT`."""

import asyncio
import contextlib
import sys
from asyncio import StreamReader, StreamWriter

BLOCK = 1 << 16


async def echo(reader: StreamReader, writer: StreamWriter) -> None:
    while block := await reader.read(BLOCK):
        writer.write(block)
        await writer.drain()


async def sink(reader: StreamReader, writer: StreamWriter) -> None:
    while await reader.read(BLOCK):
        pass


async def source(reader: StreamReader, writer: StreamWriter) -> None:
    while not reader.at_eof():
        writer.write(bytes(BLOCK))
        await writer.drain()


MODES = {"echo": echo, "sink": sink, "source": source}


async def serve(mode: str, port: int) -> None:
    """Serves on all addresses of both families until cancelled; a client's half-close ends its connection."""

    async def connection(reader: StreamReader, writer: StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await MODES[mode](reader, writer)
        writer.close()

    server = await asyncio.start_server(connection, ["0.0.0.0", "::"], port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], int(sys.argv[2])))
