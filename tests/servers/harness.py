"""Ports, processes and a directory for real servers, given back however the run ends."""

import ctypes
import os
import pwd
import random
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

START_SECONDS = 30.0
STOP_SECONDS = 5.0
PR_SET_PDEATHSIG = 1
# In the environment of the servers: the directory of their run.
MARK = "STARTTLS_TESTS_RUN"


class NotStarted(Exception):
    """A server did not come up; the text is for the person who runs the tests."""


class Stopped(BaseException):
    """A signal told us to stop."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


def end_with_parent_and_signals() -> None:
    def stop(signum: int, _frame: object) -> None:
        raise Stopped(signum)

    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, stop)
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


# --- ports -------------------------------------------------------------------------------------


class Ports:
    """Free ports below the range that the kernel hands out to clients.

    A port is held by an abstract socket name as long as this process lives, so two runs side by
    side never choose the same one between choosing and listening.
    """

    def __init__(self) -> None:
        self._held: list[socket.socket] = []

    def take(self) -> int:
        for _ in range(1000):
            port = random.randrange(10240, 32000)
            hold = socket.socket(socket.AF_UNIX)
            try:
                hold.bind(f"\0starttls-tests-port-{port}")
                for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                    with socket.socket(type=kind) as probe:
                        probe.bind(("0.0.0.0", port))
            except OSError:
                hold.close()
                continue
            self._held.append(hold)
            return port
        raise NotStarted("no free port found")


# --- processes ---------------------------------------------------------------------------------


def process(pid: int) -> tuple[str, int, str] | None:
    """(state, session, start time): pid and start time name a process, a pid alone does not."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return fields[0], int(fields[3]), fields[19]


def runs(pid: int, started: str) -> bool:
    seen = process(pid)
    return seen is not None and seen[0] not in "ZX" and seen[2] == started


def members(session: int, started: str) -> list[int]:
    """Live processes of a session that we began, also after its leader's end."""
    leader = process(session)
    if leader is not None and leader[2] != started:
        return []
    if leader is not None and leader[1] != session:
        # The command of this run, which shares our session.
        return [session] if runs(session, started) else []
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            seen = process(int(entry))
            if seen is not None and seen[1] == session and seen[0] not in "ZX":
                found.append(int(entry))
    return found


def marked(directory: Path) -> list[tuple[int, str]]:
    """Live processes that were started for this directory, by their environment."""
    found = []
    for entry in os.listdir("/proc"):
        try:
            environment = Path(f"/proc/{int(entry)}/environ").read_bytes().split(b"\0")
        except (ValueError, OSError):
            continue
        if f"{MARK}={directory}".encode() in environment and (seen := process(int(entry))):
            found.append((int(entry), seen[2]))
    return found


def signal_all(pids: list[int], signum: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, signum)
        except ProcessLookupError:
            pass


def stop(watched: list[tuple[int, str, int]]) -> None:
    """Asks each process by its signal, waits for its whole session, then insists."""
    for pid, started, signum in watched:
        if runs(pid, started):
            signal_all([pid], signum)
    sessions = [(pid, started) for pid, started, _ in watched]
    deadline = time.monotonic() + STOP_SECONDS
    while time.monotonic() < deadline:
        sessions = [one for one in sessions if members(*one)]
        if not sessions:
            return
        time.sleep(0.02)
    for one in sessions:
        signal_all(members(*one), signal.SIGKILL)


class Janitor:
    """A child that stops the servers and removes the directory when this process ends, even by SIGKILL.

    It learns of the end by the closing of a pipe, which nobody else holds.
    """

    def __init__(self, directory: Path) -> None:
        read, self._pipe = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            try:
                os.close(self._pipe)
                self._clean_up(read, directory)
            finally:
                os._exit(0)
        os.close(read)

    def watch(self, pid: int, signum: int = signal.SIGTERM) -> None:
        seen = process(pid)
        if seen is not None:
            os.write(self._pipe, f"{pid} {seen[2]} {int(signum)}\n".encode())

    def finish(self) -> None:
        os.close(self._pipe)
        os.waitpid(self._pid, 0)

    @staticmethod
    def _clean_up(read: int, directory: Path) -> None:
        os.setsid()
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(signum, signal.SIG_IGN)
        with os.fdopen(read) as lines:
            watched = [(int(pid), started, int(signum)) for pid, started, signum in map(str.split, lines)]
        stop(watched)
        # Those that were started and not yet told of when the end came.
        stop([(pid, started, int(signal.SIGTERM)) for pid, started in marked(directory)])
        shutil.rmtree(directory, ignore_errors=True)


