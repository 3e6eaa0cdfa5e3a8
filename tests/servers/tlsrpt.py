"""The standard TLSRPT collector: datagrams come to its socket, and it counts them in an SQLite database."""

import shutil
import sys
from pathlib import Path
from typing import Any

from harness import Server


class Collector(Server):
    name = "tlsrpt"
    listed = False

    @classmethod
    def missing(cls) -> str | None:
        return None if cls._program() else "tlsrpt-reporter is not installed in this Python"

    @staticmethod
    def _program() -> str | None:
        """Of our own virtual environment first."""
        return shutil.which("tlsrpt-collectd", path=Path(sys.executable).parent) or shutil.which("tlsrpt-collectd")

    def configure(self, others: dict[str, Server]) -> None:
        pass

    def commands(self) -> list[list[str]]:
        options = {
            "storage": f"sqlite://{self.place}/db",
            "socketname": self.place / "socket",
            "socketmode": "0666",
            "sockettimeout": 1,
            # Each is in the database at once.
            "max_uncommited_datagrams": 1,
            "pidfilename": self.place / "pid",
            "logfilename": self.place / "log",
            "dump_path_for_invalid_datagram": self.place / "invalid",
            "config_file": self.place / "none",
        }
        (self.place / "none").write_text("[tlsrpt_collectd]\n")
        return [[self._program() or "", *(f"--{name}={value}" for name, value in options.items())]]

    def awaits(self) -> list[Path]:
        return [self.place / "socket", self.place / "db"]

    def logs(self) -> list[Path]:
        return [self.place / "log"]

    def implicit(self, port_name: str) -> bool:
        return False

    def tell(self, others: dict[str, Server]) -> dict[str, Any]:
        return {
            "socket": str(self.place / "socket"),
            "db": str(self.place / "db"),
            # A datagram that it did not understand lies here.
            "invalid": str(self.place / "invalid"),
            "log": str(self.place / "log"),
        }
