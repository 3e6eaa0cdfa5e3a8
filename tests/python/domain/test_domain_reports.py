"""TLS reports (RFC 8460): records, events, the fold, the collector."""

import asyncio
import gzip
import json
import pickle
import socket

import pytest
import starttls
from deliveries import DOMAIN, HOST, both, sync
from starttls import aio, errors, tlsrpt
from world import MX, TLSA, TXT, a, mx, txt

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