def run_to_end(command: list[str], watch: Callable[[int], None], text: str = "", **options: Any) -> None:
    """Runs a program that ends by itself, and with this process at the latest."""
    child = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
        **options,
    )
    watch(child.pid)
    said, _ = child.communicate(text)
    if child.returncode:
        raise NotStarted(f"{' '.join(command)}: status {child.returncode}\n{said}")


# --- servers -----------------------------------------------------------------------------------


class Server:
    """One kind of real server. `ports` is what the tests get to know of it."""

    name = ""
    # Who it runs as when root starts it; "" is root.
    account = ""
    stop_signal = signal.SIGTERM
    # Whether its ports speak protocols of ours. If not, what `tell` says is all that the tests get to know.
    listed = True

    def __init__(self, place: Path, certs: Path, ports: Ports) -> None:
        self.place = place
        self.certs = certs
        self.ports: dict[str, int] = {}
        # Told of each process that must not outlive the harness.
        self.watch: Callable[[int], None] = lambda pid: None

    @classmethod
    def missing(cls) -> str | None:
        """Why it cannot be started here."""
        raise NotImplementedError

    @classmethod
    def without_user(cls) -> str | None:
        """Why it cannot run as its own user here."""
        if cls.account and os.geteuid() == 0:
            try:
                pwd.getpwnam(cls.account)
            except KeyError:
                return f"there is no user {cls.account}"
        return None

    def leaves(self) -> list[str]:
        """Certificates of its own, as the second argument of tests/certs/make wants them."""
        return []

    def tell(self, others: dict[str, "Server"]) -> dict[str, Any]:
        """What the tests get to know beyond the ports."""
        return {}

    def build(self) -> None:
        """What takes its time and needs no certificates."""

    def configure(self, others: dict[str, "Server"]) -> None:
        raise NotImplementedError

    def commands(self) -> list[list[str]]:
        raise NotImplementedError

    def logs(self) -> list[Path]:
        raise NotImplementedError

    def implicit(self, port_name: str) -> bool:
        """Whether TLS starts at once on this port."""
        raise NotImplementedError

    def opening(self, port_name: str) -> bytes:
        """What a client says first, where the server waits for it."""
        return b""

    def awaits(self) -> list[Path]:
        """Files by which it shows that it is up."""
        return []

    def user(self) -> str | None:
        return self.account if self.account and os.geteuid() == 0 else None

    def identity(self) -> dict[str, Any]:
        """What makes `subprocess` start a process as that user."""
        if not (user := self.user()):
            return {}
        return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}

    def prepare(self, command: list[str], text: str = "", **environment: str) -> None:
        """Runs a program that makes what the server needs, as the server's user."""
        environment = {**os.environ, MARK: str(self.place.parent), **environment}
        run_to_end(command, self.watch, text, env=environment, cwd=self.place, **self.identity())

    def own(self, *paths: Path) -> None:
        """Gives files to the server's user."""
        if user := self.user():
            for path in paths:
                shutil.chown(path, user)

    def directory(self, *names: str) -> Path:
        """Makes a directory of the server's own in its place."""
        path = self.place.joinpath(*names)
        path.mkdir(0o755, parents=True)
        self.own(path)
        return path

    def certificate(self, name: str) -> tuple[Path, Path]:
        """A certificate and its key, readable for the server's user and for no other one."""
        copies = self.place / "certs" / f"{name}.crt", self.place / "certs" / f"{name}.key"
        copies[0].parent.mkdir(exist_ok=True)
        for copy in copies:
            shutil.copyfile(self.certs / copy.name, copy)
            copy.chmod(0o600)
        self.own(*copies)
        return copies


