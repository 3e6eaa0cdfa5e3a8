//! DNS messages (RFC 1035 §4): a question as bytes, and an answer as what it says of that question.
//!
//! The codec is the crate `domain`'s. Here is what to make of it: whether a message answers *our* question
//! (anybody may send to a UDP port), where its CNAMEs lead, how long a denial lasts (RFC 2308), and whether a
//! failure was one of DNSSEC (RFC 8914). A name becomes text with everything but letters, digits and the like
//! escaped as in zone files, so that none passes for a host name that is not one.

use std::collections::HashMap;
use std::time::Duration;

use domain::base::iana::{ExtendedErrorCode, OptRcode, Rcode};
use domain::base::name::ToLabelIter;
use domain::base::opt::ExtendedError;
use domain::base::rdata::UnknownRecordData;
use domain::base::{Message, MessageBuilder, Name, ParsedName, ParsedRecord, Rtype, ToName, Ttl};
use domain::dep::octseq::array::Array;
use domain::dep::octseq::Octets;
use domain::rdata::{Cname, Mx, Soa, Srv};

use crate::error::{Error, Result};
use crate::text::printable;

/// What fits into one unfragmented packet everywhere (DNS flag day 2020); more comes over TCP.
const UDP_PAYLOAD: u16 = 1232;
/// CNAMEs on the way to an answer; resolvers stop at a similar number.
pub(super) const MAX_CNAMES: usize = 16;
/// Nothing is kept longer (RFC 8767 §4), whatever it says.
const MAX_TTL: Duration = Duration::from_secs(7 * 86_400);

/// What is asked, of class IN.
#[derive(Clone, Debug)]
pub(super) struct Question {
    name: Name<Array<255>>,
    kind: Rtype,
}

impl Question {
    /// Reads a name in A-labels, with or without its last dot.
    pub(super) fn new(name: &str, kind: u16) -> Result<Self> {
        let wrong = |why: &str| Error::invalid(format!("DNS name \"{}\" {why}", printable(name.as_bytes())));
        if name.is_empty() {
            return Err(wrong("is empty"));
        }
        // In a file of zones these would end the name.
        if !name.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(wrong(
                "has a space, a control character or what is not ASCII; give A-labels",
            ));
        }
        let parsed = name
            .parse()
            .map_err(|e: domain::base::name::FromStrError| wrong(&format!("cannot be asked for: {e}")))?;
        Ok(Self {
            name: parsed,
            kind: Rtype::from_int(kind),
        })
    }

    /// The name, as in [`Found::name`].
    pub(super) fn name(&self) -> String {
        text(&self.name)
    }

    /// The type, as a number.
    pub(super) fn kind(&self) -> u16 {
        self.kind.to_int()
    }

    /// The query: recursion desired, and AD set to learn whether the answer was validated (RFC 6840 §5.7), which
    /// spares us the signatures that DO would bring. `check` unset asks for what there is, valid or not.
    pub(super) fn query(&self, id: u16, edns: bool, check: bool) -> Option<Vec<u8>> {
        let mut message = MessageBuilder::from_target(Array::<512>::new()).ok()?;
        let header = message.header_mut();
        header.set_id(id);
        header.set_rd(true);
        header.set_ad(true);
        header.set_cd(!check);
        let mut message = message.question();
        message.push((&self.name, self.kind)).ok()?;
        let mut message = message.additional();
        if edns {
            message
                .opt(|opt| {
                    opt.set_udp_payload_size(UDP_PAYLOAD);
                    Ok(())
                })
                .ok()?;
        }
        Some(message.finish().as_ref().to_vec())
    }
}

impl std::fmt::Display for Question {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {}", self.kind, self.name())
    }
}

/// What a server said to a question.
#[derive(Debug)]
pub(super) enum Reply {
    /// That there is something, or that there is nothing.
    Found(Found),
    /// That it is too long for UDP.
    Truncated,
    /// That it does not know.
    Failed(Failure),
}

