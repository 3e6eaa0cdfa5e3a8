"""InspIRCd: IRC with STARTTLS and with TLS at once; one process for each certificate."""

from pathlib import Path

from harness import Ports, Server, program
from variants import VARIANTS

CONFIG = """\
<server name="irc.example.test" description="tests" network="Tests">
<admin name="tests" nick="tests" email="tests@example.test">
<path configdir="{place}" datadir="{place}" logdir="{place}" runtimedir="{place}">
<pid file="{place}/pid{suffix}">
<module name="ssl_gnutls">
<module name="cap">
<module name="starttls">
<sslprofile name="tls" provider="gnutls" certfile="{certificate}" keyfile="{key}" hash="sha256" requestclientcert="no">
<starttls hook="tls">
<bind address="127.0.0.1" port="{plain}" type="clients">
<bind address="127.0.0.1" port="{direct}" type="clients" sslprofile="tls">
<connect name="all" allow="*" timeout="60" resolvehostnames="no" useident="no" useconnectban="no" localmax="1000"
 globalmax="1000" recvq="8192" sendq="262144">
<dns server="127.0.0.1" timeout="1">
<performance clonesonconnect="no" softlimit="1000">
<security runasuser="" runasgroup="">
<log method="file" type="*" level="default" target="{place}/log{suffix}">
"""


class InspIRCd(Server):
    name = "inspircd"
    account = "irc"

    def __init__(self, place: Path, certs: Path, ports: Ports) -> None:
        super().__init__(place, certs, ports)
        for suffix in VARIANTS:
            self.ports["irc" + suffix] = ports.take()
            self.ports["ircs" + suffix] = ports.take()

    @classmethod
    def missing(cls) -> str | None:
        return None if program("inspircd") else "not installed"

    def configure(self, others: dict[str, Server]) -> None:
        self.own(self.place)
        for suffix, name in VARIANTS.items():
            certificate, key = self.certificate(name)
            (self.place / f"inspircd{suffix}.conf").write_text(
                CONFIG.format(
                    place=self.place,
                    suffix=suffix,
                    certificate=certificate,
                    key=key,
                    plain=self.ports["irc" + suffix],
                    direct=self.ports["ircs" + suffix],
                )
            )

    def commands(self) -> list[list[str]]:
        inspircd = program("inspircd") or ""
        return [[inspircd, "--nofork", f"--config={self.place}/inspircd{suffix}.conf"] for suffix in VARIANTS]

    def logs(self) -> list[Path]:
        return [self.place / f"log{suffix}" for suffix in VARIANTS]

    def implicit(self, port_name: str) -> bool:
        return port_name.startswith("ircs")

    def opening(self, port_name: str) -> bytes:
        return b"PING :ready\r\n"