class Harness:
    def __init__(self) -> None:
        # The servers have users of their own, who must be able to read what we make for them.
        self._umask = os.umask(0o022)
        # The servers' unix sockets live below it, and their paths may be 107 bytes at most.
        parent = tempfile.gettempdir()
        parent = parent if len(parent) <= 40 else "/tmp"
        self.directory = Path(tempfile.mkdtemp(prefix="starttls-", dir=parent))
        self._janitor = Janitor(self.directory)
        # The servers' own users must get through it.
        self.directory.chmod(0o755)
        self.certs = self.directory / "certs"
        self._ports = Ports()

    def __enter__(self) -> "Harness":
        return self

    def __exit__(self, *_: object) -> None:
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(signum, signal.SIG_IGN)
        self._janitor.finish()

    def _make_certificates(self, leaves: list[str]) -> None:
        maker = Path(__file__).parent.parent / "certs" / "make"
        more = self.directory / "leaves"
        more.write_text("".join(f"{leaf}\n" for leaf in leaves))
        run_to_end(["sh", str(maker), str(self.certs), str(more)], self._janitor.watch)

    def start(self, kinds: list[type[Server]]) -> dict[str, Server]:
        """Starts all that can be started here, at the same time, and waits till each port answers."""
        servers: dict[str, Server] = {}
        for kind in kinds:
            if why := kind.missing() or kind.without_user():
                print(f"left out: {kind.name}: {why}", file=sys.stderr, flush=True)
                continue
            place = self.directory / kind.name
            place.mkdir()
            servers[kind.name] = kind(place, self.certs, self._ports)
            servers[kind.name].watch = self._janitor.watch

        deadline = time.monotonic() + START_SECONDS
        with ThreadPoolExecutor(5) as pool:
            wanted = sorted({leaf for server in servers.values() for leaf in server.leaves()})
            certificates = pool.submit(self._make_certificates, wanted)
            launches = [
                (server, pool.submit(self._launch, server, servers, certificates)) for server in servers.values()
            ]
        certificates.result()
        # In the order given: a server may need one before it to answer.
        for server, children in launches:
            self._wait(server, children.result(), deadline)
        return servers

    def _launch(
        self, server: Server, servers: dict[str, Server], certificates: "Future[None]"
    ) -> list[subprocess.Popen[bytes]]:
        try:
            server.build()
            certificates.result()
            server.configure(servers)
        except (OSError, KeyError) as error:
            raise NotStarted(f"{server.name}: {error}") from error
        children = []
        with open(server.place / "output", "ab") as output:
            for command in server.commands():
                child = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                    env={**os.environ, MARK: str(self.directory)},
                    cwd=server.place,
                    **server.identity(),
                )
                self._janitor.watch(child.pid, server.stop_signal)
                children.append(child)
        return children

    def _wait(self, server: Server, children: list[subprocess.Popen[bytes]], deadline: float) -> None:
        over = threading.Event()

        def wait(what: str, answered: Callable[[], None]) -> None:
            why: object = "no answer"
            while time.monotonic() < deadline and not over.is_set():
                try:
                    return answered()
                except OSError as error:
                    why = error
                if any(child.poll() is not None for child in children):
                    why = "the server has ended"
                    break
                time.sleep(0.02)
            raise NotStarted(f"{server.name}: {what}: {why}\n{tail(server)}")

        waits: list[tuple[str, Callable[[], None]]] = [(str(path), partial(is_there, path)) for path in server.awaits()]
        for name, number in server.ports.items():
            waits.append(
                (f"port {name} ({number})", partial(answers, number, server.implicit(name), server.opening(name)))
            )
        with ThreadPoolExecutor(8) as pool:
            try:
                for done in [pool.submit(wait, *one) for one in waits]:
                    done.result()
            finally:
                over.set()

    def run(self, command: list[str], environment: dict[str, str]) -> int:
        try:
            # Open files go along: make's job server is one.
            child = subprocess.Popen(command, env=environment, close_fds=False, umask=self._umask)
        except OSError as error:
            print(f"{command[0]}: {error.strerror}", file=sys.stderr)
            return 127
        self._janitor.watch(child.pid)
        try:
            status = child.wait()
        except Stopped as stopped:
            # A terminal has sent SIGINT to the command too.
            if stopped.signum != signal.SIGINT or not sys.stdin.isatty():
                child.send_signal(stopped.signum)
            try:
                child.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
            raise
        return status if status >= 0 else 128 - status


def answers(port: int, implicit: bool, opening: bytes) -> None:
    """Returns when the server on this port has spoken; raises OSError when it does not."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
        if implicit:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            with context.wrap_socket(sock) as session:
                session.sendall(opening)
                heard = session.recv(1)
        else:
            sock.sendall(opening)
            heard = sock.recv(1)
        if not heard:
            raise OSError("it closes the connection")


def is_there(path: Path) -> None:
    path.stat()


def program(name: str) -> str | None:
    """The path of a daemon, which often lies where only root looks."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def tail(server: Server) -> str:
    text = ""
    for log in [server.place / "output", *server.logs()]:
        if log.exists():
            lines = log.read_text(errors="replace").splitlines()[-30:]
            text += f"--- {log.name}\n" + "".join(f"{line}\n" for line in lines)
    return text
