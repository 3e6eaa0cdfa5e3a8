"""vsftpd: FTP and ftps for anonymous, who may upload; one process for each port."""

import os
from pathlib import Path

from harness import Ports, Server, program
from variants import VARIANTS

# port -> options
LISTENERS = {
    "ftp": "",
    "ftps": "implicit_ssl=YES\n",
    # The data channel must resume the session of the control channel.
    "ftp-reuse": "require_ssl_reuse=YES\n",
    "ftp-no-tls": "ssl_enable=NO\n",
}
ONCE = "ftp-reuse", "ftp-no-tls"

CONFIG = """\
listen=YES
listen_address=127.0.0.1
listen_port={port}
background=NO
anonymous_enable=YES
no_anon_password=YES
local_enable=NO
# Somebody whose home exists; anon_root is where he gets.
ftp_username=daemon
anon_root={place}/home
secure_chroot_dir={place}/empty
write_enable=YES
anon_upload_enable=YES
anon_umask=022
pasv_address=127.0.0.1
connect_from_port_20=NO
ssl_enable=YES
allow_anon_ssl=YES
force_anon_logins_ssl=NO
force_anon_data_ssl=NO
require_ssl_reuse=NO
ssl_ciphers=HIGH
rsa_cert_file={certificate}
rsa_private_key_file={key}
xferlog_enable=NO
vsftpd_log_file={place}/log
dual_log_enable=YES
# It kills sessions where the C library makes calls that vsftpd has never heard of.
seccomp_sandbox=NO
"""


class Vsftpd(Server):
    name = "vsftpd"

    def __init__(self, place: Path, certs: Path, ports: Ports) -> None:
        super().__init__(place, certs, ports)
        self._configs: list[Path] = []
        for suffix in VARIANTS:
            for name in LISTENERS:
                if not suffix or name not in ONCE:
                    self.ports[name + suffix] = ports.take()

    @classmethod
    def missing(cls) -> str | None:
        if not program("vsftpd"):
            return "not installed"
        return None if os.geteuid() == 0 else "needs root"

    def configure(self, others: dict[str, Server]) -> None:
        (self.place / "empty").mkdir()
        home = self.place / "home"
        home.mkdir()
        # It takes no anonymous root that anonymous may write to.
        (home / "incoming").mkdir()
        (home / "incoming").chmod(0o777)
        (home / "hello.txt").write_text("hello from vsftpd\n")
        for suffix, name in VARIANTS.items():
            certificate, key = self.certificate(name)
            for listener, options in LISTENERS.items():
                if listener + suffix not in self.ports:
                    continue
                config = self.place / f"{listener}{suffix}.conf"
                text = CONFIG.format(
                    port=self.ports[listener + suffix],
                    place=self.place,
                    certificate=certificate,
                    key=key,
                )
                config.write_text(text + options)
                self._configs.append(config)

    def commands(self) -> list[list[str]]:
        return [[program("vsftpd") or "", str(config)] for config in self._configs]

    def logs(self) -> list[Path]:
        return [self.place / "log"]

    def implicit(self, port_name: str) -> bool:
        return port_name.startswith("ftps")
