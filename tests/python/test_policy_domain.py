"""Mail to a domain: the policy's settings, resolvers and caches of the caller's, what is remembered, reports."""

import asyncio
import gzip
import hashlib
import json
import pickle
import shelve
import signal
import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import starttls
from starttls import aio, errors, stdlib, tlsrpt
from world import MX, TLSA, TXT, Host, World, a, mx, txt

DOMAIN, HOST = "example.test", "mail.example.test"


@pytest.fixture
def world():
    world = World()
    world.mail(DOMAIN, HOST)
    return world


@pytest.fixture
def host(server_context):
    return Host(server_context)


@pytest.fixture
def policy(certs, peer, host, world):
    port = peer(host).port
    return starttls.Policy("opportunistic", ca_file=certs / "ca.crt", port=port, resolver=world, timeout=10)


def sync(domain, policy, **more):
    """The outcome of a connection, or the error."""
    with starttls.connect_domain(domain, policy, **more) as session:
        return session.outcome


def looped(domain, policy, **more):
    async def connect():
        _, writer = await aio.connect_domain(domain, policy, **more)
        writer.close()
        await writer.wait_closed()
        return starttls.outcome_of(writer)

    return asyncio.run(connect())


both = pytest.mark.parametrize("connect", [sync, looped])


def leaf(certs):
    """TLSA 3 0 1 of the good certificate."""
    text = (certs / "good.pem").read_text()
    begin = text.index("-----BEGIN CERT")
    end = text.index("-----END CERTIFICATE-----", begin) + len("-----END CERTIFICATE-----")
    return 3, 0, 1, hashlib.sha256(ssl.PEM_cert_to_DER_cert(text[begin:end])).digest()


# --- settings ----------------------------------------------------------------------------------


def test_settings_stand_in_the_repr_and_are_read_again(tmp_path):
    table = tmp_path / "table"
    table.write_text(f"{DOMAIN} verify\n")
    policy = starttls.Policy(
        "dane",
        tlsa=["3 1 1 " + "ab" * 32, (2, 0, 1, b"\1" * 32)],
        tlsa_proof="secure",
        tlsa_port=25,
        port=2525,
        sts_port=8443,
        cache="memory",
        destinations=table,
        resolver="127.0.0.1:5353",
        tlsrpt=tmp_path / "socket",
    )
    again = eval(repr(policy), {"starttls": starttls})
    assert repr(again) == repr(policy)
    for value in ("3 1 1 abab", "2 0 1 0101", "secure", "port=2525", "8443", "'memory'", "table", "5353", "socket"):
        assert value in repr(policy)
    assert "3 1 1" not in repr(policy.derive(tlsa=(), tlsa_proof=None))
    assert "tlsrpt=True" in repr(starttls.Policy(tlsrpt=True)) and "tlsrpt" not in repr(starttls.Policy(tlsrpt=False))
    assert "cache=<dict>" in repr(starttls.Policy(cache={})) and "<function>" in repr(
        starttls.Policy(resolver=test_settings_stand_in_the_repr_and_are_read_again)
    )


@pytest.mark.parametrize(
    "settings, error, says",
    [
        ({"tlsa": ["3 1 1"]}, errors.InvalidError, "3 1 1"),
        ({"tlsa": ["3 1 1 abc"]}, errors.InvalidError, "abc"),
        ({"tlsa": ["3 1 256 ab"]}, errors.InvalidError, "256"),
        ({"tlsa": ["3 1 1 ÄÄ"]}, errors.InvalidError, "tlsa"),
        ({"tlsa": "3 1 1 ab"}, TypeError, "not one string"),
        ({"tlsa": [(3, 1, 1, "ab")]}, TypeError, "bytes"),
        ({"tlsa": [(3, 1, 1)]}, ValueError, ""),
        ({"tlsa": [(300, 1, 1, b"ab")]}, OverflowError, ""),
        ({"tlsa": [b"3 1 1 ab"]}, TypeError, "tuple"),
        ({"tlsa_proof": "yes"}, errors.InvalidError, "secure insecure bogus indeterminate failed"),
        ({"cache": 3}, TypeError, "cache"),
        ({"cache": "nowhere"}, errors.InvalidError, "nowhere"),
        ({"destinations": "/nonexistent/table"}, errors.InvalidError, "/nonexistent/table"),
        ({"resolver": "one.one.one.one"}, errors.InvalidError, "one.one.one.one"),
        ({"resolver": 1}, TypeError, "callable"),
        ({"port": 0}, errors.InvalidError, "port"),
        ({"sts_port": 70000}, OverflowError, ""),
        ({"tlsrpt": "/" + "x" * 200}, errors.InvalidError, "TLSRPT collector /xxx"),
        ({"tlsrpt": ""}, errors.InvalidError, "tlsrpt"),
        ({"nothing": 1}, TypeError, "nothing"),
    ],
)
def test_what_is_wrong_is_told(settings, error, says):
    with pytest.raises(error) as raised:
        starttls.Policy(**settings)
    assert says in str(raised.value)


