//! The server that plays a dialog's side `S:` and holds the client to its lines.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

use openssl::ssl::SslStream;

use crate::certs::identity;
use crate::peer::{accept, acceptor, drain, echo, read_line, readable, reset, Chunked, Peer};
use crate::script::{Play, Step};

/// A server for one play.
pub struct Scripted(Peer<Result<(), String>>);

impl Scripted {
    /// Starts it. It sends so many bytes at a time; 0: all at once.
    pub fn start(play: &Play, chunk: usize) -> Self {
        let play = play.clone();
        Self(Peer::start(move |listener| serve(listener, &play, chunk)))
    }

    pub fn port(&self) -> u16 {
        self.0.port
    }

    /// To be called when the client is through.
    ///
    /// # Errors
    /// What the client did otherwise than its script says.
    pub fn finish(self) -> Result<(), String> {
        self.0.finish()
    }
}

enum Channel {
    Clear(Chunked<TcpStream>),
    Tls(Box<SslStream<Chunked<TcpStream>>>),
    /// The handshake failed; the client may have had every reason to fail it.
    Gone(String),
}

/// Plays the dialog on the next connection; on two, where it says `(again)`.
///
/// # Errors
/// What the client did otherwise than its script says.
pub fn serve(listener: &TcpListener, play: &Play, chunk: usize) -> Result<(), String> {
    let mut server = Server::accept(listener, play, chunk)?;
    let mut steps = play.steps.as_slice();
    while let Some((step, rest)) = steps.split_first() {
        steps = rest;
        match step {
            Step::Say(bytes) => server.outbox.extend(bytes),
            Step::Hear(line) => server.hear(line)?,
            Step::NextSegment => {
                server.flush();
                // Whether it comes with or after the rest must make no difference to the verdict.
                std::thread::sleep(Duration::from_millis(5));
            }
            Step::ClientHello => server.client_hello()?,
            Step::Tls => server.handshake(),
            Step::Nothing => return server.nothing(),
            Step::Silence => {}
            Step::Close => {
                server.flush();
                let _ = match &server.channel {
                    Channel::Clear(clear) => clear.stream.shutdown(Shutdown::Write),
                    Channel::Tls(tls) => tls.get_ref().stream.shutdown(Shutdown::Write),
                    Channel::Gone(_) => Ok(()),
                };
            }
            Step::Reset => {
                server.flush();
                if let Channel::Clear(clear) = server.channel {
                    reset(clear.stream);
                }
                return Ok(());
            }
            Step::Again => {
                server.over()?;
                server = Server::accept(listener, play, chunk)?;
            }
        }
    }
    if play.verdict.starts_with("error ") {
        server.over()
    } else {
        server.echo()
    }
}

struct Server<'a> {
    play: &'a Play,
    channel: Channel,
    outbox: Vec<u8>,
}

impl<'a> Server<'a> {
    fn accept(listener: &TcpListener, play: &'a Play, chunk: usize) -> Result<Self, String> {
        let stream = accept(listener).map_err(|e| e.to_string())?;
        Ok(Self {
            play,
            channel: Channel::Clear(Chunked { stream, size: chunk }),
            outbox: Vec::new(),
        })
    }

    /// Sends what was said. That a client has gone away in the middle shows elsewhere.
    fn flush(&mut self) {
        let bytes = std::mem::take(&mut self.outbox);
        let _ = match &mut self.channel {
            Channel::Clear(clear) => clear.write_all(&bytes),
            Channel::Tls(tls) => tls.write_all(&bytes),
            Channel::Gone(_) => Ok(()),
        };
    }

