"""Prosody: XMPP between clients and servers and among servers, each also with TLS at once."""

from pathlib import Path

from harness import Ports, Server, program
from users import USERS
from variants import VARIANTS

HOSTS = "localhost", "mail.example.test", "example.test"

CONFIG = """\
run_as_root = false
data_path = "{place}/data{suffix}"
pidfile = "{place}/pid{suffix}"
interfaces = {{ "127.0.0.1" }}
modules_enabled = {{ "roster", "saslauth", "tls", "dialback", "disco", "ping", "s2s", "c2s" }}
modules_disabled = {{ "posix", "offline", "s2s_auth_certs" }}
c2s_ports = {{ {xmpp} }}
c2s_direct_tls_ports = {{ {xmpps} }}
s2s_ports = {{ {xmpp_server} }}
s2s_direct_tls_ports = {{ {xmpps_server} }}
component_ports = {{ }}
http_ports = {{ }}
https_ports = {{ }}
c2s_require_encryption = true
s2s_require_encryption = true
s2s_secure_auth = false
authentication = "internal_plain"
-- It would choose by itself among what lies there.
certificates = "{place}/none"
ssl = {{ certificate = "{certificate}", key = "{key}", cafile = "{place}/certs/ca.crt" }}
log = {{ {{ levels = {{ min = "info" }}, to = "file", filename = "{place}/log{suffix}" }} }}
"""

STREAM = (
    "<?xml version='1.0'?><stream:stream xmlns='jabber:{kind}' xmlns:stream='http://etherx.jabber.org/streams'"
    " to='mail.example.test' version='1.0'>"
)

PORTS = "xmpp", "xmpps", "xmpp-server", "xmpps-server"


class Prosody(Server):
    name = "prosody"
    account = "prosody"

    def __init__(self, place: Path, certs: Path, ports: Ports) -> None:
        super().__init__(place, certs, ports)
        for suffix in VARIANTS:
            for name in PORTS:
                self.ports[name + suffix] = ports.take()

    @classmethod
    def missing(cls) -> str | None:
        return None if program("prosody") else "not installed"

    def configure(self, others: dict[str, Server]) -> None:
        self.own(self.place)
        for suffix, name in VARIANTS.items():
            certificate, key = self.certificate(name)
            (self.place / "certs" / "ca.crt").write_bytes((self.certs / "ca.crt").read_bytes())
            values = {name.replace("-", "_"): self.ports[name + suffix] for name in PORTS}
            text = CONFIG.format(place=self.place, suffix=suffix, certificate=certificate, key=key, **values)
            text += "".join(f'VirtualHost "{host}"\n' for host in HOSTS)
            (self.place / f"prosody{suffix}.cfg.lua").write_text(text)
            self.directory(f"data{suffix}")
            for host in HOSTS:
                # The names of its files are percent-encoded so.
                folder = host.replace(".", "%2e").replace("-", "%2d")
                self.directory(f"data{suffix}", folder)
                accounts = self.directory(f"data{suffix}", folder, "accounts")
                for user, password in USERS.items():
                    account = accounts / f"{user}.dat"
                    account.write_text(f'return {{ ["password"] = "{password}"; }};\n')
                    self.own(account)

    def commands(self) -> list[list[str]]:
        prosody = program("prosody") or ""
        return [[prosody, "-F", "--config", f"{self.place}/prosody{suffix}.cfg.lua"] for suffix in VARIANTS]

    def logs(self) -> list[Path]:
        return [self.place / f"log{suffix}" for suffix in VARIANTS]

    def implicit(self, port_name: str) -> bool:
        return port_name.startswith("xmpps")

    def opening(self, port_name: str) -> bytes:
        kind = "server" if "-server" in port_name else "client"
        return STREAM.format(kind=kind).encode()