def test_a_table_tells_its_line(tmp_path):
    table = tmp_path / "table"
    table.write_text("# all\nexample.org verify\nexample.net vreify\n")
    with pytest.raises(errors.InvalidError, match=r"3.*vreify"):
        starttls.Policy(destinations=table)


def test_unbound_is_a_matter_of_the_build():
    try:
        starttls.Policy(resolver="unbound")
    except errors.UnsupportedError as e:
        assert "unbound" in str(e)


# --- one host, with records that are handed in ---------------------------------------------------


@pytest.mark.parametrize("level", ["dane", "dane-only", "opportunistic", "strict"])
def test_records_that_are_handed_in(certs, peer, host, level):
    port = peer(host).port
    good = starttls.Policy(level, tlsa=[leaf(certs)], tlsa_proof="secure", address="127.0.0.1", timeout=10)
    with starttls.connect("smtp", "another.example.test", port, policy=good) as session:
        outcome = session.outcome
    assert (outcome.effective, outcome.identity.proven_by, outcome.check("dane").ok) == ("dane", "dane", True)
    assert outcome.domain.policies[0].type == "tlsa" and outcome.domain.policies[0].string[0].startswith("3 0 1 ")
    bad = good.derive(tlsa=[(3, 0, 1, b"\0" * 32)])
    with pytest.raises(errors.DaneMismatchError) as raised:
        starttls.connect("smtp", "another.example.test", port, policy=bad)
    assert raised.value.outcome.check("dane").ok is False and isinstance(raised.value, ssl.SSLCertVerificationError)
    for proof, word in (("bogus", "dns-bogus"), ("failed", "lookup-failed")):
        with pytest.raises(socket.gaierror) as failed:
            starttls.connect("smtp", "another.example.test", port, policy=good.derive(tlsa_proof=proof))
        assert (failed.value.word, failed.value.temporary) == (word, True)


def test_without_secure_records(certs, peer, host):
    port = peer(host).port
    policy = starttls.Policy("dane", tlsa_proof="insecure", tlsa=[leaf(certs)], address="127.0.0.1", timeout=10)
    with starttls.connect("smtp", HOST, port, policy=policy) as session:
        assert (session.outcome.effective, session.outcome.identity.proven_by) == ("may", None)
    with pytest.raises(errors.NoDaneError):
        starttls.connect("smtp", HOST, port, policy=policy.derive(level="dane-only"))


def test_the_look_ups_of_one_host(certs, peer, host, world):
    """As connect makes them, so does asyncio's."""
    port = peer(host).port
    usage, selector, matching, data = leaf(certs)
    world.put(f"_{port}._tcp.{HOST}", TLSA, bytes([usage, selector, matching]) + data)
    policy = starttls.Policy("dane-only", resolver=world, timeout=10)
    with starttls.connect("smtp", HOST, port, policy=policy) as session:
        sync_outcome = session.outcome

    async def run():
        _, writer = await starttls.open_connection("smtp", HOST, port, policy=policy)
        writer.close()
        await writer.wait_closed()
        reader, plain = await asyncio.open_connection("127.0.0.1", port)
        _, started = await starttls.start(reader, plain, "smtp", HOST, stage="greeting", policy=policy)
        started.close()
        await started.wait_closed()
        return starttls.outcome_of(writer), starttls.outcome_of(started)

    for outcome in (sync_outcome, *asyncio.run(run())):
        assert (outcome.effective, outcome.identity.proven_by) == ("dane", "dane")
        assert not outcome.notes


