//! What is remembered, for how long, and what an attacker can make of it.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use super::*;
use crate::cache::{Cache, MemoryCache};

const WHO: Who<'_> = Who {
    destination: "example.org",
    host: "mail.example.org",
    port: 25,
    protocol: "smtp",
};
const DAY: Duration = Duration::from_secs(86_400);
const MINUTE: Duration = Duration::from_secs(60);

/// Counts what it is asked.
#[derive(Default)]
struct Counting {
    kept: MemoryCache,
    gets: AtomicUsize,
    puts: AtomicUsize,
}

impl Cache for Counting {
    fn get(&self, key: &str) -> io::Result<Option<Vec<u8>>> {
        self.gets.fetch_add(1, Ordering::Relaxed);
        self.kept.get(key)
    }
    fn put(&self, key: &str, value: &[u8], expires: SystemTime) -> io::Result<()> {
        self.puts.fetch_add(1, Ordering::Relaxed);
        self.kept.put(key, value, expires)
    }
    fn remove(&self, key: &str) -> io::Result<()> {
        self.kept.remove(key)
    }
}

struct Story {
    cache: Arc<Counting>,
    store: Store,
    begin: SystemTime,
}

impl Story {
    fn new() -> Self {
        let cache = Arc::new(Counting::default());
        // A full second, as the times that are kept.
        let begin = time(seconds(SystemTime::now()));
        Self {
            store: Store::new(cache.clone()),
            cache,
            begin,
        }
    }
    fn at(&self, after: Duration) -> SystemTime {
        self.begin.checked_add(after).unwrap()
    }
    fn record(&self, who: &Who<'_>, proven: Option<ProvenBy>, after: Duration) {
        let mut notes = Vec::new();
        record(&self.store, who, proven, self.at(after), &mut notes);
        assert!(notes.is_empty(), "{notes:?}");
    }
    fn recall(&self, who: &Who<'_>, after: Duration) -> Option<Seen> {
        let mut notes = Vec::new();
        let seen = recall(&self.store, who, self.at(after), &mut notes);
        assert!(notes.is_empty(), "{notes:?}");
        seen
    }
    fn forget(&self, name: &str, after: Duration) {
        let mut notes = Vec::new();
        forget(&self.store, name, self.at(after), &mut notes);
        assert!(notes.is_empty(), "{notes:?}");
    }
    fn proven(&self, by: ProvenBy, first: Duration, last: Duration) -> Option<Seen> {
        let (first, last) = (self.at(first), self.at(last));
        Some(Seen::Proven { by, first, last })
    }
}

#[test]
fn a_proof_is_remembered_for_thirty_days_after_the_last() {
    let story = Story::new();
    assert_eq!(story.recall(&WHO, Duration::ZERO), None);
    story.record(&WHO, Some(ProvenBy::Pkix), Duration::ZERO);
    story.record(&WHO, Some(ProvenBy::Dane), DAY * 20);
    let seen = story.proven(ProvenBy::Dane, Duration::ZERO, DAY * 20);
    assert_eq!(story.recall(&WHO, DAY * 21), seen);
    assert_eq!(story.recall(&WHO, DAY * 50 - MINUTE), seen);
    assert_eq!(story.recall(&WHO, DAY * 50), None);
    // And then it begins anew.
    story.record(&WHO, Some(ProvenBy::Pkix), DAY * 60);
    assert_eq!(
        story.recall(&WHO, DAY * 61),
        story.proven(ProvenBy::Pkix, DAY * 60, DAY * 60)
    );
}

#[test]
fn unproven_tls_is_only_a_suspicion_and_never_touches_a_proof() {
    let story = Story::new();
    // One interception, at the first contact.
    story.record(&WHO, None, Duration::ZERO);
    assert_eq!(
        story.recall(&WHO, DAY),
        Some(Seen::Unproven {
            last: story.at(Duration::ZERO)
        })
    );
    story.record(&WHO, Some(ProvenBy::Pkix), DAY * 2);
    let seen = story.proven(ProvenBy::Pkix, DAY * 2, DAY * 2);
    // And one after the proof, every day of a month: the proof is as it was, and as long.
    for day in 3..32 {
        story.record(&WHO, None, DAY * day);
        assert_eq!(story.recall(&WHO, DAY * day), seen);
    }
    assert_eq!(
        story.recall(&WHO, DAY * 32),
        Some(Seen::Unproven {
            last: story.at(DAY * 31)
        })
    );
    assert_eq!(story.recall(&WHO, DAY * 61), None);
}

#[test]
fn each_destination_host_port_and_protocol_has_its_own() {
    let story = Story::new();
    // A forged MX: the attacker's host proves its own name, over and over.
    let forged = Who {
        host: "mx.attacker.example",
        ..WHO
    };
    story.record(&forged, Some(ProvenBy::Pkix), Duration::ZERO);
    let others = [
        WHO,
        Who {
            destination: "attacker.example",
            ..forged
        },
        Who { port: 587, ..forged },
        Who {
            protocol: "lmtp",
            ..forged
        },
        Who {
            host: "mx.attacker.example/x",
            ..forged
        },
    ];
    for who in others {
        assert_eq!(story.recall(&who, MINUTE), None, "{who:?}");
    }
    let shouted = Who {
        host: "MX.Attacker.Example",
        destination: "Example.ORG",
        ..forged
    };
    assert!(story.recall(&shouted, MINUTE).is_some());
}

