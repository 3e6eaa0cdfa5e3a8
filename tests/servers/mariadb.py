"""MariaDB: the upgrade of MySQL's protocol, and a server without TLS."""

import shutil
from pathlib import Path

from harness import Ports, Server, program
from users import USERS

SCRIPTS = Path("/usr/share/mysql"), Path("/usr/share/mariadb")
TABLES = "mysql_system_tables.sql", "mysql_performance_tables.sql", "mysql_system_tables_data.sql"

# Without InnoDB it starts at once and needs a tenth of the memory.
SMALL = """\
--no-defaults --skip-innodb --default-storage-engine=Aria --performance-schema=off --aria-log-file-size=8M
--aria-pagecache-buffer-size=1M --key-buffer-size=64K --table-open-cache=64 --skip-log-bin
""".split()


class MariaDB(Server):
    name = "mariadb"
    # The small package has no user of its own.
    account = "nobody"

    def __init__(self, place: Path, certs: Path, ports: Ports) -> None:
        super().__init__(place, certs, ports)
        self.ports = {name: ports.take() for name in ("mysql", "mysql-no-tls")}

    @classmethod
    def missing(cls) -> str | None:
        return None if program("mariadbd") and cls._scripts() else "not installed"

    @staticmethod
    def _scripts() -> Path | None:
        return next((path for path in SCRIPTS if all((path / name).exists() for name in TABLES)), None)

    def build(self) -> None:
        self.own(self.place)
        first, *others_of_ours = (self.directory(name) for name in self.ports)
        scripts = self._scripts() or Path()
        # Bootstrap reads one statement a line.
        text = "create database mysql;\nuse mysql;\n"
        text += "".join((scripts / name).read_text() for name in TABLES)
        text += "flush privileges;\n"
        for user, password in USERS.items():
            text += f"create user '{user}'@'%' identified by '{password}';\n"
        self.prepare([program("mariadbd") or "", *SMALL, "--bootstrap", f"--datadir={first}"], text)
        for place in others_of_ours:
            shutil.copytree(first, place, dirs_exist_ok=True)
            self.own(*place.rglob("*"))

    def configure(self, others: dict[str, Server]) -> None:
        self.certificate("good")

    def commands(self) -> list[list[str]]:
        commands = []
        for name, port in self.ports.items():
            place = self.place / name
            command = [program("mariadbd") or "", *SMALL, f"--datadir={place}", f"--socket={place}/socket"]
            command += [f"--port={port}", "--bind-address=127.0.0.1", "--skip-name-resolve", f"--pid-file={place}/pid"]
            if name.endswith("-no-tls"):
                command.append("--skip-ssl")
            else:
                certs = self.place / "certs"
                command += [f"--ssl-cert={certs}/good.crt", f"--ssl-key={certs}/good.key"]
            commands.append(command)
        return commands

    def logs(self) -> list[Path]:
        return []

    def implicit(self, port_name: str) -> bool:
        return False
