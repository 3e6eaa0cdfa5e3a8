"""Apache as the MTA-STS policy host of all domains, each by its name in SNI, with all that can be wrong with it.

The policy of DOMAIN is the file `mta-sts.DOMAIN/.well-known/mta-sts.txt` of its directory. A test may change it or
take it away at any time. Of domains that are not in domains.tsv the certificate names a.live.test to h.live.test.
"""

from pathlib import Path
from typing import Any

import live
from harness import Ports, Server, program
from zones import PolicyHost, policy_hosts

MODULES = Path("/usr/lib/apache2/modules"), Path("/usr/lib64/httpd/modules")
WELL_KNOWN = Path(".well-known", "mta-sts.txt")

CONFIG = """\
ServerRoot "{place}"
DefaultRuntimeDir "{place}"
Mutex file:{place}
PidFile "{place}/pid"
ErrorLog "{place}/log"
LogLevel warn
{modules}
ServerName 127.0.0.1
Listen 127.0.0.1:{port}
StartServers 1
ServerLimit 1
ThreadsPerChild 64
MaxRequestWorkers 64
ScriptSock "{place}/cgid"
GracefulShutdownTimeout 1
UseCanonicalName Off
TypesConfig /dev/null
AddType text/plain .txt
VirtualDocumentRoot "{place}/www/%0"
<Directory "{place}/www">
  Require all granted
</Directory>
<Directory "{place}/cgi">
  Require all granted
</Directory>
SSLSessionCache none
"""

LOADED = """
authz_core mpm_event mime ssl alias vhost_alias ratelimit filter env cgid
""".split()

VIRTUAL = """\
<VirtualHost 127.0.0.1:{port}>
  ServerName {name}
  SSLEngine on
  SSLCertificateFile "{certificate}"
  SSLCertificateKeyFile "{key}"
  {more}
</VirtualHost>
"""

# What is wrong -> the certificate.
CERTIFICATES = {name: f"sts-{name}" for name in ("expired", "wrong-name", "unknown-ca", "self-signed")}

# What is wrong -> how Apache is told to do it.
MORE = {
    "redirect": "RedirectMatch 302 ^/.well-known/.* https://mta-sts.sts.example.test:{port}/.well-known/mta-sts.txt",
    "html": "<Files mta-sts.txt>\n    ForceType text/html\n  </Files>",
    "error": "Redirect 500 /",
    # A kilobyte a second.
    "slow": "<Location />\n    SetOutputFilter RATE_LIMIT\n    SetEnv rate-limit 1\n  </Location>",
    "silent": 'ScriptAliasMatch ^/.* "{place}/cgi/silent"',
}

# How much is added to the policy, in lines that mean nothing.
PADDING = {"huge": 100_000, "slow": 60_000}


class PolicyHosts(Server):
    name = "sts"
    listed = False
    # Started by root it would change its user by itself, to one that we would have to know.
    account = "nobody"

    def __init__(self, place: Path, certs: Path, ports: Ports) -> None:
        super().__init__(place, certs, ports)
        self.ports = {"https": ports.take()}
        self._hosts = policy_hosts()

    @classmethod
    def missing(cls) -> str | None:
        return None if cls._program() and cls._modules() else "Apache is not installed"

    @staticmethod
    def _program() -> str | None:
        return program("apache2") or program("httpd")

    @staticmethod
    def _modules() -> Path | None:
        return next((path for path in MODULES if (path / "mod_ssl.so").exists()), None)

    def leaves(self) -> list[str]:
        names: dict[str, list[str]] = {}
        for host in self._hosts:
            names.setdefault(CERTIFICATES.get(host.wrong, "sts-good"), []).append(f"DNS:{host.name}")
        names["sts-good"] += [f"DNS:mta-sts.{label}.{live.ZONE}" for label in live.LABELS]
        names["sts-wrong-name"] = ["DNS:www.example.test"]
        issuers = {"expired": "expired", "self-signed": "self-signed", "unknown-ca": "other-ca"}
        return [f"{file} {','.join(san)} {issuers.get(file[4:], 'ca')}" for file, san in names.items()]

    def configure(self, others: dict[str, Server]) -> None:
        self.own(self.place)
        for host in self._hosts:
            if host.wrong != "missing":
                self._publish(host)
        cgi = self.directory("cgi") / "silent"
        cgi.write_text("#!/bin/sh\nexec sleep 120\n")
        cgi.chmod(0o755)
        port = self.ports["https"]
        modules = "".join(f'LoadModule {name}_module "{self._modules()}/mod_{name}.so"\n' for name in LOADED)
        config = CONFIG.format(place=self.place, port=port, modules=modules)
        # The first one is for all names that have none of their own.
        plain = PolicyHost("localhost", "", "")
        for host in [plain, *self._hosts]:
            if host is plain or host.wrong in MORE or host.wrong in CERTIFICATES:
                certificate, key = self.certificate(CERTIFICATES.get(host.wrong, "sts-good"))
                more = MORE.get(host.wrong, "").format(place=self.place, port=port)
                config += VIRTUAL.format(port=port, name=host.name, certificate=certificate, key=key, more=more)
        (self.place / "apache.conf").write_text(config)

    def _publish(self, host: PolicyHost) -> None:
        file = self.place / "www" / host.name / WELL_KNOWN
        file.parent.mkdir(parents=True)
        lines = PADDING.get(host.wrong, 0) // 100
        file.write_bytes((host.policy + f"padding: {'x' * 90}\n" * lines).encode())

    def commands(self) -> list[list[str]]:
        return [[self._program() or "", "-DFOREGROUND", "-f", f"{self.place}/apache.conf"]]

    def logs(self) -> list[Path]:
        return [self.place / "log"]

    def implicit(self, port_name: str) -> bool:
        return True

    def opening(self, port_name: str) -> bytes:
        return b"GET / HTTP/1.0\r\n\r\n"

    def tell(self, others: dict[str, Server]) -> dict[str, Any]:
        return {"port": self.ports["https"], "directory": str(self.place / "www")}
