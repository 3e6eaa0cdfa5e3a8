//! What must hold, whatever happens: from what was published alone, and not from what the library makes of it.

use std::time::Duration;

use starttls::{Channel, NameFrom, Outcome, ProvenBy};

use crate::attacks::Attack;
use crate::world::{Delivered, LIMIT};

/// What was published where no attacker could change it, or is kept.
pub struct State {
    pub name: &'static str,
    pub domain: &'static str,
    pub host: &'static str,
    /// The MX records and the host's address.
    pub signed: bool,
    /// The host has secure TLSA records.
    pub tlsa: bool,
    pub kept: Kept,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    Nothing,
    /// The MTA-STS policy.
    Sts,
    /// The same, and it is time to ask whether it has changed.
    OlderSts,
    /// That the host proved its name over TLS.
    Proof,
}

const fn state(
    name: &'static str,
    domain: &'static str,
    host: &'static str,
    signed: bool,
    kept: Kept,
) -> State {
    State {
        name,
        domain,
        host,
        signed,
        tlsa: false,
        kept,
    }
}

const GOOD: &str = "none.good-mx.example.test";
const DANE: &str = "311.good-mx.example.test";
const PLAIN: &str = "mail.insecure.test";

pub const STATES: [State; 12] = [
    State {
        tlsa: true,
        ..state("signed, TLSA", "dane.example.test", DANE, true, Kept::Nothing)
    },
    state("signed, no TLSA", "pkix.example.test", GOOD, true, Kept::Nothing),
    state("signed, STS kept", "sts.example.test", GOOD, true, Kept::Sts),
    state(
        "signed, STS not known",
        "sts.example.test",
        GOOD,
        true,
        Kept::Nothing,
    ),
    state("STS kept", "sts.insecure.test", PLAIN, false, Kept::Sts),
    state(
        "older STS kept",
        "sts.insecure.test",
        PLAIN,
        false,
        Kept::OlderSts,
    ),
    state("STS not known", "sts.insecure.test", PLAIN, false, Kept::Nothing),
    State {
        tlsa: true,
        ..state(
            "STS kept, host signed",
            "sts-dane.insecure.test",
            DANE,
            false,
            Kept::OlderSts,
        )
    },
    state("TLS seen", "plain.insecure.test", PLAIN, false, Kept::Proof),
    state(
        "no TLS, signed",
        "no-tls.example.test",
        "none.no-tls-mx.example.test",
        true,
        Kept::Nothing,
    ),
    state(
        "no TLS",
        "no-tls.insecure.test",
        "no-tls-mx.insecure.test",
        false,
        Kept::Nothing,
    ),
    state("nothing", "plain.insecure.test", PLAIN, false, Kept::Nothing),
];

pub const LEVELS: [&str; 7] = [
    "dane",
    "dane-only",
    "opportunistic",
    "strict",
    "verify",
    "encrypt",
    "may",
];

/// The least that may come about if there is a session at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Floor {
    Anything,
    Tls,
    /// A name proven by PKIX.
    Pkix,
    /// Proven by the secure TLSA records.
    Dane,
}

/// The table of levels (README), for what this state holds.
fn floor(state: &State, level: &str, attack: &Attack) -> Floor {
    // What is kept of a host is not known of another one, and who may name another one is bound by nothing.
    let seen = match state.kept {
        Kept::Proof if !attack.names_another_host() => Floor::Tls,
        _ => Floor::Anything,
    };
    let bound_to_dane = state.tlsa && state.signed;
    let sts = holds_to_sts(state, attack);
    match level {
        "may" => seen,
        "encrypt" => Floor::Tls,
        // It knows names, and believes DNS.
        "verify" if !state.signed && attack.names_another_host() => Floor::Tls,
        "verify" => Floor::Pkix,
        "dane-only" => Floor::Dane,
        _ if bound_to_dane => Floor::Dane,
        "strict" => Floor::Pkix,
        "opportunistic" if sts => Floor::Pkix,
        _ => seen,
    }
}

