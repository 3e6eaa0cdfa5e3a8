//! How many questions a delivery costs, counted by who is asked them.

use std::collections::BTreeSet;
use std::sync::Arc;

use conformance::attacker::dns::DnsAttacker;
use conformance::attacker::message::{A, AAAA, MX, TLSA, TXT};
use starttls::cache::MemoryCache;
use starttls::{Resolver, Session};

use crate::world::World;

/// Domain, host; the questions of the first delivery beside those for MX, address and TLSA; whether TLSA is asked for.
const DOMAINS: [(&str, &str, usize, bool); 4] = [
    ("dane.example.test", "311.good-mx.example.test", 0, true),
    ("sts.example.test", "none.good-mx.example.test", 3, true),
    ("sts.insecure.test", "mail.insecure.test", 3, false),
    ("plain.insecure.test", "mail.insecure.test", 1, false),
];

#[test]
fn a_warm_delivery_asks_for_mx_address_and_tlsa() {
    let Some(world) = World::find("lookups::a_warm_delivery_asks_for_mx_address_and_tlsa") else {
        return;
    };
    let counter = DnsAttacker::start(world.resolver_at, &[]);
    let resolver = Resolver::parse(&counter.at.to_string()).unwrap();
    let mut table = String::new();
    for (domain, host, more, has_tlsa) in DOMAINS {
        for level in ["opportunistic", "strict"] {
            let cache = Arc::new(MemoryCache::new());
            let policy = world.policy(level, resolver.clone()).cache(cache);
            if level == "strict" && domain == "plain.insecure.test" {
                continue;
            }
            let mut costs = Vec::new();
            for _ in 0..3 {
                counter.asked();
                let session = Session::connect_domain(domain, &policy).unwrap();
                let asked = counter.asked();
                let said = session.outcome().domain.as_ref().unwrap().lookups;
                assert_eq!(usize::try_from(said).unwrap(), asked.len(), "{domain}: {asked:?}");
                costs.push(asked);
            }
            let mut warm = BTreeSet::from([
                (domain.to_owned(), MX),
                (host.to_owned(), A),
                (host.to_owned(), AAAA),
            ]);
            if has_tlsa {
                warm.insert((format!("_{}._tcp.{host}", world.smtp), TLSA));
            }
            let mut cold = warm.clone();
            if more > 0 {
                cold.insert((format!("_mta-sts.{domain}"), TXT));
            }
            if more > 1 {
                cold.extend([A, AAAA].map(|kind| (format!("mta-sts.{domain}"), kind)));
            }
            for (wanted, asked) in [&cold, &warm, &warm].into_iter().zip(&costs) {
                assert_eq!(asked.len(), wanted.len(), "{domain} at {level}: {asked:?}");
                assert_eq!(
                    &asked.iter().cloned().collect::<BTreeSet<_>>(),
                    wanted,
                    "{domain} at {level}"
                );
            }
            table += &format!("{domain} at {level}: cold {}, warm {}\n", cold.len(), warm.len());
        }
    }
    eprint!("{table}");
}
