"""Threads, the GIL, signals and fork."""

import _thread
import os
import signal
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
import time

import pytest
import starttls
from peers import NAME, SMTP, echo, play, smtp


def counted_while(wait):
    """How often another thread came to run while this one waited, and what the wait raised."""
    count, done = 0, threading.Event()

    def run():
        nonlocal count
        while not done.is_set():
            count += 1
            time.sleep(0.001)

    other = threading.Thread(target=run)
    other.start()
    with pytest.raises(TimeoutError):
        wait()
    done.set()
    other.join()
    return count


def test_the_gil_is_released_around_all_waiting(peer, server_context, strict):
    silent = peer(lambda sock: sock.recv(1))
    no_handshake = peer(lambda sock: play(sock, SMTP) and sock.recv(4096) and sock.recv(1))
    short = strict.derive(timeout=0.3)
    assert counted_while(lambda: starttls.connect("smtp", NAME, silent.port, policy=short)) > 50
    assert counted_while(lambda: starttls.connect("smtp", NAME, no_handshake.port, policy=short)) > 50
    with socket.create_connection(("127.0.0.1", silent.port)) as sock:
        assert counted_while(lambda: starttls.upgrade("smtp", sock, NAME, policy=short)) > 50

    stop = threading.Event()
    port = peer(smtp(server_context, lambda tls: stop.wait(20))).port
    with starttls.connect("smtp", NAME, port, policy=strict) as session:
        session.settimeout(0.3)
        assert counted_while(lambda: session.recv(1)) > 50
        assert counted_while(lambda: session.recv_into(bytearray(1))) > 50
        assert counted_while(lambda: session.sendall(bytes(50_000_000))) > 50
        stop.set()


