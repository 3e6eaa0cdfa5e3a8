"""The dialogs of `tests/dialogs/`, which Rust and C play, too. `tests/src/bin/scripted.rs` is the server."""

import json
import os
import socket
import subprocess
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import starttls

ROOT = Path(__file__).parents[2]


def server_program():
    """As `cargo test` leaves it; built if it is not there."""
    target = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
    program = target / "debug" / "scripted"
    if not program.exists():
        command = ["cargo", "build", "--quiet", "-p", "conformance", "--bin", "scripted"]
        subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, "CARGO_TARGET_DIR": str(target)})
    return program


@dataclass
class Play:
    file: str
    protocol: str
    level: str
    chunks: list[str]
    modes: list[str]
    host: str
    stage: str
    pending: bytes
    timeout: float
    verdict: str
    offered: bool | None
    suspicions: list[str]


def read(line):
    file, protocol, level, chunks, modes, host, stage, pending, timeout, verdict, offered, suspicions = line.split("\t")
    return Play(
        file,
        protocol,
        level,
        chunks.split(","),
        modes.split(","),
        host,
        stage,
        bytes.fromhex(pending),
        float(timeout),
        verdict,
        {"yes": True, "no": False, "unknown": None}[offered],
        json.loads(suspicions),
    )


def by_file():
    listing = subprocess.run([PROGRAM, "--list"], capture_output=True, text=True, check=True).stdout
    files = defaultdict(list)
    for line in listing.splitlines():
        play = read(line)
        files["/".join(Path(play.file).parts[-2:])].append(play)
    return files


PROGRAM = server_program()
PLAYS = by_file()


def open_session(play, mode, port, ca_file):
    policy = starttls.Policy(play.level, ca_file=ca_file, address="127.0.0.1", timeout=play.timeout)
    if mode == "connect":
        return starttls.connect(play.protocol, play.host, port, policy=policy), None
    sock = socket.create_connection(("127.0.0.1", port), 20)
    try:
        return starttls.upgrade(play.protocol, sock, play.host, play.stage, play.pending, policy), sock
    except BaseException:
        sock.close()
        raise


def use(session):
    """What is written comes back; on a connection left alone the server's greeting comes first."""
    session.settimeout(20)
    session.sendall(b"ping\r\n")
    heard = b""
    while not heard.endswith(b"ping\r\n"):
        data = session.recv(100)
        assert data
        heard += data


def play_one(play, mode, chunk):
    with subprocess.Popen(
        [PROGRAM, play.file, play.level, chunk], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        port, ca_file = server.stdout.readline().split()
        sock = None
        try:
            session, sock = open_session(play, mode, int(port), ca_file)
        except starttls.Error as e:
            came = f"error {e.word} {'temporary' if e.temporary else 'permanent'}"
            outcome = e.outcome
        else:
            outcome = session.outcome
            came = "tls" if outcome.encrypted else f"plain {outcome.because}"
            if came == play.verdict:
                use(session)
            session.close()
        if sock:
            sock.close()
        assert came == play.verdict
        assert outcome.offered is play.offered
        assert list(outcome.suspicions) == play.suspicions
        status = server.wait(35)
        assert status == 0, server.stderr.read()


@pytest.mark.parametrize("file", PLAYS)
def test_dialog(file):
    ways = [(play, mode, chunk) for play in PLAYS[file] for mode in play.modes for chunk in play.chunks]
    # Side by side: in some of them the client waits for its time-out.
    with ThreadPoolExecutor(6) as pool:
        for (play, mode, chunk), done in [(way, pool.submit(play_one, *way)) for way in ways]:
            try:
                done.result()
            except Exception as e:
                e.add_note(f"{file} at level {play.level}, by {mode}, {chunk} bytes at a time")
                raise
