# SPDX-License-Identifier: GPL-2.0-or-later
"""Server-sent events over HTTP/1.1, chunked: `python -m lab.eventserver PORT`.

GET /COUNT/INTERVAL gives so many events with so many seconds between them. Each carries the time at which it was sent
(time.monotonic, which all namespaces of a machine share) and some text of its own; the last one, called 'end', carries
the SHA-256 of everything before it.
"""

import asyncio
import hashlib
import random
import sys
import time
from asyncio import StreamReader, StreamWriter

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


async def connection(reader: StreamReader, writer: StreamWriter) -> None:
    try:
        request = (await reader.readuntil(b"\r\n\r\n")).split()
        _, count, interval = request[1].decode().split("/")
        writer.write(HEAD)
        await stream(writer, int(count), float(interval))
    except (ConnectionError, asyncio.IncompleteReadError):
        pass  # the client has left
    finally:
        writer.close()


async def stream(writer: StreamWriter, count: int, interval: float) -> None:
    text, digest = random.Random(count), hashlib.sha256()
    begin = time.monotonic()
    for number in range(count):
        await asyncio.sleep(max(0.0, begin + number * interval - time.monotonic()))
        event = f"id: {number}\ndata: {time.monotonic():.6f} {text.randbytes(20).hex()}\n\n".encode()
        digest.update(event)
        writer.write(chunk(event))
        await writer.drain()
    writer.write(chunk(f"event: end\ndata: {digest.hexdigest()}\n\n".encode()) + chunk(b""))
    await writer.drain()


def chunk(data: bytes) -> bytes:
    """RFC 9112 section 7.1; the empty one is the end."""
    return b"%x\r\n%s\r\n" % (len(data), data)


async def serve(port: int) -> None:
    server = await asyncio.start_server(connection, ["0.0.0.0", "::"], port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
