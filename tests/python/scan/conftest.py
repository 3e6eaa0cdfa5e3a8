"""`starttls scan` in this process, and a port where nobody listens."""

import socket

import pytest
from starttls import cli


@pytest.fixture
def run(capsys):
    """Runs it in this process: its exit code, and what it printed."""

    def run(*arguments):
        try:
            status = cli.main(["scan", *map(str, arguments)])
        except SystemExit as e:
            status = e.code
        out, err = capsys.readouterr()
        return status, out, err

    return run


@pytest.fixture
def nobody():
    """A port at which nobody listens, at any address of loopback."""
    with socket.socket() as sock:
        sock.bind(("", 0))
        yield sock.getsockname()[1]
