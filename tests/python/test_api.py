"""Policies, outcomes and exceptions."""

import copy
import errno
import ipaddress
import json
import pickle
import socket
import ssl
from dataclasses import FrozenInstanceError
from importlib import metadata
from pathlib import Path

import pytest
import starttls
from peers import NAME, echo, play, smtp
from starttls import _core, errors
from starttls.outcome import Outcome

WORDS = """not-offered refused malformed injected too-long closed stripped handshake fingerprint-mismatch
dane-mismatch no-dane untrusted expired name-mismatch name-insecure lookup-failed dns-bogus null-mx
sts-unavailable sts-mismatch timeout io invalid unsupported bug""".split()
VERIFICATION = "fingerprint-mismatch dane-mismatch no-dane untrusted expired name-mismatch name-insecure".split()


def test_the_classes_fit_where_scripts_catch():
    for word in WORDS:
        error = errors.make(word, "why", True, None, None)
        assert isinstance(error, starttls.Error) and isinstance(error, OSError)
        assert (error.word, error.message, error.temporary, error.outcome) == (word, "why", True, None)
        assert str(error) == f"{word}: why"
        assert isinstance(error, ssl.SSLError) == (word == "handshake" or word in VERIFICATION)
        assert isinstance(error, ssl.SSLCertVerificationError) == (word in VERIFICATION)
        assert isinstance(error, TimeoutError) == (word == "timeout")
        assert isinstance(error, ConnectionError) == (word == "closed")
        assert isinstance(error, socket.gaierror) == (word in ("lookup-failed", "dns-bogus"))
        # ssl's verification errors are ValueErrors, too.
        assert isinstance(error, ValueError) == (word == "invalid" or word in VERIFICATION)
        assert type(pickle.loads(pickle.dumps(error))) is type(error)
    refused = errors.make("io", "connect", True, None, 111)
    assert isinstance(refused, ConnectionRefusedError) and refused.errno == 111
    expired = errors.make("expired", "why", False, None, None)
    assert (expired.verify_code, expired.verify_message) == (10, "why")
    assert (expired.library, expired.reason) == ("starttls", "EXPIRED")
    again = pickle.loads(pickle.dumps(expired))
    assert vars(again) == vars(expired)
    for os_error in (None, 111, 110):
        late = errors.make("timeout", "connect", True, None, os_error)
        assert isinstance(late, TimeoutError) and late.errno == errno.ETIMEDOUT
    assert errors.make("lookup-failed", "why", True, None, None).errno == socket.EAI_AGAIN
    assert errors.make("lookup-failed", "why", False, None, None).errno == socket.EAI_NONAME


def test_every_class_is_in_the_module_and_documented():
    for name in errors.__all__:
        assert getattr(errors, name).__doc__
    raised = {type(errors.make(word, "", False, None, None)).__name__ for word in WORDS}
    assert raised <= set(errors.__all__)


def test_errors_carry_the_outcome(peer, strict):
    one = peer(lambda sock: sock.sendall(b"554 go away\r\n"))
    with pytest.raises(errors.RefusedError) as raised:
        starttls.connect("smtp", NAME, one.port, policy=strict)
    error = raised.value
    assert not error.temporary and "go away" in str(error)
    assert error.outcome.transcript[0].text == "554 go away"
    assert error.outcome.channel is None and error.outcome.peer.port == one.port
    again = pickle.loads(pickle.dumps(error))
    assert again.outcome == error.outcome and str(again) == str(error)


