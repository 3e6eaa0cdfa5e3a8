"""`starttls.stdlib.FTP` against a server of another make."""

import contextlib
import ftplib
import io
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import starttls
from peers import NAME, line, note_end, play
from starttls import errors
from starttls.stdlib import FTP

pytest.importorskip("pyftpdlib")
pytest.importorskip("OpenSSL")

SERVER = Path(__file__).with_name("ftp_server.py")
BLOCK = bytes(range(256)) * 4096


@contextlib.contextmanager
def ftp_server(certs, directory, kind):
    command = [sys.executable, SERVER, certs / "good.pem", directory, kind]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        yield int(server.stdout.readline())
        server.stdin.close()


@pytest.fixture
def files(tmp_path):
    (tmp_path / "block").write_bytes(BLOCK)
    (tmp_path / "lines").write_bytes(b"one\r\ntwo\r\n")
    return tmp_path


@pytest.fixture
def port(certs, files):
    with ftp_server(certs, files, "tls") as port:
        yield port


def arrived(file, data):
    """This server closes the file some time behind its answer."""
    until = time.monotonic() + 5
    while not (file.exists() and file.read_bytes() == data) and time.monotonic() < until:
        time.sleep(0.01)
    return file.read_bytes() == data


@pytest.mark.parametrize("passive", [True, False])
def test_transfers(port, files, strict, passive):
    with FTP(NAME, port, policy=strict, timeout=10) as ftp:
        assert ftp.outcome.identity.proven_by == "pkix" and ftp.getwelcome() == "220 ready"
        ftp.login("alice", "secret")
        ftp.set_pasv(passive)
        came = []
        assert ftp.retrbinary("RETR block", came.append).startswith("226")
        assert b"".join(came) == BLOCK
        assert ftp.retrlines("RETR lines", came.append).startswith("226")
        assert came[-2:] == ["one", "two"]
        assert ftp.storbinary("STOR up", io.BytesIO(BLOCK)).startswith("226")
        assert arrived(files / "up", BLOCK)
        assert ftp.storlines("STOR up.txt", io.BytesIO(b"three\nfour")).startswith("226")
        assert arrived(files / "up.txt", b"three\nfour\n")
        assert sorted(ftp.nlst()) == ["block", "lines", "up", "up.txt"]
        listed = []
        ftp.dir(listed.append)
        assert len(listed) == 4
        assert {name: facts["size"] for name, facts in ftp.mlsd(facts=["size"])}["up"] == str(len(BLOCK))
        ftp.voidcmd("TYPE I")
        assert ftp.size("up") == len(BLOCK)
        # From the middle, and nothing at all.
        ftp.retrbinary("RETR block", lambda data: came.append(data), rest=len(BLOCK) - 3)
        assert came[-1] == BLOCK[-3:]
        ftp.storbinary("STOR empty", io.BytesIO())
        assert arrived(files / "empty", b"")
        ftp.delete("empty")
    assert ftp.sock is None and ftp.outcome.encrypted


def test_data_connections_are_protected_and_owned(port, strict):
    with FTP(NAME, port, policy=strict, user="alice", passwd="secret") as ftp:
        data, size = ftp.ntransfercmd("RETR block")
        assert isinstance(data, starttls.Session) and size in (None, len(BLOCK))
        assert data.outcome.encrypted and data.outcome.identity == ftp.outcome.identity
        assert data.outcome.tls.resumed
        with data:
            while data.recv(65536):
                pass
        # Nothing of it is left open: a ResourceWarning would fail this.
        ftp.voidresp()
        # The next ones resume again.
        for _ in range(3):
            with ftp.transfercmd("NLST") as data:
                assert data.outcome.tls.resumed
                while data.recv(65536):
                    pass
            ftp.voidresp()


def test_protect_borrows_the_socket(port, strict):
    with FTP(NAME, port, policy=strict, user="alice", passwd="secret") as ftp:
        ftp.prot_p()
        with socket.create_connection(ftp.makepasv(), 10) as sock:
            ftp.sendcmd("NLST")
            with ftp.sock.protect(sock) as data:
                assert data.outcome.tls.resumed and data.gettimeout() == 10
                assert b"block" in data.recv(100)
            assert sock.fileno() >= 0
        ftp.voidresp()


def test_prot_and_what_else_ftp_tls_has(port, strict):
    with FTP(NAME, port, policy=strict) as ftp:
        assert ftp.login("alice", "secret", secure=True).startswith("230")
        assert ftp.auth().startswith("234")
        assert ftp.prot_p().startswith("200")
        with pytest.raises(errors.UnsupportedError):
            ftp.ccc()
        assert ftp.prot_c().startswith("200")
        # This server demands it.
        with pytest.raises(ftplib.error_perm):
            ftp.nlst()
        assert ftp.prot_p().startswith("200")
        assert "block" in ftp.nlst()
        assert ftp.abort().startswith("225")
        with pytest.raises(ftplib.error_perm):
            ftp.retrbinary("RETR nothing", print)


