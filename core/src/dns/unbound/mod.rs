//! DNSSEC validated in this process, by libunbound: for where no resolver is trusted. Its trust anchor decides, and it
//! says why an answer is bogus.
//!
//! libunbound then runs a thread of its own for each of the few contexts here: its other ways are a child process,
//! which a program that waits for children would trip over, and a call that knows no deadline. The thread takes no
//! signals. A context belongs to one process and serves one caller at a time: what comes through `fork` is left alone,
//! never freed, since its thread is not there. The thread begins with the first question: a parent that asks nothing
//! before it forks has none.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use self::ffi::{Context, Heard};
use super::message::{self, Question, Reply};
use super::resolver::{Raw, RawAnswer};
use super::Proof;
use crate::error::{Error, Result, Word};
use crate::rules::InterruptHook;
use crate::sys::Deadline;
use crate::text::printable;

mod ffi;

/// Where the root's key is on the systems that we know.
const ANCHORS: [&str; 5] = [
    "/var/lib/unbound/root.key",
    "/usr/share/dns/root.key",
    "/etc/unbound/root.key",
    "/var/unbound/root.key",
    "/usr/share/dnssec-root/trusted-key.key",
];
/// Contexts that are kept for the next caller, each with its cache and its thread.
const MAX_IDLE: usize = 4;

/// What to validate with; the contexts come and go.
pub(super) struct Validator {
    anchor: PathBuf,
    forward: Vec<SocketAddr>,
    idle: Mutex<Vec<Context>>,
}

impl std::fmt::Debug for Validator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unbound")
            .field("anchor", &self.anchor)
            .field("forward", &self.forward)
            .finish_non_exhaustive()
    }
}

impl Validator {
    /// Validates from this trust anchor (a file of DS or DNSKEY records), or the system's; asks these servers, or the
    /// Internet's from the root on.
    pub(super) fn new(anchor: Option<PathBuf>, forward: Vec<SocketAddr>) -> Result<Self> {
        let anchor = match anchor {
            Some(file) => {
                std::fs::File::open(&file)
                    .map_err(|e| Error::invalid(format!("trust anchor {}: {e}", file.display())))?;
                file
            }
            None => ANCHORS
                .into_iter()
                .map(PathBuf::from)
                .find(|file| file.is_file())
                .ok_or_else(|| {
                    Error::invalid(
                        "no trust anchor of the DNS root is in its usual places: give its file, \"unbound:FILE\"",
                    )
                })?,
        };
        let validator = Self {
            anchor,
            forward,
            idle: Mutex::default(),
        };
        // What is wrong with the anchor is said now. There is no thread before the first question.
        let first = Context::new(&validator)?;
        validator.idle().push(first);
        Ok(validator)
    }

    /// Asks all the questions at once.
    pub(super) fn ask(
        &self,
        questions: &[Question],
        deadline: Deadline,
        hook: Option<InterruptHook>,
    ) -> Result<Vec<Result<Raw>>> {
        let mut context = match self.idle().pop() {
            Some(context) => context,
            None => Context::new(self)?,
        };
        let heard = context.ask(questions, deadline, hook);
        if context.reusable {
            let mut idle = self.idle();
            if idle.len() < MAX_IDLE {
                idle.push(context);
            }
        }
        let heard = heard.map_err(|e| {
            let of: Vec<String> = questions.iter().map(Question::to_string).collect();
            e.retold(format!("look up {}: {}", of.join(", "), e.message()))
        })?;
        let answers = questions.iter().zip(heard);
        Ok(answers.map(|(question, heard)| answer(question, heard)).collect())
    }

    /// This process's.
    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Context>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(Context::is_ours);
        idle
    }
}

