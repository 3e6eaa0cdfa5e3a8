//! Domains that change, vanish and fail, as seen by senders with a cache, over days.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::site::{Does, Site};
use super::*;
use crate::cache::Cache;
use crate::dns::{Lookup, Proof, RawAnswer, Resolver};
use crate::outcome::StsMode;
use crate::rules::InterruptHook;
use crate::sys::Deadline;

const POLICY: &str = "version: STSv1\nmode: enforce\nmx: mx.example.test\nmax_age: 604800\n";
const OTHER: &str = "version: STSv1\nmode: testing\nmx: *.example.test\nmax_age: 604800\n";
const NONE: &str = "version: STSv1\nmode: none\nmax_age: 604800\n";

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

/// What DNS says of the TXT record.
#[derive(Clone)]
enum Txt {
    Says(&'static str),
    Gone,
    Fails,
}

struct Zone {
    txt: Mutex<Txt>,
    questions: Mutex<Vec<String>>,
    addresses_fail: AtomicBool,
}

impl Lookup for Zone {
    fn look_up(&self, name: &str, kind: u16, _: Duration) -> Result<RawAnswer> {
        self.questions.lock().unwrap().push(format!("{name}/{kind}"));
        let down = || Err(Error::new(Word::LookupFailed, "SERVFAIL"));
        let rdata = match (name, kind) {
            ("_mta-sts.example.test", 16) => match self.txt.lock().unwrap().clone() {
                Txt::Fails => return down(),
                Txt::Gone => vec![],
                Txt::Says(text) => text
                    .split('\n')
                    .map(|t| [&[u8::try_from(t.len()).unwrap()], t.as_bytes()].concat())
                    .collect(),
            },
            ("mta-sts.example.test", _) if self.addresses_fail.load(Ordering::SeqCst) => return down(),
            ("mta-sts.example.test", 1) => vec![vec![127, 0, 0, 1]],
            _ => vec![],
        };
        Ok(RawAnswer {
            no_such_name: rdata.is_empty(),
            rdata,
            proof: Proof::Insecure,
            ttl: Duration::from_secs(600),
            name: name.to_owned(),
        })
    }
}

#[derive(Default)]
struct Map(Mutex<HashMap<String, Vec<u8>>>);

impl Cache for Map {
    fn get(&self, key: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.0.lock().unwrap().get(key).cloned())
    }
    fn put(&self, key: &str, value: &[u8], _: SystemTime) -> io::Result<()> {
        self.0.lock().unwrap().insert(key.into(), value.into());
        Ok(())
    }
    fn remove(&self, key: &str) -> io::Result<()> {
        self.0.lock().unwrap().remove(key);
        Ok(())
    }
}

/// A domain and a sender.
struct World {
    site: Site,
    zone: Arc<Zone>,
    map: Arc<Map>,
    begin: SystemTime,
}

/// One look-up and what it cost.
struct Seen {
    found: Found,
    questions: Vec<String>,
    requests: usize,
    notes: Vec<String>,
}

impl World {
    fn new(txt: Txt, policy: &str) -> Self {
        let site = Site::begin("mta-sts.example.test", 9);
        site.serves(policy);
        Self {
            site,
            zone: Arc::new(Zone {
                txt: Mutex::new(txt),
                questions: Mutex::default(),
                addresses_fail: AtomicBool::new(false),
            }),
            map: Arc::default(),
            begin: SystemTime::now(),
        }
    }

    fn says(&self, txt: Txt) {
        *self.zone.txt.lock().unwrap() = txt;
    }

    fn breaks(&self) {
        self.site.does(Does::Says(b"HTTP/1.1 500 x\r\n\r\n".to_vec()));
    }

    /// So many seconds after the beginning.
    fn at(&self, seconds: u64) -> Seen {
        self.look(seconds, Look::AsNeeded)
    }

    fn look(&self, seconds: u64, look: Look) -> Seen {
        let store = Store::new(self.map.clone());
        self.ask("example.test", seconds, look, Some(&store), None)
            .unwrap()
    }

