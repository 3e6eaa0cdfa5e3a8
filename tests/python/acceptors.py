"""For the tests of the server's side."""

import contextlib
import socket
import ssl
import threading

import starttls
from peers import NAME

COMMANDS = {"smtp": b"STARTTLS\r\n", "lmtp": b"starttls\r\n", "imap": b"a7 STARTTLS\r\n", "pop3": b"STLS\r\n"}
COMMANDS["sieve"] = b"STARTTLS\r\n"
GO_AHEADS = {"smtp": b"220 ", "lmtp": b"220 ", "imap": b"a7 OK ", "pop3": b"+OK ", "sieve": b"OK "}


@contextlib.contextmanager
def sockets():
    """Two ends of one TCP connection: the server's, the client's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname(), 10)
        server, _ = listener.accept()
    with server, client:
        server.settimeout(10)
        yield server, client


def accepting(work):
    """Does this in a thread; a function that waits for its result."""
    result = []

    def run():
        try:
            result.append(work())
        except BaseException as e:
            result.append(e)

    thread = threading.Thread(target=run)
    thread.start()

    def wait():
        thread.join(20)
        [one] = result
        if isinstance(one, BaseException):
            raise one
        return one

    return wait


def handshake(policy, context, server_name=NAME, protocol="smtp"):
    """One accept with a client of ssl's; the session's outcome and what the client saw."""
    with sockets() as (server, client):

        def serve():
            with starttls.accept(protocol, server, command=COMMANDS[protocol], policy=policy) as session:
                session.sendall(b"hello")
                session.settimeout(5)
                assert session.recv(100) == b"bye"
                return session.outcome

        wait = accepting(serve)
        assert client.recv(1000).startswith(GO_AHEADS[protocol])
        names = []
        # What the server says of a client that breaks off is what counts.
        with contextlib.suppress(OSError):
            with context.wrap_socket(client, server_hostname=server_name) as tls:
                assert tls.recv(100) == b"hello"
                names = [name for _, name in tls.getpeercert()["subjectAltName"]]
                tls.sendall(b"bye")
                assert tls.recv(100) == b""
        client.close()
        outcome = wait()
        return outcome, names


def trusting(*files):
    context = ssl.create_default_context()
    for file in files:
        context.load_verify_locations(file)
    return context
