//! All that a mail domain publishes for those who send to it, looked up anew: for people, and for
//! `starttls check`. Nothing kept is used, nothing is kept, and no mail host is spoken to.

use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;

use crate::dane::host::Host;
use crate::dane::Found;
use crate::dns::{Asking, Proof};
use crate::error::{Error, Result, Word};
use crate::mta_sts::{self, FetchFailure};
use crate::mx::mail_hosts;
use crate::name::ServerName;
use crate::outcome::{DomainPolicy, StsMode};
use crate::policy::Policy;
use crate::sys::Deadline;
use crate::tlsrpt::Record;

/// As long as one look-up may take, and half of the time that is left at most.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a domain publishes. As JSON with [`to_json`](Survey::to_json), which has the fields' names.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Survey {
    /// The domain, in A-labels.
    pub domain: String,
    /// Whether the resolver is trusted to validate DNSSEC: without one nothing is `secure`.
    pub trusted_resolver: bool,
    /// Its MX records, or why there are none.
    pub mx: MxSurvey,
    /// Its mail hosts, in the order to try.
    pub hosts: Vec<HostSurvey>,
    /// MTA-STS (RFC 8461).
    pub sts: StsSurvey,
    /// TLSRPT (RFC 8460).
    pub tlsrpt: TlsrptSurvey,
    /// What else a reader should know.
    pub notes: Vec<String>,
    /// DNS questions that it cost.
    pub lookups: u32,
}

/// What went wrong with one of the look-ups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Fault {
    /// As an error's.
    pub word: Word,
    /// The sentence for people.
    pub message: String,
    /// Whether it may mend itself.
    pub temporary: bool,
}

/// The domain's MX records.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct MxSurvey {
    /// What DNSSEC says of them, or of their absence; `None` for an address literal, or if the look-up failed.
    pub proof: Option<Proof>,
    /// There are none: the domain is its own mail host.
    pub implicit: bool,
    /// Why no host is known: `null-mx`, `lookup-failed`, `dns-bogus` …
    pub error: Option<Fault>,
}

/// One mail host.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct HostSurvey {
    /// Its name, in A-labels.
    pub name: String,
    /// The preference of its MX record.
    pub preference: u16,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Its TLSA records, where there are secure ones; their look-up may have failed.
    pub tlsa: Option<DomainPolicy>,
    /// Whether some of the records can be used.
    pub tlsa_usable: bool,
    /// Whether an MTA-STS policy names it; `None` without a policy.
    pub named_by_sts: Option<bool>,
    /// Why its addresses are not known.
    pub error: Option<Fault>,
}

/// The domain's MTA-STS.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct StsSurvey {
    /// The TXT records at `_mta-sts`.
    pub records: Vec<String>,
    /// The id of the one that counts.
    pub id: Option<String>,
    /// What the policy wants.
    pub mode: Option<StsMode>,
    /// How long it is good for, in seconds.
    pub max_age: Option<u64>,
    /// The hosts that it names.
    pub mx: Vec<String>,
    /// A result type of RFC 8460 §4.3: why record or policy are of no use.
    pub failure: Option<&'static str>,
    /// The same for people.
    pub why: Option<String>,
}

/// The domain's TLSRPT record.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct TlsrptSurvey {
    /// The record.
    pub record: Option<String>,
    /// Where reports go.
    pub rua: Vec<String>,
    /// Why it is of no use.
    pub error: Option<Fault>,
}

impl Survey {
    /// Looks everything up, within the policy's time-out. Of the policy count the resolver, the ports and
    /// that time-out.
    ///
    /// # Errors
    /// `invalid` for what is no domain, and what ends the whole call; that a look-up fails is a finding.
    pub fn of(domain: &str, policy: &Policy) -> Result<Self> {
        let domain = ServerName::parse(domain)?;
        let rules = &policy.rules;
        let resolver = rules.resolver()?;
        let deadline = Deadline::after(Some(rules.timeout));
        let asking = Asking::new(&resolver, deadline, rules.interrupt_hook);
        let mut survey = Self {
            domain: domain.to_string(),
            trusted_resolver: resolver.is_trusted(),
            mx: MxSurvey::default(),
            hosts: Vec::new(),
            sts: StsSurvey::default(),
            tlsrpt: TlsrptSurvey::default(),
            notes: Vec::new(),
            lookups: 0,
        };
        // Each look-up gets a part of the time: one that nobody answers does not take what the others tell with it.
        survey.ask_hosts(&domain, policy, &asking)?;
        if domain.sni().is_some() {
            survey.tlsrpt = TlsrptSurvey::ask(&survey.domain, &asking)?;
            let picture = mta_sts::picture(&survey.domain, &asking, rules.web())?;
            if let Some(Ok(policy)) = &picture.policy {
                for host in &mut survey.hosts {
                    host.named_by_sts = Some(policy.matching(&host.name).is_some());
                }
            }
            survey.sts = StsSurvey::of(picture);
        }
        survey.lookups = asking.asked.get();
        Ok(survey)
    }

