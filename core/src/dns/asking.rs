//! The questions that this library asks, with typed answers.

use std::cell::Cell;
use std::net::IpAddr;
use std::time::Duration;

use super::message::{Question, MAX_CNAMES};
use super::resolver::{Raw, RawAnswer};
use super::{rdata, Answer, Asking, Mx, Proof, Resolver, Srv, Tlsa};
use crate::error::{Error, Result, Word};
use crate::rules::InterruptHook;
use crate::sys::Deadline;

impl Proof {
    /// Of two answers of which both are needed.
    pub(crate) fn weaker(self, other: Self) -> Self {
        let rank = |proof| match proof {
            Proof::Secure => 3,
            Proof::Insecure => 2,
            Proof::Indeterminate => 1,
            Proof::Bogus => 0,
        };
        if rank(other) < rank(self) {
            other
        } else {
            self
        }
    }
}

impl<T> Answer<T> {
    fn of(answer: RawAnswer, parse: impl Fn(&[u8]) -> Option<T>, kind: &str) -> Result<Self> {
        let mut records = Vec::new();
        for data in &answer.rdata {
            records.push(parse(data).ok_or_else(|| {
                Error::new(
                    Word::LookupFailed,
                    format!(
                        "look up {kind} of {}: one of the records is malformed",
                        answer.name
                    ),
                )
            })?);
        }
        Ok(Self {
            records,
            proof: answer.proof,
            ttl: answer.ttl,
            name: answer.name,
            no_such_name: answer.no_such_name,
            note: None,
        })
    }

    /// Whether the name has nothing of this type, for whatever reason.
    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }
}

impl<'a> Asking<'a> {
    /// Questions to this resolver until the deadline; none asked yet.
    pub(crate) fn new(resolver: &'a Resolver, deadline: Deadline, hook: Option<InterruptHook>) -> Self {
        Self {
            resolver,
            deadline,
            hook,
            asked: Cell::new(0),
        }
    }

