"""Mail to a domain: its hosts, their order and time, routes and surveys."""

import asyncio
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import starttls
from deliveries import DOMAIN, HOST, both, leaf
from starttls import aio, errors, stdlib
from world import MX, TLSA, TXT, a, mx, txt


@both
def test_a_domain(connect, policy, world, certs):
    outcome = connect(DOMAIN, policy)
    assert (outcome.effective, outcome.encrypted, outcome.peer.name) == ("may", True, HOST)
    assert outcome.peer.name_from == "dnssec" and outcome.domain.name == DOMAIN
    assert (outcome.domain.mx, outcome.domain.policies) == ("secure", ())
    assert (DOMAIN, MX) in world.asked and outcome.domain.lookups == len(world.asked)
    port = outcome.peer.port
    usage, selector, matching, data = leaf(certs)
    world.put(f"_{port}._tcp.{HOST}", TLSA, bytes([usage, selector, matching]) + data)
    outcome = connect(DOMAIN, policy)
    assert (outcome.effective, outcome.identity.proven_by, outcome.peer.name_from) == ("dane", "dane", "dnssec")


@both
def test_levels_by_the_proof_of_the_mx(connect, policy, world):
    world.proof = "insecure"
    assert connect(DOMAIN, policy).peer.name_from == "insecure-dns"
    for level, error in (("strict", errors.NameInsecureError), ("dane-only", errors.NoDaneError)):
        with pytest.raises(error) as raised:
            connect(DOMAIN, policy.derive(level=level))
        assert raised.value.outcome.domain.mx == "insecure"
    world.proof = "bogus"
    with pytest.raises(errors.DnsBogusError):
        connect(DOMAIN, policy)


@both
def test_the_next_host_is_tried(connect, policy, world, peer):
    world.put(DOMAIN, MX, mx(10, "gone.test"), mx(20, "down.test"), mx(30, HOST))
    world.put("down.test", "A", a("127.0.0.77"))
    outcome = connect(DOMAIN, policy)
    assert outcome.peer.name == HOST and [one.peer.name for one in outcome.attempts] == ["gone.test", "down.test"]
    world.put(DOMAIN, MX, mx(10, "gone.test"), mx(20, "down.test"))
    with pytest.raises(errors.ConnectionNotMadeError) as raised:
        connect(DOMAIN, policy)
    error = raised.value
    # The one that may mend itself, with the other's story.
    assert error.temporary and "gone.test: lookup-failed" in str(error) and "down.test: io" in str(error)
    assert [one.peer.name for one in error.outcome.attempts] == ["gone.test"] and error.outcome.peer.name == "down.test"
    world.put(DOMAIN, MX, mx(10, "gone.test"))
    with pytest.raises(errors.LookupFailedError) as raised:
        connect(DOMAIN, policy)
    assert not raised.value.temporary and not raised.value.outcome.attempts


@both
def test_names(connect, policy, world):
    world.put("null.test", MX, mx(0, ""))
    with pytest.raises(errors.NullMxError) as raised:
        connect("null.test", policy)
    assert not raised.value.temporary
    world.mail("xn--bcher-kva.test", HOST)
    assert connect("bücher.test", policy).domain.name == "xn--bcher-kva.test"
    literal = connect("[127.0.0.1]", policy)
    assert (literal.peer.name, literal.peer.name_from, literal.domain.mx) == ("127.0.0.1", "caller", None)
    # Without MX records the domain is the host (RFC 5321 section 5.1).
    assert connect(HOST, policy).peer.name_from == "caller"
    with pytest.raises(errors.LookupFailedError):
        connect("nothing.test", policy)
    for wrong in ("", "a b", "a\r\nb.test"):
        with pytest.raises(errors.InvalidError):
            connect(wrong, policy)
    with pytest.raises(errors.InvalidError, match="one host"):
        connect(DOMAIN, policy.derive(address="127.0.0.1"))


@both
def test_the_time_is_for_all_hosts_together(connect, policy, world, peer):
    def silent(sock):
        sock.recv(1)

    port = peer(silent).port
    world.put(DOMAIN, MX, mx(10, "a.test"), mx(20, "b.test"), mx(30, "c.test"))
    for name in ("a.test", "b.test", "c.test"):
        world.put(name, "A", a("127.0.0.1"))
    began = time.monotonic()
    with pytest.raises(TimeoutError) as raised:
        connect(DOMAIN, policy.derive(port=port), timeout=0.8)
    assert 0.7 < time.monotonic() - began < 3
    assert len(raised.value.outcome.attempts) == 2


@both
def test_look_ups_that_take_all_the_time(connect, policy, world):
    """Too late is not wrong: the mail is sent later."""

    def slow():
        time.sleep(0.5)
        return starttls.Answer([mx(10, HOST), mx(20, "b.test")], "secure")

    world.instead[DOMAIN, MX] = slow
    with pytest.raises(TimeoutError) as raised:
        connect(DOMAIN, policy, timeout=0.45)
    assert (raised.value.word, raised.value.temporary) == ("timeout", True)


def test_no_time_left_after_the_look_ups(policy, monkeypatch):
    """The loop came back too late: nobody is given less than no time."""

    async def run():
        loop, late = asyncio.get_running_loop(), 0.0
        now = loop.time
        monkeypatch.setattr(loop, "time", lambda: now() + late)
        made = aio.Routes

        def routes(*arguments, **more):
            nonlocal late
            found = made(*arguments, **more)
            late = 10.1
            return found

        monkeypatch.setattr(aio, "Routes", routes)
        with pytest.raises(TimeoutError) as raised:
            await aio.connect_domain(DOMAIN, policy)
        assert (raised.value.word, raised.value.temporary) == ("timeout", True)

    asyncio.run(run())


