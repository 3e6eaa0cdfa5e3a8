"""INN's nnrpd: NNTP with STARTTLS and nntps; it reads an empty spool."""

import os
from pathlib import Path

from harness import Ports, Server
from variants import VARIANTS

HOMES = Path("/usr/lib/news/bin"), Path("/usr/libexec/news"), Path("/usr/lib/news")

CONFIG = """\
domain: example.test
pathhost: mail.example.test
fromhost: example.test
mta: "/bin/true %s"
organization: tests
ovmethod: tradindexed
hismethod: hisv6
pathnews: {place}
pathbin: {programs}
pathdb: {place}/db
pathetc: {place}
pathrun: {place}/run
pathlog: {place}/log
pathspool: {place}/spool
patharticles: {place}/spool/articles
pathoverview: {place}/spool/overview
pathincoming: {place}/spool/incoming
pathtmp: {place}/spool/tmp
pathfilter: {place}/filter
readertrack: false
tlscertfile: {certificate}
tlskeyfile: {key}
tlscafile: {place}/certs/ca.crt
"""

READERS = """\
auth "everyone" {
    hosts: "127.0.0.0/8"
    default: "<reader>"
}
access "everyone" {
    users: "<reader>"
    newsgroups: "*"
    access: R
}
"""

DIRECTORIES = "db run log filter spool spool/articles spool/overview spool/incoming spool/tmp".split()


class Nnrpd(Server):
    name = "inn2"
    account = "news"

    def __init__(self, place: Path, certs: Path, ports: Ports) -> None:
        super().__init__(place, certs, ports)
        for suffix in VARIANTS:
            self.ports["nntp" + suffix] = ports.take()
            self.ports["nntps" + suffix] = ports.take()

    @classmethod
    def missing(cls) -> str | None:
        if cls._programs() is None:
            return "not installed"
        return None if os.geteuid() == 0 else "needs root"

    @staticmethod
    def _programs() -> Path | None:
        return next((path for path in HOMES if (path / "nnrpd").exists()), None)

    def configure(self, others: dict[str, Server]) -> None:
        self.own(self.place)
        for name in DIRECTORIES:
            self.directory(*name.split("/"))
        texts = {
            "readers.conf": READERS,
            "storage.conf": "method tradspool {\n  newsgroups: *\n  class: 0\n}\n",
            "db/active": "example.test 0000000000 0000000001 n\n",
            "db/newsgroups": "example.test\tA group.\n",
            "db/active.times": "",
        }
        for suffix, name in VARIANTS.items():
            certificate, key = self.certificate(name)
            texts[f"inn{suffix}.conf"] = CONFIG.format(
                place=self.place, programs=self._programs(), certificate=certificate, key=key
            )
        texts["certs/ca.crt"] = (self.certs / "ca.crt").read_text()
        for name, text in texts.items():
            (self.place / name).write_text(text)
            self.own(self.place / name)
        self.prepare([f"{self._programs()}/makehistory", "-O", "-x", "-F"], INNCONF=f"{self.place}/inn.conf")

    def commands(self) -> list[list[str]]:
        commands = []
        for suffix in VARIANTS:
            for port, more in (("nntp", []), ("nntps", ["-S"])):
                command = ["env", f"INNCONF={self.place}/inn{suffix}.conf", f"{self._programs()}/nnrpd", "-D", "-f"]
                command += ["-b", "127.0.0.1", "-p", str(self.ports[port + suffix]), "-c", "readers.conf", *more]
                commands.append(command)
        return commands

    def logs(self) -> list[Path]:
        return []

    def implicit(self, port_name: str) -> bool:
        return port_name.startswith("nntps")
