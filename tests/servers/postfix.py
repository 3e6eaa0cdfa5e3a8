"""Postfix: SMTP, submission and smtps, and ports whose certificate has something wrong."""

import os
import pwd
import shutil
import time
from pathlib import Path

from dns import Dns
from harness import Ports, Server
from zones import ADDRESSES, CERTIFICATES, SNI_NAME, chain

DAEMONS = Path("/usr/lib/postfix/sbin"), Path("/usr/libexec/postfix"), Path("/usr/lib/postfix/bin")

# port -> options of its smtpd; the certificate and level of `smtp` are the default
LISTENERS = {
    "smtp": {},
    "smtp-rsa": {"chain": "good-rsa"},
    "smtp-self-signed": {"chain": "self-signed"},
    "smtp-expired": {"chain": "expired"},
    "smtp-notyet": {"chain": "not-yet-valid"},
    "smtp-wrong-name": {"chain": "wrong-name"},
    "smtp-unknownca": {"chain": "unknown-ca"},
    "smtp-chain": {"chain": "via-intermediate"},
    "smtp-nochain": {"chain": "no-intermediate"},
    "smtp-wildcard": {"chain": "wildcard"},
    "smtp-cnonly": {"chain": "cn-only"},
    "smtp-clientcert": {
        "smtpd_tls_security_level": "encrypt",
        "smtpd_tls_req_ccert": "yes",
        "smtpd_tls_CAfile": "{certs}/ca.crt",
    },
    "smtp-tls10": {
        "chain": "good-rsa",
        "smtpd_tls_protocols": "TLSv1",
        "smtpd_tls_ciphers": "low",
        "tls_low_cipherlist": "ALL:@SECLEVEL=0",
    },
    "smtp-no-tls": {"smtpd_tls_security_level": "none"},
    "submission": {"submission": "yes", "smtpd_tls_security_level": "encrypt"},
    "smtps": {"submission": "yes", "smtpd_tls_wrappermode": "yes"},
}

MAIN = """\
compatibility_level = 3.6
queue_directory = {place}/queue
data_directory = {place}/data
maillog_file = {place}/log
maillog_file_prefixes = {place}
mail_owner = postfix
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = mail.example.test
mydestination = example.test, mail.example.test, localhost
mynetworks = 127.0.0.0/8
alias_maps =
alias_database =
local_recipient_maps =
local_transport = {local}
# Nothing ever leaves this machine.
default_transport = discard:
relay_transport = discard:
disable_dns_lookups = yes
smtpd_peername_lookup = no
smtpd_error_sleep_time = 0
in_flow_delay = 0
service_throttle_time = 1s
smtpd_relay_restrictions = permit_mynetworks, permit_sasl_authenticated, reject_unauth_destination
smtpd_tls_security_level = may
smtpd_tls_auth_only = yes
smtpd_tls_chain_files = {certs}/good.key, {certs}/good.crt
smtpd_tls_loglevel = 1
smtpd_sasl_type = dovecot
smtpd_sasl_path = {auth}
"""

SERVICES = """\
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
lmtp unix - - n - - lmtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""

QUEUES = "active bounce corrupt defer deferred flush hold incoming maildrop pid private public saved trace".split()


class Postfix(Server):
    name = "postfix"

    def __init__(self, place: Path, certs: Path, ports: Ports) -> None:
        super().__init__(place, certs, ports)
        self.ports = {name: ports.take() for name in LISTENERS}

    @classmethod
    def missing(cls) -> str | None:
        if cls.daemons() is None:
            return "not installed"
        if os.geteuid() != 0:
            return "needs root"
        return None

    @staticmethod
    def daemons() -> Path | None:
        return next((path for path in DAEMONS if (path / "master").exists()), None)

    def configure(self, others: dict[str, Server]) -> None:
        dovecot = others.get("dovecot")
        owner = pwd.getpwnam("postfix").pw_uid
        (self.place / "data").mkdir(0o700)
        os.chown(self.place / "data", owner, -1)
        queue = self.place / "queue"
        queue.mkdir(0o755)
        for name in QUEUES:
            (queue / name).mkdir(0o755 if name == "pid" else 0o700)
            if name != "pid":
                os.chown(queue / name, owner, -1)
        for name, mode in (("maildrop", 0o730), ("public", 0o710)):
            shutil.chown(queue / name, group="postdrop")
            (queue / name).chmod(mode)

        etc = self.place / "etc"
        etc.mkdir()
        lmtp = dovecot and dovecot.ports.get("lmtp")
        main = etc / "main.cf"
        main.write_text(
            MAIN.format(
                place=self.place,
                certs=self.certs,
                local=f"lmtp:inet:127.0.0.1:{lmtp}" if lmtp else "discard:",
                auth=f"{dovecot.place}/auth" if dovecot else "none",
            )
            + f"daemon_directory = {self.daemons()}\n"
        )
        (etc / "master.cf").write_text(
            "".join(self._listener(port, options, dovecot is not None) for port, options in LISTENERS.items())
            + self._hosts(others.get("dns"))
            + SERVICES
        )
        # Postfix waits until its configuration is older than a second or so.
        past = time.time() - 60
        os.utime(main, (past, past))

    def _listener(self, name: str, options: dict[str, str], logins: bool) -> str:
        lines = [f"127.0.0.1:{self.ports[name]} inet n - n - - smtpd"]
        for option, value in options.items():
            if option == "chain":
                lines.append(f"  -o {{ smtpd_tls_chain_files = {self.certs}/{value}.key, {self.certs}/{value}.crt }}")
            elif option == "submission":
                lines.append("  -o { smtpd_relay_restrictions = permit_sasl_authenticated, reject }")
                lines.append(f"  -o smtpd_sasl_auth_enable={'yes' if logins else 'no'}")
            else:
                lines.append(f"  -o {option}={value.format(certs=self.certs)}")
        return "\n".join(lines) + "\n"

    def _hosts(self, dns: Server | None) -> str:
        """The MX hosts of the zones: a certificate an address."""
        if not isinstance(dns, Dns):
            return ""
        options = {name: f"smtpd_tls_chain_files = {self._chain(name)}" for name in CERTIFICATES}
        options["no-tls"] = "smtpd_tls_security_level = none"
        options["sni"] = f"tls_server_sni_maps = texthash:{self.place}/etc/sni"
        (self.place / "etc" / "sni").write_text(f"{SNI_NAME} {self._chain('good')}\n")
        lines = []
        for name, option in options.items():
            lines.append(f"{ADDRESSES[name]}:{dns.smtp_port} inet n - n - - smtpd")
            lines.append(f"  -o {{ {option} }}")
        # Who asks for no name gets one that does not do.
        lines.append(f"  -o {{ smtpd_tls_chain_files = {self._chain('unknown-ca')} }}")
        lines.append(f"{ADDRESSES['busy']}:{dns.smtp_port} inet n - n - - smtpd")
        lines.append("  -o smtpd_delay_reject=no")
        lines.append("  -o { smtpd_client_restrictions = check_client_access static:{450 4.3.2 busy} }")
        return "\n".join(lines) + "\n"

    def _chain(self, certificate: str) -> str:
        return ", ".join(
            [f"{self.certs}/mx-{certificate}.key", *(f"{self.certs}/{name}.crt" for name in chain(certificate))]
        )

    def commands(self) -> list[list[str]]:
        return [[f"{self.daemons()}/master", "-c", f"{self.place}/etc", "-d"]]

    def logs(self) -> list[Path]:
        return [self.place / "log"]

    def implicit(self, port_name: str) -> bool:
        return port_name == "smtps"
