//! One report: what one domain is told of one period (RFC 8460 §4.4, §5). Sessions are summed by policy, and
//! their failures by all that is told of them.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use flate2::write::GzEncoder;
use flate2::Compression;
use serde::Serialize;

use super::event::{Event, Failure, Policy, PolicyResult};
use super::period::Period;
use super::record::Record;
use crate::error::Result;

/// The media type of [`Report::to_json`] (§6.4).
pub const MEDIA_TYPE_JSON: &str = "application/tlsrpt+json";
/// The media type of [`Report::gzip`] (§6.5).
pub const MEDIA_TYPE_GZIP: &str = "application/tlsrpt+gzip";

/// Bytes of policies and failures that one domain may have us keep: a hostile one says something new each time.
const MAX_BYTES: usize = 256 * 1024;
/// A guess at what a row costs beyond its texts.
const ROW: usize = 200;
/// Stands in a report for all that had no room in it.
const OTHERS: &str = "others: more than this report lists";

/// Who reports, and of when; the same in all reports of a period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sender {
    pub(super) organization: String,
    pub(super) contact: String,
    /// The domain of the contact (§5.1).
    pub(super) submitter: String,
    pub(super) unique_id: Option<String>,
    pub(super) period: Period,
}

/// What was summed of one policy.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    success: u64,
    failure: u64,
    failures: BTreeMap<Failure, u64>,
}

impl Tally {
    pub(super) fn sessions(&self) -> u64 {
        self.success.saturating_add(self.failure)
    }
}

/// The report to one domain. [`Reports`](super::Reports) makes them.
#[derive(Clone, Debug)]
pub struct Report {
    pub(super) sender: Arc<Sender>,
    pub(super) domain: String,
    /// The newest, if it changed.
    pub(super) record: String,
    pub(super) policies: BTreeMap<Policy, Tally>,
    /// What the policies and failures cost.
    bytes: usize,
}

impl Report {
    pub(super) fn new(sender: Arc<Sender>, domain: &str, record: &str) -> Self {
        Self {
            sender,
            domain: domain.to_owned(),
            record: record.to_owned(),
            policies: BTreeMap::new(),
            bytes: 0,
        }
    }

    /// What a report without any policy costs.
    pub(super) fn cost(event: &Event) -> usize {
        let texts = event
            .domain
            .len()
            .saturating_mul(2)
            .saturating_add(event.record.len());
        texts.saturating_add(ROW)
    }

    /// Adds how a policy fared; says what that cost, which is over `room` only by the few rows for others.
    pub(super) fn add(&mut self, result: &PolicyResult, room: usize) -> usize {
        let ones = result.failures.iter().map(|f| (f.clone(), 1)).collect();
        let tally = Tally {
            success: u64::from(result.success()),
            failure: u64::from(!result.success()),
            failures: ones,
        };
        self.merge(&result.policy, tally, room)
    }

    /// The same for sums.
    pub(super) fn merge(&mut self, policy: &Policy, tally: Tally, room: usize) -> usize {
        let before = self.bytes;
        let limit = MAX_BYTES.min(before.saturating_add(room));
        let fits = |bytes: usize, cost: usize| bytes.saturating_add(cost) <= limit;
        let listed = self.policies.contains_key(policy) || fits(self.bytes, policy_cost(policy));
        let policy = if listed {
            policy.clone()
        } else {
            self.other_policies(policy)
        };
        if !self.policies.contains_key(&policy) {
            self.bytes = self.bytes.saturating_add(policy_cost(&policy));
        }
        let kept = self.policies.entry(policy).or_default();
        kept.success = kept.success.saturating_add(tally.success);
        kept.failure = kept.failure.saturating_add(tally.failure);
        for (failure, count) in tally.failures {
            let known = kept.failures.contains_key(&failure);
            let listed = known || (listed && fits(self.bytes, failure_cost(&failure)));
            let failure = if listed { failure } else { other_failures(&failure) };
            if !kept.failures.contains_key(&failure) {
                self.bytes = self.bytes.saturating_add(failure_cost(&failure));
            }
            let sum = kept.failures.entry(failure).or_default();
            *sum = sum.saturating_add(count);
        }
        self.bytes.saturating_sub(before)
    }

    fn other_policies(&self, policy: &Policy) -> Policy {
        Policy {
            kind: policy.kind,
            string: Vec::new(),
            domain: self.domain.clone(),
            mx_host: Vec::new(),
        }
    }