@pytest.mark.parametrize("level", ["opportunistic", "strict", "dane", "dane-only"])
def test_a_row_of_the_table_asks_for_look_ups(certs, peer, host, world, tmp_path, level):
    """The row's level counts, not that of the policy, whoever dials."""
    port = peer(host).port
    table = tmp_path / "table"
    table.write_text(f"{HOST} {level}\n")
    world.put(f"_{port}._tcp.{HOST}", TLSA, bytes([3, 0, 1]) + b"\0" * 32)
    policy = starttls.Policy("may", destinations=table, resolver=world, ca_file=certs / "ca.crt", timeout=10)
    with pytest.raises(errors.DaneMismatchError):
        starttls.connect("smtp", HOST, port, policy=policy)

    async def run():
        with pytest.raises(errors.DaneMismatchError):
            await starttls.open_connection("smtp", HOST, port, policy=policy)
        reader, plain = await asyncio.open_connection("127.0.0.1", port)
        with pytest.raises(errors.DaneMismatchError):
            await starttls.start(reader, plain, "smtp", HOST, stage="greeting", policy=policy)

    asyncio.run(run())


# --- domains -------------------------------------------------------------------------------------


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


# --- a resolver of the caller's ------------------------------------------------------------------


def test_what_a_resolver_raises_is_a_failed_look_up(policy, world):
    def broken():
        raise ValueError("no such cable")

    world.instead[DOMAIN, MX] = broken
    with pytest.raises(errors.LookupFailedError) as raised:
        starttls.connect_domain(DOMAIN, policy)
    assert raised.value.temporary and "ValueError: no such cable" in str(raised.value) and DOMAIN in str(raised.value)


@pytest.mark.parametrize(
    "answer",
    [
        None,
        "text",
        starttls.Answer("text", "secure"),
        starttls.Answer(["text"], "secure"),
        starttls.Answer([b"\0"], "secure"),
        starttls.Answer([mx(10, HOST)[:-3]], "secure"),
        starttls.Answer([mx(10, HOST)], "sure"),
        starttls.Answer([mx(10, HOST)], "secure", ttl=-1),
        starttls.Answer([mx(10, HOST)], "secure", ttl=float("nan")),
        starttls.Answer([b""] * 100_000, "secure"),
    ],
)
def test_answers_that_are_none(policy, world, answer):
    world.instead[DOMAIN, MX] = lambda: answer
    with pytest.raises(errors.LookupFailedError):
        starttls.connect_domain(DOMAIN, policy)


@pytest.mark.parametrize("ttl", [-1, float("nan"), float("inf")])
def test_a_wrong_ttl_is_named(policy, world, ttl):
    world.instead[DOMAIN, MX] = lambda: starttls.Answer([mx(10, HOST)], "secure", ttl=ttl)
    with pytest.raises(errors.LookupFailedError, match="ttl") as raised:
        starttls.connect_domain(DOMAIN, policy)
    assert "time-out" not in str(raised.value)


def test_a_resolver_that_asks_itself(world):
    """It ends, and not by SIGSEGV; from another thread, too, and again."""
    depths = []

    def back(name, kind, timeout):
        depths.append(1)
        return starttls.routes(DOMAIN, policy)

    policy = starttls.Policy("opportunistic", resolver=back, timeout=10)
    for _ in range(2):
        depths.clear()
        with pytest.raises(errors.LookupFailedError, match="called from within itself"):
            starttls.connect_domain(DOMAIN, policy)
        assert len(depths) == 8


def test_without_a_proof_nothing_is_proven(policy, world):
    world.instead[DOMAIN, MX] = lambda: starttls.Answer([mx(10, HOST)])
    with starttls.connect_domain(DOMAIN, policy) as session:
        assert session.outcome.domain.mx == "indeterminate"


