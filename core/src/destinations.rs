//! What the caller knows of destinations and does not want to learn anew from each one's DNS: a file, read once.
//! Exim calls it hosts_require_tls, Postfix a TLS policy map.
//!
//! Two formats, told apart by the first byte that is no space: a `{` begins a STARTTLS Everywhere list (JSON;
//! [`list`]), anything else a table of lines ([`table`]):
//!
//! ```text
//! # destination           level        what goes with it
//! example.org             verify       name=mx.example.net
//! .example.org            encrypt      min-tls=1.3
//! [mail.example.com]:587  fingerprint  sha256=5b1f…
//! *                       may
//! ```
//!
//! The caller's word goes before what the domain itself asks for. Of several rows the nearest counts: the name
//! itself, then the longest `.parent`, then `*`.

mod list;
mod table;

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::SystemTime;

use crate::error::{Error, Result};
use crate::mta_sts::StsPolicy;
use crate::name::ServerName;
use list::List;
use table::Table;

pub(crate) use table::Entry;

/// Above any honest list: a hundred thousand rows.
const MAX_SIZE: u64 = 16 * 1024 * 1024;

/// A table or a list, as it was when it was loaded.
#[derive(Debug)]
pub(crate) struct Destinations(Kind);

#[derive(Debug)]
enum Kind {
    Table(Table),
    List(List),
}

/// Where the caller wants to go.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Destination<'a> {
    /// A mail domain, whose hosts DNS names.
    Domain(&'a str),
    /// A host that the caller has named, and the port.
    Host(&'a str, u16),
}

/// What the file says of a destination.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Row<'a> {
    /// The caller's own rule.
    Table(&'a Entry),
    /// An entry of a STARTTLS Everywhere list: the MX patterns and the mode of an MTA-STS policy, which holds
    /// where no MTA-STS policy is known.
    Listed(&'a StsPolicy),
}

impl Destinations {
    /// Reads the file. Every file that it names must be readable, too.
    ///
    /// # Errors
    /// `invalid` with the line and what to do about it; of a table the first ten faults.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        let shown = path.display();
        let unreadable = |e| Error::invalid(format!("destinations {shown} cannot be read: {e}"));
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(unreadable)?;
        file.take(MAX_SIZE.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(unreadable)?;
        if u64::try_from(bytes.len()).is_ok_and(|n| n > MAX_SIZE) {
            return Err(Error::invalid(format!("destinations {shown} is over 16 MiB")));
        }
        Self::parse(&bytes, path)
    }

    /// Reads what is in the file; paths in it count from its directory.
    pub(crate) fn parse(bytes: &[u8], path: &Path) -> Result<Self> {
        // What some editors put before UTF-8.
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let begins_as_json = bytes.trim_ascii_start().first() == Some(&b'{');
        Ok(Self(if begins_as_json {
            Kind::List(List::parse(bytes, path)?)
        } else {
            Kind::Table(Table::parse(bytes, path)?)
        }))
    }

    /// What the file says; `None` if nothing, or if it is a list that has expired by now.
    pub(crate) fn find(&self, destination: Destination<'_>, now: SystemTime) -> Option<Row<'_>> {
        match (&self.0, destination) {
            (Kind::Table(table), Destination::Domain(domain)) => {
                table.find(&ServerName::parse(domain).ok()?, None).map(Row::Table)
            }
            (Kind::Table(table), Destination::Host(host, port)) => table
                .find(&ServerName::parse(host).ok()?, Some(port))
                .map(Row::Table),
            (Kind::List(list), Destination::Domain(domain)) => match ServerName::parse(domain).ok()? {
                ServerName::Dns(name) => list.find(&name, now).map(Row::Listed),
                ServerName::Ip(_) => None,
            },
            // The list is of mail domains.
            (Kind::List(_), Destination::Host(..)) => None,
        }
    }

    /// For a note in each outcome: the list has expired, and says nothing any more.
    pub(crate) fn expired(&self, now: SystemTime) -> Option<String> {
        match &self.0 {
            Kind::Table(_) => None,
            Kind::List(list) => list.expired(now),
        }
    }
}

#[cfg(test)]
mod tests;
