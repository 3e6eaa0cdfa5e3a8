"""Dovecot: IMAP, POP3, LMTP, ManageSieve and submission; one instance for each certificate."""

import grp
import os
import pwd
import shutil
import subprocess
from pathlib import Path

from harness import Ports, Server
from users import SEED, USERS

LIBEXEC = Path("/usr/lib/dovecot"), Path("/usr/libexec/dovecot")

# suffix of the ports -> certificate; None: no TLS at all
INSTANCES = {
    "": "good",
    "-self-signed": "self-signed",
    "-expired": "expired",
    "-wrong-name": "wrong-name",
    "-no-tls": None,
}

# protocol -> (its login service, its port, its port with TLS at once)
PROTOCOLS = {
    "imap": ("imap-login", "imap", "imaps"),
    "pop3": ("pop3-login", "pop3", "pop3s"),
    "sieve": ("managesieve-login", "sieve", None),
    "submission": ("submission-login", "submission", "submissions"),
    "lmtp": ("lmtp", "lmtp", None),
}

COMMON = """\
protocols = {protocols}
listen = 127.0.0.1
base_dir = {place}/run
state_dir = {place}/state
log_path = {place}/log
auth_failure_delay = 0
mail_max_userip_connections = 1000
first_valid_uid = 1
submission_relay_host = 127.0.0.1
submission_relay_port = {relay}
service auth {{
  unix_listener {place}/auth {{
    mode = 0666
  }}
}}
# Without it a wrong password makes the next login wait.
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
"""

SYNTAX_2_3 = """\
ssl_cert = <{certs}/{certificate}.crt
ssl_key = <{certs}/{certificate}.key
ssl = {tls}
disable_plaintext_auth = {tls}
auth_username_format = %Ln
mail_location = maildir:~/Maildir
passdb {{
  driver = passwd-file
  args = {place}/users
}}
userdb {{
  driver = passwd-file
  args = {place}/users
}}
"""

SYNTAX_2_4 = """\
dovecot_config_version = 2.4.0
dovecot_storage_version = 2.4.0
ssl_server_cert_file = {certs}/{certificate}.crt
ssl_server_key_file = {certs}/{certificate}.key
ssl = {tls}
auth_allow_cleartext = {cleartext}
auth_username_format = %{{user | username | lower}}
mail_driver = maildir
mail_path = ~/Maildir
passdb passwd-file {{
  passwd_file_path = {place}/users
}}
userdb passwd-file {{
  passwd_file_path = {place}/users
}}
"""

# Who is not root can neither chroot nor change the user.
ROOTLESS = """\
default_internal_user = {user}
default_internal_group = {group}
default_login_user = {user}
service anvil {{
  chroot =
}}
service stats {{
  chroot =
}}
"""


class Dovecot(Server):
    name = "dovecot"

    def __init__(self, place: Path, certs: Path, ports: Ports) -> None:
        super().__init__(place, certs, ports)
        self.protocols = [protocol for protocol, (service, _, _) in PROTOCOLS.items() if self._installed(service)]
        for suffix in INSTANCES:
            for protocol in self.protocols:
                _, port, implicit = PROTOCOLS[protocol]
                self.ports[port + suffix] = ports.take()
                if implicit and suffix != "-no-tls":
                    self.ports[implicit + suffix] = ports.take()

    @classmethod
    def missing(cls) -> str | None:
        return None if cls._program() and cls._installed("imap-login") else "not installed"

    @staticmethod
    def _program() -> str:
        return shutil.which("dovecot", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin") or ""

    @staticmethod
    def _installed(service: str) -> bool:
        return any((path / service).exists() for path in LIBEXEC)

    def configure(self, others: dict[str, Server]) -> None:
        version = subprocess.run([self._program(), "--version"], capture_output=True, text=True, check=True).stdout
        modern = tuple(int(part) for part in version.split()[0].split(".")[:2]) >= (2, 4)
        relay = others["postfix"].ports["smtp"] if "postfix" in others else 25
        for suffix, certificate in INSTANCES.items():
            self._instance(suffix, certificate, modern, relay)

    def _instance(self, suffix: str, certificate: str | None, modern: bool, relay: int) -> None:
        place = self._place(suffix)
        place.mkdir(exist_ok=True)
        self._users(place)
        values = {
            "place": place,
            "certs": self.certs,
            "certificate": certificate or "good",
            "tls": "yes" if certificate else "no",
            "cleartext": "no" if certificate else "yes",
            "protocols": " ".join(self.protocols),
            "relay": relay,
            "user": pwd.getpwuid(os.geteuid()).pw_name,
            "group": grp.getgrgid(os.getegid()).gr_name,
        }
        text = (SYNTAX_2_4 if modern else SYNTAX_2_3).format(**values) + COMMON.format(**values)
        rootless = os.geteuid() != 0
        if rootless:
            text += ROOTLESS.format(**values)
        for protocol in self.protocols:
            service, port, implicit = PROTOCOLS[protocol]
            text += f"service {service} {{\n"
            if protocol != "lmtp":
                # One process for many connections: each new one would load OpenSSL again.
                text += "  restart_request_count = unlimited\n" if modern else "  service_count = 0\n"
                # A thousand connections at once are one of the tests.
                text += "  client_limit = 2000\n"
                text += "  chroot =\n" if rootless else ""
            text += self._listener(port, suffix)
            text += self._listener(implicit, suffix, "    ssl = yes\n") if implicit else ""
            text += "}\n"
        (place / "dovecot.conf").write_text(text)

    def _listener(self, port: str, suffix: str, more: str = "") -> str:
        # Port 0 closes a listener that Dovecot would open by itself.
        number = self.ports.get(port + suffix, 0)
        return f"  inet_listener {port} {{\n    port = {number}\n{more}  }}\n"

    def _users(self, place: Path) -> None:
        # Dovecot delivers mail as nobody below root.
        uid, gid = os.geteuid(), os.getegid()
        if uid == 0:
            nobody = pwd.getpwnam("nobody")
            uid, gid = nobody.pw_uid, nobody.pw_gid
        lines = []
        for name, password in USERS.items():
            home = place / "homes" / name
            for folder in ("cur", "new", "tmp"):
                (home / "Maildir" / folder).mkdir(parents=True)
            (home / "Maildir" / "new" / "1.seed.localhost").write_bytes(SEED)
            for path in (home, *home.rglob("*")):
                os.chown(path, uid, gid)
            lines.append(f"{name}:{{PLAIN}}{password}:{uid}:{gid}::{home}::\n")
        (place / "users").write_text("".join(lines))

    def _place(self, suffix: str) -> Path:
        return self.place / suffix.lstrip("-") if suffix else self.place

    def commands(self) -> list[list[str]]:
        return [[self._program(), "-F", "-c", f"{self._place(suffix)}/dovecot.conf"] for suffix in INSTANCES]

    def logs(self) -> list[Path]:
        return [self._place(suffix) / "log" for suffix in INSTANCES]

    def implicit(self, port_name: str) -> bool:
        return port_name.partition("-")[0] in ("imaps", "pop3s", "submissions")