def test_the_outcome(peer, server_context, strict):
    port = peer(smtp(server_context, echo)).port
    with starttls.connect("smtp", NAME, port, policy=strict) as session:
        outcome = session.outcome
        assert session.outcome is outcome
    assert session.outcome is outcome
    assert outcome.encrypted and outcome.offered is True and outcome.role == "client"
    assert (outcome.protocol, outcome.level, outcome.effective) == ("smtp", "strict", "verify")
    assert outcome.peer.name == NAME and outcome.peer.address == "127.0.0.1" and outcome.sni == NAME
    assert outcome.identity.proven_by == "pkix" and NAME in outcome.identity.evidence
    assert outcome.check("chain").ok and outcome.check("name").ok and outcome.check("fingerprint") is None
    assert outcome.certificate.names == (NAME, "localhost", "127.0.0.1")
    assert [line.from_ for line in outcome.transcript] == ["S", "C", "S", "S", "C", "S"]
    with pytest.raises(FrozenInstanceError):
        outcome.level = "none"
    assert hash(outcome) == hash(copy.copy(outcome)) and outcome == copy.deepcopy(outcome)

    data = outcome.as_dict()
    assert " ".join(data) == (
        "protocol role level effective peer sni offered channel because tls identity checks certificate "
        "suspicions notes transcript attempts round_trips milliseconds domain"
    )
    assert " ".join(data["tls"]) == "version cipher group forward_secrecy resumed alpn"
    assert " ".join(data["certificate"]) == "subject issuer names not_after sha256 spki_sha256"
    assert data["transcript"][0] == {"from": "S", "text": "220 mail.example.test ESMTP"}
    assert Outcome.from_json(json.dumps(data)) == outcome
    assert json.loads(outcome.to_json()) == data
    assert eval(repr(outcome), vars(starttls.outcome)) == outcome


def test_policies(certs, strict):
    assert starttls.Policy().level == "strict" and starttls.Policy().timeout == 30
    assert strict.derive(timeout=3).timeout == 3 and strict.timeout == 10
    assert strict.derive(level="may").level == "may"
    assert "ca.crt" in repr(strict)
    told = {"client_name": "me.test", "names": ["b.test"], "sni": "c.test", "address": "192.0.2.1"}
    policy = starttls.Policy("fingerprint", fingerprints=["ab" * 32], name_from="dnssec", **told)
    again = eval(repr(policy), {"starttls": starttls})
    assert repr(again) == repr(policy) and "abab" in repr(policy)
    for value in ("me.test", "b.test", "c.test", "192.0.2.1", "dnssec"):
        assert f"'{value}'" in repr(policy)
    starttls.Policy(tlsa=(), tlsa_proof=None, server_cert=None, cache=None, destinations=None, resolver=None)
    starttls.Policy(address=ipaddress.ip_address("::1"), names=["a.test"], sni="b.test", name_from="dnssec")
    starttls.Policy(client_cert=certs / "good.pem", min_tls="1.3", client_name="[192.0.2.1]").ready()
    starttls.Policy(client_cert=(certs / "good.pem", certs / "good.pem")).ready()


@pytest.mark.parametrize(
    "settings",
    [
        {"level": "Strict"},
        {"ca_file": "/nonexistent"},
        {"ca_path": "/etc/passwd"},
        {"client_cert": "/nonexistent"},
        {"min_tls": "1.4"},
        {"timeout": 0},
        {"timeout": -1},
        {"timeout": float("nan")},
        {"timeout": float("inf")},
        {"client_name": "a b"},
        {"client_name": "a\r\nMAIL FROM:<>"},
        {"names": ["a b"]},
        {"sni": "127.0.0.1"},
        {"address": "mail.example.test"},
        {"name_from": "hearsay"},
        {"level": "fingerprint", "fingerprints": ["abc"]},
    ],
)
def test_what_makes_no_sense_is_invalid(settings):
    with pytest.raises(errors.InvalidError) as raised:
        starttls.Policy(**settings)
    assert isinstance(raised.value, ValueError) and raised.value.word == "invalid"


def test_fingerprints_and_levels_go_together():
    for policy in (starttls.Policy("fingerprint"), starttls.Policy("strict", fingerprints=["ab" * 32])):
        with pytest.raises(errors.InvalidError):
            policy.ready()


def test_wrong_types():
    with pytest.raises(TypeError):
        starttls.Policy(no_such_setting=1)
    with pytest.raises(TypeError):
        starttls.Policy(names="one.test")
    with pytest.raises(TypeError):
        starttls.Policy(timeout="soon")
    with pytest.raises(TypeError):
        starttls.connect("smtp", "localhost", policy=3)
    with pytest.raises(OverflowError):
        starttls.connect("smtp", "localhost", 70000)
    with pytest.raises(errors.InvalidError, match="smtp"):
        starttls.connect("SMTP", "localhost")


@pytest.mark.parametrize(
    "host", ["", "a\0b", "a\rb", "a\nb", "a b", "a" * 64, "<a>", "a..b", "\u3000", "x/../y", "127.1"]
)
def test_host_names_that_are_none(host):
    with pytest.raises(errors.InvalidError):
        starttls.connect("smtp", host, 1, timeout=5)
    with socket.socket() as sock, pytest.raises(errors.InvalidError):
        starttls.upgrade("smtp", sock, host)


