"""CUPS: HTTP Upgrade to TLS (RFC 2817) and https on the same port, which looks at the first byte."""

import grp
import os
import pwd
import shutil
from pathlib import Path

from harness import Ports, Server, program
from variants import VARIANTS

CONFIG = """\
Listen 127.0.0.1:{port}
ServerName localhost
DefaultEncryption IfRequested
DefaultAuthType None
HostNameLookups Off
Browsing Off
BrowseLocalProtocols none
WebInterface No
DefaultShared No
LogLevel warn
MaxLogSize 0
PreserveJobHistory No
<Location />
  Order allow,deny
  Allow from 127.0.0.1
</Location>
"""

FILES = """\
CreateSelfSignedCerts no
ServerKeychain {place}/keychain
ServerRoot {place}/root
CacheDir {place}/cache
DataDir /usr/share/cups
DocumentRoot {place}/root
RequestRoot {place}/spool
StateDir {place}/state
TempDir {place}/spool/tmp
AccessLog {place}/access_log
ErrorLog {place}/error_log
PageLog {place}/page_log
Printcap
SystemGroup root
User {user}
Group {group}
SyncOnClose No
"""

DIRECTORIES = "keychain root root/ssl cache spool spool/tmp state state/certs".split()


class Cups(Server):
    name = "cups"

    def __init__(self, place: Path, certs: Path, ports: Ports) -> None:
        super().__init__(place, certs, ports)
        for suffix in VARIANTS:
            self.ports["http" + suffix] = self.ports["https" + suffix] = ports.take()

    @classmethod
    def missing(cls) -> str | None:
        if not program("cupsd"):
            return "not installed"
        return None if os.geteuid() == 0 else "needs root"

    def _place(self, suffix: str) -> Path:
        return self.place / f"instance{suffix}"

    def configure(self, others: dict[str, Server]) -> None:
        for suffix, certificate in VARIANTS.items():
            place = self._place(suffix)
            for name in DIRECTORIES:
                (place / name).mkdir(parents=True, exist_ok=True)
            # It looks for the name that it is called by and else for its own.
            for name in ("localhost", "127.0.0.1", "mail.example.test"):
                for ending in ("crt", "key"):
                    shutil.copyfile(self.certs / f"{certificate}.{ending}", place / "keychain" / f"{name}.{ending}")
            (place / "cupsd.conf").write_text(CONFIG.format(port=self.ports["http" + suffix]))
            group = grp.getgrgid(pwd.getpwnam("nobody").pw_gid).gr_name
            (place / "cups-files.conf").write_text(FILES.format(place=place, user="nobody", group=group))

    def commands(self) -> list[list[str]]:
        return [
            [
                program("cupsd") or "",
                "-f",
                "-c",
                str(self._place(suffix) / "cupsd.conf"),
                "-s",
                str(self._place(suffix) / "cups-files.conf"),
            ]
            for suffix in VARIANTS
        ]

    def logs(self) -> list[Path]:
        return [self._place(suffix) / "error_log" for suffix in VARIANTS]

    def implicit(self, port_name: str) -> bool:
        return port_name.startswith("https")

    def opening(self, port_name: str) -> bytes:
        return b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n"