def test_many_threads_share_a_policy(peer, server_context, strict):
    port = peer(smtp(server_context, echo)).port
    failures = []

    def work(text):
        try:
            for _ in range(5):
                with starttls.connect("smtp", NAME, port, policy=strict) as session:
                    session.sendall(text)
                    assert session.recv(len(text)) == text
        except BaseException as e:
            failures.append(e)

    threads = [threading.Thread(target=work, args=(b"%03d" % i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failures == []


def test_close_wakes_a_reader(peer, server_context, strict):
    port = peer(smtp(server_context, echo)).port
    session = starttls.connect("smtp", NAME, port, policy=strict)
    ended = []

    def read():
        try:
            ended.append(session.recv(1))
        except starttls.Error as e:
            ended.append(e.word)

    reader = threading.Thread(target=read)
    reader.start()
    time.sleep(0.1)
    session.close()
    reader.join(5)
    assert not reader.is_alive() and len(ended) == 1


@pytest.mark.parametrize("waiting", ["greeting", "handshake", "recv", "sendall", "plain"])
def test_ctrl_c_ends_any_wait_at_once(waiting, peer, server_context, strict, certs):
    stop = threading.Event()

    def serve(sock):
        if waiting == "greeting":
            sock.recv(1)
        elif waiting == "plain":
            sock.sendall(b"220 hello\r\n")
            sock.recv(1)
        else:
            play(sock, SMTP)
            if waiting == "handshake":
                while sock.recv(4096):
                    pass
            else:
                with server_context.wrap_socket(sock, server_side=True):
                    stop.wait(20)

    script = f"""
        import starttls, sys
        level = "none" if {waiting!r} == "plain" else "strict"
        policy = starttls.Policy(level, ca_file={str(certs / "ca.crt")!r}, address="127.0.0.1")
        print("begin", flush=True)
        try:
            session = starttls.connect("smtp", {NAME!r}, {peer(serve).port}, policy=policy)
            if level == "none":
                session.recv(100)
            print("ready", flush=True)
            session.sendall(bytes(100_000_000)) if {waiting!r} == "sendall" else session.recv(1)
        except KeyboardInterrupt:
            sys.exit(77)
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE) as child:
        expected = [b"begin\n"] if waiting in ("greeting", "handshake") else [b"begin\n", b"ready\n"]
        for each in expected:
            assert child.stdout.readline() == each
        time.sleep(0.3)
        assert child.poll() is None
        before = time.monotonic()
        child.send_signal(signal.SIGINT)
        assert child.wait(10) == 77
        assert time.monotonic() - before < 2
    stop.set()


def test_a_handler_that_returns_lets_the_wait_go_on(peer, server_context, strict):
    def serve(sock):
        time.sleep(0.5)
        play(sock, SMTP)
        echo(server_context.wrap_socket(sock, server_side=True))

    rung = []
    before = signal.signal(signal.SIGALRM, lambda *_: rung.append(1))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
        starttls.connect("smtp", NAME, peer(serve).port, policy=strict).close()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(rung) >= 2


def test_what_a_handler_raises_comes_out_as_it_is(peer, strict):
    class Alarm(Exception):
        pass

    def ring(*_):
        raise Alarm

    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(Alarm):
            starttls.connect("smtp", NAME, peer(lambda sock: sock.recv(1)).port, policy=strict)
    finally:
        signal.signal(signal.SIGALRM, before)


def test_what_an_observer_raises_comes_out_as_it_is(peer, strict):
    from starttls import _core

    def see(from_, text):
        raise ZeroDivisionError(text)

    port = peer(lambda sock: play(sock, [b"220 hello\r\n", None, None])).port
    before = time.monotonic()
    with pytest.raises(ZeroDivisionError, match="220 hello"):
        _core.connect("smtp", NAME, port, policy=strict, _see=see)
    # The server has nothing more to say; nobody waited for it.
    assert time.monotonic() - before < 5


def in_child(work):
    """What work() returns or raises in a forked child, as text."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            text = repr(work())
        except BaseException as e:
            text = f"{type(e).__name__}: {e}"
        os.write(writer, text.encode())
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        text = pipe.read().decode()
    os.waitpid(child, 0)
    return text


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_closes_without_a_word(peer, server_context, strict):
    port = peer(smtp(server_context, echo)).port
    with starttls.connect("smtp", NAME, port, policy=strict) as session:
        assert "before fork" in in_child(lambda: session.sendall(b"x"))
        assert "before fork" in in_child(lambda: session.recv(1))
        assert in_child(session.close) == "None"
        assert "before fork" in in_child(lambda: session.shutdown(socket.SHUT_WR))
        # The peer has heard nothing of it, and the connection lives.
        session.sendall(b"still here")
        assert session.recv(10) == b"still here"


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_policy_made_before_fork_serves_the_child(peer, server_context, strict):
    policy = strict.derive(min_tls="1.2")
    policy.ready()
    port = peer(smtp(server_context, echo)).port

    def work():
        with starttls.connect("smtp", NAME, port, policy=policy) as session:
            return session.outcome.identity.proven_by

    assert in_child(work) == "'pkix'"
    assert work() == "pkix"


def test_ctrl_c_while_an_error_is_made_is_no_other_error():
    # Both are C: the signal comes, and no Python runs before there is an error to be raised.
    signal_comes = iter(_thread.interrupt_main, None)
    with pytest.raises(KeyboardInterrupt):
        starttls.Policy("strict", fingerprints=signal_comes, ca_file="/nonexistent")


def test_these_tests_do_not_need_a_sigint_that_comes():
    one = f"{__file__}::test_ctrl_c_while_an_error_is_made_is_no_other_error"
    command = f"trap '' INT; exec {sys.executable} -m pytest -q -p no:cacheprovider {one}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


def test_a_signal_handler_that_raises_while_the_exception_is_built():
    # What `make` meets where no wait is: the class itself is interrupted.
    class Interrupted(BaseException):
        pass

    def broken(*_arguments):
        raise Interrupted

    make, starttls.errors.make = starttls.errors.make, broken
    try:
        with pytest.raises(Interrupted):
            starttls.Policy("nonsense")
    finally:
        starttls.errors.make = make


@pytest.mark.parametrize("how", ["send", "sendall"])
def test_threads_write_in_turn(how, peer, server_context, strict):
    lines = 1000
    received = bytearray()
    wrong = []

    def sink(tls):
        while data := tls.recv(16384):
            received.extend(data)

    one = peer(smtp(server_context, sink))
    session = starttls.connect("smtp", NAME, one.port, policy=strict)

    def write(name):
        for number in range(lines):
            line = b"%s%06d\n" % (name, number)
            taken = getattr(session, how)(line)
            if taken not in (None, len(line)):
                wrong.append(taken)

    threads = [threading.Thread(target=write, args=(name,)) for name in (b"A", b"B", b"C")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    session.close()
    one.end()
    assert wrong == []
    expected = sorted(b"%s%06d" % (name, number) for name in (b"A", b"B", b"C") for number in range(lines))
    assert sorted(received.split()) == expected


def test_a_long_sendall_is_not_cut_by_another_threads(peer, server_context, strict):
    received = bytearray()

    def sink(tls):
        time.sleep(0.3)
        while data := tls.recv(16384):
            received.extend(data)

    one = peer(smtp(server_context, sink))
    session = starttls.connect("smtp", NAME, one.port, policy=strict)
    first = threading.Thread(target=session.sendall, args=(b"a" * 20_000_000,))
    first.start()
    time.sleep(0.1)
    # Its turn has not come, and what never waits says so.
    session.setblocking(False)
    with pytest.raises(ssl.SSLWantWriteError):
        session.send(b"b")
    session.setblocking(True)
    session.sendall(b"b")
    first.join(20)
    session.close()
    one.end()
    assert bytes(received) == b"a" * 20_000_000 + b"b"


def test_a_handler_that_writes_within_a_write_is_told(peer, server_context, strict):
    stop = threading.Event()
    port = peer(smtp(server_context, lambda tls: stop.wait(20))).port
    told = []

    def handler(*_):
        with pytest.raises(ValueError, match="writing to the session already"):
            session.send(b"x")
        told.append(True)
        raise InterruptedError

    previous = signal.signal(signal.SIGALRM, handler)
    try:
        with starttls.connect("smtp", NAME, port, policy=strict) as session:
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            with pytest.raises(InterruptedError):
                session.sendall(bytes(50_000_000))
            session.settimeout(0.1)
            stop.set()
    finally:
        signal.signal(signal.SIGALRM, previous)
    assert told == [True]


def test_files_are_read_without_the_gil(tmp_path, certs):
    # A file that somebody else only writes when this thread may run.
    fifo = tmp_path / "ca.crt"
    os.mkfifo(fifo)
    child = textwrap.dedent(f"""
        import threading, starttls
        def write():
            with open({str(fifo)!r}, "wb") as to:
                to.write(open({str(certs / "ca.crt")!r}, "rb").read())
        threading.Timer(0.2, write).start()
        starttls.Policy("strict", ca_file={str(fifo)!r})
    """)
    assert subprocess.run([sys.executable, "-c", child], timeout=10).returncode == 0


def test_each_interpreter_has_exceptions_of_its_own():
    pytest.importorskip("_xxsubinterpreters")
    child = textwrap.dedent("""
        import starttls, _xxsubinterpreters as interpreters
        code = '''
        import starttls
        try:
            starttls.connect("smtp", "", 1)
        except starttls.errors.InvalidError:
            print("caught")
        '''
        exec(code)
        interpreters.run_string(interpreters.create(), code)
    """).replace("\n" + " " * 8, "\n")
    done = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, timeout=30)
    assert done.stdout == "caught\ncaught\n", done.stderr
