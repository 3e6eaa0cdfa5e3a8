//! A stub resolver (RFC 1034 §5.3.1): asks the configured servers, and waits, all within the caller's deadline.
//!
//! No threads and no state but the configuration, so it is safe after `fork`: each question has a socket of its own
//! on a port of the kernel's choice and an id from OpenSSL's generator, which is all that stands between an
//! attacker off the path and a forged answer (RFC 5452). What does not fit the question is dropped, and the wait
//! goes on.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::time::Duration;

use domain::base::iana::OptRcode;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::message::{self, Failure, Found, Question, Reply};
use super::patience::{Patience, Trouble};
use super::tcp;
use crate::error::{Error, Result, Word};
use crate::sys;

/// Whom to ask and how patiently; nothing else is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stub {
    /// At least one.
    pub(super) servers: Vec<SocketAddr>,
    /// For one server to answer, in the first round; doubled in each round and shared by all servers.
    pub(super) timeout: Duration,
    pub(super) attempts: u32,
    /// Begin with any of the servers, not with the first.
    pub(super) rotate: bool,
    pub(super) only_tcp: bool,
    /// Whether the servers' AD bit counts.
    pub(super) trusted: bool,
}

/// One question on its way through the servers.
struct Asked<'a> {
    question: &'a Question,
    answer: Option<Found>,
    /// The first server that said SERVFAIL.
    servfail: Option<SocketAddr>,
    /// A server said that DNSSEC is the reason.
    bogus: bool,
    edns: bool,
    /// What each server said or did not say.
    complaints: Vec<String>,
    /// The id under which it is being waited for.
    waiting: Option<u16>,
}

impl Asked<'_> {
    /// Bogus is final: a server that does not validate would only pass the forgery on.
    fn is_done(&self) -> bool {
        self.answer.is_some() || self.bogus
    }

    fn complain(&mut self, server: SocketAddr, why: &str) {
        let complaint = format!("{server}: {why}");
        if !self.complaints.contains(&complaint) {
            self.complaints.push(complaint);
        }
    }

    fn query(&mut self) -> Result<(u16, Vec<u8>)> {
        let id = random()?;
        self.waiting = Some(id);
        Ok((id, self.question.query(id, self.edns, true).ok_or_else(no_query)?))
    }

    /// What one server said; true if it should be asked again, without EDNS, which it does not know
    /// (RFC 6891 §7).
    fn heard(&mut self, server: SocketAddr, reply: std::result::Result<Found, Failure>) -> bool {
        self.waiting = None;
        match reply {
            Ok(found) => self.answer = Some(found),
            Err(failure) => {
                let unknown = failure.rcode == OptRcode::FORMERR || failure.rcode == OptRcode::NOTIMP;
                if unknown && self.edns {
                    self.edns = false;
                    return true;
                }
                self.bogus |= failure.bogus;
                if failure.rcode == OptRcode::SERVFAIL {
                    self.servfail.get_or_insert(server);
                }
                self.complain(server, &failure.why);
            }
        }
        false
    }
}

impl Stub {
    /// Asks all the questions at once.
    ///
    /// # Errors
    /// The outer one ends the whole call: the deadline, a signal. The inner ones are of one question each.
    pub(super) fn ask(&self, questions: &[Question], patience: Patience) -> Result<Vec<Result<Found>>> {
        let mut all: Vec<Asked<'_>> = questions
            .iter()
            .map(|question| Asked {
                question,
                answer: None,
                servfail: None,
                bogus: false,
                edns: true,
                complaints: Vec::new(),
                waiting: None,
            })
            .collect();
        let mut servers = self.servers.clone();
        if self.rotate {
            let by = usize::from(random()?).checked_rem(servers.len());
            servers.rotate_left(by.unwrap_or(0));
        }
        for round in 0..self.attempts {
            for server in &servers {
                let mut open: Vec<&mut Asked<'_>> = all.iter_mut().filter(|a| !a.is_done()).collect();
                if open.is_empty() {
                    break;
                }
                let patience = patience.for_server(self.time_for(round));
                let result = if self.only_tcp {
                    open.iter_mut()
                        .try_for_each(|asked| over_tcp(*server, asked, patience))
                } else {
                    by_udp(*server, &mut open, patience)
                };
                match result {
                    Ok(()) => {}
                    Err(Trouble::Server(why)) => {
                        for asked in &mut open {
                            if asked.waiting.take().is_some() {
                                asked.complain(*server, &why);
                            }
                        }
                    }
                    Err(Trouble::Stop(e)) => {
                        let of: Vec<String> = open.iter().map(|a| a.question.to_string()).collect();
                        let so_far: Vec<&str> = open
                            .iter()
                            .flat_map(|a| a.complaints.iter().map(String::as_str))
                            .collect();
                        return Err(stopped(&e, &of.join(", "), *server, &so_far));
                    }
                }
            }
        }
        all.into_iter()
            .map(|asked| self.settle(asked, patience))
            .collect()
    }

