//! Servers whose behaviour a test writes down in Rust. Every wait in them ends by itself, so a
//! client that does the wrong thing fails its test and never hangs it.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::thread::JoinHandle;
use std::time::Duration;

use openssl::ssl::{NameType, ShutdownState, SslAcceptor, SslAcceptorBuilder, SslMethod, SslVerifyMode};

use crate::certs::Identity;

/// How long a server waits for its client.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A server that plays its part on a thread of its own.
pub struct Peer<T> {
    pub port: u16,
    listener: TcpListener,
    thread: JoinHandle<T>,
}

impl<T: Send + 'static> Peer<T> {
    /// Listens on a free port of 127.0.0.1 and runs the part.
    pub fn start(part: impl FnOnce(&TcpListener) -> T + Send + 'static) -> Self {
        Self::on("127.0.0.1:0", part).unwrap()
    }

    /// The same on another address.
    ///
    /// # Errors
    /// If the machine does not have it.
    pub fn on(address: &str, part: impl FnOnce(&TcpListener) -> T + Send + 'static) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let port = listener.local_addr()?.port();
        let theirs = listener.try_clone()?;
        let thread = std::thread::spawn(move || part(&theirs));
        Ok(Self {
            port,
            listener,
            thread,
        })
    }

    /// What the part returned.
    ///
    /// # Panics
    /// If it panicked, or if the client has dialled once more than the part accepted.
    pub fn finish(self) -> T {
        let result = match self.thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        assert!(!wants_in(&self.listener), "the client dialled once more");
        result
    }
}

/// Whether a client waits to be accepted.
pub fn wants_in(listener: &TcpListener) -> bool {
    readable(listener.as_raw_fd(), Duration::ZERO)
}

/// Whether there is something to read, or an end, within this time.
pub fn readable(fd: i32, time: Duration) -> bool {
    let mut polled = libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    let ms = i32::try_from(time.as_millis()).unwrap();
    // SAFETY: the pointer is to one live pollfd.
    unsafe { libc::poll(&raw mut polled, 1, ms) > 0 }
}

/// The next connection, with time limits on it.
///
/// # Errors
/// If nobody comes.
pub fn accept(listener: &TcpListener) -> io::Result<TcpStream> {
    if !readable(listener.as_raw_fd(), PATIENCE) {
        return Err(io::Error::new(io::ErrorKind::TimedOut, "no client came"));
    }
    let (stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// One line, read byte by byte so that nothing behind it is taken.
///
/// # Errors
/// If it does not come, or is longer than any line of a client's.
pub fn read_line(mut stream: impl Read) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut byte = [0];
    while line.last() != Some(&b'\n') {
        if stream.read(&mut byte)? == 0 {
            let got = String::from_utf8_lossy(&line).into_owned();
            return Err(io::Error::other(format!("the client closed after {got:?}")));
        }
        line.push(byte[0]);
        if line.len() > 1000 {
            return Err(io::Error::other("the client's line is endless"));
        }
    }
    Ok(line)
}

/// Breaks the connection off, so that the client gets a reset.
pub fn reset(stream: TcpStream) {
    let now = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    // SAFETY: the pointer and the size are those of one live struct.
    unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const now).cast(),
            size_of::<libc::linger>() as libc::socklen_t,
        );
    }
}

/// Reads until the client is gone, or for as long as a server waits.
pub fn drain(mut stream: impl Read) -> Vec<u8> {
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said);
    said
}

/// A server's TLS settings: TLS 1.2 and 1.3, this certificate.
pub fn acceptor(identity: &Identity) -> SslAcceptorBuilder {
    let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
    builder.set_certificate(&identity.cert).unwrap();
    builder.set_private_key(&identity.key).unwrap();
    for cert in &identity.chain {
        builder.add_extra_chain_cert(cert.clone()).unwrap();
    }
    builder.set_verify(SslVerifyMode::NONE);
    builder
        .set_session_id_context(b"starttls tests")
        .expect("a context of 14 bytes");
    builder
}

/// Says the go-ahead of a POP3 server and nothing else: the shortest dialog that there is.
///
/// # Errors
/// If the client does not ask for it.
pub fn pop3_go_ahead(stream: &mut (impl Read + Write)) -> io::Result<()> {
    stream.write_all(b"+OK ready\r\n")?;
    let mut command = read_line(&mut *stream)?;
    if command == b"CAPA\r\n" {
        stream.write_all(b"+OK\r\nSTLS\r\n.\r\n")?;
        command = read_line(&mut *stream)?;
    }
    if command != b"STLS\r\n" {
        return Err(io::Error::other(format!(
            "STLS was expected, not {:?}",
            String::from_utf8_lossy(&command)
        )));
    }
    stream.write_all(b"+OK begin\r\n")
}

/// What a server saw of a client whose handshake succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub server_name: Option<String>,
    pub resumed: bool,
    pub has_client_cert: bool,
    pub version: &'static str,
    /// Whether it ended with a close_notify.
    pub said_goodbye: bool,
}

/// Upgrades so many POP3 clients, one after the other, and sends each back what it sends.
pub fn upgrades(tls: SslAcceptor, clients: usize) -> Peer<Vec<io::Result<Seen>>> {
    Peer::start(move |listener| (0..clients).map(|_| upgrade(listener, &tls)).collect())
}

fn upgrade(listener: &TcpListener, tls: &SslAcceptor) -> io::Result<Seen> {
    let mut stream = accept(listener)?;
    pop3_go_ahead(&mut stream)?;
    let mut stream = tls.accept(stream).map_err(|e| io::Error::other(e.to_string()))?;
    echo(&mut stream);
    let ssl = stream.ssl();
    Ok(Seen {
        server_name: ssl.servername(NameType::HOST_NAME).map(str::to_owned),
        resumed: ssl.session_reused(),
        has_client_cert: ssl.peer_certificate().is_some(),
        version: ssl.version_str(),
        said_goodbye: stream.get_shutdown().contains(ShutdownState::RECEIVED),
    })
}

/// Sends back what comes, until the peer closes.
pub fn echo(mut stream: impl Read + Write) {
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..n]).is_err() {
            return;
        }
    }
}

/// Hands on what it is given a few bytes at a time; 0 is all at once.
#[derive(Debug)]
pub struct Chunked<S> {
    pub stream: S,
    pub size: usize,
}

impl<S: Read> Read for Chunked<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer)
    }
}

impl<S: Write> Write for Chunked<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.size == 0 {
            return self.stream.write(bytes);
        }
        for chunk in bytes.chunks(self.size) {
            self.stream.write_all(chunk)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
