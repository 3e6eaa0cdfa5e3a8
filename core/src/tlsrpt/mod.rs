//! What a receiving domain wants to hear of TLS with its mail servers (TLSRPT, RFC 8460).
//!
//! ```text
//! v=TLSRPTv1; rua=mailto:…       a domain asks for reports           -> Record
//! Outcome, attempts and error    one attempted session: how each
//!                                policy of the domain fared          -> Event
//! Event                          one datagram to a collector         -> Collector
//! Event + Event + …              one report per domain and day       -> Reports, Report
//! ```
//!
//! Either the events go to `tlsrpt-collectd`, whose `tlsrpt-reportd` sends the reports; or the program folds
//! them itself and mails or POSTs what [`Report::gzip`] gives. Children of a forking daemon write
//! [`Event::to_json`] lines, and one process folds them.
//!
//! ```no_run
//! use starttls::tlsrpt::{Collector, Period, Reports};
//! # fn events() -> Vec<starttls::tlsrpt::Event> { Vec::new() }
//!
//! let collector = Collector::new("/run/tlsrpt/collectd.sock")?;
//! let mut reports = Reports::new("Example Inc.", "tls@example.com", Period::day(std::time::SystemTime::now())?)?;
//! for event in events() {
//!     if let Err(e) = collector.send(&event) {
//!         eprintln!("{e}"); // the mail goes on
//!     }
//!     reports.add(&event);
//! }
//! for report in reports.iter() {
//!     let (name, bytes) = (report.file_name(), report.gzip());
//! }
//! # Ok::<(), starttls::Error>(())
//! ```

mod collector;
mod event;
mod period;
mod record;
mod report;
mod reports;
mod result;

pub use collector::Collector;
pub use event::{Event, Failure, Policy, PolicyResult, ResultType};
pub use period::Period;
pub use record::{Record, Rua};
pub use report::{Report, MEDIA_TYPE_GZIP, MEDIA_TYPE_JSON};
pub use reports::Reports;
