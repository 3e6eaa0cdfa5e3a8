"""What a policy is told of domains, and the records that are handed in for one host."""

import asyncio
import socket
import ssl

import pytest
import starttls
from deliveries import DOMAIN, HOST, both, leaf
from starttls import errors
from world import TLSA

# --- settings -----------------------------------------------------------------------------------


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


# --- one host, with records that are handed in --------------------------------------------------


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


# --- destinations -------------------------------------------------------------------------------


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
