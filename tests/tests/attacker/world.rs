//! The servers, the attacker between us and each of them, and what came of a delivery.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use conformance::attacker::dns::DnsAttacker;
use conformance::attacker::mail::{Certificates, MailAttacker, SECRET};
use conformance::attacker::resolver::Unbound;
use conformance::attacker::web::WebAttacker;
use serde_json::Value;
use starttls::cache::{Cache, DirectoryCache, MemoryCache};
use starttls::{Error, Level, Outcome, Policy, Resolver, Session, Word};

use crate::attacks::Attack;

/// The policy's time-out while there is an attack.
pub const LIMIT: Duration = Duration::from_secs(3);

pub struct World {
    resolver: Resolver,
    pub resolver_at: SocketAddr,
    authority: SocketAddr,
    anchor: PathBuf,
    pub smtp: u16,
    sts: u16,
    ca_file: PathBuf,
    certs: PathBuf,
    certificates: Arc<Certificates>,
    attacked: Mutex<BTreeMap<&'static str, (DnsAttacker, Unbound)>>,
    scratch: PathBuf,
    settings: AtomicU32,
}

impl World {
    /// The servers, if they are there. The policy host is proven by the system's trust store, whatever the policy's
    /// CA is: where that is not the tests' the test is run again with it.
    pub fn find(test: &str) -> Option<Self> {
        let Some(listing) = std::env::var_os("STARTTLS_SERVERS") else {
            eprintln!("left out: no servers (tests/servers/run.py)");
            return None;
        };
        let listing: Value = serde_json::from_slice(&std::fs::read(listing).unwrap()).unwrap();
        let port = |v: &Value| v.as_u64().and_then(|port| u16::try_from(port).ok());
        let (Some(smtp), Some(sts)) = (port(&listing["dns"]["smtp_port"]), port(&listing["sts"]["port"]))
        else {
            eprintln!("left out: name servers, Postfix or Apache are not installed");
            return None;
        };
        let path = |v: &Value| PathBuf::from(v.as_str().unwrap());
        let ca_file = path(&listing["ca_file"]);
        if std::env::var_os("SSL_CERT_FILE").as_deref() != Some(ca_file.as_os_str()) {
            let again = std::process::Command::new(std::env::current_exe().unwrap())
                .args(["--exact", test, "--nocapture"])
                .env("SSL_CERT_FILE", &ca_file)
                .env("SSL_CERT_DIR", "/nonexistent")
                .status()
                .unwrap();
            assert!(again.success());
            return None;
        }
        let certs = path(&listing["certs_dir"]);
        let resolver = listing["dns"]["resolver"].as_str().unwrap();
        let victims = [
            "311.good-mx.example.test",
            "none.good-mx.example.test",
            "mail.insecure.test",
            "mta-sts.sts.example.test",
            "mta-sts.sts.insecure.test",
            "mta-sts.sts-dane.insecure.test",
        ];
        let scratch = std::env::temp_dir().join(format!("starttls-attacker-{}", std::process::id()));
        std::fs::create_dir_all(&scratch).unwrap();
        Some(Self {
            resolver: Resolver::parse(resolver).unwrap(),
            resolver_at: resolver.parse().unwrap(),
            authority: listing["dns"]["authority"].as_str().unwrap().parse().unwrap(),
            anchor: path(&listing["dns"]["trust_anchor"]),
            smtp,
            sts,
            ca_file,
            certificates: Arc::new(Certificates::load(&certs, &victims)),
            certs,
            attacked: Mutex::default(),
            scratch,
            settings: AtomicU32::new(0),
        })
    }

    /// A resolver for each attack on DNS, so that none hears what another was told.
    pub fn start_resolvers(&self, attacks: &'static [Attack]) {
        let mut all = self.attacked.lock().unwrap();
        for attack in attacks.iter().filter(|attack| !attack.dns.is_empty()) {
            all.insert(attack.name, self.attacked_resolver(attack));
        }
        for (_, unbound) in all.values_mut() {
            unbound.wait();
        }
    }

    fn attacked_resolver(&self, attack: &Attack) -> (DnsAttacker, Unbound) {
        let attacker = DnsAttacker::start(self.authority, attack.dns);
        let unbound = Unbound::start(attacker.at, &self.anchor, attack.keeps());
        (attacker, unbound)
    }

    fn resolver_of(&self, attack: &Attack) -> Resolver {
        match self.attacked.lock().unwrap().get(attack.name) {
            Some((_, unbound)) => Resolver::parse(&unbound.at.to_string()).unwrap(),
            None => self.resolver.clone(),
        }
    }

    /// A policy that asks this resolver.
    pub fn policy(&self, level: &str, resolver: Resolver) -> Policy {
        Policy::new(Level::from_word(level).unwrap())
            .resolver(resolver)
            .ca_file(&self.ca_file)
            .unwrap()
            .port(self.smtp)
            .tlsa_port(self.smtp)
            .sts_port(self.sts)
            .timeout(Duration::from_secs(20))
            .unwrap()
    }

