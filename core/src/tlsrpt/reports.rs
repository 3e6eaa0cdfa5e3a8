//! All reports of one period, as a fold over events. Several processes may fold for themselves and be merged:
//! the sums are the same in every order.
//!
//! Memory is bounded. What has no room is still counted: a failure without its details, a policy without its
//! text, both in rows that say so; only sessions to domains for which not even that is left are in no report.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::event::Event;
use super::period::Period;
use super::record::is_address;
use super::report::{Report, Sender};
use crate::error::{Error, Result};
use crate::name::ServerName;

const LIMIT: usize = 64 * 1024 * 1024;

/// The reports of one period, one for each domain. Events have no time of their own: at the end of the period the
/// reports are sent, after some hours (§4.1), and others begun.
#[derive(Clone, Debug)]
pub struct Reports {
    sender: Arc<Sender>,
    reports: BTreeMap<String, Report>,
    limit: usize,
    bytes: usize,
    dropped: u64,
}

impl Reports {
    /// An empty fold. The organization is for people; the contact is a mail address whose domain is told to be
    /// the one that reports, and which must be the one that signs the mail (§3, §5.1).
    ///
    /// # Errors
    /// `invalid` if either cannot be used.
    pub fn new(organization: &str, contact: &str, period: Period) -> Result<Self> {
        if organization.trim().is_empty() || organization.chars().any(char::is_control) {
            return Err(Error::invalid(
                "a TLS report names the organization that sends it",
            ));
        }
        let domain = contact.rsplit_once('@').filter(|_| is_address(contact));
        let submitter = domain.and_then(|(_, domain)| ServerName::parse(domain).ok());
        let Some(submitter) = submitter else {
            return Err(Error::invalid(format!(
                "the contact of a TLS report is a mail address, not \"{}\"",
                crate::text::printable(contact.as_bytes())
            )));
        };
        Ok(Self {
            sender: Arc::new(Sender {
                organization: organization.to_owned(),
                contact: contact.to_owned(),
                submitter: submitter.to_string(),
                unique_id: None,
                period,
            }),
            reports: BTreeMap::new(),
            limit: LIMIT,
            bytes: 0,
            dropped: 0,
        })
    }

    /// Tells these reports from others of the same sender and period, such as another machine's: letters and
    /// digits, for the file name and the report's id. To be called before the first event is added.
    ///
    /// # Errors
    /// `invalid` for anything else.
    pub fn unique_id(mut self, id: &str) -> Result<Self> {
        if !(1..=64).contains(&id.len()) || !id.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(Error::invalid(
                "the unique id of a TLS report is 1 to 64 letters and digits",
            ));
        }
        if !self.reports.is_empty() {
            return Err(Error::invalid("the unique id is set before the first event"));
        }
        Arc::make_mut(&mut self.sender).unique_id = Some(id.to_owned());
        Ok(self)
    }

    /// About how many bytes all reports together may take; 64 MiB if not set.
    #[must_use]
    pub fn limit(mut self, bytes: usize) -> Self {
        self.limit = bytes;
        self
    }

    /// Adds one session.
    pub fn add(&mut self, event: &Event) {
        let Some((report, mut room)) = self.report(event) else {
            self.dropped = self.dropped.saturating_add(1);
            return;
        };
        let mut used: usize = 0;
        for result in &event.policies {
            let cost = report.add(result, room);
            room = room.saturating_sub(cost);
            used = used.saturating_add(cost);
        }
        self.bytes = self.bytes.saturating_add(used);
    }

    /// Adds what another process has folded.
    ///
    /// # Errors
    /// `invalid` if the other is of another sender or period.
    pub fn merge(&mut self, other: Self) -> Result<()> {
        if self.sender != other.sender {
            return Err(Error::invalid(
                "TLS reports of different senders or periods cannot be merged",
            ));
        }
        self.dropped = self.dropped.saturating_add(other.dropped);
        for (_, theirs) in other.reports {
            let (domain, record) = (theirs.domain, theirs.record);
            let empty = Event {
                domain,
                record,
                policies: Vec::new(),
            };
            let Some((report, mut room)) = self.report(&empty) else {
                let sessions = theirs.policies.values().map(|t| t.sessions());
                self.dropped = sessions.fold(self.dropped, u64::saturating_add);
                continue;
            };
            let mut used: usize = 0;
            for (policy, tally) in theirs.policies {
                let cost = report.merge(&policy, tally, room);
                room = room.saturating_sub(cost);
                used = used.saturating_add(cost);
            }
            self.bytes = self.bytes.saturating_add(used);
        }
        Ok(())
    }

    /// The report of an event's domain, and how many bytes are left for all.
    fn report(&mut self, event: &Event) -> Option<(&mut Report, usize)> {
        if !self.reports.contains_key(&event.domain) {
            let bytes = self.bytes.saturating_add(Report::cost(event));
            if bytes > self.limit {
                return None;
            }
            self.bytes = bytes;
            let report = Report::new(self.sender.clone(), &event.domain, &event.record);
            self.reports.insert(event.domain.clone(), report);
        }
        let room = self.limit.saturating_sub(self.bytes);
        let report = self.reports.get_mut(&event.domain)?;
        // RFC 8460 does not say which record counts if it changes in the period; the newest is where the domain
        // looks today.
        report.record.clone_from(&event.record);
        Some((report, room))
    }

    /// The reports, by domain.
    pub fn iter(&self) -> impl Iterator<Item = &Report> {
        self.reports.values()
    }

    /// Whether there is nothing to report.
    pub fn is_empty(&self) -> bool {
        self.reports.is_empty()
    }

    /// Sessions that are in no report, because there was no room for another domain.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

/// The reports, by domain.
impl IntoIterator for Reports {
    type Item = Report;
    type IntoIter = std::collections::btree_map::IntoValues<String, Report>;

    fn into_iter(self) -> Self::IntoIter {
        self.reports.into_values()
    }
}

#[cfg(test)]
#[path = "reports_tests.rs"]
mod tests;
