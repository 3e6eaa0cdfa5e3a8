"""asyncio: what came of a connection that was not ended properly, by whom ever; ports."""

import asyncio
import gc
import socket

import pytest
import starttls
from loops import run
from peers import NAME, how_it_ends, smtp
from starttls import errors


def test_a_writer_that_is_given_up_has_not_said_that_all_is_there(peer, exact_context, strict):
    ended = []

    port = peer(how_it_ends(exact_context, ended)).port

    async def main():
        _, writer = await starttls.open_connection("smtp", NAME, port, policy=strict)
        writer.write(b"half\n")
        with pytest.warns(ResourceWarning, match="unclosed"):
            del writer, _
            gc.collect()
        while not ended:
            await asyncio.sleep(0.01)

    run(main())
    assert ended == ["ragged"]


@pytest.mark.parametrize("port", ["25", 25.0, None, -1, 65536])
def test_a_port_is_a_number_of_16_bits(port):
    async def main():
        await starttls.open_connection("smtp", "127.0.0.1", port)

    with pytest.raises((TypeError, OverflowError)) as ours:
        run(main())
    with pytest.raises((TypeError, OverflowError)) as theirs:
        starttls.connect("smtp", "127.0.0.1", port)
    assert type(ours.value) is type(theirs.value)


def test_what_was_cut_off(peer, server_context, strict):
    """As the module's documentation says: by read() to the end it is lost."""

    def cut(tls):
        tls.sendall(b"half")
        tls.shutdown(socket.SHUT_RDWR)

    port = peer(smtp(server_context, cut)).port

    async def main():
        for read in (lambda r: r.readline(), lambda r: r.readexactly(9), lambda r: r.readuntil(b".")):
            reader, writer = await starttls.open_connection("smtp", NAME, port, policy=strict)
            with pytest.raises(errors.ClosedError) as raised:
                await read(reader)
            assert raised.value.__cause__.partial == b"half"
            writer.transport.abort()
            # Closed, it still says what it is.
            await asyncio.sleep(0)
            assert "TransportSocket" in repr(writer.get_extra_info("socket"))
        reader, writer = await starttls.open_connection("smtp", NAME, port, policy=strict)
        assert await reader.read(9) == b"half"
        with pytest.raises(errors.ClosedError):
            await reader.read(9)
        writer.transport.abort()

    run(main())
