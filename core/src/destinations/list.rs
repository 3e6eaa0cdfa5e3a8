//! The STARTTLS Everywhere list: JSON in which somebody else (the EFF, or a fleet's own operators) vouches for the
//! MX hosts of mail domains. Its format is `RULES.md` and `schema/policy-0.1.schema.json` of the project
//! EFForg/starttls-everywhere.
//!
//! ```text
//! { "timestamp": "2026-01-01T00:00:00+00:00", "expires": "2026-01-15T00:00:00+00:00", "version": "0.1",
//!   "policy-aliases": { "shared": { "mode": "testing", "mxs": [".mail.example.com"] } },
//!   "policies": { "example.org": { "mode": "enforce", "mxs": ["mx.example.org", ".example.net"] },
//!                 "example.com": { "policy-alias": "shared" } } }
//! ```
//!
//! A list that has expired says nothing: mail goes on as without it, and whoever runs this is told. Domains match
//! exactly, `.example.net` among the hosts is all below it, at any depth. Members that are not known are ignored.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::error::{Error, Result};
use crate::mta_sts::{Pattern, StsPolicy};
use crate::name::ServerName;
use crate::outcome::StsMode;
use crate::text::printable;

/// The list, as it was when it was loaded.
#[derive(Debug)]
pub(super) struct List {
    path: PathBuf,
    expires: SystemTime,
    policies: HashMap<String, Arc<StsPolicy>>,
}

impl List {
    pub(super) fn parse(bytes: &[u8], path: &Path) -> Result<Self> {
        let file: Document = serde_json::from_slice(bytes).map_err(|e| {
            // serde_json ends its messages with the place.
            let why = printable(e.to_string().as_bytes());
            Error::invalid(format!(
                "destinations {}:{}: the STARTTLS Everywhere list cannot be read: {why}",
                path.display(),
                e.line()
            ))
        })?;
        Self::of(file, path).map_err(|why| Error::invalid(format!("destinations {}: {why}", path.display())))
    }

    fn of(file: Document, path: &Path) -> std::result::Result<Self, String> {
        if file.version != "0.1" {
            let version = printable(file.version.as_bytes());
            return Err(format!("version \"{version}\" of the list is not known; 0.1 is"));
        }
        let expires = file
            .expires
            .read()
            .ok_or("\"expires\" is no time: write 2026-01-31T00:00:00Z")?;
        file.timestamp
            .read()
            .ok_or("\"timestamp\" is no time: write 2026-01-01T00:00:00Z")?;
        let mut aliases = HashMap::new();
        for (name, rule) in file.aliases.0 {
            let policy = rule.policy(&format!("policy-alias \"{}\"", printable(name.as_bytes())))?;
            aliases.insert(name, Arc::new(policy));
        }
        let mut policies = HashMap::new();
        for (domain, rule) in file.policies.0 {
            let shown = format!("policy \"{}\"", printable(domain.as_bytes()));
            let ServerName::Dns(name) =
                ServerName::parse(&domain).map_err(|e| format!("{shown}: {}", e.message()))?
            else {
                return Err(format!("{shown} is for an address; it must be a mail domain"));
            };
            let policy = match &rule.alias {
                Some(alias) => aliases.get(alias).cloned().ok_or_else(|| {
                    let alias = printable(alias.as_bytes());
                    format!("{shown}: no policy-alias is called \"{alias}\"")
                })?,
                None => Arc::new(rule.policy(&shown)?),
            };
            if policies.insert(name, policy).is_some() {
                return Err(format!("{shown} is there twice, in other letters"));
            }
        }
        Ok(Self {
            path: path.to_owned(),
            expires,
            policies,
        })
    }

    pub(super) fn find(&self, domain: &str, now: SystemTime) -> Option<&StsPolicy> {
        self.policies
            .get(domain)
            .filter(|_| now < self.expires)
            .map(Arc::as_ref)
    }

