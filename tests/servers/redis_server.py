"""Redis, or Valkey: the cache that a fleet shares. It keeps nothing on disk."""

from pathlib import Path
from typing import Any

from harness import Ports, Server, program


class Redis(Server):
    name = "redis"
    listed = False

    def __init__(self, place: Path, certs: Path, ports: Ports) -> None:
        super().__init__(place, certs, ports)
        self.ports = {"redis": ports.take()}

    @classmethod
    def missing(cls) -> str | None:
        return None if cls._program() else "not installed"

    @staticmethod
    def _program() -> str | None:
        return program("redis-server") or program("valkey-server")

    def configure(self, others: dict[str, Server]) -> None:
        pass

    def commands(self) -> list[list[str]]:
        options = {"port": self.ports["redis"], "bind": "127.0.0.1", "dir": self.place, "save": "", "appendonly": "no"}
        command = [self._program() or ""]
        for option, value in options.items():
            command += [f"--{option}", str(value)]
        return [command]

    def logs(self) -> list[Path]:
        return []

    def implicit(self, port_name: str) -> bool:
        return False

    def opening(self, port_name: str) -> bytes:
        return b"PING\r\n"

    def tell(self, others: dict[str, Server]) -> dict[str, Any]:
        return {"address": f"127.0.0.1:{self.ports['redis']}", "program": self._program()}