    fn ask(
        &self,
        domain: &str,
        seconds: u64,
        look: Look,
        store: Option<&Store>,
        hook: Option<InterruptHook>,
    ) -> Result<Seen> {
        let resolver = Resolver::custom(self.zone.clone());
        let deadline = Deadline::after(Some(Duration::from_secs(8)));
        let asking = Asking::new(&resolver, deadline, hook);
        let requests = self.site.requests();
        self.zone.questions.lock().unwrap().clear();
        let now = self.begin.checked_add(Duration::from_secs(seconds)).unwrap();
        let mut notes = Vec::new();
        let found = find(domain, look, &asking, store, &self.site.web(), now, &mut notes)?;
        let questions = self.zone.questions.lock().unwrap().clone();
        assert_eq!(usize::try_from(asking.asked.get()).unwrap(), questions.len());
        Ok(Seen {
            found,
            questions,
            requests: self.site.requests().abs_diff(requests),
            notes,
        })
    }
}

impl Seen {
    /// `id mode`, and `!` if it came from the cache; what else was found.
    fn what(&self) -> String {
        match &self.found {
            Found::NoPolicy => "nothing".to_owned(),
            Found::Unavailable(failure) => failure.result.to_owned(),
            Found::Policy { held, from_cache } => {
                let mark = if *from_cache { "!" } else { "" };
                format!("{} {:?}{mark}", held.id, held.policy.mode)
            }
        }
    }

    /// What was found, questions, requests.
    fn is(&self, what: &str, questions: usize, requests: usize) {
        let cost = (self.questions.len(), self.requests);
        assert_eq!(
            (self.what().as_str(), cost),
            (what, (questions, requests)),
            "{:?} {:?}",
            self.questions,
            self.notes
        );
    }
}

#[test]
fn a_warm_delivery_asks_nobody() {
    let world = World::new(Txt::Says("v=STSv1; id=1"), POLICY);
    let first = world.at(0);
    first.is("1 Enforce", 3, 1);
    assert_eq!(
        first.questions,
        [
            "_mta-sts.example.test/16",
            "mta-sts.example.test/1",
            "mta-sts.example.test/28"
        ]
    );
    world.at(1).is("1 Enforce!", 0, 0);
    world.at(HOUR - 1).is("1 Enforce!", 0, 0);
    // Then the record alone.
    world.at(HOUR).is("1 Enforce!", 1, 0);
    world.at(HOUR + 1).is("1 Enforce!", 0, 0);
    let Found::Policy { held, .. } = world.at(HOUR + 2).found else {
        panic!("no policy");
    };
    assert_eq!(held.policy.lines[1], "mode: enforce");
    let left = held.expires.duration_since(world.begin).unwrap().as_secs();
    assert!((604_799..=604_800).contains(&left), "{left}");
}

#[test]
fn another_id_brings_another_policy() {
    let world = World::new(Txt::Says("v=STSv1; id=1"), POLICY);
    world.at(0).is("1 Enforce", 3, 1);
    world.says(Txt::Says("v=STSv1; id=2"));
    world.site.serves(OTHER);
    world.at(60).is("1 Enforce!", 0, 0);
    // No MX matches: the record is asked for now.
    world.look(61, Look::Again).is("2 Testing", 3, 1);
    world.at(62).is("2 Testing!", 0, 0);
    world.look(63, Look::Again).is("2 Testing!", 1, 0);
    world.site.serves(NONE);
    world.says(Txt::Says("v=STSv1; id=3"));
    world.at(2 * HOUR).is("3 None", 3, 1);
    world.at(2 * HOUR + 1).is("3 None!", 0, 0);
}

