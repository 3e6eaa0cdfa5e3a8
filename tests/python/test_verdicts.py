"""The verdict on a domain, row by row (tests/verdicts.tsv), and the advice to its owner."""

import itertools
import json
from datetime import UTC, datetime

import pytest
from starttls import _verdict
from starttls._advice import advise
from starttls._domain_check import Host
from starttls._show_domain import DomainScreen
from starttls.outcome import Outcome
from tables import rows

MX = ("secure", "insecure")
TLSA = ("match", "mismatch", "unusable", "none", "failed", "untested")
STS = ("enforce", "unnamed", "testing", "none")
TLS = ("pkix", "tls", "no", "unknown")


def fits(pattern: str, fact: str) -> bool:
    return pattern == "*" or fact in pattern.split("|")


def test_every_verdict():
    table = rows("verdicts.tsv")
    used = set()
    for facts in itertools.product(MX, TLSA, STS, TLS):
        found = [n for n, row in enumerate(table) if all(map(fits, row, facts))]
        assert len(found) == 1, f"{facts}: {len(found)} rows"
        used.update(found)
        mx, tlsa, sts, tls = facts
        verdict = _verdict.decide(
            mx, tlsa, sts, {"pkix": "yes", "tls": "yes"}.get(tls, tls), "yes" if tls == "pkix" else "no"
        )
        assert [verdict.level, verdict.attack] == table[found[0]][4:6], facts
        assert verdict.says and verdict.could
    assert len(used) == len(table)


def test_nothing_in_the_table_is_idle():
    used = set()
    for mx, tlsa, sts, tls, pkix in itertools.product(MX, TLSA, STS, ("yes", "no", "unknown"), ("yes", "no")):
        facts = (mx, tlsa, sts, tls, pkix)
        used.add(next(n for n, row in enumerate(_verdict.TABLE) if all(map(fits, row, facts))))
    assert len(used) == len(_verdict.TABLE)
    assert {row[5] for row in _verdict.TABLE} == set(_verdict.SAYS) == set(_verdict.LEVELS)
    assert {row[6] for row in _verdict.TABLE} == set(_verdict.ATTACKS)


def facts(name: str, **changed: str) -> _verdict.HostFacts:
    usual = {"mx": "secure", "tlsa": "match", "sts": "none", "tls": "yes", "pkix": "yes"}
    return _verdict.HostFacts(name=name, **{**usual, **changed})


def test_a_domain_is_as_good_as_its_weakest_host():
    good, plain, weak = facts("a"), facts("b", tlsa="none", tls="no"), facts("c", tlsa="none")
    assert _verdict.of_domain([good, weak])[0].level == "verify"
    verdict, host = _verdict.of_domain([good, weak, plain])
    assert verdict.level == "plain" and host is plain
    # Where no mail goes none is betrayed.
    refused, gone = facts("d", tlsa="mismatch"), facts("e", tls="unknown")
    assert _verdict.of_domain([refused, good, gone])[0].level == "dane"
    # The one that was not reached might take it.
    assert _verdict.of_domain([refused, gone])[0].level == "unknown"
    assert _verdict.of_domain([]) == (_verdict.Verdict("unknown", "not-known"), None)


@pytest.mark.parametrize(
    ("gone", "level", "attack"),
    [
        ({"tlsa": "none"}, "may", "strip"),
        ({"tlsa": "none", "sts": "testing"}, "may", "strip-reported"),
        ({"tlsa": "unusable"}, "encrypt", "impersonate"),
        ({"tlsa": "none", "sts": "enforce"}, "sts", "hide-policy"),
        ({"tlsa": "untested"}, "dane", "dnssec"),
        ({"tlsa": "match"}, "dane", "dnssec"),
        ({"tlsa": "failed"}, "dane", "dnssec"),
    ],
)
def test_a_host_that_was_not_reached_counts(gone, level, attack):
    """Who blocks the others can play it."""
    lost = facts("b", tls="unknown", pkix="no", **gone)
    verdict, host = _verdict.of_domain([facts("a"), lost])
    assert (verdict.level, verdict.attack) == (level, attack)
    assert (host is lost) == (level != "dane")
    # Alone it is not known, but what can be done about it is.
    alone = _verdict.of_domain([lost])[0]
    assert alone.level == ("held" if gone["tlsa"] == "failed" else "unknown")


# --- advice ---------------------------------------------------------------------------------------

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TLSA_RECORD = {"failure": None, "string": ["3 1 1 ab"], "why": None}


def survey(**changed):
    usual = {
        "domain": "a.test",
        "trusted_resolver": True,
        "mx": {"proof": "secure", "implicit": False, "error": None},
        "hosts": [],
        "sts": {
            "records": [],
            "id": "1",
            "mode": "enforce",
            "max_age": 604800,
            "mx": [],
            "failure": None,
            "why": None,
        },
        "tlsrpt": {"record": "v=TLSRPTv1; rua=mailto:a@a.test", "rua": ["mailto:a@a.test"], "error": None},
        "notes": [],
        "lookups": 1,
    }
    return {**usual, **changed}