    /// As glibc: doubled in each round, of which the later are shared by all servers.
    fn time_for(&self, round: u32) -> Duration {
        let time = self.timeout.saturating_mul(2_u32.saturating_pow(round));
        let share = if round == 0 { 1 } else { self.servers.len() };
        let share = u32::try_from(share).unwrap_or(u32::MAX);
        time.checked_div(share)
            .unwrap_or(time)
            .max(Duration::from_secs(1))
    }

    /// The answer, or what the servers' failures come to.
    fn settle(&self, mut asked: Asked<'_>, patience: Patience) -> Result<Result<Found>> {
        let unproven = asked
            .answer
            .as_ref()
            .is_none_or(|found| self.trusted && !found.authentic);
        if let (Some(server), false, true) = (asked.servfail, asked.bogus, unproven) {
            // A server that does not say why it failed: does it have data that it would not vouch for? What another
            // one, that perhaps does not validate, said then is no answer.
            asked.bogus = self.answers_unchecked(server, &asked, patience)?;
        }
        let why = asked.complaints.join("; ");
        let question = asked.question;
        Ok(match asked.answer {
            _ if asked.bogus => Err(Error::new(
                Word::DnsBogus,
                format!("look up {question}: DNSSEC validation failed: {why}"),
            )),
            Some(found) => Ok(found),
            None => Err(Error::new(
                Word::LookupFailed,
                format!("look up {question}: {why}"),
            )),
        })
    }

    /// Asks once with checking disabled (CD, RFC 4035 §3.2.2).
    fn answers_unchecked(&self, server: SocketAddr, asked: &Asked<'_>, patience: Patience) -> Result<bool> {
        let id = random()?;
        let query = asked.question.query(id, asked.edns, false).ok_or_else(no_query)?;
        let patience = patience.for_server(self.timeout);
        match unchecked(server, &query, id, asked.question, patience) {
            // That it is too long for UDP says that there is one.
            Ok(reply) => Ok(!matches!(reply, Reply::Failed(_))),
            Err(Trouble::Server(_)) => Ok(false),
            Err(Trouble::Stop(e)) => {
                let complaints: Vec<&str> = asked.complaints.iter().map(String::as_str).collect();
                Err(stopped(&e, &asked.question.to_string(), server, &complaints))
            }
        }
    }
}

fn unchecked(
    server: SocketAddr,
    query: &[u8],
    id: u16,
    question: &Question,
    patience: Patience,
) -> std::result::Result<Reply, Trouble> {
    let socket = connect_udp(server).map_err(|e| Trouble::Server(e.to_string()))?;
    sys::send(socket.as_raw_fd(), query).map_err(|e| Trouble::Server(e.to_string()))?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        if let Some(reply) =
            receive(&socket, &mut buffer, patience)?.and_then(|m| message::read(m, id, question))
        {
            return Ok(reply);
        }
    }
}