@pytest.mark.parametrize("host", ["127.0.0.1", "[127.0.0.1]", "localhost", "LOCALHOST."])
def test_host_names_that_work(host, peer, server_context, strict):
    port = peer(smtp(server_context, echo)).port
    with starttls.connect("smtp", host, port, policy=strict) as session:
        assert session.outcome.identity.proven_by == "pkix"


def test_an_internationalised_name_becomes_a_labels(peer, server_context, strict):
    port = peer(smtp(server_context, echo)).port
    with starttls.connect("smtp", "b\u00fccher.example", port, policy=strict.derive(level="encrypt")) as session:
        assert session.outcome.peer.name == session.outcome.sni == "xn--bcher-kva.example"


def test_one_policy_for_each_level_word():
    assert _core.policy_of("strict").level == "strict"
    policy = starttls.Policy("may")
    assert _core.policy_of(policy) is policy


def test_resumption_belongs_to_the_policy(peer, server_context, strict):
    """Derived policies share the store of TLS sessions; another CA gets its own."""

    def afterwards(tls):
        # The ticket comes with the first bytes that are read.
        tls.sendall(b"x")
        echo(tls)

    port = peer(smtp(server_context, afterwards)).port
    strict = strict.derive(min_tls="1.2")
    resumed = []
    for policy in (strict, strict.derive(client_name="me.test"), strict.derive(level="encrypt"), strict):
        with starttls.connect("smtp", NAME, port, policy=policy) as session:
            session.recv(1)
            resumed.append(session.outcome.tls.resumed)
    assert resumed == [False, True, False, True]


def test_fingerprints(peer, server_context, certs, strict):
    port = peer(smtp(server_context, echo)).port
    with starttls.connect("smtp", NAME, port, policy=strict) as session:
        certificate = session.outcome.certificate
    for pin in (certificate.sha256, certificate.spki_sha256.upper()):
        policy = strict.derive(level="fingerprint", fingerprints=[pin])
        with starttls.connect("smtp", "other.test", port, policy=policy) as session:
            assert session.outcome.identity.proven_by == "fingerprint"
    with pytest.raises(errors.FingerprintMismatchError):
        starttls.connect("smtp", NAME, port, policy=strict.derive(level="fingerprint", fingerprints=["ab" * 32]))


def test_the_name_may_be_another(peer, server_context, strict):
    port = peer(smtp(server_context, echo)).port
    with pytest.raises(errors.NameMismatchError):
        starttls.connect("smtp", "other.test", port, policy=strict)
    with starttls.connect("smtp", "other.test", port, policy=strict.derive(names=(NAME,), sni=NAME)) as session:
        assert session.outcome.sni == NAME
    with pytest.raises(errors.NameInsecureError):
        starttls.connect("smtp", NAME, port, policy=strict.derive(name_from="insecure-dns"))


def test_client_name(peer, strict):
    heard = []

    def serve(sock):
        heard.extend(play(sock, [b"220 hello\r\n", None]))

    with pytest.raises(errors.ClosedError):
        starttls.connect("smtp", NAME, peer(serve).port, policy=strict.derive(client_name="me.test"))
    assert heard == [b"EHLO me.test\r\n"]


def test_nobody_listens_and_nobody_is_found(strict):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(ConnectionRefusedError) as raised:
        starttls.connect("smtp", "127.0.0.1", port)
    assert raised.value.word == "io" and raised.value.temporary
    with pytest.raises(socket.gaierror) as raised:
        starttls.connect("smtp", "no-such-host.invalid", timeout=20)
    assert raised.value.word == "lookup-failed"
    assert raised.value.errno in (socket.EAI_NONAME, socket.EAI_AGAIN)


def test_context(strict):
    context = starttls.Context(strict)
    assert context.check_hostname and context.verify_mode is ssl.CERT_REQUIRED
    assert starttls.Context("encrypt").verify_mode is ssl.CERT_NONE and not starttls.Context("may").check_hostname
    with pytest.raises(AttributeError):
        context.verify_mode = ssl.CERT_NONE
    with pytest.raises(errors.InvalidError):
        starttls.Context("none")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for more in ({"server_side": True}, {"do_handshake_on_connect": False}, {"session": object()}):
            with pytest.raises(errors.UnsupportedError):
                context.wrap_socket(ours, server_hostname=NAME, **more)
        for nothing in (None, ""):
            with pytest.raises(errors.InvalidError, match="server_hostname"):
                context.wrap_socket(ours, server_hostname=nothing)
        with pytest.raises(errors.InvalidError, match="server_hostname"):
            starttls.Context("encrypt").wrap_socket(ours)
        # Nothing was done: the socket is still its owner's.
        assert ours.fileno() >= 0


