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
#[path = "attacker/oracle.rs"]
mod oracle;
#[path = "attacker/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Instant;

use attacks::{attacks, Attack};
use conformance::check::side_by_side;
use oracle::{afterwards, faults, gain, Gain, Kept, State, HANGS, LEVELS, PERMANENT, STATES};
use starttls::Word;
use world::{Delivered, Place, Setting, World};

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