#[test]
fn a_busy_destination_costs_reads_only() {
    let story = Story::new();
    for _ in 0..100 {
        story.record(&WHO, Some(ProvenBy::Pkix), Duration::ZERO);
        story.record(&WHO, None, MINUTE);
    }
    assert_eq!(story.cache.puts.load(Ordering::Relaxed), 2);
    story.record(&WHO, Some(ProvenBy::Pkix), MINUTE * 59);
    assert_eq!(story.cache.puts.load(Ordering::Relaxed), 2);
    story.record(&WHO, Some(ProvenBy::Pkix), MINUTE * 60);
    assert_eq!(story.cache.puts.load(Ordering::Relaxed), 3);
    // What was never seen costs two questions, and none for the marker.
    let gets = story.cache.gets.load(Ordering::Relaxed);
    assert_eq!(story.recall(&Who { port: 26, ..WHO }, MINUTE), None);
    assert_eq!(story.cache.gets.load(Ordering::Relaxed) - gets, 2);
}

#[test]
fn a_forgotten_host_is_forgotten_everywhere_until_it_proves_itself_again() {
    for name in ["mail.example.org", "Mail.Example.ORG", "example.org"] {
        let story = Story::new();
        story.record(&WHO, Some(ProvenBy::Pkix), Duration::ZERO);
        story.record(&WHO, None, Duration::ZERO);
        story.record(&Who { port: 587, ..WHO }, Some(ProvenBy::Pkix), Duration::ZERO);
        let another = Who {
            host: "mx2.example.net",
            destination: "example.net",
            ..WHO
        };
        story.record(&another, Some(ProvenBy::Pkix), Duration::ZERO);
        story.forget(name, DAY);
        assert_eq!(story.recall(&WHO, DAY), None, "{name}");
        assert_eq!(story.recall(&Who { port: 587, ..WHO }, DAY * 29), None, "{name}");
        assert!(story.recall(&another, DAY).is_some());
        story.record(&WHO, Some(ProvenBy::Pkix), DAY + MINUTE);
        let seen = story.proven(ProvenBy::Pkix, DAY + MINUTE, DAY + MINUTE);
        assert_eq!(
            story.recall(&WHO, DAY * 2),
            seen,
            "since then, not since the beginning"
        );
    }
}

#[test]
fn forgetting_and_proving_in_one_second_loses_no_later_proof() {
    let story = Story::new();
    story.forget("mail.example.org", DAY);
    story.record(&WHO, Some(ProvenBy::Pkix), DAY);
    story.record(&WHO, Some(ProvenBy::Pkix), DAY + MINUTE);
    assert!(story.recall(&WHO, DAY + MINUTE).is_some());
}

#[test]
fn a_clock_that_was_in_the_future_leaves_nothing_that_lasts() {
    let story = Story::new();
    story.record(&WHO, Some(ProvenBy::Pkix), DAY * 200);
    story.forget("mail.example.org", DAY * 200);
    assert_eq!(story.recall(&WHO, Duration::ZERO), None);
    // The clock is right again: what is proven now counts, in spite of the marker of then.
    story.record(&WHO, Some(ProvenBy::Dane), MINUTE);
    assert_eq!(
        story.recall(&WHO, MINUTE),
        story.proven(ProvenBy::Dane, MINUTE, MINUTE)
    );
    // A machine of the fleet whose clock is some minutes ahead.
    let story = Story::new();
    story.record(&WHO, Some(ProvenBy::Pkix), MINUTE * 10);
    assert!(story.recall(&WHO, Duration::ZERO).is_some());
}

#[test]
fn messages() {
    let at = |day: &str| humantime::parse_rfc3339(&format!("{day}T23:59:59Z")).unwrap();
    let (first, last) = (at("2026-10-02"), at("2026-11-20"));
    assert_eq!(
        message(&WHO, &Seen::Proven { by: ProvenBy::Pkix, first, last }),
        "mail.example.org offered TLS and proved its name by PKIX from 2026-10-02 until 2026-11-20; now it does \
         not offer TLS. If that is meant: forget it (`starttls forget mail.example.org`)"
    );
    let once = message(
        &WHO,
        &Seen::Proven {
            by: ProvenBy::Dane,
            first: last,
            last,
        },
    );
    assert!(once.contains("by DANE on 2026-11-20; now"), "{once}");
    assert_eq!(
        message(&WHO, &Seen::Unproven { last }),
        "mail.example.org did TLS on 2026-11-20, without a proof of its name, and does not offer it now"
    );
    // What no calendar has.
    message(&WHO, &Seen::Unproven { last: time(u64::MAX) });
}