/// An answer, after its CNAMEs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// The records' data, names in it uncompressed.
    pub(super) rdata: Vec<Vec<u8>>,
    /// The name at which they are.
    pub(super) name: String,
    pub(super) ttl: Duration,
    pub(super) no_such_name: bool,
    /// The server says that it has validated all of it.
    pub(super) authentic: bool,
    /// Ends in a CNAME, with nothing about its target.
    pub(super) goes_on: bool,
}

/// Why a server has no answer.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) rcode: OptRcode,
    /// It says that DNSSEC is the reason.
    pub(super) bogus: bool,
    /// For people.
    pub(super) why: String,
}

/// Reads a message; `None` if it is not an answer to this question with this id.
pub(super) fn read(bytes: &[u8], id: u16, question: &Question) -> Option<Reply> {
    let message = Message::from_octets(bytes).ok()?;
    let header = message.header();
    if !header.qr() || header.id() != id || header.opcode() != domain::base::iana::Opcode::QUERY {
        return None;
    }
    let asked = message.sole_question();
    let ours = asked.is_ok_and(|q| {
        q.qtype() == question.kind
            && q.qclass() == domain::base::iana::Class::IN
            && q.qname().name_eq(&question.name)
    });
    // A server that cannot read our question may not repeat it.
    let unread = header.rcode() == Rcode::FORMERR && message.header_counts().qdcount() == 0;
    if !ours && !unread {
        return None;
    }
    if header.tc() {
        return Some(Reply::Truncated);
    }
    let rcode = message.opt_rcode();
    if rcode != OptRcode::NOERROR && rcode != OptRcode::NXDOMAIN {
        return Some(Reply::Failed(failure(&message, rcode)));
    }
    Some(match answer(&message, question) {
        Ok(found) => Reply::Found(found),
        Err(why) => Reply::Failed(Failure {
            rcode: OptRcode::FORMERR,
            bogus: false,
            why,
        }),
    })
}

/// RFC 8914: of its codes, those that say that signatures were missing or do not hold.
fn failure(message: &Message<&[u8]>, rcode: OptRcode) -> Failure {
    let mut bogus = false;
    let mut why = format!("says {rcode}");
    if let Some(opt) = message.opt() {
        for error in opt.opt().iter::<ExtendedError<_>>().flatten().take(4) {
            let code = error.code();
            bogus |= (ExtendedErrorCode::DNSSEC_BOGUS.to_int()..=ExtendedErrorCode::NSEC_MISSING.to_int())
                .contains(&code.to_int());
            why.push_str(&format!(" ({code}"));
            if let Some(text) = error.text_slice().filter(|t| !t.is_empty()) {
                why.push_str(&format!(": {}", printable(text)));
            }
            why.push(')');
        }
    }
    Failure {
        bogus: bogus && rcode == OptRcode::SERVFAIL,
        rcode,
        why,
    }
}

type Broken = domain::base::wire::ParseError;

/// What the message says; the error says what is wrong with it.
fn answer(message: &Message<&[u8]>, question: &Question) -> std::result::Result<Found, String> {
    let broken = |e: Broken| format!("sent a broken answer: {e}");
    let mut aliases: HashMap<String, (String, Duration)> = HashMap::new();
    let mut records = Vec::new();
    for record in message.answer().map_err(broken)? {
        let record = record.map_err(broken)?;
        if record.class() != domain::base::iana::Class::IN {
            continue;
        }
        let owner = text(&record.owner());
        if record.rtype() == Rtype::CNAME && question.kind != Rtype::CNAME {
            let cname = record.to_record::<Cname<ParsedName<&[u8]>>>().map_err(broken)?;
            let Some(cname) = cname else { continue };
            let alias = (text(cname.data().cname()), seconds(record.ttl()));
            if let Some((other, _)) = aliases.insert(owner.clone(), alias.clone()) {
                // RFC 2181 §10.1: one name has one canonical name.
                if other != alias.0 {
                    return Err(format!("sent two CNAMEs for {owner}"));
                }
            }
        } else if record.rtype() == question.kind {
            records.push((owner, record));
        }
    }
    let mut name = question.name();
    let mut ttl = MAX_TTL;
    let mut steps = 0_usize;
    while let Some((target, lasts)) = aliases.get(&name) {
        steps = steps.saturating_add(1);
        if steps > MAX_CNAMES {
            return Err(format!("sent CNAMEs that loop or never end, at {name}"));
        }
        name.clone_from(target);
        ttl = ttl.min(*lasts);
    }
    let mut rdata = Vec::new();
    for (_, record) in records.iter().filter(|(owner, _)| *owner == name) {
        rdata.push(uncompressed(record).map_err(broken)?);
        ttl = ttl.min(seconds(record.ttl()));
    }
    let no_such_name = message.opt_rcode() == OptRcode::NXDOMAIN;
    let mut goes_on = false;
    if rdata.is_empty() {
        // RFC 2308 §5: a denial lasts as long as its SOA says; without one it is not kept.
        let denial = denial(message, &name).map_err(broken)?;
        goes_on = denial.is_none() && steps > 0 && !no_such_name;
        ttl = match denial {
            None if goes_on => ttl,
            lasts => ttl.min(lasts.unwrap_or_default()),
        };
    }
    Ok(Found {
        no_such_name: no_such_name && rdata.is_empty(),
        rdata,
        name,
        ttl,
        authentic: message.header().ad(),
        goes_on,
    })
}

