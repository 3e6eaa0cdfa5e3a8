"""Streams of asyncio that dial: what only a loop can get wrong."""

import asyncio
import socket
import subprocess
import sys
import time

import pytest
import starttls
from loops import end, plain_streams, run
from peers import NAME, SMTP, echo, line, play, smtp
from starttls import errors

# --- streams


def test_import_without_asyncio():
    code = "import sys, starttls; assert 'asyncio' not in sys.modules; starttls.open_connection; starttls.aio.start"
    subprocess.run([sys.executable, "-X", "dev", "-W", "error", "-c", code], check=True)


def test_what_the_transport_tells(peer, server_context, strict):
    port = peer(smtp(server_context, echo)).port

    async def main():
        reader, writer = await starttls.open_connection("smtp", NAME, port, policy=strict)
        know = writer.get_extra_info
        assert know("starttls_outcome") is starttls.outcome_of(writer)
        assert starttls.outcome_of(writer).identity.proven_by == "pkix"
        assert starttls.outcome_of(writer).milliseconds.connect is not None
        assert starttls.outcome_of(writer).transcript[1].text == "EHLO [127.0.0.1]"
        assert know("peername") == ("127.0.0.1", port) and know("sockname")[0] == "127.0.0.1"
        assert know("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert know("cipher")[1] == "TLSv1.3"
        assert ("DNS", NAME) in know("peercert")["subjectAltName"]
        assert know("ssl_object") is None and know("nothing", 7) == 7
        with open(__file__, "rb") as file, pytest.raises(RuntimeError):
            await asyncio.get_running_loop().sendfile(writer.transport, file)
        with pytest.raises(TypeError):
            await writer.start_tls(server_context)
        with pytest.raises(ValueError, match="already"):
            await starttls.start(reader, writer, "smtp", NAME, policy=strict)
        await end(writer)
        assert writer.transport.is_closing() and not writer.transport.is_reading()
        writer.close()
        _, plain = await plain_streams(port)
        with pytest.raises(ValueError):
            starttls.outcome_of(plain)
        await end(plain)

    run(main())


def test_200_at_once(peer, server_context, strict):
    port = peer(smtp(server_context, echo)).port

    async def one(n):
        reader, writer = await starttls.open_connection("smtp", NAME, port, policy=strict)
        writer.write(b"%d\n" % n)
        assert await reader.readline() == b"%d\n" % n
        await end(writer)

    async def main():
        async with asyncio.TaskGroup() as group:
            for n in range(200):
                group.create_task(one(n))

    run(main())


def test_much_both_ways(peer, server_context, strict):
    """More than all buffers hold, with a writer that is told to pause."""
    port = peer(smtp(server_context, echo)).port
    block = bytes(range(256)) * 512
    blocks = 160

    async def main():
        reader, writer = await starttls.open_connection("smtp", NAME, port, policy=strict)
        paused = 0

        async def send():
            nonlocal paused
            for _ in range(blocks):
                writer.write(block)
                paused += writer.transport.get_write_buffer_size() > 0
                await writer.drain()
                # What is kept is bounded.
                assert writer.transport.get_write_buffer_size() <= 64 * 1024
            writer.write_eof()

        sending = asyncio.create_task(send())
        # The peer echoes: with nobody reading, both stand still.
        await asyncio.sleep(0.3)
        assert not sending.done()
        for _ in range(blocks):
            assert await reader.readexactly(len(block)) == block
        await sending
        assert paused
        assert await reader.read() == b""
        await end(writer)

    run(main())


def test_half_close(peer, server_context, strict):
    def count(tls):
        n = 0
        while data := tls.recv(16384):
            n += len(data)
        tls.sendall(b"%d\n" % n)
        tls.unwrap()

    port = peer(smtp(server_context, count)).port

    async def main():
        reader, writer = await starttls.open_connection("smtp", NAME, port, policy=strict)
        assert writer.can_write_eof()
        writer.write(b"x" * 1_000_000)
        writer.write_eof()
        with pytest.raises(RuntimeError):
            writer.write(b"more")
        assert await reader.read() == b"1000000\n"
        await end(writer)

    run(main())


def test_half_close_in_clear(peer):
    def serve(sock):
        play(sock, [SMTP[0], None, b"250 mail.example.test\r\n"])
        assert sock.makefile("rb").read() == b"QUIT\r\n"
        sock.sendall(b"221 bye\r\n")

    port = peer(serve).port

    async def main():
        reader, writer = await starttls.open_connection("smtp", "127.0.0.1", port, policy="may")
        assert starttls.outcome_of(writer).because == "not-offered"
        assert writer.get_extra_info("cipher") is None and writer.get_extra_info("peercert") is None
        writer.write(b"QUIT\r\n")
        writer.write_eof()
        assert await reader.read() == b"221 bye\r\n"
        await end(writer)

    run(main())


def test_the_end_without_close_notify(peer, server_context, strict):
    def cut(tls):
        tls.sendall(b"221 bye\r\nhalf a li")
        line(tls)
        tls.shutdown(socket.SHUT_RDWR)

    port = peer(smtp(server_context, cut)).port

    async def main():
        for read in (
            lambda r: r.read(),
            lambda r: r.readline(),
            lambda r: r.readexactly(100),
            lambda r: r.readuntil(b"."),
        ):
            reader, writer = await starttls.open_connection("smtp", NAME, port, policy=strict)
            assert await reader.readexactly(4) == b"221 "
            writer.write(b"QUIT\r\n")
            await asyncio.sleep(0.1)
            # What came is read, all but a part that may have been cut.
            assert await reader.readline() == b"bye\r\n"
            with pytest.raises(errors.ClosedError, match="close_notify"):
                await read(reader)
            with pytest.raises(errors.ClosedError):
                await reader.read(1)
            writer.close()
            with pytest.raises(errors.ClosedError):
                await writer.wait_closed()

    run(main())


def test_a_peer_that_takes_nothing_is_aborted(peer, server_context, strict):
    def deaf(tls):
        time.sleep(0.5)

    port = peer(smtp(server_context, deaf)).port

    async def main():
        _, writer = await starttls.open_connection("smtp", NAME, port, policy=strict)
        writer.write(b"x" * 20_000_000)
        writer.close()
        assert writer.transport.is_closing() and writer.transport.get_write_buffer_size() > 1_000_000
        writer.transport.abort()
        await writer.wait_closed()

    run(main())


def test_other_protocols_than_streams(peer, server_context, strict):
    """A callback protocol with a buffer of its own, given to the transport."""
    port = peer(smtp(server_context, echo)).port

    class Small(asyncio.BufferedProtocol):
        def __init__(self):
            self.buffer = bytearray(7)
            self.came = b""
            self.ended = asyncio.get_running_loop().create_future()

        def get_buffer(self, sizehint):
            return self.buffer

        def buffer_updated(self, nbytes):
            self.came += self.buffer[:nbytes]

        def eof_received(self):
            return False

        def connection_lost(self, exc):
            self.ended.set_result(exc)

    async def main():
        _, writer = await starttls.open_connection("smtp", NAME, port, policy=strict)
        transport, small = writer.transport, Small()
        transport.set_protocol(small)
        assert transport.get_protocol() is small
        transport.writelines([b"abc", memoryview(b"def"), bytearray(b"ghijkl")])
        transport.write_eof()
        assert await small.ended is None
        assert small.came == b"abcdefghijkl"

    run(main())


# --- giving up


def test_time_outs(peer, strict):
    hold = peer(lambda sock: sock.recv(1)).port
    then_silent = peer(lambda sock: (play(sock, SMTP), sock.recv(5000), sock.recv(1))).port

    async def main():
        for port, awaited in ((hold, "the greeting"), (then_silent, "the TLS handshake")):
            began = time.monotonic()
            with pytest.raises(errors.TimedOutError, match=awaited) as raised:
                await starttls.open_connection("smtp", NAME, port, policy=strict, timeout=0.3)
            assert 0.2 < time.monotonic() - began < 3
            assert raised.value.temporary and raised.value.outcome.peer.address == "127.0.0.1"

    run(main())


def test_cancellation_closes(peer, strict):
    """At every point where it waits."""
    closed = []

    def serve(script):
        def play_and_wait(sock):
            play(sock, script)
            while sock.recv(5000):
                pass
            closed.append(len(script))

        return play_and_wait

    scripts = [[], SMTP[:1], SMTP[:3], SMTP]
    peers = [peer(serve(script)) for script in scripts]

    async def main():
        for one in peers:
            task = asyncio.create_task(starttls.open_connection("smtp", NAME, one.port, policy=strict))
            await asyncio.sleep(0.2)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            reader, writer = await plain_streams(one.port)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await starttls.start(reader, writer, "smtp", NAME, stage="greeting", policy=strict)

    run(main())
    for one in peers:
        one.end()
    assert sorted(closed) == sorted(2 * [len(script) for script in scripts])


def test_the_loop_goes_on_meanwhile(peer, server_context, strict):
    def slow(sock):
        for step in SMTP:
            time.sleep(0.1)
            play(sock, [step])
        with server_context.wrap_socket(sock, server_side=True) as tls:
            echo(tls)

    port = peer(slow).port

    async def main():
        ticks = 0

        async def tick():
            nonlocal ticks
            while True:
                await asyncio.sleep(0.01)
                ticks += 1

        ticking = asyncio.create_task(tick())
        _, writer = await starttls.open_connection("smtp", NAME, port, policy=strict)
        ticking.cancel()
        assert ticks > 20
        await end(writer)

    run(main())


def test_dialling(peer, server_context, certs, monkeypatch):
    policy = starttls.Policy("verify", ca_file=certs / "ca.crt", timeout=5)
    port = peer(smtp(server_context, echo)).port
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed = listener.getsockname()[1]

    async def main():
        loop = asyncio.get_running_loop()
        with pytest.raises(ConnectionRefusedError) as raised:
            await starttls.open_connection("smtp", "127.0.0.1", closed, policy=policy)
        assert raised.value.word == "io" and raised.value.temporary and f"127.0.0.1:{closed}" in raised.value.message
        assert raised.value.outcome.peer.port == closed and raised.value.outcome.milliseconds.connect is not None
        with pytest.raises(ValueError):
            await starttls.open_connection("smtp", "a b", port)
        with pytest.raises(ValueError):
            await starttls.open_connection("nonsense", NAME, port)

        answers = []

        async def getaddrinfo(host, port, **_):
            assert host == "localhost"
            if isinstance(answers[0], Exception):
                raise answers[0]
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in answers]

        monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
        # Refused: the next at once. 127.0.0.2 is nobody's.
        answers[:] = ["127.0.0.2", "127.0.0.1"]
        _, writer = await starttls.open_connection("smtp", "LOCALHOST.", port, policy=policy)
        assert starttls.outcome_of(writer).peer.address == "127.0.0.1"
        await end(writer)
        # An address that does not answer holds nobody up for long.
        answers[:] = ["192.0.2.1", "127.0.0.1"]
        connect = loop.sock_connect

        async def sock_connect(sock, address):
            if address[0] == "192.0.2.1":
                await asyncio.sleep(100)
            await connect(sock, address)

        monkeypatch.setattr(loop, "sock_connect", sock_connect)
        began = time.monotonic()
        _, writer = await starttls.open_connection("smtp", "localhost", port, policy=policy)
        assert 0.2 < time.monotonic() - began < 2
        await end(writer)
        answers[:] = ["192.0.2.1"]
        with pytest.raises(errors.TimedOutError, match=r"192\.0\.2\.1"):
            await starttls.open_connection("smtp", "localhost", port, policy=policy, timeout=0.2)
        for number, temporary in ((socket.EAI_NONAME, False), (socket.EAI_AGAIN, True)):
            answers[:] = [socket.gaierror(number, "no")]
            with pytest.raises(errors.LookupFailedError) as raised:
                await starttls.open_connection("smtp", "localhost", port, policy=policy)
            assert raised.value.temporary is temporary and raised.value.outcome.peer.name == "localhost"

    run(main())