fn answer(question: &Question, heard: Heard) -> Result<Raw> {
    let failed = |word, why: String| Err(Error::new(word, format!("look up {question}: {why}")));
    if heard.error != 0 {
        return failed(
            Word::LookupFailed,
            format!("libunbound: {}", ffi::strerror(heard.error)),
        );
    }
    if heard.bogus {
        let why = printable(&heard.why);
        return failed(Word::DnsBogus, format!("DNSSEC validation failed: {why}"));
    }
    let id = heard.packet.first_chunk().map_or(0, |id| u16::from_be_bytes(*id));
    match message::read(&heard.packet, id, question) {
        Some(Reply::Found(found)) => Ok(Raw {
            answer: RawAnswer {
                rdata: found.rdata,
                proof: if heard.secure {
                    Proof::Secure
                } else {
                    Proof::Insecure
                },
                ttl: found.ttl,
                name: found.name,
                no_such_name: found.no_such_name,
            },
            goes_on: found.goes_on,
        }),
        Some(Reply::Failed(failure)) => failed(Word::LookupFailed, format!("libunbound {}", failure.why)),
        _ => failed(
            Word::LookupFailed,
            format!("libunbound found no answer (rcode {})", heard.rcode),
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::super::server::{mx, Server};
    use super::super::{Asking, Resolver};
    use super::*;

    /// Trusts a key for secure.test. that nobody has.
    const ANCHOR: &str =
        "secure.test. DS 1 13 2 0101010101010101010101010101010101010101010101010101010101010101";

    /// Its file is there as long as it is.
    struct Trusting(Resolver, PathBuf);

    impl Drop for Trusting {
        fn drop(&mut self) {
            std::fs::remove_file(&self.1).ok();
        }
    }

    fn resolver(server: &Server) -> Trusting {
        let file = std::env::temp_dir().join(format!(
            "starttls-anchor-{}-{}",
            std::process::id(),
            server.at.port()
        ));
        std::fs::write(&file, format!("{ANCHOR}\n")).unwrap();
        let spec = format!("unbound:{}@{}", file.display(), server.at);
        Trusting(Resolver::parse(&spec).unwrap(), file)
    }

    fn within(resolver: &Resolver, ms: u64) -> Asking<'_> {
        Asking::new(resolver, Deadline::after(Some(Duration::from_millis(ms))), None)
    }

    fn unsigned(q: &super::super::server::Query) -> Vec<Vec<u8>> {
        match q.kind {
            15 => q.records(&[(&q.name, 15, mx(10, "mail.test"))], true),
            _ => q.reply().soa("test", 60, 60).sent(),
        }
    }

    #[test]
    fn the_anchor_decides() {
        let server = Server::start(unsigned);
        let trusting = resolver(&server);
        let resolver = &trusting.0;
        assert!(resolver.is_trusted());
        // The server's own AD does not count.
        let answer = within(resolver, 10_000).mx("other.test").unwrap();
        assert_eq!((answer.proof, answer.records.len()), (Proof::Insecure, 1));
        assert_eq!(answer.ttl, Duration::from_secs(300));
        let e = within(resolver, 10_000).mx("secure.test").unwrap_err();
        assert_eq!(e.word(), Word::DnsBogus, "{e}");
        assert!(e.message().contains("DNSSEC validation failed: "), "{e}");
        assert!(e.message().contains("secure.test"), "{e}");
    }

    #[test]
    fn late_answers_are_taken_back() {
        let server = Server::start(|q| match q.name.starts_with("slow") {
            true => Vec::new(),
            false => unsigned(q),
        });
        let trusting = resolver(&server);
        let resolver = &trusting.0;
        let start = Instant::now();
        let e = within(resolver, 100).addresses("slow.test").unwrap_err();
        assert_eq!(e.word(), Word::Timeout, "{e}");
        assert!(e.message().contains("AAAA of slow.test"), "{e}");
        // The same context goes on.
        within(resolver, 10_000).mx("other.test").unwrap();
        assert!(start.elapsed() < Duration::from_secs(5));
        let hook = || Err(std::io::Error::from(std::io::ErrorKind::Interrupted));
        let asking = Asking::new(resolver, Deadline::after(None), Some(hook));
        assert_eq!(asking.mx("slow.test").unwrap_err().word(), Word::Io);
    }

    #[test]
    #[allow(unsafe_code)]
    fn many_threads_and_a_fork() {
        let server = Server::start(unsigned);
        let trusting = resolver(&server);
        let resolver = &trusting.0;
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for n in 0..5 {
                        within(resolver, 10_000).mx(&format!("x{n}.test")).unwrap();
                    }
                });
            }
        });
        // SAFETY: the child only asks, and ends without running what is registered for the end.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let found = within(resolver, 5_000).mx("child.test").is_ok();
            // SAFETY: ends this process.
            unsafe { libc::_exit(if found { 0 } else { 1 }) };
        }
        let mut status = 0;
        // SAFETY: waits for our child.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(status, 0, "the child could not ask");
        within(resolver, 10_000).mx("parent.test").unwrap();
    }

    #[test]
    fn anchors_that_are_none() {
        let e = Resolver::parse("unbound:/nonexistent@127.0.0.1:9").unwrap_err();
        assert_eq!(e.word(), Word::Invalid, "{e}");
        let file = std::env::temp_dir().join(format!("starttls-no-anchor-{}", std::process::id()));
        std::fs::write(&file, "this is no trust anchor\n").unwrap();
        let e = Resolver::parse(&format!("unbound:{}@127.0.0.1:9", file.display())).unwrap_err();
        assert_eq!(e.word(), Word::Invalid, "{e}");
        assert!(e.message().contains("DNSKEY"), "{e}");
        std::fs::remove_file(file).unwrap();
    }
}