    fn hear(&mut self, expected: &[u8]) -> Result<(), String> {
        if let Channel::Clear(clear) = &self.channel {
            if !self.outbox.is_empty() && readable(fd(&clear.stream), Duration::ZERO) {
                let early = peek(&clear.stream);
                return Err(format!("the client spoke before its turn: {}", shown(&early)));
            }
        }
        self.flush();
        let wanted = shown(expected);
        let said = match &mut self.channel {
            Channel::Clear(clear) => read_like(expected, clear),
            Channel::Tls(tls) => read_like(expected, tls),
            Channel::Gone(why) => Err(io::Error::other(why.clone())),
        };
        match said {
            Ok(said) if said == expected => Ok(()),
            Ok(said) => Err(format!("the client said {}, not {wanted}", shown(&said))),
            Err(e) => Err(format!("instead of {wanted}: {e}")),
        }
    }

    fn client_hello(&mut self) -> Result<(), String> {
        self.flush();
        let Channel::Clear(clear) = &mut self.channel else {
            return Err("a ClientHello over TLS".to_owned());
        };
        let mut record = [0; 2];
        match clear.read_exact(&mut record) {
            Ok(()) if record == [0x16, 3] => Ok(()),
            Ok(()) => Err(format!("not a ClientHello: {}", shown(&record))),
            Err(e) => Err(format!("no ClientHello: {e}")),
        }
    }

    fn handshake(&mut self) {
        self.flush();
        let tls = acceptor(identity(&self.play.certificate)).build();
        let gone = Channel::Gone("there is no connection".to_owned());
        if let Channel::Clear(clear) = std::mem::replace(&mut self.channel, gone) {
            self.channel = match tls.accept(clear) {
                Ok(tls) => Channel::Tls(Box::new(tls)),
                Err(e) => Channel::Gone(format!("the handshake failed: {e}")),
            };
        }
    }

    /// The client must say nothing, and go.
    fn nothing(mut self) -> Result<(), String> {
        self.flush();
        let Channel::Clear(clear) = self.channel else {
            return Err("(nothing) over TLS".to_owned());
        };
        match drain(clear) {
            said if said.is_empty() => Ok(()),
            said => Err(format!("the client should have said nothing: {}", shown(&said))),
        }
    }

    /// The client must go, and say nothing in clear before it does.
    fn over(&mut self) -> Result<(), String> {
        self.flush();
        match &mut self.channel {
            Channel::Clear(clear) => {
                let said = drain(clear);
                // The middle of a ClientHello of which the script has read the beginning.
                let in_hello = self.play.steps.contains(&Step::ClientHello);
                if said.is_empty() || in_hello || said.starts_with(&[0x16, 3]) || said.starts_with(&[0x15, 3])
                {
                    Ok(())
                } else {
                    Err(format!("the client goes on in clear: {}", shown(&said)))
                }
            }
            Channel::Tls(tls) => match drain(tls) {
                said if said.is_empty() => Ok(()),
                said => Err(format!("the client goes on over TLS: {}", shown(&said))),
            },
            Channel::Gone(_) => Ok(()),
        }
    }

    fn echo(mut self) -> Result<(), String> {
        self.flush();
        match self.channel {
            Channel::Clear(clear) => echo(clear),
            Channel::Tls(tls) => echo(*tls),
            Channel::Gone(why) => return Err(why),
        }
        Ok(())
    }
}

/// As many bytes as are expected; where that is a line, a line, which tells better what is wrong.
fn read_like(expected: &[u8], mut stream: impl Read) -> io::Result<Vec<u8>> {
    if expected.iter().position(|b| *b == b'\n') == expected.len().checked_sub(1) {
        return read_line(stream);
    }
    let mut said = vec![0; expected.len()];
    stream.read_exact(&mut said)?;
    Ok(said)
}

fn fd(stream: &TcpStream) -> i32 {
    use std::os::fd::AsRawFd;
    stream.as_raw_fd()
}

fn peek(stream: &TcpStream) -> Vec<u8> {
    let mut bytes = [0; 100];
    let n = stream.peek(&mut bytes).unwrap_or(0);
    bytes[..n].to_vec()
}

fn shown(bytes: &[u8]) -> String {
    format!("\"{}\"", bytes[..bytes.len().min(200)].escape_ascii())
}
