//! An attacker in the middle who may drop, strip, delay and forge everything but DNSSEC signatures and certificates: what
//! was published in signed DNS, or is kept and not over, holds whatever it does. Real name servers and a validating
//! resolver, Postfix and a policy host, with the attacker between us and each of them (src/attacker/).
//!
//! The judge of it is not the library: what must hold follows here from what was published (`floor`), and what was
//! obtained is what the attacker could read. Where nothing was published it must be able to, or nothing is shown.
//!
//! Wants the servers (tests/servers/run.py); without them it says that it is left out.

#[path = "attacker/attacks.rs"]
mod attacks;
#[path = "attacker/lookups.rs"]
mod lookups;
#[path = "attacker/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use attacks::{attacks, Attack};
use conformance::check::side_by_side;
use starttls::{Channel, NameFrom, Outcome, ProvenBy, Word};
use world::{Delivered, Place, Setting, World, LIMIT};

/// What was published where no attacker could change it, or is kept.
struct State {
    name: &'static str,
    domain: &'static str,
    host: &'static str,
    /// The MX records and the host's address.
    signed: bool,
    /// The host has secure TLSA records.
    tlsa: bool,
    kept: Kept,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kept {
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

const STATES: [State; 12] = [
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

const LEVELS: [&str; 7] = [
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
enum Floor {
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

const HANGS: &str = "it hangs";
const PERMANENT: &str = "dropping makes a permanent error";

/// What is wrong with it.
fn faults(state: &State, level: &str, attack: &Attack, got: &Delivered) -> Vec<String> {
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

struct Case<'a> {
    attack: &'a Attack,
    state: &'a State,
    level: &'static str,
}

/// What came of it.
struct Played {
    got: Delivered,
    after: Delivered,
    wrong: Vec<String>,
}

impl Case<'_> {
    /// `usual`: what comes about where nobody attacks.
    fn play(&self, world: &World, usual: &Delivered) -> Played {
        let Self { attack, state, level } = *self;
        let setting = prepare(world, attack, state, level);
        let got = setting.deliver(state.domain, Place::Attacked);
        let mut wrong = faults(state, level, attack, &got);
        if got.word().is_some() && got.word() == usual.word() {
            // What fails at the best of times need not be the attacker's doing.
            wrong.retain(|what| what != PERMANENT);
        }
        // The attacker goes away, and nothing of it stays.
        let mut after = setting.deliver(state.domain, Place::Honest);
        if after.word() == Some(Word::StsUnavailable) {
            // Somebody said that there is a policy, and it could not be had: it is asked for again after five minutes
            // (RFC 8461 section 3.3), for which `strict` has to wait.
            if !after.is_temporary() || level != "strict" || state.signed || state.kept != Kept::Nothing {
                wrong.push("afterwards it waits for a policy".to_owned());
            }
            setting.wait();
            after = setting.deliver(state.domain, Place::Honest);
        } else if attack.is_the_domains_word() {
            setting.wait();
            after = setting.deliver(state.domain, Place::Honest);
        }
        wrong.extend(afterwards(state, level, usual, &after));
        Played { got, after, wrong }
    }
}

impl Played {
    /// Whether it took a time that a busy machine may have taken. What hangs does so again.
    fn may_be_the_machine(&self, attack: &Attack) -> bool {
        self.wrong == [HANGS] || self.got.word() == Some(Word::Timeout) && !attack.takes_time()
    }
}

/// What the attacker got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Gain {
    Nothing,
    /// It was told, over TLS.
    Told,
    Clear,
}

fn gain(got: &Delivered) -> Gain {
    match (got.read_in_clear, got.was_told) {
        (true, _) => Gain::Clear,
        (_, true) => Gain::Told,
        _ => Gain::Nothing,
    }
}

fn prepare<'a>(world: &'a World, attack: &Attack, state: &State, level: &str) -> Setting<'a> {
    let setting = world.setting(attack, level, state.kept == Kept::OlderSts);
    if state.kept != Kept::Nothing {
        let got = setting.deliver_at("opportunistic", state.domain, Place::Honest);
        assert!(got.result.is_ok(), "{}: {}", state.name, got.told());
        if state.kept != Kept::Proof {
            // What was seen must not stand in for what was published.
            setting.policy.forget(state.host).unwrap();
        }
    }
    setting
}

type Key = (&'static str, &'static str, &'static str);

#[test]
fn nothing_ends_below_what_was_published_or_kept() {
    let Some(world) = World::find("nothing_ends_below_what_was_published_or_kept") else {
        return;
    };
    let start = Instant::now();
    let honest = Attack::honest();
    let usual: Mutex<BTreeMap<(&str, &str), Delivered>> = Mutex::default();
    let mut cells = Vec::new();
    for state in &STATES {
        for level in LEVELS {
            cells.push((state, level));
        }
    }
    side_by_side(16, &cells, |(state, level)| {
        let setting = prepare(&world, &honest, state, level);
        let got = setting.deliver(state.domain, Place::Honest);
        let wrong = match &got.result {
            Ok(_) => faults(state, level, &honest, &got),
            Err(_) => Vec::new(),
        };
        let report = format!("{}, {level}, no attack: {wrong:?} {}", state.name, got.told());
        usual.lock().unwrap().insert((state.name, level), got);
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(report)
        }
    });
    let usual = usual.into_inner().unwrap();

    let attacks = attacks();
    world.start_resolvers(attacks);
    let mut cases = Vec::new();
    for attack in attacks {
        for state in &STATES {
            for level in LEVELS {
                let few = matches!(level, "verify" | "encrypt" | "may");
                let chosen = matches!(state.name, "signed, TLSA" | "TLS seen" | "nothing");
                let web = attack.is_for_web_only();
                let has_sts = state.domain.starts_with("sts");
                let slow = attack.takes_time() && matches!(level, "dane" | "dane-only");
                if (few || slow) && !chosen || web && (few || !has_sts || level == "dane-only") {
                    continue;
                }
                cases.push(Case { attack, state, level });
            }
        }
    }
    assert!(cases.len() > 800, "{}", cases.len());
    // The slow ones first.
    cases.sort_by_key(|case| !case.attack.takes_time());
    let gains: Mutex<BTreeMap<Key, Gain>> = Mutex::default();
    let sessions = Mutex::new(0);
    side_by_side(96, &cases, |case| {
        let usual = &usual[&(case.state.name, case.level)];
        let mut played = case.play(&world, usual);
        if played.may_be_the_machine(case.attack) {
            played = case.play(&world, usual);
        }
        let (attack, state) = (case.attack.name, case.state.name);
        gains
            .lock()
            .unwrap()
            .insert((attack, state, case.level), gain(&played.got));
        *sessions.lock().unwrap() += u32::from(played.got.result.is_ok());
        if played.wrong.is_empty() {
            return Ok(());
        }
        let (got, after) = (played.got.told(), played.after.told());
        Err(format!(
            "{attack} | {state} | {}: {:?}\n    {got}\n    {after}",
            case.level, played.wrong
        ))
    });
    let gains = gains.into_inner().unwrap();
    controls(attacks, &gains);
    let sessions = *sessions.lock().unwrap();
    let lost = gains.values().filter(|gain| **gain != Gain::Nothing).count();
    eprintln!(
        "{} cases of {} attacks: {sessions} sessions, the attacker reads {lost}; {:.0} s",
        cases.len(),
        attacks.len(),
        start.elapsed().as_secs_f32()
    );
    assert!(sessions > 200, "{sessions}");
}

fn afterwards(state: &State, level: &str, usual: &Delivered, after: &Delivered) -> Vec<String> {
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

/// Where nobody has said anything that holds the attacker wins: else it does nothing, and nothing is shown.
fn controls(attacks: &[Attack], gains: &BTreeMap<Key, Gain>) {
    let mut wrong = Vec::new();
    for attack in attacks.iter().filter(|attack| !attack.is_for_web_only()) {
        let got = gains[&(attack.name, "nothing", "may")];
        if got != attack.gains {
            wrong.push(format!("{} at may: {got:?}, not {:?}", attack.name, attack.gains));
        }
    }
    for (attack, state, level, gain) in attacks::LOST {
        let got = gains.get(&(attack, state, level));
        if got != Some(&gain) {
            wrong.push(format!("{attack} | {state} | {level}: {got:?}, not {gain:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