    /// The domain that the report is about and goes to.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Where to send it. A report MUST go there even if TLS fails, and that session SHOULD NOT be reported (§3).
    ///
    /// # Errors
    /// `malformed` if the domain's record is not valid; the message says why.
    pub fn record(&self) -> Result<Record> {
        Record::parse(self.record.as_bytes())
    }

    /// A name that no other report has, and by which repetitions are known (§5.3).
    pub fn id(&self) -> String {
        let Sender {
            submitter,
            unique_id,
            period,
            ..
        } = &*self.sender;
        let (domain, begin, end) = (&self.domain, period.begin(), period.end());
        match unique_id {
            Some(unique) => format!("{begin}.{end}.{domain}.{unique}@{submitter}"),
            None => format!("{begin}.{end}.{domain}@{submitter}"),
        }
    }

    /// The name of the compressed report as a file (§5.1); without `.gz` that of the plain one.
    pub fn file_name(&self) -> String {
        let sender = &self.sender;
        let unique = sender
            .unique_id
            .iter()
            .map(|u| format!("!{u}"))
            .collect::<String>();
        format!(
            "{}!{}!{}!{}{unique}.json.gz",
            sender.submitter,
            self.domain,
            sender.period.begin(),
            sender.period.end()
        )
    }

    /// The header fields that a mail with the report has beside the usual ones (§5.3). Its body is
    /// `multipart/report; report-type="tlsrpt"`, a text for people and then the report, and it needs a DKIM
    /// signature (§3).
    pub fn headers(&self) -> [(&'static str, String); 3] {
        let (domain, submitter) = (&self.domain, &self.sender.submitter);
        let subject = format!(
            "Report Domain: {domain} Submitter: {submitter} Report-ID: <{}>",
            self.id()
        );
        [
            ("Subject", subject),
            ("TLS-Report-Domain", domain.clone()),
            ("TLS-Report-Submitter", submitter.clone()),
        ]
    }

    /// The report (§4.4).
    pub fn to_json(&self) -> String {
        let [start_datetime, end_datetime] = self.sender.period.as_rfc3339();
        let policies = self.policies.iter().map(|(policy, tally)| Row {
            policy,
            summary: Summary {
                total_successful_session_count: tally.success,
                total_failure_session_count: tally.failure,
            },
            failure_details: tally
                .failures
                .iter()
                .map(|(failure, count)| Detail {
                    failure,
                    failed_session_count: *count,
                })
                .collect(),
        });
        let file = File {
            organization_name: &self.sender.organization,
            date_range: DateRange {
                start_datetime,
                end_datetime,
            },
            contact_info: &self.sender.contact,
            report_id: self.id(),
            policies: policies.collect(),
        };
        // Strings, numbers and lists only: serde_json has nothing to fail on.
        serde_json::to_string(&file).unwrap_or_default()
    }

    /// The report, compressed (§5.2).
    pub fn gzip(&self) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        // A Vec takes all that is written to it.
        let written = encoder.write_all(self.to_json().as_bytes());
        written.and_then(|()| encoder.finish()).unwrap_or_default()
    }
}

fn other_failures(failure: &Failure) -> Failure {
    Failure {
        failure_reason_code: Some(OTHERS.to_owned()),
        ..Failure::bare(failure.result_type)
    }
}

fn policy_cost(policy: &Policy) -> usize {
    let lines = policy.string.iter().chain(&policy.mx_host);
    let texts: usize = lines.map(|l| l.len().saturating_add(24)).sum();
    texts.saturating_add(policy.domain.len()).saturating_add(ROW)
}

fn failure_cost(failure: &Failure) -> usize {
    let texts = [
        &failure.receiving_mx_hostname,
        &failure.receiving_mx_helo,
        &failure.additional_information,
        &failure.failure_reason_code,
    ];
    let texts: usize = texts.into_iter().flatten().map(String::len).sum();
    texts.saturating_add(ROW)
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct File<'a> {
    organization_name: &'a str,
    date_range: DateRange,
    contact_info: &'a str,
    report_id: String,
    policies: Vec<Row<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct DateRange {
    start_datetime: String,
    end_datetime: String,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Row<'a> {
    policy: &'a Policy,
    summary: Summary,
    failure_details: Vec<Detail<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Summary {
    total_successful_session_count: u64,
    total_failure_session_count: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Detail<'a> {
    #[serde(flatten)]
    failure: &'a Failure,
    failed_session_count: u64,
}