    /// Asks within a part of the time that is left: half of it, and so long at most. Whoever keeps us waiting
    /// does not keep what comes after.
    pub(crate) fn within<T>(&self, most: Duration, ask: impl FnOnce(&Asking<'_>) -> T) -> T {
        let until = self.deadline.halfway().or_after(most);
        let part = Asking::new(self.resolver, until, self.hook);
        let answer = ask(&part);
        self.asked.set(self.asked.get().saturating_add(part.asked.get()));
        answer
    }

    /// All addresses, of both families: asked for at once. The proof is the weaker of the two.
    ///
    /// If one of the two look-ups fails and the other finds addresses, those are used, with their own proof (both are
    /// of one zone, so what fails could not have said less of it) and a note. If it finds none, nobody knows whether
    /// there are any, and the failure stands: an attacker must not be able to make a host vanish.
    ///
    /// # Errors
    /// As [`mx`](Self::mx).
    pub(crate) fn addresses(&self, name: &str) -> Result<Answer<IpAddr>> {
        let mut answers = self.ask(name, &[rdata::A, rdata::AAAA])?.into_iter();
        let mut next = |kind, len| -> Result<Answer<IpAddr>> {
            let answer = answers.next().unwrap_or_else(|| Err(unanswered(name)))?;
            Answer::of(
                answer,
                |data| rdata::address(data).filter(|_| data.len() == len),
                kind,
            )
        };
        match (next("A", 4), next("AAAA", 16)) {
            (Ok(four), Ok(six)) => Ok(both(four, six)),
            (Err(e), _) | (_, Err(e)) if e.stopped() => Err(e),
            (Ok(found), Err(e)) | (Err(e), Ok(found)) if !found.is_empty() => Ok(Answer {
                note: Some(e.to_string()),
                ..found
            }),
            // Bogus says most.
            (Err(e), Err(other)) if other.word() == Word::DnsBogus && e.word() != Word::DnsBogus => {
                Err(other)
            }
            (Err(e), _) | (_, Err(e)) => Err(e),
        }
    }

    /// The MX records.
    ///
    /// # Errors
    /// `lookup-failed` if no server answers, `dns-bogus` if the answer does not validate, `timeout` if the deadline
    /// passes, `invalid` for what is no DNS name. That there is no such name, or none of these records, is an answer.
    pub(crate) fn mx(&self, name: &str) -> Result<Answer<Mx>> {
        Answer::of(self.ask_one(name, rdata::MX)?, rdata::mx, "MX")
    }

    /// The TXT records, the character-strings of each joined.
    ///
    /// # Errors
    /// As [`mx`](Self::mx).
    pub(crate) fn txt(&self, name: &str) -> Result<Answer<Vec<u8>>> {
        Answer::of(self.ask_one(name, rdata::TXT)?, rdata::txt, "TXT")
    }

    /// The TLSA records, of a name such as `_25._tcp.mail.example.org`.
    ///
    /// # Errors
    /// As [`mx`](Self::mx).
    pub(crate) fn tlsa(&self, name: &str) -> Result<Answer<Tlsa>> {
        Answer::of(self.ask_one(name, rdata::TLSA)?, rdata::tlsa, "TLSA")
    }

    /// The SRV records, of a name such as `_imaps._tcp.example.org`.
    ///
    /// # Errors
    /// As [`mx`](Self::mx).
    pub(crate) fn srv(&self, name: &str) -> Result<Answer<Srv>> {
        Answer::of(self.ask_one(name, rdata::SRV)?, rdata::srv, "SRV")
    }

    /// Whether the name is an alias by a secure CNAME, wherever that leads: its own zone is signed, though the
    /// target's is not (RFC 7672 §2.2.2).
    ///
    /// # Errors
    /// As [`mx`](Self::mx).
    pub(crate) fn is_secure_alias(&self, name: &str) -> Result<bool> {
        let answer = self.ask_one(name, rdata::CNAME)?;
        Ok(answer.proof == Proof::Secure && !answer.rdata.is_empty())
    }

    fn ask_one(&self, name: &str, kind: u16) -> Result<RawAnswer> {
        self.ask(name, &[kind])?
            .pop()
            .unwrap_or_else(|| Err(unanswered(name)))
    }

    /// One answer for each kind, in their order.
    fn ask(&self, name: &str, kinds: &[u16]) -> Result<Vec<Result<RawAnswer>>> {
        let questions: Vec<Question> = kinds
            .iter()
            .map(|kind| Question::new(name, *kind))
            .collect::<Result<_>>()?;
        let answers = self.put(&questions)?;
        let mut done = Vec::new();
        for (question, answer) in questions.iter().zip(answers) {
            done.push(match answer {
                Ok(raw) => self
                    .follow(question, raw)
                    .and_then(|raw| plausible(question, raw)),
                Err(e) => Err(e),
            });
        }
        Ok(done)
    }

    fn put(&self, questions: &[Question]) -> Result<Vec<Result<Raw>>> {
        let n = u32::try_from(questions.len()).unwrap_or(u32::MAX);
        self.asked.set(self.asked.get().saturating_add(n));
        self.resolver.ask(questions, self.deadline, self.hook)
    }

    /// Where an answer ends in a CNAME without its target's records, asks for those (RFC 1034 §5.2.2).
    fn follow(&self, question: &Question, raw: Raw) -> Result<RawAnswer> {
        let mut answer = raw.answer;
        let mut goes_on = raw.goes_on;
        let mut names = vec![question.name()];
        while goes_on {
            if names.contains(&answer.name) || names.len() > MAX_CNAMES {
                return Err(Error::new(
                    Word::LookupFailed,
                    format!(
                        "look up {question}: its CNAMEs loop or never end, at {}",
                        answer.name
                    ),
                ));
            }
            names.push(answer.name.clone());
            let next = Question::new(&answer.name, question.kind()).map_err(|e| {
                Error::new(Word::LookupFailed, format!("look up {question}: {}", e.message()))
            })?;
            let raw = self
                .put(&[next])?
                .pop()
                .unwrap_or_else(|| Err(unanswered(&answer.name)))?;
            answer = RawAnswer {
                proof: answer.proof.weaker(raw.answer.proof),
                ttl: answer.ttl.min(raw.answer.ttl),
                ..raw.answer
            };
            goes_on = raw.goes_on;
        }
        Ok(answer)
    }
}

/// What any source says, made to fit: bogus is an error, a name is as we write names.
fn plausible(question: &Question, mut answer: RawAnswer) -> Result<RawAnswer> {
    if answer.proof == Proof::Bogus {
        return Err(Error::new(
            Word::DnsBogus,
            format!("look up {question}: DNSSEC validation failed"),
        ));
    }
    answer.name.make_ascii_lowercase();
    if answer.name.ends_with('.') && !answer.name.ends_with("\\.") {
        answer.name.pop();
    }
    answer.no_such_name &= answer.rdata.is_empty();
    Ok(answer)
}

fn both(four: Answer<IpAddr>, six: Answer<IpAddr>) -> Answer<IpAddr> {
    // One of them may be a denial, short-lived or not kept at all: that is no reason to ask for the other again.
    let ttl = match (four.is_empty(), six.is_empty()) {
        (false, true) => four.ttl,
        (true, false) => six.ttl,
        _ => four.ttl.min(six.ttl),
    };
    let name = if four.is_empty() { six.name } else { four.name };
    let mut records = four.records;
    records.extend(six.records);
    Answer {
        no_such_name: records.is_empty() && (four.no_such_name || six.no_such_name),
        records,
        proof: four.proof.weaker(six.proof),
        ttl,
        name,
        note: None,
    }
}

fn unanswered(name: &str) -> Error {
    let message = format!(
        "look up {}: there is no answer",
        crate::text::printable(name.as_bytes())
    );
    Error::new(Word::Bug, message)
}