def test_connect_again_and_later(port, strict, certs, files):
    ftp = FTP(policy=strict, timeout=10)
    assert ftp.outcome is None
    for use in (ftp.prot_p, ftp.prot_c, ftp.auth, ftp.abort):
        with pytest.raises(ValueError, match="connect"):
            use()
    for _ in range(2):
        ftp.connect(NAME, port)
        ftp.login("alice", "secret")
        assert "block" in ftp.nlst()
        ftp.close()
    ftp.connect(source_address=("127.0.0.1", 0), timeout=5)
    ftp.login("alice", "secret")
    assert ftp.sock.gettimeout() == 5
    ftp.quit()
    with pytest.raises(errors.NameMismatchError):
        FTP("other.example.test", port, policy=strict)


def test_against_a_server_without_tls(certs, files, strict):
    with ftp_server(certs, files, "plain") as port:
        with pytest.raises(errors.NotOfferedError):
            FTP(NAME, port, policy=strict)
        for level in ("may", "none"):
            policy = starttls.Policy(level, address="127.0.0.1")
            with FTP(NAME, port, policy=policy, timeout=10) as ftp:
                assert not ftp.outcome.encrypted
                # The server's own, with all its lines.
                assert ftp.getwelcome().startswith("220-Welcome") and "\n220 " in ftp.getwelcome()
                ftp.login("alice", "secret")
                assert ftp.retrbinary("RETR lines", lambda data: None).startswith("226")
                for secure in (ftp.auth, ftp.prot_p):
                    with pytest.raises(starttls.Error):
                        secure()


@pytest.mark.parametrize("error", [None, OSError, KeyboardInterrupt])
def test_an_upload_that_fails_halfway_is_not_passed_off_as_whole(error, peer, exact_context, strict):
    ended = []

    def serve(sock):
        play(sock, [b"220 hello\r\n", None, b"234 go\r\n"])
        with exact_context.wrap_socket(sock, server_side=True) as tls, socket.create_server(("127.0.0.1", 0)) as data:
            port = data.getsockname()[1]
            for answer in ("200", "200", "200", f"227 (127,0,0,1,{port // 256},{port % 256})", "150 here"):
                line(tls)
                tls.sendall(f"{answer}\r\n".encode())
            one, _ = data.accept()
            note_end(exact_context, one, ended)
            tls.sendall(b"226 got it\r\n")
            tls.recv(100)

    class Source(io.BytesIO):
        def read(self, n=-1):
            data = super().read(4)
            if not data and error:
                raise error
            return data

    one = peer(serve)
    ftp = FTP(NAME, one.port, policy=strict, timeout=10)
    if error:
        with pytest.raises(error):
            ftp.storbinary("STOR file", Source(b"half"))
    else:
        assert ftp.storbinary("STOR file", Source(b"all")).startswith("226")
    ftp.close()
    one.end()
    assert ended == ["ragged" if error else "clean"]


def test_a_download_that_is_cut_short(peer, server_context, strict):
    """Somebody who ends the data connection is found out."""

    def serve(sock):
        play(sock, [b"220 hello\r\n", None, b"234 go\r\n"])
        with server_context.wrap_socket(sock, server_side=True) as tls, socket.create_server(("127.0.0.1", 0)) as data:
            port = data.getsockname()[1]
            for answer in ("200", "200", "200", f"227 (127,0,0,1,{port // 256},{port % 256})", "150 here"):
                line(tls)
                tls.sendall(f"{answer}\r\n".encode())
            one, _ = data.accept()
            with server_context.wrap_socket(one, server_side=True) as protected:
                protected.sendall(b"half")
                protected.shutdown(socket.SHUT_RDWR)
            tls.recv(100)

    came = []
    ftp = FTP(NAME, peer(serve).port, policy=strict, timeout=10)
    with pytest.raises(errors.ClosedError, match="close_notify"):
        ftp.retrbinary("RETR file", came.append)
    assert b"".join(came) == b"half"
    ftp.close()


def test_real_servers(servers, tmp_path):
    """vsftpd; once it demands that data connections resume the TLS session."""
    for name in ("ftp", "ftp-reuse"):
        with FTP("localhost", servers.port("vsftpd", name), policy=servers.policy(), timeout=20) as ftp:
            ftp.login()
            names = ftp.nlst()
            ftp.set_pasv(False)
            assert ftp.nlst() == names
