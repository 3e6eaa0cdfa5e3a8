"""asyncio: connections of the caller's own, the server's side, other loops."""

import asyncio
import os
import socket
import ssl

import pytest
import starttls
from loops import end, run
from peers import NAME, echo, smtp
from starttls import errors


def test_start_after_a_dialog_of_ones_own(peer, server_context, strict):
    port = peer(smtp(server_context, echo)).port

    async def main():
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await reader.readline()
        writer.write(b"EHLO me\r\n")
        assert await reader.readline() == b"250-mail.example.test\r\n"
        await reader.readline()
        old = writer
        reader, writer = await starttls.start(reader, writer, "smtp", NAME, policy=strict)
        assert starttls.outcome_of(writer).milliseconds.connect is None
        assert old.transport.is_closing()
        writer.write(b"x")
        assert await reader.read(1) == b"x"
        await end(writer)
        with pytest.raises(ValueError, match="closed"):
            await starttls.start(reader, old, "smtp", NAME, policy=strict)

    run(main())


def test_what_is_left_in_the_reader_is_not_lost(peer, strict):
    def serve(sock):
        sock.sendall(b"220 hello\r\n250 what nobody asked for\r\n")
        sock.recv(1)

    port = peer(serve).port

    async def main():
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await reader.readline()
        await asyncio.sleep(0.05)
        with pytest.raises(errors.MalformedError):
            await starttls.start(reader, writer, "smtp", NAME, policy=strict)

    run(main())


async def serve_smtp(policy, handle):
    """A server for one connection after the other; `handle` gets the streams after STARTTLS."""
    done = asyncio.get_running_loop().create_future()

    async def one(reader, writer):
        try:
            writer.write(b"220 hello\r\n")
            await reader.readline()
            writer.write(b"250-hello\r\n250 STARTTLS\r\n")
            command = await reader.readline()
            reader, writer = await starttls.accept_streams(reader, writer, "smtp", command=command, policy=policy)
            await handle(reader, writer)
            await end(writer)
            done.set_result(starttls.outcome_of(writer))
        except BaseException as e:
            done.set_exception(e)

    server = await asyncio.start_server(one, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1], done


async def echo_line(reader, writer):
    writer.write(await reader.readline())


def test_both_sides_in_one_loop(certs, strict):
    async def main():
        policy = starttls.Policy("encrypt", server_cert=certs / "good.pem")
        server, port, done = await serve_smtp(policy, echo_line)
        async with server:
            reader, writer = await starttls.open_connection("smtp", NAME, port, policy=strict)
            writer.write(b"hello\n")
            assert await reader.read() == b"hello\n"
            await end(writer)
            outcome = await done
        assert outcome.role == "server" and outcome.sni == NAME and outcome.peer.name is None

    run(main())


@pytest.mark.parametrize("pause", [0, 0.1])
def test_plaintext_behind_the_command(certs, pause):
    async def main():
        policy = starttls.Policy("encrypt", server_cert=certs / "good.pem", timeout=5)
        server, port, done = await serve_smtp(policy, echo_line)
        async with server:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"EHLO me\r\n")
            await reader.readuntil(b"STARTTLS\r\n")
            writer.write(b"STARTTLS\r\n" + (b"" if pause else b"RSET\r\n"))
            if pause:
                assert await reader.readline() == b"220 2.0.0 Ready to start TLS\r\n"
                writer.write(b"RSET\r\n")
            assert await reader.read() == b""
            with pytest.raises(errors.InjectedError):
                await done
            await end(writer)

    run(main())


def test_what_a_server_may_not(certs):
    async def main():
        ours, theirs = socket.socketpair()
        with theirs:
            reader, writer = await asyncio.open_connection(sock=ours)
            for policy in ("encrypt", starttls.Policy("may", server_cert=certs / "good.pem")):
                with pytest.raises(ValueError):
                    await starttls.accept_streams(reader, writer, "smtp", policy=policy)
                with pytest.raises(ValueError):
                    await starttls.start(reader, writer, "smtp", NAME, policy="nonsense")
                with pytest.raises(ValueError):
                    await starttls.start(reader, writer, "smtp", NAME, stage="nonsense")
                with pytest.raises(ValueError, match="Limit"):
                    await starttls.start(reader, writer, "smtp", NAME, limit=0)
            good = starttls.Policy("encrypt", server_cert=certs / "good.pem")
            for command in (5, "STARTTLS\r\n", [83], None):
                with pytest.raises(TypeError):
                    await starttls.accept_streams(reader, writer, "smtp", command=command, policy=good)
            # It is as it was.
            writer.write(b"454 no\r\n")
            await end(writer)
            assert theirs.recv(100) == b"454 no\r\n"

    run(main())


def test_uvloop(peer, server_context, certs, strict):
    uvloop = pytest.importorskip("uvloop")
    port = peer(smtp(server_context, echo)).port

    async def main():
        policy = starttls.Policy("encrypt", server_cert=certs / "good.pem")
        server, own_port, done = await serve_smtp(policy, echo_line)
        async with server:
            reader, writer = await asyncio.open_connection("127.0.0.1", own_port)
            reader, writer = await starttls.start(reader, writer, "smtp", NAME, stage="greeting", policy=strict)
            writer.write(b"hello\n")
            assert await reader.read() == b"hello\n"
            await end(writer)
            await done
        reader, writer = await starttls.open_connection("smtp", NAME, port, policy=strict)
        block = os.urandom(3_000_000)
        writer.write(block)
        writer.write_eof()
        assert await reader.read() == block
        await end(writer)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def test_a_loop_that_watches_no_descriptors(strict):
    class Proactor(asyncio.SelectorEventLoop):
        add_reader = asyncio.AbstractEventLoop.add_reader

    async def main():
        with pytest.raises(errors.UnsupportedError, match="Proactor"):
            await starttls.open_connection("smtp", NAME, 1, policy=strict)

    with asyncio.Runner(loop_factory=Proactor) as runner:
        runner.run(main())


def test_the_peers_certificate_is_judged(peer, certs, strict):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certs / "wrong.pem")
    port = peer(smtp(context, echo)).port

    async def main():
        with pytest.raises(ssl.SSLCertVerificationError) as raised:
            await starttls.open_connection("smtp", NAME, port, policy=strict)
        assert raised.value.word == "name-mismatch" and raised.value.outcome.certificate

    run(main())
