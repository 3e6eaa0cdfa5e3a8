"""Deliveries to a domain, waiting and with asyncio, for the tests of both."""

import asyncio
import hashlib
import ssl

import pytest
import starttls
from starttls import aio

DOMAIN, HOST = "example.test", "mail.example.test"


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
