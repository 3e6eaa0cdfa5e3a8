"""Fixtures: certificates made for this run, servers written in the test, and the real ones."""

import json
import os
import signal
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import starttls
from peers import NAME, Peer, Serve
from starttls import _core

# Whoever started us in the background may have it ignored, and children would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
# No test asks the machine's resolver.
os.environ.setdefault("STARTTLS_RESOLV_CONF", str(Path(__file__).parents[1] / "servers" / "resolv.conf"))


@pytest.fixture(scope="session")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with ca.crt, good.pem (NAME, localhost, 127.0.0.1) and wrong.pem (another name)."""
    directory = tmp_path_factory.mktemp("certs")
    _core.make_certificates(directory, [("good", [NAME, "localhost", "127.0.0.1"]), ("wrong", ["www.example.test"])])
    return directory


@pytest.fixture(scope="session")
def server_context(certs: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certs / "good.pem")
    return context


@pytest.fixture(scope="session")
def exact_context(certs: Path) -> ssl.SSLContext:
    """One by which a server can tell an end without close_notify, which ssl's do not by themselves."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certs / "good.pem")
    context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    return context


@pytest.fixture(scope="session")
def strict(certs: Path) -> starttls.Policy:
    return starttls.Policy("strict", ca_file=certs / "ca.crt", address="127.0.0.1", timeout=10)


@pytest.fixture
def peer() -> Iterator[Callable[[Serve], Peer]]:
    """Starts servers; what went wrong in one of them fails the test."""
    started: list[Peer] = []

    def start(serve: Serve) -> Peer:
        started.append(Peer(serve))
        return started[-1]

    yield start
    for one in started:
        one.end()


class Servers:
    """The real servers that `tests/servers/run.py` has started."""

    def __init__(self, found: dict[str, Any]) -> None:
        self._found = found
        self.ca_file: str = found["ca_file"]
        self.certs = Path(found["certs_dir"])
        self.user: str = found["users"][0]["name"]
        self.password: str = found["users"][0]["password"]

    def port(self, server: str, name: str) -> int:
        ports = self._found["servers"].get(server)
        if ports is None:
            pytest.skip(f"{server} was left out")
        if name not in ports:
            pytest.skip(f"{server} has no {name} here")
        return int(ports[name])

    def policy(self, level: str = "strict", **settings: Any) -> starttls.Policy:
        return starttls.Policy(level, **{"ca_file": self.ca_file, "timeout": 20, **settings})


@pytest.fixture(scope="session")
def servers() -> Servers:
    listing = os.environ.get("STARTTLS_SERVERS")
    if not listing:
        pytest.skip("no real servers: run this by tests/servers/run.py")
    return Servers(json.loads(Path(listing).read_text()))