def outcome(**changed) -> Outcome:
    certificate = {"subject": "", "issuer": "", "names": [], "sha256": "", "spki_sha256": ""}
    usual = {
        "protocol": "smtp",
        "role": "client",
        "level": "strict",
        "effective": "dane",
        "peer": {"name": "mx.a.test", "name_from": "dnssec", "address": "127.0.0.1", "port": 25},
        "sni": None,
        "offered": True,
        "channel": "tls",
        "because": None,
        "tls": {
            "version": "TLSv1.3",
            "cipher": "x",
            "group": None,
            "forward_secrecy": True,
            "resumed": False,
            "alpn": None,
        },
        "identity": {"proven_by": "dane", "name": "mx.a.test", "evidence": "x"},
        "checks": [{"check": kind, "ok": True, "why": None} for kind in ("chain", "name", "time", "dane")],
        "certificate": {**certificate, "not_after": "2026-12-31T00:00:00Z"},
        "suspicions": [],
        "notes": [],
        "transcript": [],
        "attempts": [],
        "round_trips": 1,
        "milliseconds": {"connect": 1, "negotiate": 1, "handshake": 1},
        "domain": None,
    }
    if "not_after" in changed:
        usual["certificate"] = {**certificate, "not_after": changed.pop("not_after")}
    return Outcome.from_json(json.dumps({**usual, **changed}))


def host(name="mx.a.test", seen=None, **published):
    usual = {
        "name": name,
        "preference": 10,
        "addresses": ["127.0.0.1"],
        "tlsa": TLSA_RECORD,
        "tlsa_usable": True,
        "named_by_sts": True,
        "error": None,
    }
    return Host(name, {**usual, **published}, outcome=outcome() if seen is None else seen)


def checks(**failed: str):
    kinds = ("chain", "name", "time", "dane")
    return [{"check": kind, "ok": kind not in failed, "why": failed.get(kind)} for kind in kinds]


STS_BAD = {**survey()["sts"], "mode": None, "failure": "sts-webpki-invalid", "why": "the certificate has expired"}
UNUSABLE = {"tlsa": {"failure": "tlsa-invalid", "string": ["1 1 1 ab"], "why": "x"}, "tlsa_usable": False}
NO_TLSA = {"tlsa": None, "tlsa_usable": False}


@pytest.mark.parametrize(
    ("found", "hosts", "wanted"),
    [
        (survey(), [host()], None),
        (survey(), [host(seen=outcome(checks=checks(dane="no match")))], "the TLSA records of mx.a.test do not match"),
        (survey(), [host(**UNUSABLE)], "none of the TLSA records of mx.a.test can be used for SMTP (1 1 1 ab)"),
        (survey(), [host(named_by_sts=False)], "the MTA-STS policy does not name the MX host mx.a.test"),
        (survey(), [host(seen=outcome(not_after="2026-01-06T12:00:00Z"))], "mx.a.test expires in 5 days"),
        (survey(), [host(seen=outcome(not_after="2025-12-31T00:00:00Z"))], "mx.a.test expired a day ago"),
        (survey(), [host(), host("mx2.a.test", **NO_TLSA)], "mx2.a.test: no TLSA records, so whoever blocks"),
        (survey(), [host(**NO_TLSA)], "no host has TLSA records"),
        (survey(), [host(seen=outcome(checks=checks(chain="self-signed")), **NO_TLSA)], "to most senders: self-signed"),
        (survey(sts=STS_BAD), [host()], "of no use (sts-webpki-invalid): the certificate has expired"),
        (survey(sts={**survey()["sts"], "mode": "testing"}), [host()], "in mode testing"),
        (survey(sts={**survey()["sts"], "mode": None}), [host()], "no MTA-STS policy"),
        (survey(sts={**survey()["sts"], "max_age": 60}), [host()], "is kept for 60 s only"),
        (survey(tlsrpt={"record": None, "rua": [], "error": None}), [host()], "no TLSRPT record"),
        (
            survey(mx={"proof": "insecure", "implicit": False, "error": None}),
            [host(**NO_TLSA)],
            "the MX records are not signed",
        ),
        (
            survey(),
            [
                host(
                    seen=outcome(
                        offered=False, channel="plain", because="not-offered", tls=None, certificate=None, checks=[]
                    )
                )
            ],
            "mx.a.test has TLSA records and does not do TLS",
        ),
    ],
)
def test_advice(found, hosts, wanted):
    advice = advise(found, hosts, NOW)
    if wanted is None:
        assert advice == []
    else:
        assert any(wanted in text for text in advice), advice


def test_advice_about_passwords():
    one = host()
    one.clear = {"keywords": [], "auth": ["PLAIN"], "mail": "accepted", "reply": "250", "error": None}
    assert advise(survey(), [one], NOW) == ["mx.a.test offers AUTH before TLS (PLAIN): passwords may go in clear"]


def test_a_resolver_that_is_not_trusted_is_told_of_once(capsys):
    import sys

    screen = DomainScreen(sys.stdout)
    for _ in range(2):
        screen.published(
            survey(trusted_resolver=False, mx={"proof": "indeterminate", "implicit": False, "error": None})
        )
    assert capsys.readouterr().out.count("not trusted to validate DNSSEC") == 1
