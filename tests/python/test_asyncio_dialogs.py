"""The dialogs of `tests/dialogs/` once more, by streams of asyncio."""

import asyncio
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
import starttls
from loops import end, plain_streams
from test_dialogs import PLAYS, PROGRAM


async def open_streams(one, mode, port, ca_file):
    policy = starttls.Policy(one.level, ca_file=ca_file, address="127.0.0.1", timeout=one.timeout)
    if mode == "connect":
        return await starttls.open_connection(one.protocol, one.host, port, policy=policy)
    plain = await plain_streams(port, one.pending)
    return await starttls.start(*plain, one.protocol, one.host, stage=one.stage, policy=policy)


async def talk_to(one, mode, port, ca_file):
    try:
        reader, writer = await open_streams(one, mode, port, ca_file)
    except starttls.Error as e:
        return f"error {e.word} {'temporary' if e.temporary else 'permanent'}", e.outcome
    outcome = starttls.outcome_of(writer)
    came = "tls" if outcome.encrypted else f"plain {outcome.because}"
    if came == one.verdict:
        writer.write(b"ping\r\n")
        async with asyncio.timeout(20):
            # On a connection left alone the server's greeting comes first.
            await reader.readuntil(b"ping\r\n")
    await end(writer)
    return came, outcome


def play_one(one, mode, chunk):
    command = [PROGRAM, one.file, one.level, chunk]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        port, ca_file = server.stdout.readline().split()
        came, outcome = asyncio.run(talk_to(one, mode, int(port), ca_file), debug=True)
        assert came == one.verdict
        assert outcome.offered is one.offered
        assert list(outcome.suspicions) == one.suspicions
        assert outcome.peer.port == int(port)
        status = server.wait(35)
        assert status == 0, server.stderr.read()


@pytest.mark.parametrize("file", PLAYS)
def test_dialog(file):
    ways = [(one, mode) for one in PLAYS[file] for mode in one.modes]
    with ThreadPoolExecutor(6) as pool:
        # All ways of cutting are played by the others.
        chunks = [one.chunks[(n + len(file)) % len(one.chunks)] for n, (one, _) in enumerate(ways)]
        done = [pool.submit(play_one, *way, chunk) for way, chunk in zip(ways, chunks, strict=True)]
        for (one, mode), chunk, result in zip(ways, chunks, done, strict=True):
            try:
                result.result()
            except Exception as e:
                e.add_note(f"{file} at level {one.level}, by {mode}, {chunk} bytes at a time")
                raise