@both
def test_ctrl_c_within_a_resolver(connect, policy, world):
    if connect is looped:
        pytest.skip("signal handlers run in the main thread")

    def interrupted():
        signal.raise_signal(signal.SIGINT)
        return starttls.Answer()

    world.instead[HOST, "A"] = interrupted
    with pytest.raises(KeyboardInterrupt):
        connect(DOMAIN, policy)
    # Nobody was asked or called after that.
    assert world.asked[-1] == (HOST, "A")


def test_the_loop_runs_while_a_resolver_waits(policy, world):
    release, ticks = threading.Event(), []

    def slow():
        assert release.wait(10)
        return starttls.Answer([mx(10, HOST)], "secure")

    world.instead[DOMAIN, MX] = slow

    async def run():
        task = asyncio.create_task(aio.connect_domain(DOMAIN, policy))
        for _ in range(5):
            await asyncio.sleep(0.01)
            ticks.append(task.done())
        release.set()
        _, writer = await task
        writer.close()
        await writer.wait_closed()

    asyncio.run(run())
    assert ticks == [False] * 5 and threading.get_ident() not in world.threads


# --- caches --------------------------------------------------------------------------------------


class Object:
    def __init__(self):
        self.kept = {}

    def get(self, key):
        value, expires = self.kept.get(key, (None, 0))
        return value if expires > time.time() else None

    def put(self, key, value, expires):
        assert isinstance(key, str) and isinstance(value, bytes) and expires > time.time()
        self.kept[key] = (bytearray(value), expires)

    def remove(self, key):
        self.kept.pop(key, None)


@pytest.fixture(params=["dict", "object", "shelf", "memory", "directory", "path"])
def cache(request, tmp_path, monkeypatch):
    if request.param == "dict":
        yield {}
    elif request.param == "object":
        yield Object()
    elif request.param == "shelf":
        with shelve.open(tmp_path / "shelf") as shelf:
            yield shelf
    elif request.param == "memory":
        yield "memory"
    elif request.param == "directory":
        yield f"directory:{tmp_path / 'cache'}"
    else:
        yield tmp_path / "cache"


@both
def test_a_host_that_proved_its_name_is_not_stripped(connect, policy, host, cache):
    if connect is looped and isinstance(cache, shelve.Shelf):
        pytest.skip("a shelf is for one thread")
    policy = policy.derive(cache=cache)
    assert connect(DOMAIN, policy).encrypted
    host.offers = False
    with pytest.raises(errors.StrippedError) as raised:
        connect(DOMAIN, policy)
    today = time.strftime("%Y-%m-%d", time.gmtime())
    assert raised.value.temporary and HOST in str(raised.value) and today in str(raised.value)
    assert not isinstance(raised.value, errors.NotOfferedError)
    # Who does not share the cache knows nothing.
    assert connect(DOMAIN, policy.derive(cache="memory")).channel == "plain"
    policy.forget(HOST)
    outcome = connect(DOMAIN, policy)
    assert (outcome.channel, outcome.because) == ("plain", "not-offered")
    # What it proves later is remembered again. (Another second: the clock of what is kept counts seconds.)
    time.sleep(1.1)
    host.offers = True
    assert connect(DOMAIN, policy).encrypted
    host.offers = False
    with pytest.raises(errors.StrippedError):
        connect(DOMAIN, policy)


def test_forgetting_wants_a_cache(policy):
    with pytest.raises(errors.InvalidError, match="cache"):
        policy.forget(HOST)
    with pytest.raises(errors.InvalidError):
        policy.derive(cache={}).forget("a b")


class Broken(dict):
    def __getitem__(self, key):
        raise RuntimeError("the disk is full")

    __setitem__ = __delitem__ = __getitem__


class Liar(dict):
    def __getitem__(self, key):
        return "not bytes"


@both
@pytest.mark.parametrize("cache, says", [(Broken(), "the disk is full"), (Liar(), "bytes")])
def test_a_broken_cache_is_a_note(connect, policy, cache, says):
    outcome = connect(DOMAIN, policy.derive(cache=cache))
    assert outcome.encrypted
    [note] = [note for note in outcome.notes if note.startswith("cache: ")]
    assert says in note
    with pytest.raises(errors.ConnectionFailedError):
        policy.derive(cache=Broken()).forget(HOST)