    pub(super) fn expired(&self, now: SystemTime) -> Option<String> {
        (now >= self.expires).then(|| {
            format!(
                "destinations: the list {} expired on {} and is not used; fetch a new one",
                self.path.display(),
                humantime::format_rfc3339_seconds(self.expires)
            )
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Document {
    timestamp: Time,
    expires: Time,
    version: String,
    #[serde(rename = "policy-aliases", default)]
    aliases: Members<Rule>,
    policies: Members<Rule>,
}

/// Seconds since 1970, or text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Time {
    Seconds(u64),
    Text(String),
}

impl Time {
    /// Not after the year 9999, which is as far as it can be shown.
    fn read(&self) -> Option<SystemTime> {
        const LAST: u64 = 253_402_300_799;
        match self {
            Self::Seconds(n) => UNIX_EPOCH.checked_add(Duration::from_secs((*n).min(LAST))),
            Self::Text(text) => rfc3339(text),
        }
    }
}

/// RFC 3339 with any offset; `humantime` knows `Z` only.
fn rfc3339(text: &str) -> Option<SystemTime> {
    if let Some(utc) = text.strip_suffix('Z') {
        return humantime::parse_rfc3339(&format!("{utc}Z")).ok();
    }
    let (local, offset) = text.split_at_checked(text.len().checked_sub(6)?)?;
    let local = humantime::parse_rfc3339(&format!("{local}Z")).ok()?;
    let (hours, minutes) = offset.get(1..)?.split_once(':')?;
    let number = |digits: &str, below: u64| -> Option<u64> {
        let n = digits
            .bytes()
            .all(|b| b.is_ascii_digit())
            .then(|| digits.parse().ok())??;
        (n < below).then_some(n)
    };
    let minutes = number(hours, 24)?
        .checked_mul(60)?
        .checked_add(number(minutes, 60)?)?;
    let offset_by = Duration::from_secs(minutes.checked_mul(60)?);
    match offset.as_bytes().first()? {
        b'+' => local.checked_sub(offset_by),
        b'-' => local.checked_add(offset_by),
        _ => None,
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Rule {
    #[serde(rename = "policy-alias")]
    alias: Option<String>,
    mode: Option<Mode>,
    mxs: Option<Vec<String>>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Testing,
    Enforce,
}

impl Rule {
    fn policy(&self, shown: &str) -> std::result::Result<StsPolicy, String> {
        let mxs = self.mxs.as_deref().unwrap_or_default();
        if mxs.is_empty() {
            return Err(format!("{shown} names no host in \"mxs\""));
        }
        let pattern = |text: &String| {
            let wrong = |why: String| format!("{shown}: {why}");
            match text.strip_prefix('.') {
                Some(parent) => match Pattern::parse(parent).map_err(wrong)? {
                    Pattern::Host(name) => Ok(Pattern::AllBelow(name)),
                    _ => Err(format!(
                        "{shown}: \"{}\" is no suffix",
                        printable(text.as_bytes())
                    )),
                },
                None => Pattern::parse(text).map_err(wrong),
            }
        };
        Ok(StsPolicy {
            // Testing is the format's default.
            mode: match self.mode {
                Some(Mode::Enforce) => StsMode::Enforce,
                Some(Mode::Testing) | None => StsMode::Testing,
            },
            // It holds as long as the list.
            max_age: Duration::ZERO,
            mx: mxs.iter().map(pattern).collect::<std::result::Result<_, _>>()?,
            lines: Vec::new(),
        })
    }
}

/// The members of an object, each of them once: a second one would silently replace the first.
struct Members<T>(BTreeMap<String, T>);

impl<T> Default for Members<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Members<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Once<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Once<T> {
            type Value = Members<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Members<T>, A::Error> {
                let mut members = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, T>()? {
                    if members.contains_key(&name) {
                        return Err(A::Error::custom(format_args!("\"{name}\" is there twice")));
                    }
                    members.insert(name, value);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Once(PhantomData))
    }
}