fn holds_to_sts(state: &State, attack: &Attack) -> bool {
    match state.kept {
        Kept::Sts => true,
        Kept::OlderSts => !attack.is_the_domains_word(),
        Kept::Nothing | Kept::Proof => false,
    }
}

/// Whether the domain's own host is the only one that may be reached.
fn is_bound(state: &State, level: &str, attack: &Attack) -> bool {
    let sts = holds_to_sts(state, attack);
    state.signed || matches!(level, "strict" | "dane-only") || sts && level == "opportunistic"
}

pub const HANGS: &str = "it hangs";
pub const PERMANENT: &str = "dropping makes a permanent error";

/// What is wrong with it.
pub fn faults(state: &State, level: &str, attack: &Attack, got: &Delivered) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut must = |holds: bool, what: &str| {
        if !holds {
            wrong.push(what.to_owned());
        }
    };
    must(got.elapsed <= LIMIT + Duration::from_secs(1), HANGS);
    let floor = floor(state, level, attack);
    match &got.result {
        Ok(outcome) => {
            let is_plain = outcome.channel == Some(Channel::Plain);
            let by = outcome.identity.proven_by;
            let name = outcome.identity.name.as_deref();
            must(!is_plain || floor == Floor::Anything, "in clear");
            must(
                !got.read_in_clear || floor == Floor::Anything,
                "the attacker reads it in clear",
            );
            must(!got.was_told || floor <= Floor::Tls, "the attacker is told it");
            must(
                is_plain == got.read_in_clear,
                "the outcome lies about the channel",
            );
            must(
                !is_plain || outcome.because.is_some(),
                "in clear, and nobody says why",
            );
            must(
                floor != Floor::Dane || by == Some(ProvenBy::Dane),
                "not proven by DANE",
            );
            must(floor != Floor::Pkix || by.is_some(), "not proven");
            let peer = outcome.peer.name.as_deref();
            if is_bound(state, level, attack) {
                must(peer == Some(state.host), "another host");
                must(name.is_none_or(|name| name == state.host), "another name");
                must(
                    by.is_none() || !got.was_told,
                    "the attacker is proven to be the host",
                );
            }
            if peer == Some(state.host) && state.tlsa && level.contains("dane") {
                must(
                    by == Some(ProvenBy::Dane),
                    "its host has TLSA records, and they do not count",
                );
            }
            let is_attackers = name.is_some_and(|name| name.ends_with("attacker.test"));
            let said = outcome.peer.name_from == Some(NameFrom::InsecureDns);
            must(
                !is_attackers || said && !state.signed,
                "the attacker's name, as if it were sure",
            );
        }
        Err(e) => {
            must(
                !got.read_in_clear && !got.was_told,
                "the attacker has it, and there is an error",
            );
            must(!attack.only_drops() || e.temporary(), PERMANENT);
        }
    }
    wrong
}

/// What is wrong with what came about when the attacker had gone. `usual`: where there never was one.
pub fn afterwards(state: &State, level: &str, usual: &Delivered, after: &Delivered) -> Vec<String> {
    let mut wrong = Vec::new();
    match (&usual.result, &after.result) {
        (Ok(usual), Ok(after)) => {
            let proof = |outcome: &Outcome| (outcome.effective, outcome.identity.proven_by);
            // Whoever was kept from seeing a policy is without it for a while (RFC 8461 section 10.2).
            let unseen = state.domain.starts_with("sts") && state.kept == Kept::Nothing;
            if !unseen && proof(usual) != proof(after) {
                wrong.push("afterwards it is less".to_owned());
            }
        }
        (Err(usual), Err(after)) if usual.word() == after.word() => {}
        (Err(_), Ok(_)) => wrong.push("afterwards it succeeds, which it should not".to_owned()),
        (_, Err(_)) => wrong.push(format!("afterwards it fails at {level}")),
    }
    wrong
}

/// What the attacker got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gain {
    Nothing,
    /// It was told, over TLS.
    Told,
    Clear,
}

pub fn gain(got: &Delivered) -> Gain {
    match (got.read_in_clear, got.was_told) {
        (true, _) => Gain::Clear,
        (_, true) => Gain::Told,
        _ => Gain::Nothing,
    }
}