def test_a_cache_that_asks_itself(policy):
    said = []

    class Back(dict):
        def __setitem__(self, key, value):
            try:
                policy.forget(HOST)
            except OSError as e:
                said.append(str(e))
                raise

    policy = policy.derive(cache=Back())
    with pytest.raises(errors.ConnectionFailedError):
        policy.forget(HOST)
    assert len(said) == 8 and "called from within itself" in said[0]


@pytest.mark.parametrize("remembers", [False, True])
def test_start_asks_the_cache_in_a_thread(peer, host, remembers, certs):
    threads = set()

    class Watched(dict):
        def __getitem__(self, key):
            threads.add(threading.get_ident())
            return super().__getitem__(key)

        def __setitem__(self, key, value):
            threads.add(threading.get_ident())
            super().__setitem__(key, value)

    port = peer(host).port
    level = "verify" if remembers else "may"
    policy = starttls.Policy(level, cache=Watched(), ca_file=certs / "ca.crt", timeout=10)

    async def run():
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        _, writer = await starttls.start(reader, writer, "smtp", HOST, stage="greeting", policy=policy)
        writer.close()
        await writer.wait_closed()

    asyncio.run(run())
    assert threads and threading.get_ident() not in threads


def test_a_poisoned_cache_is_ignored_and_said(policy, host):
    cache = {}
    policy = policy.derive(cache=cache)
    sync(DOMAIN, policy)
    for key in cache:
        cache[key] = cache[key][:-4]
    host.offers = False
    outcome = sync(DOMAIN, policy)
    assert outcome.channel == "plain" and any("damaged" in note for note in outcome.notes)


def test_ctrl_c_within_a_cache(policy):
    class Interrupted(dict):
        def __getitem__(self, key):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        starttls.connect_domain(DOMAIN, policy.derive(cache=Interrupted()))


# --- destinations --------------------------------------------------------------------------------


@both
def test_a_table_decides(connect, policy, host, tmp_path, certs):
    table = tmp_path / "table"
    table.write_text(f"{DOMAIN} verify\n.example.net none\nother.test fingerprint sha256={'00' * 32}\n")
    listed = policy.derive(destinations=table)
    outcome = connect(DOMAIN, listed)
    assert (outcome.level, outcome.identity.proven_by) == ("verify", "pkix")
    host.offers = False
    with pytest.raises(errors.NotOfferedError):
        connect(DOMAIN, listed)
    assert connect(DOMAIN, policy).channel == "plain"


# --- TLSRPT --------------------------------------------------------------------------------------

RECORD = "v=TLSRPTv1; rua=mailto:tls@example.test"


def test_records():
    record = tlsrpt.Record.parse("v=TLSRPTv1; rua=mailto:a@b.test,https://c.test/d")
    assert record.rua == ["mailto:a@b.test", "https://c.test/d"] and record == tlsrpt.Record.parse(record.text)
    assert tlsrpt.Record.find(["v=spf1 -all", RECORD.encode()]).text == RECORD
    assert tlsrpt.Record.find([]) is None and tlsrpt.Record.find([RECORD, RECORD]) is None
    for bad in ("v=TLSRPTv1;", "v=TLSRPTv1; rua=ftp://a.test", b"\xff"):
        with pytest.raises(errors.MalformedError):
            tlsrpt.Record.parse(bad)