@pytest.mark.parametrize("cache", [None, {}])
def test_a_busy_executor_does_not_stretch_the_time(policy, world, cache):
    policy = policy.derive(cache=cache, timeout=0.3)
    plain = starttls.Policy("may", cache={}, address="127.0.0.1", timeout=0.3)
    release = threading.Event()

    async def run():
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        busy = loop.run_in_executor(None, release.wait, 20)
        reader, writer = await asyncio.open_connection(sock=socket.socketpair()[0])
        try:
            for call in (
                lambda: aio.connect_domain(DOMAIN, policy),
                lambda: starttls.open_connection("smtp", HOST, policy=policy),
                lambda: starttls.open_connection("smtp", HOST, policy=plain),
                lambda: starttls.start(reader, writer, "smtp", HOST, policy=plain),
            ):
                began = time.monotonic()
                with pytest.raises(TimeoutError) as raised:
                    await call()
                assert (raised.value.word, raised.value.temporary) == ("timeout", True)
                assert 0.25 < time.monotonic() - began < 3
        finally:
            release.set()
            writer.close()
        await busy

    asyncio.run(run())
    assert not world.asked


@both
def test_another_service_goes_by_srv_records(connect, policy, world):
    port = int(repr(policy).partition(", port=")[2].partition(",")[0].rstrip(")"))
    target = (0).to_bytes(2, "big") * 2 + port.to_bytes(2, "big") + mx(0, HOST)[2:]
    world.put("_submission._tcp.service.test", "SRV", target)
    outcome = connect("service.test", policy.derive(port=None, level="may"), protocol="submission")
    assert (outcome.peer.name, outcome.peer.port) == ("service.test", port)


def test_routes(policy, world):
    world.put(DOMAIN, MX, mx(10, "gone.test"), mx(20, HOST), mx(30, "broken.test"))

    def broken():
        raise RuntimeError("the cable is out")

    world.instead["broken.test", "A"] = broken
    routes = starttls.routes(DOMAIN, policy)
    [route] = list(routes)
    assert (route.host, route.addresses, route.policy.level) == (HOST, ["127.0.0.1"], "opportunistic")
    gone, failed = routes.skipped
    assert (gone.word, gone.temporary, failed.word, failed.temporary) == ("lookup-failed", False, "lookup-failed", True)
    assert "the cable is out" in str(failed)
    asked = len(world.asked)
    with starttls.connect("smtp", route.host, route.port, policy=route.policy) as session:
        assert session.outcome.domain.name == DOMAIN and session.outcome.peer.name_from == "dnssec"
    assert len(world.asked) == asked
    assert route.policy.derive(timeout=3).timeout == 3 and HOST in repr(route)
    for changes in ({"level": "may"}, {"ca_file": None}, {"cache": {}}, {"destinations": None}):
        with pytest.raises(errors.InvalidError, match="settled"):
            route.policy.derive(**changes)
    # Once more over the same hosts: none is left.
    assert list(routes) == []
    with pytest.raises(errors.NullMxError):
        world.put("null.test", MX, mx(0, ""))
        starttls.routes("null.test", policy)


def test_routes_are_for_one_at_a_time(policy, world):
    world.put(DOMAIN, MX, mx(10, HOST))
    routes = starttls.routes(DOMAIN, policy)
    raised = []

    def back():
        with pytest.raises(ValueError, match="already"):
            next(routes)
        raised.append(True)
        return starttls.Answer([a("127.0.0.1")], "secure")

    world.instead[HOST, "A"] = back
    assert next(routes).host == HOST and raised == [True]


def test_a_route_keeps_what_its_level_demands(policy, world):
    """Derived or not, the records decide."""
    [route] = starttls.routes(DOMAIN, policy)
    world.put(f"_{route.port}._tcp.{HOST}", TLSA, bytes([3, 0, 1]) + b"\0" * 32)
    [route] = starttls.routes(DOMAIN, policy)
    for one in (route.policy, route.policy.derive(timeout=5), route.policy.derive(timeout=5).derive(names=["a.test"])):
        with pytest.raises(errors.DaneMismatchError):
            starttls.connect("smtp", route.host, route.port, policy=one)


def test_survey(policy, world):
    world.put(f"_smtp._tls.{DOMAIN}", TXT, txt("v=TLSRPTv1; rua=mailto:tls@example.test"))
    found = starttls.survey(DOMAIN, policy)
    assert (found["domain"], found["mx"]["proof"], found["trusted_resolver"]) == (DOMAIN, "secure", True)
    assert [host["name"] for host in found["hosts"]] == [HOST]
    assert found["tlsrpt"]["rua"] == ["mailto:tls@example.test"]
    with pytest.raises(errors.InvalidError):
        starttls.survey("a b", policy)


def test_a_mail_goes_by_smtplib(policy, host):
    with stdlib.SMTP.to_domain(DOMAIN, policy, local_hostname="client.test", timeout=10) as smtp:
        assert smtp.outcome.domain.name == DOMAIN and smtp.outcome.encrypted
        smtp.sendmail("a@client.test", [f"b@{DOMAIN}"], "Subject: hello\r\n\r\nhello\r\n")
    assert b"Subject: hello" in host.mails[0]
    host.greeting = b"554 no\r\n"
    with pytest.raises(errors.RefusedError):
        stdlib.SMTP.to_domain(DOMAIN, policy)
    with pytest.raises(errors.UnsupportedError, match="LMTP"):
        stdlib.LMTP.to_domain(DOMAIN, policy)
