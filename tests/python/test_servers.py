"""What all real servers have in common: each port of `tests/servers/run.py`, by each level that matters."""

import json
import os
import ssl
import subprocess
import sys

import pytest
import starttls
from real import FOUND, HOST, IN_BAND, NOBODY, OTHER, PORTS, WHO, WORDS, ports
from starttls import errors

# What is special about a port -> the error at a level that must know the peer, the check that fails.
BAD = {
    "self-signed": (errors.UntrustedError, "chain"),
    "unknownca": (errors.UntrustedError, "chain"),
    "nochain": (errors.UntrustedError, "chain"),
    "expired": (errors.ExpiredError, "time"),
    "notyet": (errors.ExpiredError, "time"),
    "wrong-name": (errors.NameMismatchError, "name"),
    "cnonly": (errors.NameMismatchError, "name"),
}
GOOD = ["", "rsa", "chain", "wildcard", "clientcert", "reuse"]
# A port of its own test.
ODD = ["no-tls", "tls10"]

# How often the client speaks and waits before the handshake.
FLIGHTS = {"smtp": 2, "submission": 2, "lmtp": 2, "xmpp": 2, "xmpp-server": 2, "mysql": 0, "telnet": 2}


def of_each(*variants):
    return pytest.mark.parametrize("port", ports(*variants), ids=str)


def connect(port, servers, level="strict", host=None, **settings):
    policy = servers.policy(level, address="127.0.0.1", **settings)
    return starttls.connect(port.word, host or port.host, port.number, policy=policy)


def test_every_protocol_has_a_real_server_or_a_reason():
    spoken = {word for words in WHO.values() for word in words}
    assert spoken | set(NOBODY) == set(WORDS) and not spoken & set(NOBODY)
    for server in FOUND["servers"]:
        assert {port.word for port in PORTS if port.server == server} == set(WHO[server])
    assert {port.variant for port in PORTS} <= {*BAD, *GOOD, *ODD}
    if os.environ.get("CI") == "true" and PORTS:
        assert set(FOUND["servers"]) == set(WHO), "servers were left out"


@of_each(*GOOD)
def test_a_proven_server(port, servers):
    for level in ("strict", "verify"):
        with connect(port, servers, level) as session:
            outcome = session.outcome
            assert outcome.identity.proven_by == "pkix" and outcome.identity.name == port.host
            assert all(check.ok for check in outcome.checks) and len(outcome.checks) == 3
            assert outcome.protocol == port.word and not outcome.suspicions and not outcome.attempts
            assert outcome.tls.version == "TLSv1.3" and outcome.tls.forward_secrecy
            offer = next(row[4] for row in starttls._core.protocols() if port.word in (row[0], row[2]))
            assert outcome.tls.alpn in (None, offer)
            # A handshake is one flight, or two where the server wants a group of another kind.
            dialog = FLIGHTS.get(port.word, 1) if port.word in IN_BAND else 0
            assert outcome.round_trips - dialog in (1, 2), outcome.transcript
            assert b"TLS" not in session.heard() or port.word in IN_BAND


@of_each(*GOOD)
def test_a_ca_that_is_not_trusted(port, servers):
    other = servers.certs / "other-ca.crt"
    for level in ("strict", "verify"):
        with pytest.raises(errors.UntrustedError) as raised:
            connect(port, servers, level, ca_file=other)
        assert isinstance(raised.value, ssl.SSLCertVerificationError) and not raised.value.temporary
    with connect(port, servers, "may", ca_file=other) as session:
        assert session.outcome.encrypted and session.outcome.identity.proven_by is None
        assert [c.check for c in session.outcome.checks if not c.ok] == ["chain"]


# By `to`, SNI or Host these serve nobody else: what they answer with is not the certificate.
CHOOSY = "prosody", "cups"


@pytest.mark.parametrize("port", [port for port in ports("") if port.server not in CHOOSY], ids=str)
def test_another_name(port, servers):
    """The certificate is right, for somebody else."""
    with pytest.raises(errors.NameMismatchError) as raised:
        connect(port, servers, host=OTHER)
    assert raised.value.outcome.check("chain").ok and not raised.value.outcome.check("name").ok


@of_each(*BAD)
def test_a_wrong_certificate(port, servers):
    error, check = BAD[port.variant]
    for level in ("verify", "strict"):
        with pytest.raises(error) as raised:
            connect(port, servers, level)
        assert isinstance(raised.value, ssl.SSLCertVerificationError) and not raised.value.temporary
        assert not raised.value.outcome.check(check).ok
    for level in ("may", "opportunistic", "encrypt"):
        with connect(port, servers, level) as session:
            assert session.outcome.encrypted and session.outcome.identity.proven_by is None
            assert [c.check for c in session.outcome.checks if not c.ok] == [check]
    # Any certificate may be pinned.
    pin = session.outcome.certificate.spki_sha256
    with connect(port, servers, "fingerprint", fingerprints=[pin]) as session:
        assert session.outcome.identity.proven_by == "fingerprint"


@of_each("no-tls")
def test_a_server_without_tls(port, servers):
    for level in ("encrypt", "strict"):
        with pytest.raises(errors.NotOfferedError) as raised:
            connect(port, servers, level)
        assert not raised.value.temporary
    for level in ("may", "opportunistic"):
        with connect(port, servers, level) as session:
            assert session.outcome.channel == "plain" and session.outcome.because == "not-offered"
            assert session.outcome.tls is None and session.outcome.certificate is None


@of_each("tls10")
def test_a_server_of_yesterday(port, servers):
    for level in ("strict", "encrypt"):
        with pytest.raises(errors.HandshakeError):
            connect(port, servers, level)
    with connect(port, servers, "may") as session:
        assert session.outcome.tls.version == "TLSv1"


def check(ca_file, targets):
    command = [sys.executable, "-m", "starttls", "check", "--json", "--timeout", "20", "--ca-file", str(ca_file)]
    done = subprocess.run(command + targets, capture_output=True, text=True, timeout=60)
    assert not done.stderr, done.stderr
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("server", FOUND["servers"])
def test_the_command_checks(server, servers):
    # A wildcard's certificate is not localhost's.
    found = [port for port in ports(*GOOD) if port.server == server and port.variant != "wildcard"]
    good = [f"{port.word}://localhost:{port.number}" for port in found]
    status, lines = check(servers.ca_file, good)
    assert status == 0 and [line["target"] for line in lines] == good
    for line in lines:
        assert line["met"] and line["outcome"]["identity"]["proven_by"] == "pkix", line
    status, lines = check(servers.certs / "other-ca.crt", good)
    assert status == 1 and [line["target"] for line in lines] == good
    for line in lines:
        assert not line["met"] and line["error"] == "untrusted" and not line["temporary"], line


@of_each("no-tls")
def test_the_command_says_what_is_not_offered(port, servers):
    [status, [line]] = check(servers.ca_file, [f"{port.word}://localhost:{port.number}"])
    assert status == 1 and line["error"] == "not-offered" and line["outcome"]["channel"] is None


def test_the_command_checks_another_name(servers):
    port = servers.port("postfix", "smtp")
    command = [sys.executable, "-m", "starttls", "check", "--ca-file", servers.ca_file, "--name"]
    for name, status in ((HOST, 0), (OTHER, 1)):
        done = subprocess.run([*command, name, f"smtp://127.0.0.1:{port}"], capture_output=True, timeout=60)
        assert done.returncode == status, done.stdout
