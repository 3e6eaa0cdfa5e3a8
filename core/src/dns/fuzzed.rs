//! What must hold of whatever a server or a file says; see `crate::fuzz`.

use domain::base::{Message, Name};

use super::message::{self, Question, Reply};
use super::{rdata, resolv_conf};
use crate::name::ServerName;

/// Reads the message as an answer to its own question, else to one of ours.
pub(crate) fn fuzz_message(bytes: &[u8]) {
    let id = bytes.first_chunk().map_or(0, |id| u16::from_be_bytes(*id));
    let own = Message::from_octets(bytes)
        .ok()
        .and_then(|message| Some(message::text(message.first_question()?.qname())));
    for name in [own.as_deref().unwrap_or("x.test"), "x.test"] {
        for kind in [
            rdata::A,
            rdata::AAAA,
            rdata::MX,
            rdata::SRV,
            rdata::TLSA,
            rdata::TXT,
        ] {
            let Ok(question) = Question::new(name, kind) else {
                continue;
            };
            if let Some(Reply::Found(found)) = message::read(bytes, id, &question) {
                let records: Vec<bool> = found.rdata.iter().map(|data| record(kind, data)).collect();
                assert!(found.ttl.as_secs() <= 7 * 86_400);
                assert!(!(found.no_such_name || found.goes_on) || records.is_empty());
                is_escaped(&found.name);
            }
        }
    }
}

/// Whether the data parses; the names in it are names.
fn record(kind: u16, data: &[u8]) -> bool {
    match kind {
        rdata::MX => rdata::mx(data).is_some_and(|mx| is_escaped(&mx.exchange)),
        rdata::SRV => rdata::srv(data).is_some_and(|srv| is_escaped(&srv.target)),
        rdata::TLSA => rdata::tlsa(data).is_some(),
        rdata::TXT => rdata::txt(data).is_some(),
        _ => rdata::address(data).is_some(),
    }
}

/// Text that can be read back, and passes for a host name only if it is one.
fn is_escaped(name: &str) -> bool {
    assert!(name.bytes().all(|b| (b' '..=b'~').contains(&b)), "{name:?}");
    if let Ok(ServerName::Dns(host)) = ServerName::parse(name) {
        assert_eq!(host, name);
    }
    if !name.is_empty() {
        name.parse::<Name<domain::dep::octseq::array::Array<255>>>()
            .unwrap_or_else(|e| panic!("{name:?}: {e}"));
    }
    true
}

/// Reads the text as a resolv.conf.
pub(crate) fn fuzz_resolv_conf(text: &[u8]) {
    let stub = resolv_conf::parse(text);
    assert!((1..=3).contains(&stub.servers.len()));
    assert!((1..=30).contains(&stub.timeout.as_secs()) && (1..=5).contains(&stub.attempts));
    let says_so = text.windows(8).any(|part| part == b"trust-ad");
    assert!(!stub.trusted || says_so || resolv_conf::all_loopback(&stub.servers));
}