    /// A new cache, and nobody attacks yet. `ask_again`: what was asked before does not count.
    pub fn setting(&self, attack: &Attack, level: &str, ask_again: bool) -> Setting<'_> {
        let number = self.settings.fetch_add(1, Ordering::Relaxed);
        let cache: Arc<dyn Cache> = if number.is_multiple_of(2) {
            Arc::new(MemoryCache::new())
        } else {
            Arc::new(DirectoryCache::open(self.scratch.join(number.to_string())).unwrap())
        };
        let cache = Arc::new(Aged {
            cache,
            is_older: AtomicBool::new(ask_again),
        });
        let certificates = || Arc::clone(&self.certificates);
        let mail = MailAttacker::start(attack.mail, self.smtp, certificates());
        let web = WebAttacker::start(attack.web, self.sts, certificates(), &self.certs);
        let policy = self
            .policy(level, self.resolver.clone())
            .port(mail.port())
            .sts_port(web.port())
            .cache(cache.clone());
        Setting {
            cache,
            world: self,
            attacked: policy
                .derive()
                .resolver(self.resolver_of(attack))
                .timeout(LIMIT)
                .unwrap(),
            policy,
            mail,
            web,
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.scratch);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Honest,
    Attacked,
}

/// One sender with its cache, and the attacker in its way.
pub struct Setting<'a> {
    world: &'a World,
    cache: Arc<Aged>,
    pub policy: Policy,
    attacked: Policy,
    mail: MailAttacker,
    web: WebAttacker,
}

pub struct Delivered {
    pub result: Result<Outcome, Error>,
    pub elapsed: Duration,
    pub read_in_clear: bool,
    pub was_told: bool,
}

impl Setting<'_> {
    pub fn deliver(&self, domain: &str, place: Place) -> Delivered {
        let policy = if place == Place::Attacked {
            &self.attacked
        } else {
            &self.policy
        };
        self.go(domain, policy, place)
    }

    /// At another level, with the same cache.
    pub fn deliver_at(&self, level: &str, domain: &str, place: Place) -> Delivered {
        let policy = self.world.policy(level, self.world.resolver.clone());
        let policy = policy
            .port(self.mail.port())
            .sts_port(self.web.port())
            .cache(self.cache.clone());
        self.go(domain, &policy, place)
    }

    /// Five minutes and more go by.
    pub fn wait(&self) {
        self.cache.is_older.store(true, Ordering::SeqCst);
    }

    fn go(&self, domain: &str, policy: &Policy, place: Place) -> Delivered {
        self.mail.attack(place == Place::Attacked);
        self.web.attack(place == Place::Attacked);
        let start = Instant::now();
        let session = Session::connect_domain(domain, policy);
        let elapsed = start.elapsed();
        let result = session.map(|session| {
            let heard = say(&session);
            let outcome = session.outcome().clone();
            if place == Place::Honest {
                heard.unwrap_or_else(|e| panic!("{domain}: {e}: {}", outcome.to_json()));
            }
            outcome
        });
        Delivered {
            result,
            elapsed,
            read_in_clear: self.mail.read_in_clear(),
            was_told: self.mail.was_told(),
        }
    }
}

/// Says what must stay secret, as the mail would be.
fn say(session: &Session<'_>) -> starttls::Result<usize> {
    session.set_timeout(Some(Duration::from_secs(5)));
    session.write_all(format!("{SECRET}\r\n").as_bytes())?;
    session.read(&mut [0; 512])
}

impl Delivered {
    pub fn word(&self) -> Option<Word> {
        self.result.as_ref().err().map(Error::word)
    }

    pub fn is_temporary(&self) -> bool {
        self.result.as_ref().is_err_and(Error::temporary)
    }

    pub fn told(&self) -> String {
        let (said, outcome) = match &self.result {
            Ok(outcome) => ("a session".to_owned(), Some(outcome)),
            Err(e) => (e.to_string(), e.outcome()),
        };
        let json = outcome.map(Outcome::to_json).unwrap_or_default();
        let (clear, told) = (self.read_in_clear, self.was_told);
        format!(
            "{said} after {:?}, clear {clear}, told {told} {json}",
            self.elapsed
        )
    }
}

/// A cache in which time passes: a domain was asked for its policy so long ago that it may be asked again.
struct Aged {
    cache: Arc<dyn Cache>,
    is_older: AtomicBool,
}

impl Cache for Aged {
    fn get(&self, key: &str) -> std::io::Result<Option<Vec<u8>>> {
        if key.contains("sts-check/") && self.is_older.load(Ordering::SeqCst) {
            return Ok(None);
        }
        self.cache.get(key)
    }

    fn put(&self, key: &str, value: &[u8], expires: SystemTime) -> std::io::Result<()> {
        self.cache.put(key, value, expires)
    }

    fn remove(&self, key: &str) -> std::io::Result<()> {
        self.cache.remove(key)
    }
}
