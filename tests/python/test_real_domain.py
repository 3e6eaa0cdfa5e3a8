"""Mail to real domains from Python: signed zones, Postfix, a policy host, Redis and the TLSRPT collector.

What each level obtains of each domain stands in tests/tlsa/domains.tsv, from which the servers are made, too.
"""

import asyncio
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import real
import starttls
from deliveries import both, looped, sync
from starttls import aio, errors, tlsrpt

sys.path.append(str(Path(__file__).parents[1] / "servers"))
import live
import zones

FOUND = real.FOUND
DNS = FOUND.get("dns", {})
CELLS = [(domain, level) for domain in zones.domains() if domain.expected for level in (*zones.LEVELS, "may")]

pytestmark = pytest.mark.skipif("smtp_port" not in DNS or "sts" not in FOUND, reason="the domains' servers are missing")


@pytest.fixture(scope="module", autouse=True)
def trust(tmp_path_factory):
    """MTA-STS is by the system's trust store, whatever the policy's CA is."""
    directory = tmp_path_factory.mktemp("trust")
    shutil.copy(FOUND["ca_file"], directory / "ca.pem")
    subprocess.run(["openssl", "rehash", str(directory)], check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_DIR", str(directory))
        yield


def policy(level, **more):
    settings = {"resolver": DNS["resolver"], "port": DNS["smtp_port"], "sts_port": FOUND["sts"]["port"], "timeout": 30}
    return starttls.Policy(level, ca_file=FOUND["ca_file"], **{**settings, **more})


# --- the table -----------------------------------------------------------------------------------


def name_from(domain, effective):
    """Where the host's name comes from, if there is a session."""
    if not domain.all("MX") and not domain.all("CNAME") and "wild" not in domain.name:
        return "caller"
    if not domain.name.endswith("insecure.test"):
        return "dnssec"
    return "mta-sts" if effective == "sts" else "insecure-dns"


def check(domain, level, got):
    """Whether this outcome or error is what the table says."""
    if isinstance(got, starttls.Error):
        word, outcome = got.word, got.outcome
        assert outcome is not None and outcome.level == level
    else:
        word, outcome = got.effective if got.encrypted else "plain", got
        proven = {"dane": "dane", "sts": "pkix", "verify": "pkix"}.get(outcome.effective)
        if proven:
            assert outcome.identity.proven_by == proven
        assert outcome.peer.name_from == name_from(domain, outcome.effective)
    assert outcome.domain.name == zones.ascii_name(domain.name)
    if level != "may":
        wanted = domain.expected[level]
    elif domain.expected["dane"] in ("dane", "encrypt", "may", "plain", "dane-mismatch", "not-offered"):
        # Without DANE all is well.
        wanted = "may|plain"
    else:
        wanted = f"may|{domain.expected['dane']}"
    assert word in wanted.split("|"), f"{word}, not {wanted}: {got}"


def attempted(connect, domain, level):
    try:
        return connect(domain, level)
    except starttls.Error as e:
        return e


@pytest.fixture(scope="module")
def obtained():
    """Of all cells, side by side: some policy hosts are slow."""
    policies = {level: policy(level) for level in (*zones.LEVELS, "may")}

    def connect(domain, level):
        return sync(domain.name, policies[level])

    with ThreadPoolExecutor(16) as pool:
        results = pool.map(lambda cell: attempted(connect, *cell), CELLS)
        return {(domain.name, level): got for (domain, level), got in zip(CELLS, results, strict=True)}


@pytest.mark.parametrize("domain, level", CELLS, ids=lambda one: one if isinstance(one, str) else one.name)
def test_a_cell(domain, level, obtained):
    check(domain, level, obtained[domain.name, level])


def test_the_same_in_a_loop():
    """All at once in one thread; what is slow is waited for elsewhere."""
    cells = [(domain, level) for domain, level in CELLS if level in ("opportunistic", "strict", "dane-only")]

    async def one(domain, limit, policies, level):
        async with limit:
            try:
                _, writer = await aio.connect_domain(domain.name, policies[level])
            except starttls.Error as e:
                return e
            writer.close()
            await writer.wait_closed()
            return starttls.outcome_of(writer)

    async def run():
        limit = asyncio.Semaphore(24)
        policies = {level: policy(level) for level in zones.LEVELS}
        return await asyncio.gather(*(one(domain, limit, policies, level) for domain, level in cells))

    for (domain, level), got in zip(cells, asyncio.run(run()), strict=True):
        try:
            check(domain, level, got)
        except AssertionError as e:
            raise AssertionError(f"{domain.name} {level}: {e}") from e


def test_survey():
    found = starttls.survey("sts-dane.example.test", policy("strict"))
    [host] = found["hosts"]
    assert host["name"] == "311.self-signed-mx.example.test" and host["tlsa"]["string"][0].startswith("3 1 1 ")
    assert (found["mx"]["proof"], found["sts"]["mode"], host["named_by_sts"]) == ("secure", "enforce", True)
    assert starttls.survey("rpt.example.test", policy("may"))["tlsrpt"]["rua"] == ["mailto:tls@example.test"]


# --- resolvers -----------------------------------------------------------------------------------


def test_a_resolver_that_does_not_validate():
    host, _, port = DNS["plain_resolver"].rpartition(":")
    with starttls.connect_domain("dane.example.test", policy("opportunistic", resolver=f"{host}:{port}")) as session:
        # On this machine it is trusted, and it has not said that anything is signed.
        assert (session.outcome.effective, session.outcome.domain.mx) == ("may", "insecure")


README = Path(__file__).parents[2] / "python" / "README.md"


def readmes_resolver():
    """The README's, which asks by dnspython."""
    blocks = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.M | re.S)
    [code] = [block for block in blocks if "import dns" in block]
    host, _, port = DNS["resolver"].rpartition(":")
    code, n = re.subn(r"ours = .*", f"ours = dns.resolver.Resolver(configure=False); ours.port = {port}", code)
    assert n == 1
    code = code.split("policy =")[0] + f"\nours.nameservers = [{host!r}]\n"
    module = {"starttls": starttls}
    exec(compile(code, str(README), "exec"), module)
    return module["resolver"]