#[test]
fn a_new_policy_that_cannot_be_fetched_leaves_the_old_one() {
    let world = World::new(Txt::Says("v=STSv1; id=1"), POLICY);
    world.at(0).is("1 Enforce", 3, 1);
    world.says(Txt::Says("v=STSv1; id=2"));
    world.breaks();
    let failed = world.at(HOUR);
    failed.is("1 Enforce!", 3, 1);
    assert!(
        failed.notes[0].contains("500") && failed.notes[0].contains("holds until"),
        "{:?}",
        failed.notes
    );
    // Not again for an hour, not even if asked for it.
    world.at(HOUR + 1).is("1 Enforce!", 0, 0);
    world.look(HOUR + 2, Look::Again).is("1 Enforce!", 1, 0);
    world.at(2 * HOUR).is("1 Enforce!", 3, 1);
    // But for another id.
    world.says(Txt::Says("v=STSv1; id=3"));
    world.look(2 * HOUR + 1, Look::Again).is("1 Enforce!", 3, 1);
    world.site.serves("version: STSv1\nmode: secure\n");
    let invalid = world.at(4 * HOUR);
    invalid.is("1 Enforce!", 3, 1);
    assert!(invalid.notes[0].contains("\"secure\""), "{:?}", invalid.notes);
    world.zone.addresses_fail.store(true, Ordering::SeqCst);
    world.at(6 * HOUR).is("1 Enforce!", 3, 0);
    world.zone.addresses_fail.store(false, Ordering::SeqCst);
    world.site.serves(OTHER);
    world.at(8 * HOUR).is("3 Testing", 3, 1);
}

#[test]
fn nothing_that_fails_lowers_what_is_kept() {
    for txt in [
        Txt::Gone,
        Txt::Fails,
        Txt::Says("v=STSv1;"),
        Txt::Says("v=STSv1; id=1\nv=STSv1; id=2"),
        Txt::Says("v=spf1 -all"),
    ] {
        let world = World::new(Txt::Says("v=STSv1; id=1"), POLICY);
        world.at(0).is("1 Enforce", 3, 1);
        let fails = matches!(txt, Txt::Fails);
        let broken = matches!(txt, Txt::Says(text) if text.contains("STSv1"));
        world.says(txt);
        world.breaks();
        let after = world.at(HOUR);
        after.is("1 Enforce!", 1, 0);
        assert!(after.notes[0].contains("holds until"), "{:?}", after.notes);
        world.at(HOUR + 1).is("1 Enforce!", 0, 0);
        // A look-up that failed is repeated sooner than one that did not.
        world.at(HOUR + 301).is("1 Enforce!", usize::from(fails), 0);
        world.look(2 * DAY, Look::Again).is("1 Enforce!", 1, 0);
        world.at(7 * DAY - 5).is("1 Enforce!", 1, 0);
        let over = match (fails, broken) {
            (true, _) => FETCH_ERROR,
            (_, true) => POLICY_INVALID,
            _ => "nothing",
        };
        world.at(7 * DAY).is(over, 1, 0);
    }
}

#[test]
fn a_policy_is_fetched_again_before_it_is_over() {
    let world = World::new(Txt::Says("v=STSv1; id=1"), POLICY);
    world.at(0).is("1 Enforce", 3, 1);
    world.at(DAY - 1).is("1 Enforce!", 1, 0);
    world.at(DAY + HOUR).is("1 Enforce", 3, 1);
    world.at(8 * DAY).is("1 Enforce", 3, 1);
    // In vain, once an hour, harmlessly.
    world.breaks();
    for hour in 24..40 {
        let at = 8 * DAY + hour * HOUR;
        world.at(at).is("1 Enforce!", 3, 1);
        world.at(at + 1).is("1 Enforce!", 0, 0);
    }
    world.site.serves(POLICY);
    world.at(10 * DAY).is("1 Enforce", 3, 1);
    // One that holds for minutes only is fetched again after half of them.
    world
        .site
        .serves("version: STSv1\nmode: enforce\nmx: a.test\nmax_age: 600\n");
    world.at(12 * DAY).is("1 Enforce", 3, 1);
    world.at(12 * DAY + 299).is("1 Enforce!", 0, 0);
    world.at(12 * DAY + 300).is("1 Enforce", 3, 1);
    // Once it is over the domain has no protection: the pause after a failure is short.
    world.breaks();
    world.at(12 * DAY + 850).is("1 Enforce!", 3, 1);
    world.at(12 * DAY + 901).is(FETCH_ERROR, 0, 0);
    world.at(12 * DAY + 1150).is(FETCH_ERROR, 3, 1);
}

