#!/usr/bin/env python3
"""Runs a command while real servers listen on loopback: tests/servers/run.py -- COMMAND [ARGUMENT…]

The command finds their ports, certificates and users in the JSON file named by $STARTTLS_SERVERS, and there for the
domain layer (a key is missing where that server is left out):

    dns     resolver, plain_resolver (validates nothing), authority: addresses with ports; trust_anchor: a file;
            smtp_port: of all MX hosts of tests/tlsa/*.tsv, on 127.0.0.11 and up (missing without Postfix); tlsa_port:
            the same number; preload: a library for $LD_PRELOAD (preload.c), or null
            live: of records that change (live.py)
    sts     port of all policy hosts; directory: their files (see sts.py)
    redis   address; program, to start one that may be killed
    tlsrpt  socket and db of the collector; invalid: what it did not understand; log

Inside such a run it just runs the command. `-- sleep infinity` leaves them up to try things by hand.
"""

import json
import os
import sys
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).parent))

from cups import Cups  # noqa: E402
from dns import Dns  # noqa: E402
from dovecot import Dovecot  # noqa: E402
from harness import Harness, NotStarted, Stopped, end_with_parent_and_signals  # noqa: E402
from inn2 import Nnrpd  # noqa: E402
from inspircd import InspIRCd  # noqa: E402
from mariadb import MariaDB  # noqa: E402
from postfix import Postfix  # noqa: E402
from postgresql import PostgreSQL  # noqa: E402
from prosody import Prosody  # noqa: E402
from redis_server import Redis  # noqa: E402
from slapd import Slapd  # noqa: E402
from sts import PolicyHosts  # noqa: E402
from tlsrpt import Collector  # noqa: E402
from users import USERS  # noqa: E402
from vsftpd import Vsftpd  # noqa: E402

KINDS = [MariaDB, PostgreSQL, Dovecot, Postfix, Nnrpd, Prosody, InspIRCd, Vsftpd, Slapd, Cups]
# What the domain layer asks and tells.
KINDS += [Dns, PolicyHosts, Redis, Collector]

VARIABLE = "STARTTLS_SERVERS"


def main(arguments: list[str]) -> int:
    command = arguments[1:] if arguments[:1] == ["--"] else arguments
    if not command or command[0].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 2
    if VARIABLE in os.environ:
        os.execvp(command[0], command)

    end_with_parent_and_signals()
    try:
        with Harness() as harness:
            servers = harness.start(KINDS)
            listing = harness.directory / "servers.json"
            listing.write_text(
                json.dumps(
                    {
                        "ca_file": str(harness.certs / "ca.crt"),
                        "certs_dir": str(harness.certs),
                        "servers": {name: server.ports for name, server in servers.items() if server.listed},
                        "users": [{"name": name, "password": password} for name, password in USERS.items()],
                        **{name: server.tell(servers) for name, server in servers.items() if not server.listed},
                    },
                    indent=2,
                )
            )
            return harness.run(command, {**os.environ, VARIABLE: str(listing)})
    except NotStarted as error:
        print(error, file=sys.stderr)
        return 1
    except Stopped as stopped:
        return 128 + stopped.signum


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
