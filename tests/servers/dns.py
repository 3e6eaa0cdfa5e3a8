"""NSD with zones signed in this run, and two resolvers before it: an Unbound that validates, and one that does not.

The root, `test.` and `example.test.` are signed, so there is a chain of trust from a root of our own; `insecure.test.`
has no DS and `bogus.test.` was altered after signing. What is in them: zones.py.
"""

import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import live
from harness import Ports, Server, program
from zones import PARENTS, ZONES, Zones, leaves

SOA = "{apex} 300 IN SOA ns.test. hostmaster.test. 1 3600 600 86400 60\n{apex} 300 IN NS ns.test.\n"

NSD = """\
server:
  ip-address: 127.0.0.1@{authority}
  username: ""
  chroot: ""
  zonesdir: "{place}"
  pidfile: "{place}/nsd.pid"
  logfile: "{place}/nsd.log"
  xfrdfile: ""
  zonelistfile: "{place}/zone.list"
  xfrdir: "{place}"
  database: ""
  server-count: 1
  rrl-ratelimit: 0
remote-control:
  control-enable: no
"""

UNBOUND = """\
server:
  interface: 127.0.0.1@{port}
  do-ip6: no
  username: ""
  chroot: ""
  directory: "{place}"
  pidfile: ""
  use-syslog: no
  logfile: "{place}/{name}.log"
  access-control: 127.0.0.0/8 allow
  do-not-query-localhost: no
  local-zone: "test." transparent
  # Each test asks for other names, and some come again at once.
  so-reuseport: no
  infra-cache-numhosts: 100
  trust-anchor-signaling: no
  root-key-sentinel: no
  # Why it is bogus goes to the client too (RFC 8914).
  ede: yes
  val-log-level: 2
  module-config: "{modules}"
  {anchor}
remote-control:
  control-enable: no
"""

STUB = 'stub-zone:\n  name: "{zone}."\n  stub-addr: 127.0.0.1@{authority}\n  stub-prime: no\n'


