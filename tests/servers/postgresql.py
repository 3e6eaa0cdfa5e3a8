"""PostgreSQL: its own upgrade, and a server without TLS."""

import re
import shutil
import signal
from pathlib import Path

from harness import Ports, Server, program
from users import USERS

# port -> ssl
INSTANCES = {"postgres": "on", "postgres-no-tls": "off"}

CONFIG = """\
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = ''
ssl = {ssl}
ssl_cert_file = '{certificate}'
ssl_key_file = '{key}'
fsync = off
shared_buffers = 1MB
max_connections = 20
max_wal_senders = 0
min_wal_size = 2MB
max_wal_size = 8MB
max_worker_processes = 0
autovacuum = off
logging_collector = off
log_checkpoints = off
dynamic_shared_memory_type = mmap
timezone = 'UTC'
log_timezone = 'UTC'
"""

ACCESS = "host all all 127.0.0.0/8 scram-sha-256\n"

SSL_REQUEST = bytes.fromhex("0000000804d2162f")


class PostgreSQL(Server):
    name = "postgresql"
    account = "postgres"
    # SIGTERM waits for the clients.
    stop_signal = signal.SIGINT

    def __init__(self, place: Path, certs: Path, ports: Ports) -> None:
        super().__init__(place, certs, ports)
        self.ports = {name: ports.take() for name in INSTANCES}

    @classmethod
    def missing(cls) -> str | None:
        return None if cls._programs() else "not installed"

    @staticmethod
    def _programs() -> Path | None:
        """Where the newest version is; Debian has it off the path."""
        found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/postgres")]
        found = [path for path in found if (path / "initdb").exists()]
        found.sort(key=lambda path: [int(number) for number in re.findall(r"\d+", str(path))])
        if not found and (path := program("postgres")):
            found = [Path(path).parent]
        return found[-1] if found else None

    def build(self) -> None:
        self.own(self.place)
        password = self.place / "password"
        password.write_text(USERS["alice"] + "\n")
        self.own(password)
        first, *others_of_ours = (self.place / name for name in INSTANCES)
        command = [f"{self._programs()}/initdb", "--pgdata", str(first), "--username", "alice"]
        command += ["--auth", "scram-sha-256", "--pwfile", str(password), "--encoding", "UTF8", "--locale", "C"]
        self.prepare([*command, "--no-sync", "--wal-segsize", "1"])
        for place in others_of_ours:
            shutil.copytree(first, place)
            self.own(place, *place.rglob("*"))

    def configure(self, others: dict[str, Server]) -> None:
        certificate, key = self.certificate("good")
        for name, ssl in INSTANCES.items():
            config = CONFIG.format(port=self.ports[name], ssl=ssl, certificate=certificate, key=key)
            (self.place / name / "postgresql.conf").write_text(config)
            (self.place / name / "pg_hba.conf").write_text(ACCESS)

    def commands(self) -> list[list[str]]:
        return [[f"{self._programs()}/postgres", "-D", str(self.place / name)] for name in INSTANCES]

    def logs(self) -> list[Path]:
        return []

    def implicit(self, port_name: str) -> bool:
        return False

    def opening(self, port_name: str) -> bytes:
        return SSL_REQUEST
