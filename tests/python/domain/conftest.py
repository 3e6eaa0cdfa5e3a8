"""A domain of the test's own: its DNS, its mail host, and a policy that knows both."""

import pytest
import starttls
from deliveries import DOMAIN, HOST
from world import Host, World


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