@both
def test_events_and_reports(connect, policy, world, host):
    world.put(f"_smtp._tls.{DOMAIN}", TXT, txt(RECORD))
    asking = policy.derive(tlsrpt=True)
    reports = tlsrpt.Reports("Sender Inc.", "tls@sender.test", day=86400 * 20000, unique_id="one")

    def events(policy):
        if connect is sync:
            with starttls.connect_domain(DOMAIN, policy) as session:
                return tlsrpt.events(session)

        async def run():
            _, writer = await aio.connect_domain(DOMAIN, policy)
            writer.close()
            await writer.wait_closed()
            return tlsrpt.events(writer)

        return asyncio.run(run())

    assert events(policy) == []
    [good] = events(asking)
    assert good.success and good.domain == DOMAIN and tlsrpt.Event.from_json(good.to_json()) == good
    port = int(repr(policy).partition(", port=")[2].partition(",")[0].rstrip(")"))
    world.put(f"_{port}._tcp.{HOST}", TLSA, bytes([3, 0, 1]) + b"\0" * 32)
    with pytest.raises(errors.DaneMismatchError) as raised:
        connect(DOMAIN, asking)
    [bad] = tlsrpt.events(raised.value)
    assert not bad.success and "tlsa" in bad.to_json() and "certificate-host-mismatch" in repr(bad)
    assert tlsrpt.events(pickle.loads(pickle.dumps(raised.value))) == [bad]
    for event in (good, good, bad):
        reports.add(event)
    [report] = reports.reports()
    assert (report.domain, report.record.rua) == (DOMAIN, ["mailto:tls@example.test"])
    begin = 86400 * 20000
    assert report.file_name == f"sender.test!{DOMAIN}!{begin}!{begin + 86399}!one.json.gz"
    assert dict(report.headers)["TLS-Report-Domain"] == DOMAIN and report.id in dict(report.headers)["Subject"]
    data = json.loads(gzip.decompress(report.gzip()))
    assert data == json.loads(report.to_json()) and data["organization-name"] == "Sender Inc."
    counts = {policy["policy"]["policy-type"]: tuple(policy["summary"].values()) for policy in data["policies"]}
    assert counts == {"no-policy-found": (2, 0), "tlsa": (0, 1)}
    other = tlsrpt.Reports("Sender Inc.", "tls@sender.test", day=86400 * 20000, unique_id="one")
    other.merge(reports)
    other.merge(other)
    assert json.loads(other.reports()[0].to_json())["policies"][0]["summary"]["total-successful-session-count"] in (
        0,
        4,
    )
    with pytest.raises(errors.InvalidError):
        other.merge(tlsrpt.Reports("Sender Inc.", "tls@sender.test", day=0))
    assert other.dropped == 0
    for wrong in ({"contact": "nobody"}, {"organization": ""}, {"day": -1.0}, {"unique_id": "a b"}):
        with pytest.raises(errors.InvalidError):
            tlsrpt.Reports(**{"organization": "a", "contact": "a@b.test", **wrong})


def test_events_of_something_else(policy):
    async def run():
        server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        with pytest.raises(errors.InvalidError):
            tlsrpt.events(writer)
        writer.close()
        server.close()

    asyncio.run(run())


@both
def test_the_collector_is_told(connect, policy, world, tmp_path):
    world.put(f"_smtp._tls.{DOMAIN}", TXT, txt(RECORD))
    world.put(DOMAIN, MX, mx(10, "bad.test"), mx(20, HOST))
    world.put("bad.test", "A", a("127.0.0.1"))
    port = int(repr(policy).partition(", port=")[2].partition(",")[0].rstrip(")"))
    world.put(f"_{port}._tcp.bad.test", TLSA, bytes([3, 0, 1]) + b"\0" * 32)
    place = tmp_path / "socket"
    telling = policy.derive(tlsrpt=place)
    # Nobody there: a note, and the mail goes on.
    outcome = connect(DOMAIN, telling)
    assert outcome.encrypted and any("socket" in note for note in outcome.notes)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as collector:
        collector.bind(str(place))
        collector.settimeout(5)
        assert not [note for note in connect(DOMAIN, telling).notes if "socket" in note]
        heard = [json.loads(collector.recv(65536)) for _ in range(2)]
    assert [one["policies"][0]["f"] for one in heard] == [1, 0] and {one["d"] for one in heard} == {DOMAIN}
    tlsrpt.Collector(place)
    with pytest.raises(errors.ConnectionFailedError):
        with starttls.connect_domain(DOMAIN, policy.derive(tlsrpt=True)) as session:
            tlsrpt.Collector(place).send(tlsrpt.events(session)[0])