class Dns(Server):
    name = "dns"
    listed = False

    def __init__(self, place: Path, certs: Path, ports: Ports) -> None:
        super().__init__(place, certs, ports)
        self.ports = {name: ports.take() for name in ("authority", "resolver", "plain-resolver")}
        # The port that is in the names of the TLSA records.
        self.smtp_port = ports.take()
        self._keys: dict[str, str] = {}
        # What makes a program ask our resolver that knows /etc/resolv.conf only; None without a C compiler.
        self.preload: Path | None = None

    @classmethod
    def missing(cls) -> str | None:
        tools = "nsd", "unbound", "ldns-signzone", "ldns-keygen"
        lacking = [tool for tool in tools if not program(tool)]
        return f"{', '.join(lacking)}: not installed" if lacking else None

    def leaves(self) -> list[str]:
        return leaves()

    def build(self) -> None:
        signed = [zone for zone, is_signed in ZONES.items() if is_signed] + [live.ZONE, *PARENTS]
        with ThreadPoolExecutor(2) as pool:
            preload = pool.submit(self._compile)
            self._keys = dict(zip(signed, pool.map(self._key, signed), strict=True))
            self.preload = preload.result()

    def _compile(self) -> Path | None:
        compiler, library = shutil.which(os.environ.get("CC", "cc")), self.place / "preload.so"
        if not compiler or sys.platform != "linux":
            return None
        source = Path(__file__).parent / "preload.c"
        self._run(compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl", "-lresolv")
        return library

    def _run(self, *command: str) -> str:
        done = subprocess.run(command, capture_output=True, text=True, cwd=self.place, timeout=20)
        if done.returncode:
            raise OSError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
        return done.stdout

    def _key(self, zone: str) -> str:
        return self._run("ldns-keygen", "-r", "/dev/urandom", "-k", "-a", "ECDSAP256SHA256", f"{zone}.").strip()

    def _ds(self, zone: str) -> str:
        return (self.place / f"{self._keys[zone]}.ds").read_text()

    def configure(self, others: dict[str, Server]) -> None:
        listed = [server.ports for server in others.values() if server.listed]
        # Of CUPS two names have one port.
        unique = {port: name for ports in listed for name, port in ports.items()}
        zones = Zones(self.certs, self.smtp_port, {name: port for port, name in unique.items()})
        below = "ns.test. 300 IN A 127.0.0.1\n"
        for zone, signed in ZONES.items():
            text = "".join(f"{line}\n" for line in zones.lines[zone])
            for apex in zones.bogus:
                if apex.endswith(zone):
                    # It has a DS, of whatever key, and is not signed.
                    text += re.sub(r"^\S+", f"{apex}.", self._ds("test"))
                    self._write(apex, f"_{self.smtp_port}.{apex}. 300 IN TLSA 3 1 1 {'ab' * 32}\n", signed=False)
            self._write(zone, text, signed)
            below += f"{zone}. 300 IN NS ns.test.\n" + (self._ds(zone) if signed else "")
        self._alter(self.place / "bogus.test.zone")
        below += f"{live.ZONE}. 300 IN NS ns.test.\n" + self._ds(live.ZONE)
        self.directory("live")
        (self.place / "live" / "serial").write_text("1")
        file = self.place / f"{live.ZONE}.zone"
        file.write_text(live.text(self.place / "live", 1))
        live.sign(file, live.ZONE, self.place / self._keys[live.ZONE])
        self._write("test", below, signed=True)
        self._write("", "test. 300 IN NS ns.test.\nns.test. 300 IN A 127.0.0.1\n" + self._ds("test"), signed=True)

        served = [*ZONES, live.ZONE, *PARENTS, *zones.bogus]
        nsd = NSD.format(place=self.place, **self.ports)
        # Of a zone without a file it knows only that it should know it: SERVFAIL.
        for zone in [*served, *zones.lame]:
            nsd += f'zone:\n  name: "{zone}."\n  zonefile: "{zone}.zone"\n'
        (self.place / "nsd.conf").write_text(nsd)
        anchor = self.place / "root.key"
        anchor.write_text((self.place / f"{self._keys['']}.key").read_text())
        for name, modules in (("resolver", "validator iterator"), ("plain-resolver", "iterator")):
            text = UNBOUND.format(
                name=name,
                place=self.place,
                port=self.ports[name],
                modules=modules,
                anchor=f'trust-anchor-file: "{anchor}"' if "validator" in modules else "",
            )
            for zone in [*served, *zones.lame]:
                text += STUB.format(zone=zone, authority=self.ports["authority"])
            (self.place / f"{name}.conf").write_text(text)

    def _write(self, zone: str, text: str, signed: bool) -> None:
        file = self.place / f"{zone}.zone"
        file.write_text(SOA.format(apex=f"{zone}.") + text)
        if signed:
            live.sign(file, zone, self.place / self._keys[zone])

    def _alter(self, file: Path) -> None:
        """Changes what the signatures were made of."""
        text, times = re.subn(r"(\sMX\s+)10 |(\sA\s+127\.0\.0\.)11\b", r"\g<1>\g<2>5 ", file.read_text())
        if not times:
            raise OSError(f"{file}: nothing to alter")
        file.write_text(text)

    def commands(self) -> list[list[str]]:
        nsd = [program("nsd") or "", "-d", "-c", f"{self.place}/nsd.conf"]
        resolvers = [
            [program("unbound") or "", "-d", "-c", f"{self.place}/{name}.conf"]
            for name in ("resolver", "plain-resolver")
        ]
        return [nsd, *resolvers]

    def logs(self) -> list[Path]:
        return [self.place / f"{name}.log" for name in ("nsd", "resolver", "plain-resolver")]

    def implicit(self, port_name: str) -> bool:
        return False

    def opening(self, port_name: str) -> bytes:
        # Over TCP: version.bind, which a resolver says without asking anybody who may not be up yet.
        question = bytes.fromhex("000001000001000000000000") + b"\x07version\x04bind\x00\x00\x10\x00\x03"
        return len(question).to_bytes(2, "big") + question

    def tell(self, others: dict[str, Server]) -> dict[str, Any]:
        told: dict[str, Any] = {
            "resolver": f"127.0.0.1:{self.ports['resolver']}",
            "plain_resolver": f"127.0.0.1:{self.ports['plain-resolver']}",
            "authority": f"127.0.0.1:{self.ports['authority']}",
            "trust_anchor": str(self.place / "root.key"),
            "preload": str(self.preload) if self.preload else None,
        }
        told["live"] = {
            "directory": str(self.place / "live"),
            "zone_file": str(self.place / f"{live.ZONE}.zone"),
            "key": str(self.place / self._keys[live.ZONE]),
            "pid_file": str(self.place / "nsd.pid"),
        }
        told["tlsa_port"] = self.smtp_port
        if "postfix" in others:
            told["smtp_port"] = self.smtp_port
        return told
