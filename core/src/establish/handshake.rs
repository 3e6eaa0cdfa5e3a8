//! The TLS handshake of an attempt: one, with every check recorded, and the verdict.

use std::os::fd::BorrowedFd;

use openssl::ssl::{ErrorCode, SslStream};

use super::{lost, Attempt};
use crate::channel::Channel;
use crate::error::{Error, Result, Word};
use crate::outcome;
use crate::protocol::Service;
use crate::tls::{self, check::Examined, Target};
use crate::transport::Transport;
use crate::verdict::judge_rules;

impl Attempt<'_> {
    pub(super) fn handshake(&mut self, fd: BorrowedFd<'_>, mut transport: Transport) -> Result<Channel> {
        let row = self.service.map(Service::protocol);
        let prepared = self.policy.shared.prepare(
            &self.policy.rules,
            &Target {
                service: self.service.map_or("", Service::word),
                alpn: row.and_then(|row| row.alpn),
                host: &self.host,
                port: self.outcome.peer.port.unwrap_or(0),
            },
        )?;
        self.outcome.sni = tls::sni(&self.policy.rules, &self.host).map(str::to_owned);
        transport.expect_tls();
        let flights = transport.flights();
        let (ssl, before) = prepared.into_parts();
        let mut stream = SslStream::new(ssl, transport)
            .map_err(|e| Error::new(Word::Bug, format!("OpenSSL: {}", tls::reason(&e))))?;
        let shaken = self.shake_hands(fd, &mut stream);
        let here = stream.get_ref().flights().saturating_sub(flights);
        self.outcome.round_trips = self.outcome.round_trips.saturating_add(here);
        if let Err(e) = shaken {
            if let Some(found) = tls::examined_so_far(stream.ssl()) {
                self.record(found);
                self.outcome.identity = Default::default();
                // Our own no inside the handshake has its own word.
                self.outcome.channel = Some(outcome::Channel::Tls);
                let verdict = judge_rules(&self.policy.rules, &self.outcome);
                self.outcome.channel = None;
                if let Err(shortfall) = verdict {
                    // Not the peer's fault, and not for ever.
                    let trouble = tls::trust_trouble(stream.ssl());
                    return Err(match trouble {
                        Some(e) if shortfall.word == Word::Untrusted => e,
                        _ => Error::new(shortfall.word, shortfall.message),
                    });
                }
            }
            if tls::verification_broke(stream.ssl()) {
                return Err(Error::new(
                    Word::Bug,
                    "the verification of the certificate broke off",
                ));
            }
            self.handshake_failed = e.word() == Word::Handshake;
            return Err(e);
        }
        self.outcome.channel = Some(outcome::Channel::Tls);
        self.outcome.tls = Some(tls::describe(stream.ssl()));
        let found = tls::examined(stream.ssl(), before.as_ref());
        if let Some(found) = &found {
            self.record(found.clone());
        }
        if let Err(shortfall) = judge_rules(&self.policy.rules, &self.outcome) {
            return Err(Error::new(shortfall.word, shortfall.message));
        }
        if let Some(found) = &found {
            tls::keep_session(stream.ssl(), found);
        }
        Ok(Channel::Tls(stream))
    }

    fn record(&mut self, found: Examined) {
        self.outcome.checks = found.checks;
        self.outcome.identity = found.identity;
        self.outcome.certificate = Some((*found.certificate).clone());
    }

    fn shake_hands(&self, fd: BorrowedFd<'_>, stream: &mut SslStream<Transport>) -> Result<()> {
        loop {
            let done = match stream.connect() {
                Ok(()) => true,
                Err(e) if e.code() == ErrorCode::WANT_READ => false,
                Err(e) => return Err(self.handshake_error(stream.get_ref(), &e)),
            };
            let sent = stream
                .get_mut()
                .push()
                .map_err(|e| lost("the TLS handshake", &e))?;
            if done && sent {
                return Ok(());
            }
            self.wait(fd, stream.get_ref(), "the TLS handshake")?;
        }
    }

    fn handshake_error(&self, transport: &Transport, e: &openssl::ssl::Error) -> Error {
        if let Some(bytes) = transport.clear_bytes() {
            return self.clear_text(bytes);
        }
        if transport.eof() {
            return Error::new(
                Word::Closed,
                "the peer closed the connection in the TLS handshake",
            );
        }
        if let Some(e) = transport.failure() {
            return lost("the TLS handshake", &e);
        }
        let why = match e.ssl_error() {
            Some(stack) => tls::reason(stack),
            None => e.to_string(),
        };
        Error::new(Word::Handshake, format!("the TLS handshake failed: {why}"))
    }
}
