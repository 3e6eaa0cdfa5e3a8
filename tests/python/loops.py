"""For the tests with asyncio."""

import asyncio
import gc
import os
import time


def run(main, loop_factory=None):
    """As asyncio.run, in debug mode; nothing may be left open."""
    before = descriptors()
    with asyncio.Runner(debug=True, loop_factory=loop_factory) as runner:
        result = runner.run(main)
    gc.collect()
    # The servers' threads have theirs in this process, too.
    until = time.monotonic() + 10
    while descriptors() > before and time.monotonic() < until:
        time.sleep(0.01)
    assert descriptors() <= before
    return result


def descriptors():
    return len(os.listdir("/proc/self/fd"))


async def plain_streams(port, read=b""):
    """A pair as asyncio.open_connection makes it, with these bytes in the reader."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    if read:
        reader.feed_data(read)
    protocol = asyncio.StreamReaderProtocol(reader)
    transport, _ = await loop.create_connection(lambda: protocol, "127.0.0.1", port)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


async def end(writer):
    writer.close()
    await writer.wait_closed()