@pytest.mark.parametrize(
    ("attribute", "setting"),
    [
        ("minimum_version", "min_tls"),
        ("maximum_version", "highest"),
        ("options", "min_tls"),
        ("verify_flags", "ca_file"),
        ("verify_mode", "level"),
        ("check_hostname", "level"),
        ("policy", "Policy"),
        ("whatever", "Policy"),
    ],
)
def test_a_context_swallows_no_attribute(attribute, setting):
    with pytest.raises(AttributeError, match=setting):
        setattr(starttls.Context(), attribute, 1)


@pytest.mark.parametrize("setting", ["server_cert", "client_cert", "ca_file", "ca_path"])
def test_pem_that_is_no_path_is_not_shown(setting):
    text = "-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----\n"
    for pem in (text, text.replace("\n", " "), "secret\n"):
        forms = [pem, Path(pem)]
        if setting.endswith("cert"):
            forms += [(pem, pem), ("cert.pem", pem)]
        if setting == "server_cert":
            forms.append([pem])
        for form in forms:
            with pytest.raises(errors.InvalidError, match="PEM goes in") as raised:
                starttls.Policy("encrypt", **{setting: form})
            assert "secret" not in str(raised.value) and raised.value.__cause__ is None


def test_a_pair_is_of_two():
    for setting in ("server_cert", "client_cert"):
        for wrong in ((), ("a",), ("a", "b", "c")):
            with pytest.raises(TypeError, match=f"{setting}: a tuple is a pair"):
                starttls.Policy("encrypt", **{setting: wrong})


def test_none_is_no_socket(strict):
    for call in (
        lambda: starttls.upgrade("smtp", None, NAME),
        lambda: starttls.refuse("smtp", None),
        lambda: starttls.accept("smtp", None, policy=strict),
    ):
        with pytest.raises(TypeError, match="sock: a socket is wanted"):
            call()


def test_context_owns_the_socket_and_closes_it_on_failure(peer, server_context, strict):
    def serve(sock):
        echo(server_context.wrap_socket(sock, server_side=True))

    context = starttls.Context(strict)
    port = peer(serve).port
    sock = socket.create_connection(("127.0.0.1", port), 9)
    with context.wrap_socket(sock, server_hostname=NAME) as session:
        assert sock.fileno() == -1 and session.gettimeout() == 9
        assert session.outcome.protocol is None
        session.sendall(b"x")
        assert session.recv(1) == b"x"
    sock = socket.create_connection(("127.0.0.1", port), 9)
    with pytest.raises(ssl.SSLCertVerificationError) as raised:
        context.wrap_socket(sock, server_hostname="other.test")
    assert sock.fileno() == -1 and raised.value.verify_code == 62
    sock = socket.create_connection(("127.0.0.1", port), 9)
    with starttls.Context("encrypt").wrap_socket(sock) as session:
        assert session.outcome.peer.name == "127.0.0.1"


def test_context_goes_by_the_sockets_time_out(peer):
    sock = socket.create_connection(("127.0.0.1", peer(lambda s: s.recv(1000) and s.recv(1)).port), 0.2)
    with pytest.raises(TimeoutError):
        starttls.Context().wrap_socket(sock, server_hostname=NAME)


def test_the_licences_are_installed_and_no_path_of_the_builder():
    names = [str(file) for file in metadata.files("starttls")]
    for licence in ("APACHE", "MIT"):
        [name] = [name for name in names if name.endswith(f"licenses/LICENSE-{licence}")]
        assert metadata.distribution("starttls").locate_file(name).read_bytes()
    assert not [name for name in names if "sbom" in name]


def test_the_package_names_what_it_has():
    assert starttls.__version__ == _core.version
    for name in starttls.__all__:
        assert getattr(starttls, name) is not None
    with pytest.raises(AttributeError):
        starttls.no_such_thing  # noqa: B018
