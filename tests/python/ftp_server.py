"""An FTP server with TLS for the tests: ftp_server.py CERTIFICATE DIRECTORY [tls|plain].

Prints its port, serves the user "alice" with the password "secret", and ends with its standard input.
"""

import sys
import threading
import warnings

# What a dependency of the server's is deprecated for is no business of ours.
warnings.simplefilter("ignore")

from pyftpdlib.authorizers import DummyAuthorizer  # noqa: E402
from pyftpdlib.handlers import FTPHandler, TLS_FTPHandler  # noqa: E402
from pyftpdlib.servers import FTPServer  # noqa: E402

# It goes out as two lines.
LONG = "Welcome to an FTP server that has more to say than fits into one line of seventy-five characters."


def main() -> None:
    certificate, directory, kind = sys.argv[1:]
    authorizer = DummyAuthorizer()
    authorizer.add_user("alice", "secret", directory, perm="elradfmwMT")
    base = FTPHandler if kind == "plain" else TLS_FTPHandler
    settings = {"authorizer": authorizer, "certfile": certificate, "banner": LONG}
    if kind == "tls":
        # Whoever does not protect what he sends is refused.
        settings |= {"tls_control_required": True, "tls_data_required": True}
    server = FTPServer(("127.0.0.1", 0), type("Handler", (base,), settings))
    print(server.address[1], flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()


main()