    /// One line of JSON. The keys are the fields' names.
    pub fn to_json(&self) -> String {
        // Strings, numbers and lists only: serde_json has nothing to fail on.
        serde_json::to_string(self).unwrap_or_default()
    }

    fn ask_hosts(&mut self, domain: &ServerName, policy: &Policy, asking: &Asking<'_>) -> Result<()> {
        let mut found = match asking.within(PATIENCE, |asking| mail_hosts(asking, domain, &[])) {
            Ok(found) => found,
            Err(e) => {
                self.mx.error = Some(Fault::unless_over(e, asking)?);
                return Ok(());
            }
        };
        self.mx.proof = found.proof;
        self.mx.implicit = found.implicit;
        self.notes.append(&mut found.notes);
        let port = policy.rules.tlsa_port.or(policy.rules.port).unwrap_or(25);
        for mail_host in found.hosts {
            let known = found.addresses.take();
            let asked = asking.within(PATIENCE, |asking| {
                Host::ask(asking, &mail_host.name, known, Some(port))
            });
            let (host, error) = match asked {
                Ok(host) => (host, None),
                Err(e) => (
                    Host::unasked(&mail_host.name, Found::Nothing),
                    Some(Fault::unless_over(e, asking)?),
                ),
            };
            self.notes.extend(host.notes);
            let name = mail_host.name.to_string();
            self.hosts.push(HostSurvey {
                named_by_sts: None,
                name,
                preference: mail_host.preference,
                addresses: host.addresses,
                tlsa_usable: matches!(host.found, Found::Usable(_)),
                tlsa: host.policy,
                error,
            });
        }
        Ok(())
    }
}

impl Fault {
    fn of(e: &Error) -> Self {
        Self {
            word: e.word(),
            message: e.message().to_owned(),
            temporary: e.temporary(),
        }
    }

    /// A look-up that failed is a finding, unless the whole call is over.
    fn unless_over(e: Error, asking: &Asking<'_>) -> Result<Self> {
        if e.stopped() || asking.deadline.is_past() {
            return Err(e);
        }
        Ok(Self::of(&e))
    }
}

impl StsSurvey {
    fn of(picture: mta_sts::Picture) -> Self {
        let mut survey = Self {
            records: picture.records,
            ..Self::default()
        };
        let fail = |survey: &mut Self, failure: FetchFailure| {
            if survey.failure.is_none() {
                survey.failure = Some(failure.result);
                survey.why = Some(failure.why);
            }
        };
        match picture.record {
            Ok(record) => survey.id = record.map(|record| record.id),
            Err(failure) => fail(&mut survey, failure),
        }
        match picture.policy {
            Some(Ok(policy)) => {
                survey.mode = Some(policy.mode);
                survey.max_age = Some(policy.max_age.as_secs());
                survey.mx = policy.mx.iter().map(ToString::to_string).collect();
            }
            Some(Err(failure)) => fail(&mut survey, failure),
            None => {}
        }
        survey
    }
}

impl TlsrptSurvey {
    fn ask(domain: &str, asking: &Asking<'_>) -> Result<Self> {
        let found = match asking.within(PATIENCE, |asking| asking.txt(&format!("_smtp._tls.{domain}"))) {
            Ok(answer) => Record::find(&answer.records),
            Err(e) => Err(e),
        };
        Ok(match found {
            Ok(Some(record)) => Self {
                rua: record.rua.iter().map(ToString::to_string).collect(),
                record: Some(record.text),
                error: None,
            },
            Ok(None) => Self::default(),
            Err(e) => Self {
                error: Some(Fault::unless_over(e, asking)?),
                ..Self::default()
            },
        })
    }
}