#[test]
fn max_age_zero_ends_what_was_kept() {
    let world = World::new(Txt::Says("v=STSv1; id=1"), POLICY);
    world.at(0).is("1 Enforce", 3, 1);
    world.says(Txt::Says("v=STSv1; id=2"));
    world.site.serves("version: STSv1\nmode: none\nmax_age: 0\n");
    world.at(HOUR).is("2 None", 3, 1);
    world.says(Txt::Gone);
    world.at(HOUR + 1).is("nothing", 1, 0);
}

#[test]
fn that_there_is_none_is_kept_for_a_while() {
    let world = World::new(Txt::Gone, POLICY);
    world.at(0).is("nothing", 1, 0);
    world.at(599).is("nothing", 0, 0);
    world.says(Txt::Says("v=STSv1; id=1"));
    world.at(599).is("nothing", 0, 0);
    world.at(600).is("1 Enforce", 3, 1);
    // But not that nobody knows.
    let world = World::new(Txt::Fails, POLICY);
    for second in 0..3 {
        let look = world.at(second);
        look.is(FETCH_ERROR, 1, 0);
        assert!(matches!(look.found, Found::Unavailable(f) if f.temporary && f.why.contains("SERVFAIL")));
    }
    world.says(Txt::Says("v=STSv1; id="));
    world.at(4).is(POLICY_INVALID, 1, 0);
    world.at(5).is(POLICY_INVALID, 0, 0);
    world.at(700).is(POLICY_INVALID, 1, 0);
}

#[test]
fn where_nothing_goes_without_a_policy_that_there_is_none_is_asked_again() {
    let world = World::new(Txt::Gone, POLICY);
    world.look(0, Look::NotWithout).is("nothing", 1, 0);
    world.look(1, Look::NotWithout).is("nothing", 1, 0);
    // An attacker had said so, and has gone.
    world.says(Txt::Says("v=STSv1; id=1"));
    world.at(2).is("nothing", 0, 0);
    world.look(2, Look::NotWithout).is("1 Enforce", 3, 1);
    // What is kept is enough, and a policy host that fails has its rest.
    world.look(3, Look::NotWithout).is("1 Enforce!", 0, 0);
    let world = World::new(Txt::Says("v=STSv1; id=1"), POLICY);
    world.breaks();
    world.look(0, Look::NotWithout).is(FETCH_ERROR, 3, 1);
    world.look(1, Look::NotWithout).is(FETCH_ERROR, 1, 0);
}

#[test]
fn a_policy_host_that_fails_is_not_dialled_for_each_message() {
    let world = World::new(Txt::Says("v=STSv1; id=1"), POLICY);
    world.breaks();
    world.at(0).is(FETCH_ERROR, 3, 1);
    let again = world.at(299);
    again.is(FETCH_ERROR, 0, 0);
    assert!(
        matches!(&again.found, Found::Unavailable(f) if f.temporary && f.why.contains("500") && f.why.contains("ago"))
    );
    // §3.3: per version id.
    world.look(299, Look::Again).is(FETCH_ERROR, 1, 0);
    world.at(300).is(FETCH_ERROR, 3, 1);
    world.site.serves(POLICY);
    world.at(599).is(FETCH_ERROR, 0, 0);
    world.at(600).is("1 Enforce", 3, 1);
}

