"""slapd: LDAP with StartTLS and ldaps. cn=alice,dc=example,dc=test may bind with her password."""

from pathlib import Path

from harness import Ports, Server, program
from users import USERS
from variants import VARIANTS

# A search of the root DSE: what every client may ask.
ROOT_DSE = bytes.fromhex("3025020101632004000a01000a0100020100020100010100870b") + b"objectClass"
ROOT_DSE += bytes.fromhex("3000")

CONFIG = """\
include {schemas}/core.schema
pidfile {place}/pid{suffix}
argsfile {place}/args{suffix}
loglevel none
{tls}
database ldif
directory {data}
suffix "dc=example,dc=test"
rootdn "cn=alice,dc=example,dc=test"
rootpw "{password}"
"""

TLS = """\
TLSCACertificateFile {certs}/ca.crt
TLSCertificateFile {certificate}
TLSCertificateKeyFile {key}
TLSVerifyClient never
"""

SCHEMAS = Path("/etc/ldap/schema"), Path("/etc/openldap/schema")


class Slapd(Server):
    name = "slapd"
    account = "openldap"

    def __init__(self, place: Path, certs: Path, ports: Ports) -> None:
        super().__init__(place, certs, ports)
        for suffix in VARIANTS:
            self.ports["ldap" + suffix] = ports.take()
            self.ports["ldaps" + suffix] = ports.take()
        self.ports["ldap-no-tls"] = ports.take()

    @classmethod
    def missing(cls) -> str | None:
        return None if program("slapd") and cls._schemas() else "not installed"

    @staticmethod
    def _schemas() -> Path | None:
        return next((path for path in SCHEMAS if (path / "core.schema").exists()), None)

    def configure(self, others: dict[str, Server]) -> None:
        self.own(self.place)
        for suffix in [*VARIANTS, "-no-tls"]:
            tls = ""
            if suffix in VARIANTS:
                certificate, key = self.certificate(VARIANTS[suffix])
                # Its own user cannot look into the directory of all certificates.
                (self.place / "certs" / "ca.crt").write_bytes((self.certs / "ca.crt").read_bytes())
                tls = TLS.format(certs=self.place / "certs", certificate=certificate, key=key)
            config = self.place / f"slapd{suffix}.conf"
            config.write_text(
                CONFIG.format(
                    schemas=self._schemas(),
                    place=self.place,
                    suffix=suffix,
                    tls=tls,
                    data=self.directory(f"data{suffix}"),
                    password=USERS["alice"],
                )
            )
            config.chmod(0o600)
            self.own(config)

    def commands(self) -> list[list[str]]:
        commands = []
        for suffix in [*VARIANTS, "-no-tls"]:
            urls = f"ldap://127.0.0.1:{self.ports['ldap' + suffix]}/"
            if suffix in VARIANTS:
                urls += f" ldaps://127.0.0.1:{self.ports['ldaps' + suffix]}/"
            command = [program("slapd") or "", "-d", "0", "-f", f"{self.place}/slapd{suffix}.conf", "-h", urls]
            # It makes room for as many connections as there may be files.
            commands.append(["sh", "-c", 'ulimit -n 256; exec "$@"', "slapd", *command])
        return commands

    def logs(self) -> list[Path]:
        return []

    def implicit(self, port_name: str) -> bool:
        return port_name.startswith("ldaps")

    def opening(self, port_name: str) -> bytes:
        return ROOT_DSE