@both
def test_dnspython_as_resolver(connect):
    pytest.importorskip("dns.resolver")
    asking = {level: policy(level, resolver=readmes_resolver()) for level in zones.LEVELS}
    wanted = (
        "dane pkix many cname alias alias-own null-mx nothing empty tlsa-bogus tlsa-lame first-gone implicit".split()
    )
    wanted = [f"{name}.example.test" for name in wanted] + [
        "sts.insecure.test",
        "cname.insecure.test",
        "mail.bogus.test",
    ]
    for domain, level in CELLS:
        if domain.name in wanted and level != "may":
            check(domain, level, attempted(lambda domain, level: connect(domain.name, asking[level]), domain, level))


# --- MTA-STS and what is kept --------------------------------------------------------------------

GOOD = "none.good-mx.example.test"
LIVE = "h.live.test"


def publish(mode="enforce", names=(GOOD,), id="1", mx=GOOD, max_age=86400, more=()):
    """Mail host and MTA-STS policy of LIVE; mode None: no policy any more."""
    records = [f"@ MX 10 {mx}.", *more]
    file = Path(FOUND["sts"]["directory"]) / f"mta-sts.{LIVE}" / ".well-known" / "mta-sts.txt"
    if mode is None:
        file.unlink(missing_ok=True)
    else:
        records += [f'_mta-sts TXT "v=STSv1; id={id};"', "mta-sts A 127.0.0.1"]
        file.parent.mkdir(parents=True, exist_ok=True)
        lines = ["version: STSv1", f"mode: {mode}", *(f"mx: {name}" for name in names), f"max_age: {max_age}", ""]
        file.write_text("\n".join(lines))
    live.publish(FOUND, "h", records)
    # What has a TTL of 0 the resolver keeps for the second in which it came.
    time.sleep(1.05)


def redis_url():
    if "redis" not in FOUND:
        pytest.skip("no Redis")
    host, _, port = FOUND["redis"]["address"].rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as sock:
        sock.sendall(b"SELECT 9\r\nFLUSHDB\r\n")
        heard = b""
        while heard.count(b"+OK") < 2:
            heard += sock.recv(100)
    return f"redis://{host}:{port}/9"


@pytest.fixture
def cache(request, tmp_path):
    kinds = {"memory": lambda: "memory", "directory": lambda: tmp_path / "cache", "dict": dict, "redis": redis_url}
    return kinds[request.param]()


each = pytest.mark.parametrize(
    "connect, cache",
    [(sync, "memory"), (sync, "directory"), (sync, "dict"), (sync, "redis"), (looped, "dict"), (looped, "redis")],
    indirect=["cache"],
)


@each
def test_a_policy_that_vanished_still_holds(connect, cache):
    publish()
    keeping = policy("opportunistic", cache=cache)
    assert connect(LIVE, keeping).effective == "sts"
    publish(mode=None)
    outcome = connect(LIVE, keeping)
    assert (outcome.effective, outcome.identity.proven_by) == ("sts", "pkix")
    assert outcome.domain.policies[0].mode == "enforce"
    # And what the host cannot prove is refused, although all is gone that asked for it.
    publish(mode=None, mx="none.wrong-name-mx.example.test")
    with pytest.raises(errors.StsMismatchError) as raised:
        connect(LIVE, keeping)
    assert raised.value.temporary and raised.value.outcome.domain.policies[0].mode == "enforce"
    assert connect(LIVE, policy("opportunistic")).effective == "may"


