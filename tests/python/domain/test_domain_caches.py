"""Caches of the caller's, and what is remembered."""

import asyncio
import shelve
import threading
import time

import pytest
import starttls
from deliveries import DOMAIN, HOST, both, looped, sync
from starttls import errors


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
