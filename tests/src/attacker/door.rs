//! Where connections come in on their way to somebody else: a port at all addresses of loopback.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::Duration;

/// Longer than any call under test may last.
pub(super) const PATIENCE: Duration = Duration::from_secs(8);

/// Open until it is dropped.
pub(super) struct Door {
    pub(super) port: u16,
    closed: Arc<AtomicBool>,
}

impl Door {
    /// Each connection is handled on a thread of its own, with the address that it was made to.
    pub(super) fn open(handle: impl Fn(TcpStream, IpAddr) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let closed = Arc::new(AtomicBool::new(false));
        let is_closed = Arc::clone(&closed);
        let handle = Arc::new(handle);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if is_closed.load(Ordering::SeqCst) {
                    return;
                }
                let handle = Arc::clone(&handle);
                std::thread::spawn(move || {
                    let Ok(at) = stream.local_addr() else { return };
                    let _ = stream.set_nodelay(true);
                    let _ = stream.set_read_timeout(Some(PATIENCE));
                    let _ = stream.set_write_timeout(Some(PATIENCE));
                    handle(stream, at.ip());
                });
            }
        });
        Self { port, closed }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

/// The server that the connection was meant for.
pub(super) fn dial(host: impl Into<IpAddr>, port: u16) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&SocketAddr::new(host.into(), port), PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}