/// Asks one server all that is open, over UDP, and what was truncated over TCP.
fn by_udp(
    server: SocketAddr,
    open: &mut [&mut Asked<'_>],
    patience: Patience,
) -> std::result::Result<(), Trouble> {
    let failed = |e: io::Error| Trouble::Server(e.to_string());
    let mut queries = Vec::new();
    for asked in open.iter_mut() {
        queries.push(asked.query().map_err(Trouble::Stop)?.1);
    }
    let socket = connect_udp(server).map_err(failed)?;
    for query in &queries {
        // What the kernel does not take now is as lost on the way.
        sys::send(socket.as_raw_fd(), query).map_err(failed)?;
    }
    let mut buffer = vec![0; usize::from(u16::MAX)];
    while open.iter().any(|asked| asked.waiting.is_some()) {
        let Some(message) = receive(&socket, &mut buffer, patience)? else {
            continue;
        };
        let fits = open.iter_mut().find_map(|asked| {
            let reply = message::read(message, asked.waiting?, asked.question)?;
            Some((asked, reply))
        });
        let Some((asked, reply)) = fits else {
            continue;
        };
        let again = match reply {
            Reply::Found(found) => asked.heard(server, Ok(found)),
            Reply::Failed(failure) => asked.heard(server, Err(failure)),
            Reply::Truncated => {
                over_tcp(server, asked, patience)?;
                false
            }
        };
        if again {
            let (_, query) = asked.query().map_err(Trouble::Stop)?;
            sys::send(socket.as_raw_fd(), &query).map_err(failed)?;
        }
    }
    Ok(())
}

/// Asks one server one question over TCP; if it fails, the others may still succeed.
fn over_tcp(
    server: SocketAddr,
    asked: &mut Asked<'_>,
    patience: Patience,
) -> std::result::Result<(), Trouble> {
    match by_tcp(server, asked, patience) {
        Err(Trouble::Server(why)) => {
            asked.waiting = None;
            asked.complain(server, &why);
            Ok(())
        }
        other => other,
    }
}

fn by_tcp(server: SocketAddr, asked: &mut Asked<'_>, patience: Patience) -> std::result::Result<(), Trouble> {
    loop {
        let (id, query) = asked.query().map_err(Trouble::Stop)?;
        let message = tcp::exchange(server, &query, patience)?;
        let again = match message::read(&message, id, asked.question) {
            Some(Reply::Found(found)) => asked.heard(server, Ok(found)),
            Some(Reply::Failed(failure)) => asked.heard(server, Err(failure)),
            Some(Reply::Truncated) | None => {
                return Err(Trouble::Server(
                    "sent no answer to the question over TCP".to_owned(),
                ));
            }
        };
        if !again {
            return Ok(());
        }
    }
}

/// Connected, so that nobody else's packets are received, and a port that nobody listens on is known at once.
fn connect_udp(server: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(server),
        Type::DGRAM.nonblocking(),
        Some(Protocol::UDP),
    )?;
    socket.connect(&SockAddr::from(server))?;
    Ok(socket)
}

/// The next packet; `None` if there is none after all, such as one with a wrong checksum.
fn receive<'b>(
    socket: &Socket,
    buffer: &'b mut [u8],
    patience: Patience,
) -> std::result::Result<Option<&'b [u8]>, Trouble> {
    patience.wait(socket, libc::POLLIN)?;
    match sys::recv(socket.as_raw_fd(), buffer, 0) {
        Ok(n) => Ok(buffer.get(..n)),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(e) => Err(Trouble::Server(e.to_string())),
    }
}

/// Two random octets that nobody can guess, in the child of a fork too.
pub(crate) fn random() -> Result<u16> {
    let mut octets = [0; 2];
    openssl::rand::rand_bytes(&mut octets)
        .map_err(|e| Error::new(Word::Io, format!("no random numbers to ask DNS with: {e}")))?;
    Ok(u16::from_ne_bytes(octets))
}

fn no_query() -> Error {
    Error::new(Word::Bug, "a DNS query does not fit into its buffer")
}

/// The end of all waiting, with what was waited for.
fn stopped(e: &Error, questions: &str, server: SocketAddr, so_far: &[&str]) -> Error {
    let before = match so_far {
        [] => String::new(),
        _ => format!(" ({})", so_far.join("; ")),
    };
    e.retold(format!("look up {questions}: {server}: {}{before}", e.message()))
}