@each
def test_a_policy_that_changes_is_asked_for_again(connect, cache):
    """RFC 8461 section 5.1: the mail hosts are new, and the policy that is kept does not name them."""
    publish(names=["old.example.test"], id="1")
    keeping = policy("opportunistic", cache=cache)
    with pytest.raises(errors.StsMismatchError, match=r"old\.example\.test"):
        connect(LIVE, keeping)
    publish(names=[GOOD], id="2")
    outcome = connect(LIVE, keeping)
    assert outcome.effective == "sts" and outcome.check("sts").ok
    assert outcome.domain.policies[0].mx_host == (GOOD,)


@each
def test_testing_demands_nothing_and_tells(connect, cache):
    publish(mode="testing", names=["other.example.test"])
    outcome = connect(LIVE, policy("opportunistic", cache=cache))
    assert (outcome.effective, outcome.encrypted, outcome.check("sts").ok) == ("may", True, False)
    assert outcome.domain.policies[0].mode == "testing"


def test_a_fleet_shares_what_one_has_learnt():
    url = redis_url()
    publish()
    assert sync(LIVE, policy("opportunistic", cache=url)).effective == "sts"
    publish(mode=None)
    # Another process, which has never seen the policy.
    code = f"""
import starttls
with starttls.connect_domain({LIVE!r}, {policy("opportunistic", cache=url)!r}) as session:
    print(session.outcome.effective)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=os.environ)
    assert done.stdout == "sts\n", done.stderr


@both
def test_mail_goes_on_without_redis(connect):
    if "redis" not in FOUND:
        pytest.skip("no Redis")
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    outcome = connect("dane.example.test", policy("opportunistic", cache=f"redis://127.0.0.1:{port}/0"))
    assert outcome.effective == "dane" and len([note for note in outcome.notes if note.startswith("cache: ")]) <= 1
    outcome = connect("sts.insecure.test", policy("strict", cache=f"redis://127.0.0.1:{port}/0"))
    assert outcome.effective == "sts" and any(note.startswith("cache: ") for note in outcome.notes)


class Stripper:
    """Between client and server; when told so it takes the offer of STARTTLS away, and also the command."""

    def __init__(self, port):
        self._port = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.takes = ""
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._port))
            for source, to in ((client, server), (server, client)):
                threading.Thread(target=self._copy, args=(source, to), daemon=True).start()

    def _copy(self, source, to):
        try:
            while data := source.recv(65536):
                if "offer" in self.takes:
                    data = re.sub(rb"250([- ])STARTTLS\r\n", rb"250\1XXXXXXXX\r\n", data)
                if "command" in self.takes:
                    data = re.sub(rb"^STARTTLS\r\n", rb"XXXXXXXX\r\n", data)
                to.sendall(data)
            to.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def end(self):
        self._listening.close()


@each
def test_stripping_is_seen_by_who_remembers(connect, cache, servers):
    box = Stripper(servers.port("postfix", "smtp"))
    try:
        answers = {("dest.example.test", "MX"): [b"\0\x0a\4mail\7example\4test\0"]}
        answers["mail.example.test", "A"] = [bytes([127, 0, 0, 1])]

        def resolver(name, kind, timeout):
            return starttls.Answer(answers.get((name, kind), []), "secure", name=name)

        keeping = policy("opportunistic", cache=cache, resolver=resolver, port=box.port)
        outcome = connect("dest.example.test", keeping)
        assert outcome.encrypted and outcome.identity.proven_by == "pkix"
        # It is asked for although it is not offered.
        box.takes = "offer"
        outcome = connect("dest.example.test", keeping)
        assert outcome.encrypted and outcome.offered is False
        box.takes = "offer and command"
        with pytest.raises(errors.StrippedError, match=time.strftime("%Y-%m-%d", time.gmtime())) as raised:
            connect("dest.example.test", keeping)
        assert raised.value.temporary and "mail.example.test" in str(raised.value)
        keeping.forget("dest.example.test")
        assert connect("dest.example.test", keeping).channel == "plain"
    finally:
        box.end()


# --- destinations --------------------------------------------------------------------------------


@both
def test_destinations(connect, tmp_path):
    table = tmp_path / "table"
    table.write_text(
        "plain.insecure.test verify name=mail.insecure.test\n"
        "no-tls.example.test strict\n"
        "self.example.test may\n"
        ".example.test encrypt\n"
        "* none\n"
    )
    listed = policy("opportunistic", destinations=table)
    outcome = connect("plain.insecure.test", listed)
    assert (outcome.level, outcome.effective, outcome.identity.proven_by) == ("verify", "verify", "pkix")
    with pytest.raises(errors.NotOfferedError):
        connect("no-tls.example.test", listed)
    outcome = connect("untrusted.example.test", listed)
    assert (outcome.level, outcome.encrypted, outcome.identity.proven_by) == ("encrypt", True, None)
    assert connect("insecure-mx.insecure.test", listed).because == "not-asked"


@both
@pytest.mark.parametrize("mode", ["enforce", "testing"])
def test_a_starttls_everywhere_list(connect, mode, tmp_path):
    def write(names, expires):
        times = f'"timestamp": "2026-01-01T00:00:00Z", "expires": "{expires}", "version": "0.1", "policy-aliases": {{}}'
        listed = f'{{{times}, "policies": {{"plain.insecure.test": {{"mode": "{mode}", "mxs": {names}}}}}}}'
        (tmp_path / "list.json").write_text(listed)
        return policy("opportunistic", destinations=tmp_path / "list.json")

    effective = "sts" if mode == "enforce" else "may"
    outcome = connect("plain.insecure.test", write('["mail.insecure.test"]', "2999-01-01T00:00:00Z"))
    assert (outcome.effective, outcome.domain.policies[0].mode) == (effective, mode)
    other = write('["other.test"]', "2999-01-01T00:00:00Z")
    if mode == "enforce":
        with pytest.raises(errors.StsMismatchError):
            connect("plain.insecure.test", other)
    else:
        assert connect("plain.insecure.test", other).check("sts").ok is False
    outcome = connect("plain.insecure.test", write('["other.test"]', "2020-01-01T00:00:00Z"))
    assert outcome.effective == "may" and any("expire" in note for note in outcome.notes)


# --- TLSRPT --------------------------------------------------------------------------------------


def counted(domain):
    """What the collector has in its database: sessions, and how many failed."""
    with sqlite3.connect(f"file:{FOUND['tlsrpt']['db']}?mode=ro", uri=True) as database:
        query = "SELECT sum(cntrtotal), sum(cntrfailure) FROM finalresults WHERE domain = ?"
        total, failed = database.execute(query, (domain,)).fetchone()
        return total or 0, failed or 0


@both
def test_the_real_collector_counts(connect):
    if "tlsrpt" not in FOUND:
        pytest.skip("tlsrpt-reporter is not installed")
    record = '_smtp._tls TXT "v=TLSRPTv1; rua=mailto:tls@example.test"'
    telling = policy("opportunistic", tlsrpt=FOUND["tlsrpt"]["socket"])
    total, failed = counted(LIVE)
    wanted = [total, failed]
    for mx, tells in [
        (GOOD, (1, 0)),
        ("311-other.good-mx.example.test", (1, 1)),
        ("311.good-mx.example.test", (1, 0)),
        ("none.no-tls-mx.example.test", (1, 1)),
        # Nobody spoke of TLS.
        ("down.example.test", (0, 0)),
    ]:
        publish(mode=None, mx=mx, more=[record])
        got = attempted(lambda domain, level: connect(domain, telling), LIVE, "")
        if not isinstance(got, starttls.Error):
            assert not any("TLSRPT" in note for note in got.notes)
        wanted = [wanted[0] + tells[0], wanted[1] + tells[1]]
        for _ in range(100):
            if counted(LIVE) == tuple(wanted):
                break
            time.sleep(0.05)
        assert counted(LIVE) == tuple(wanted), mx
    # Who does not ask is told nothing.
    before = counted("dane.example.test")
    connect("dane.example.test", telling)
    time.sleep(0.2)
    assert counted("dane.example.test") == before


def test_reports_say_what_the_collector_counts():
    publish(mode=None, mx="311-other.good-mx.example.test", more=['_smtp._tls TXT "v=TLSRPTv1; rua=mailto:a@b.test"'])
    asking = policy("opportunistic", tlsrpt=True)
    reports = tlsrpt.Reports("Sender Inc.", "tls@sender.example")
    for connect in (sync, looped):
        with pytest.raises(errors.DaneMismatchError) as raised:
            connect(LIVE, asking)
        for event in tlsrpt.events(raised.value):
            assert event.domain == LIVE and not event.success
            reports.add(event)
    [report] = reports.reports()
    assert '"total-failure-session-count":2' in report.to_json() and report.record.rua == ["mailto:a@b.test"]
    assert report.gzip()[:2] == b"\x1f\x8b"