#[test]
fn a_poisoned_cache_gives_no_policy() {
    let world = World::new(Txt::Gone, POLICY);
    let store = Store::new(world.map.clone());
    let poison = serde_json::json!({
        "id": "1", "fetched": 2_000_000_000u64, "text": "version: STSv1\nmode: none of your business\n",
    });
    let until = world.begin + Duration::from_secs(DAY);
    let mut notes = Vec::new();
    store.put("sts/example.test", &poison, until, &mut notes);
    let look = world.at(0);
    look.is("nothing", 1, 0);
    assert!(look.notes[0].contains("was ignored"), "{:?}", look.notes);
    // One whose time is over is none, however long the cache keeps it.
    let old = serde_json::json!({"id": "1", "fetched": 1_000_000_000u64, "text": POLICY});
    store.put("sts/example.test", &old, until, &mut notes);
    world.at(2 * HOUR).is("nothing", 1, 0);
    let damaged = world.map.0.lock().unwrap().get("sts/example.test").unwrap()[..90].to_vec();
    world.map.put("sts/example.test", &damaged, until).unwrap();
    let look = world.at(4 * HOUR);
    look.is("nothing", 1, 0);
    assert!(look.notes[0].contains("ignored"), "{:?}", look.notes);
}

#[test]
fn without_a_cache_and_names_as_people_write_them() {
    let world = World::new(Txt::Says("v=STSv1; id=1"), POLICY);
    for domain in ["example.test", "Example.TEST.", "EXAMPLE.test"] {
        let look = world.ask(domain, 0, Look::AsNeeded, None, None).unwrap();
        look.is("1 Enforce", 3, 1);
    }
    let long = "a.".repeat(126);
    for domain in ["192.0.2.1", "[192.0.2.1]", "a..b", "", "other.test", &long] {
        let look = world.ask(domain, 0, Look::AsNeeded, None, None).unwrap();
        assert_eq!((look.what().as_str(), look.requests), ("nothing", 0), "{domain}");
    }
}

#[test]
fn who_keeps_us_waiting_does_not_keep_the_mail() {
    let world = World::new(Txt::Says("v=STSv1; id=1"), POLICY);
    world.site.does(Does::Drips(Vec::new()));
    let start = Instant::now();
    world.at(0).is(FETCH_ERROR, 3, 1);
    let took = start.elapsed();
    // Half of the eight seconds that the call has.
    assert!(
        took > Duration::from_secs(3) && took < Duration::from_secs(6),
        "{took:?}"
    );
}

#[test]
fn the_callers_hook_ends_the_whole_call() {
    let world = World::new(Txt::Says("v=STSv1; id=1"), POLICY);
    world.site.does(Does::Drips(Vec::new()));
    let stop: InterruptHook = || Err(io::Error::other("enough"));
    let store = Store::new(world.map.clone());
    let result = world.ask("example.test", 0, Look::AsNeeded, Some(&store), Some(stop));
    assert!(result.is_err_and(|e| e.stopped()));
}

#[test]
fn the_whole_picture() {
    let world = World::new(Txt::Says("v=STSv1; id=1\nv=spf1\u{7}"), POLICY);
    let resolver = Resolver::custom(world.zone.clone());
    let see = || {
        let asking = Asking::new(&resolver, Deadline::after(Some(Duration::from_secs(8))), None);
        picture("example.test", &asking, &world.site.web()).unwrap()
    };
    let seen = see();
    assert_eq!(seen.records, ["v=STSv1; id=1", "v=spf1\\x07"]);
    assert_eq!(seen.record.unwrap().unwrap().id, "1");
    assert_eq!(seen.policy.unwrap().unwrap().mode, StsMode::Enforce);
    world.says(Txt::Says("v=STSv1;"));
    world.breaks();
    let seen = see();
    assert!(seen.record.unwrap_err().why.contains("_mta-sts.example.test"));
    assert!(seen.policy.unwrap().unwrap_err().why.contains("500"));
    world.says(Txt::Gone);
    let seen = see();
    assert!(seen.record.unwrap().is_none() && seen.policy.is_none());
    world.says(Txt::Fails);
    assert_eq!(see().record.unwrap_err().result, FETCH_ERROR);
    assert!(world.map.0.lock().unwrap().is_empty());
}
