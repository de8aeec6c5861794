"""A good client's requests while others tire the router: 20 clients that dawdle over the heads of their requests, and 4096 connections from one
address that say nothing; called by router.sh with the router's address."""
import asyncio
import resource
import sys
import time

ROUTER = sys.argv[1]
IDLE, DAWDLERS, REQUESTS = 4096, 20, 2000
HEAD = b"GET /page.html HTTP/1.1\r\nHost: spark-master.ns.k8s:8080\r\n"


async def connect(own):
    return await asyncio.open_connection(ROUTER, 8080, local_addr=(own, 0))


async def dawdle():
    """Begins again once it was let go."""
    while True:
        reader, writer = await connect("127.0.20.5")
        try:
            for byte in HEAD * 100:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.5)
        except OSError:
            pass
        finally:
            writer.close()


async def ask(reader, writer):
    began = time.monotonic()
    writer.write(HEAD + b"\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    await reader.readexactly(int(length.split(b":")[1]))
    return (time.monotonic() - began) * 1000


async def main():
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    dawdlers = [asyncio.create_task(dawdle()) for _ in range(DAWDLERS)]
    idle = [await connect("127.0.20.4") for _ in range(IDLE)]
    # What it may wait for is a new connection, too.
    taken = []
    for _ in range(REQUESTS // 100):
        reader, writer = await connect("127.0.20.6")
        taken += [await ask(reader, writer) for _ in range(100)]
        writer.close()
    assert not any(task.done() for task in dawdlers)
    closed = sum(reader.at_eof() for reader, _ in idle)
    taken.sort()
    what = f"a good client's 99th percentile; {DAWDLERS} dawdle, {IDLE - closed} of {IDLE} idle are left"
    print(f"{what:<66} {taken[len(taken) * 99 // 100]:10.2f} ms (at most 100)")


asyncio.run(main())