/// How long the SOA in the authority section says that there is nothing at the name (RFC 2308 §3, §5).
fn denial(message: &Message<&[u8]>, name: &str) -> std::result::Result<Option<Duration>, Broken> {
    for record in message.authority()? {
        let record = record?;
        if record.rtype() != Rtype::SOA {
            continue;
        }
        let zone = text(&record.owner());
        let within = zone.is_empty()
            || name
                .strip_suffix(&zone)
                .is_some_and(|head| head.is_empty() || head.ends_with('.'));
        if let Some(soa) = record.to_record::<Soa<ParsedName<&[u8]>>>()?.filter(|_| within) {
            return Ok(Some(seconds(record.ttl()).min(seconds(soa.data().minimum()))));
        }
    }
    Ok(None)
}

/// The data of a record as it is without compression, which is allowed in those types of RFC 1035 only; servers
/// compress SRV all the same (RFC 3597 §4).
fn uncompressed(record: &ParsedRecord<'_, &[u8]>) -> std::result::Result<Vec<u8>, Broken> {
    if let Some(mx) = record.to_record::<Mx<ParsedName<&[u8]>>>()? {
        let mut data = mx.data().preference().to_be_bytes().to_vec();
        push_name(&mut data, mx.data().exchange());
        return Ok(data);
    }
    if let Some(srv) = record.to_record::<Srv<ParsedName<&[u8]>>>()? {
        let srv = srv.data();
        let mut data = Vec::new();
        for number in [srv.priority(), srv.weight(), srv.port()] {
            data.extend(number.to_be_bytes());
        }
        push_name(&mut data, srv.target());
        return Ok(data);
    }
    if let Some(cname) = record.to_record::<Cname<ParsedName<&[u8]>>>()? {
        let mut data = Vec::new();
        push_name(&mut data, cname.data().cname());
        return Ok(data);
    }
    let other = record.to_record::<UnknownRecordData<&[u8]>>()?;
    Ok(other
        .map(|record| record.data().data().to_vec())
        .unwrap_or_default())
}

fn push_name<O: Octets + ?Sized>(data: &mut Vec<u8>, name: &ParsedName<&O>)
where
    for<'a> &'a O: AsRef<[u8]>,
{
    for label in name.iter() {
        data.extend(u8::try_from(label.len()));
        data.extend(label.as_slice());
    }
}

/// A name as text: lower-case, without the last dot, empty for the root.
pub(super) fn text(name: &impl ToLabelIter) -> String {
    let mut text = String::new();
    for label in name.iter_labels().filter(|label| !label.is_root()) {
        if !text.is_empty() {
            text.push('.');
        }
        text.push_str(&label.to_string());
    }
    text.make_ascii_lowercase();
    text
}

/// RFC 2181 §8: with the top bit set it is none.
fn seconds(ttl: Ttl) -> Duration {
    let seconds = i32::try_from(ttl.as_secs()).map_or(0, i32::unsigned_abs);
    Duration::from_secs(u64::from(seconds)).min(MAX_TTL)
}
