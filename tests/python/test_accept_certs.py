"""The server's side: which certificate is shown to whom, and the clients' own."""

import hashlib
import shutil
import ssl

import pytest
import starttls
from acceptors import handshake, trusting
from peers import NAME
from starttls import _core, errors


@pytest.fixture(scope="module")
def more_certs(tmp_path_factory):
    """Another CA's: a.pem (a.test), wild.pem (*.b.test), client.pem."""
    directory = tmp_path_factory.mktemp("more")
    names = [("a", ["a.test"]), ("wild", ["*.b.test"]), ("client", ["client.test"])]
    _core.make_certificates(directory, names)
    return directory


# --- certificates of ours


def test_every_way_to_give_a_certificate(certs, tmp_path):
    pem = (certs / "good.pem").read_bytes()
    at = pem.index(b"-----BEGIN PRIVATE")
    cert, key = tmp_path / "x.crt", tmp_path / "x.key"
    cert.write_bytes(pem[:at])
    key.write_bytes(pem[at:])
    context = trusting(certs / "ca.crt")
    for one in (certs / "good.pem", str(certs / "good.pem"), (cert, str(key)), pem, (pem[:at], pem[at:]), [pem]):
        _, names = handshake(starttls.Policy("encrypt", server_cert=one), context)
        assert NAME in names


def test_who_asks_for_a_name_is_shown_its_certificate(certs, more_certs, tmp_path):
    good, a, wild = certs / "good.pem", more_certs / "a.pem", more_certs / "wild.pem"
    for file, name in ((good, NAME), (a, "a.test"), (wild, "_.b.test")):
        shutil.copy(file, tmp_path / f"{name}.pem")
    context = trusting(certs / "ca.crt", more_certs / "ca.crt")
    for server_cert in (
        [good, a, wild],
        [good.read_bytes(), a, (wild.read_bytes(), wild.read_bytes())],
        [good, tmp_path],
        tmp_path,
    ):
        policy = starttls.Policy("encrypt", server_cert=server_cert)
        for asked, shown in ((NAME, NAME), ("a.test", "a.test"), ("x.b.test", "*.b.test"), ("A.TEST", "a.test")):
            outcome, names = handshake(policy, context, asked)
            assert shown in names and outcome.sni.lower() == asked.lower()
        # One label only; and for all others it is the first.
        with pytest.raises(errors.HandshakeError):
            handshake(policy, context, "x.y.b.test")


def test_reload(certs, more_certs, tmp_path):
    file = tmp_path / "server.pem"
    shutil.copy(certs / "good.pem", file)
    policy = starttls.Policy("encrypt", server_cert=file)
    derived = policy.derive(timeout=5)
    context = trusting(certs / "ca.crt", more_certs / "ca.crt")
    handshake(derived, context)
    shutil.copy(more_certs / "a.pem", file)
    handshake(derived, context)
    policy.reload()
    assert handshake(derived, context, "a.test")[1] == ["a.test"]
    file.write_text("nonsense")
    with pytest.raises(errors.InvalidError):
        policy.reload()
    handshake(derived, context, "a.test")
    with pytest.raises(errors.InvalidError):
        starttls.Policy("strict").reload()


# --- certificates of the client's


def client_context(certs, cert=None):
    context = trusting(certs / "ca.crt")
    if cert:
        context.load_cert_chain(cert)
    return context


def test_client_certificates_asked_for(certs, more_certs):
    ours, theirs = certs / "wrong.pem", more_certs / "client.pem"
    policy = starttls.Policy("encrypt", server_cert=certs / "good.pem", ca_file=certs / "ca.crt", ask_client_cert=True)
    outcome, _ = handshake(policy, client_context(certs))
    assert outcome.certificate is None and outcome.identity.proven_by is None
    outcome, _ = handshake(policy, client_context(certs, ours))
    assert outcome.certificate.names == ("www.example.test",) and outcome.check("chain").ok
    outcome, _ = handshake(policy, client_context(certs, theirs))
    assert outcome.certificate.names == ("client.test",) and not outcome.check("chain").ok
    assert outcome.identity.proven_by is None


def test_client_certificates_demanded(certs, more_certs):
    ours, theirs = certs / "wrong.pem", more_certs / "client.pem"
    der = ssl.PEM_cert_to_DER_cert(theirs.read_text().split("-----BEGIN PRIVATE")[0])
    verify = starttls.Policy("verify", server_cert=certs / "good.pem", ca_file=certs / "ca.crt")
    pinned = starttls.Policy(
        "fingerprint", server_cert=certs / "good.pem", fingerprints=[hashlib.sha256(der).hexdigest()]
    )
    outcome, _ = handshake(verify, client_context(certs, ours))
    assert outcome.identity.proven_by == "pkix"
    outcome, _ = handshake(pinned, client_context(certs, theirs))
    assert outcome.identity.proven_by == "fingerprint"
    for policy, cert, error in (
        (verify, None, errors.UntrustedError),
        (verify, theirs, errors.UntrustedError),
        (pinned, None, errors.FingerprintMismatchError),
        (pinned, ours, errors.FingerprintMismatchError),
    ):
        with pytest.raises(error) as raised:
            handshake(policy, client_context(certs, cert))
        assert raised.value.outcome.role == "server"
