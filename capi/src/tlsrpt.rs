//! TLS reports (RFC 8460): what happened goes to the standard collector, or is folded into reports of one's own.

use std::collections::VecDeque;
use std::ffi::{c_char, c_void, CString};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use starttls::tlsrpt::{Collector, Event, Period, Report, Reports};
use starttls::{Error, Result, Word};

use crate::error::starttls_error;
use crate::handle::{borrowed, c_string, free, get, give, invalid, path, text, Opaque};

/// Tells the TLSRPT collector at this Unix socket of one session: an event of `starttls_outcome_tlsrpt_event`, maybe
/// of another process. It does not wait. `io` if nobody is there or the collector does not keep up: this event is
/// lost, which is no reason to hold the mail back.
#[no_mangle]
pub unsafe extern "C" fn starttls_tlsrpt_send(
    socket: *const c_char,
    event: *const c_char,
    error: *mut *mut starttls_error,
) -> bool {
    guard!(error, {
        let collector = Collector::new(path(socket, "socket")?)?;
        let event = Event::from_json(text(event, "event")?)?;
        collector.send(&event).map(|()| true)
    })
}

/// The TLS reports of one period, for those who send their own: first events are added, then the reports are taken out one
/// by one.
///
///     starttls_reports *reports = starttls_reports_new("Example", "tls@example.org", begin, end, &error);
///     ... for each line that was written: starttls_reports_add(reports, line, &error);
///     while (starttls_reports_next(reports, &error)) {
///         ... mail or post starttls_reports_gzip(reports, &n) to starttls_reports_rua(reports, i)
///     }
///
/// Memory is bounded: what has no room is still counted, in rows that say so. Not for several threads at once.
pub struct starttls_reports {
    _opaque: [u8; 0],
}

impl Opaque for starttls_reports {
    type Inner = Mutex<Fold>;
    const NAME: &'static str = "starttls_reports";
    const MARK: u64 = 0x7374_746c_7372_7074;
}

pub(crate) enum Fold {
    /// `None` for a moment only.
    Open(Option<Reports>),
    Closed {
        left: VecDeque<Report>,
        current: Option<Box<Texts>>,
        dropped: u64,
    },
}

/// In a box: C has pointers into it.
pub(crate) struct Texts {
    domain: CString,
    file_name: CString,
    json: CString,
    gzip: Vec<u8>,
    headers: Vec<CString>,
    rua: Vec<CString>,
}

impl Texts {
    fn of(report: &Report) -> Box<Self> {
        let headers = report.headers();
        let rua = report.record().map(|record| record.rua).unwrap_or_default();
        Box::new(Self {
            domain: c_string(report.domain()),
            file_name: c_string(&report.file_name()),
            json: c_string(&report.to_json()),
            gzip: report.gzip(),
            headers: headers
                .iter()
                .map(|(name, value)| c_string(&format!("{name}: {value}")))
                .collect(),
            rua: rua.iter().map(|uri| c_string(&uri.to_string())).collect(),
        })
    }
}

unsafe fn fold<'a>(reports: *const starttls_reports) -> Result<MutexGuard<'a, Fold>> {
    // SAFETY: the caller's.
    unsafe { get(reports) }?
        .lock()
        .map_err(|_| Error::at_border(Word::Bug, "a fault in libstarttls has spoiled these reports"))
}

unsafe fn open<T>(
    reports: *mut starttls_reports,
    what: impl FnOnce(&mut Option<Reports>) -> Result<T>,
) -> Result<T> {
    // SAFETY: the caller's.
    match &mut *unsafe { fold(reports) }? {
        Fold::Open(reports) => what(reports),
        Fold::Closed { .. } => Err(invalid("these reports are being taken out, and take in no more")),
    }
}

unsafe fn current<T>(reports: *const starttls_reports, what: impl FnOnce(&Texts) -> T) -> Option<T> {
    // SAFETY: the caller's.
    match &*unsafe { fold(reports) }.ok()? {
        Fold::Closed { current, .. } => current.as_deref().map(what),
        Fold::Open(_) => None,
    }
}

fn time(seconds: i64) -> Result<SystemTime> {
    u64::try_from(seconds)
        .ok()
        .and_then(|s| UNIX_EPOCH.checked_add(Duration::from_secs(s)))
        .ok_or_else(|| invalid("the period of a report is in seconds since 1970"))
}

/// Reports of the time from `begin` to `end`, both included, in seconds since 1970: best a day of UTC, from
/// `t - t % 86400` to 86399 seconds after that. The organization is for people; the contact is a mail address whose
/// domain is the one that reports. `invalid` if one of them cannot be used.
#[no_mangle]
pub unsafe extern "C" fn starttls_reports_new(
    organization: *const c_char,
    contact: *const c_char,
    begin: i64,
    end: i64,
    error: *mut *mut starttls_error,
) -> *mut starttls_reports {
    guard!(error, {
        let organization = text(organization, "organization")?;
        let period = Period::new(time(begin)?, time(end)?)?;
        let reports = Reports::new(organization, text(contact, "contact")?, period)?;
        Ok(give(Mutex::new(Fold::Open(Some(reports)))))
    })
}

/// Tells these reports from others of the same sender and period, such as another machine's: 1 to 64 letters and digits. To
/// be set before the first event is added.
#[no_mangle]
pub unsafe extern "C" fn starttls_reports_set_unique_id(
    reports: *mut starttls_reports,
    id: *const c_char,
    error: *mut *mut starttls_error,
) -> bool {
    guard!(error, {
        let id = text(id, "unique id")?;
        open(reports, |reports| {
            // It is not lost if that fails.
            let changed = reports.clone().map(|r| r.unique_id(id)).transpose()?;
            *reports = changed;
            Ok(true)
        })
    })
}

/// About how many bytes the events may take together; 64 MiB if it is not set.
#[no_mangle]
pub unsafe extern "C" fn starttls_reports_set_limit(
    reports: *mut starttls_reports,
    bytes: usize,
    error: *mut *mut starttls_error,
) -> bool {
    guard!(
        error,
        open(reports, |reports| {
            *reports = reports.take().map(|r| r.limit(bytes));
            Ok(true)
        })
    )
}

/// Adds one session: an event of `starttls_outcome_tlsrpt_event`. `invalid` for anything else, such as a line that was cut
/// off when its writer was killed; the reports are as before then.
#[no_mangle]
pub unsafe extern "C" fn starttls_reports_add(
    reports: *mut starttls_reports,
    event: *const c_char,
    error: *mut *mut starttls_error,
) -> bool {
    guard!(error, {
        let event = text(event, "event")?;
        open(reports, |reports| {
            let event = Event::from_json(event)?;
            reports.iter_mut().for_each(|reports| reports.add(&event));
            Ok(true)
        })
    })
}

/// Sessions that are in no report, because there was no room for another domain.
#[no_mangle]
pub unsafe extern "C" fn starttls_reports_dropped(reports: *const starttls_reports) -> u64 {
    guard!(fold(reports).map_or(0, |fold| match &*fold {
        Fold::Open(reports) => reports.as_ref().map_or(0, Reports::dropped),
        Fold::Closed { dropped, .. } => *dropped,
    }))
}

/// Goes to the next report, one for each domain; false when there is no other. The first call ends the adding: events come
/// too late from then on.
#[no_mangle]
pub unsafe extern "C" fn starttls_reports_next(
    reports: *mut starttls_reports,
    error: *mut *mut starttls_error,
) -> bool {
    guard!(error, {
        let mut fold = fold(reports)?;
        if let Fold::Open(reports) = &mut *fold {
            let reports = reports.take();
            *fold = Fold::Closed {
                dropped: reports.as_ref().map_or(0, Reports::dropped),
                left: reports.into_iter().flatten().collect(),
                current: None,
            };
        }
        Ok(match &mut *fold {
            Fold::Closed { left, current, .. } => {
                *current = left.pop_front().as_ref().map(Texts::of);
                current.is_some()
            }
            Fold::Open(_) => false,
        })
    })
}

/// The domain that the current report is about and goes to. As all of the current report it is good until the next
/// `starttls_reports_next`; NULL where there is none.
#[no_mangle]
pub unsafe extern "C" fn starttls_reports_domain(reports: *const starttls_reports) -> *const c_char {
    guard!(current(reports, |c| c.domain.as_ptr()).unwrap_or(std::ptr::null()))
}

/// The name of the compressed report as a file (RFC 8460 section 5.1).
#[no_mangle]
pub unsafe extern "C" fn starttls_reports_file_name(reports: *const starttls_reports) -> *const c_char {
    guard!(current(reports, |c| c.file_name.as_ptr()).unwrap_or(std::ptr::null()))
}

/// The report (`application/tlsrpt+json`).
#[no_mangle]
pub unsafe extern "C" fn starttls_reports_json(reports: *const starttls_reports) -> *const c_char {
    guard!(current(reports, |c| c.json.as_ptr()).unwrap_or(std::ptr::null()))
}

/// The report compressed (`application/tlsrpt+gzip`), `*n` bytes.
#[no_mangle]
pub unsafe extern "C" fn starttls_reports_gzip(
    reports: *const starttls_reports,
    n: *mut usize,
) -> *const c_void {
    guard!({
        let gzip = current(reports, |c| (c.gzip.as_ptr().cast(), c.gzip.len()));
        let (bytes, length) = gzip.unwrap_or((std::ptr::null(), 0));
        match n.as_mut() {
            Some(n) => {
                *n = length;
                bytes
            }
            None => std::ptr::null(),
        }
    })
}

/// Where to send it: a `mailto:` or `https:` URI of the domain's record. The i-th, from 0; NULL past the end.
#[no_mangle]
pub unsafe extern "C" fn starttls_reports_rua(reports: *const starttls_reports, i: usize) -> *const c_char {
    guard!(current(reports, |c| borrowed(c.rua.get(i))).unwrap_or(std::ptr::null()))
}

/// The header fields that a mail with the report has beside the usual ones: Subject, TLS-Report-Domain,
/// TLS-Report-Submitter, each as `Name: value`. The i-th, from 0; NULL past the end. The mail is
/// `multipart/report; report-type="tlsrpt"`, a text for people and then the report, with a DKIM signature of the
/// contact's domain.
#[no_mangle]
pub unsafe extern "C" fn starttls_reports_header(
    reports: *const starttls_reports,
    i: usize,
) -> *const c_char {
    guard!(current(reports, |c| borrowed(c.headers.get(i))).unwrap_or(std::ptr::null()))
}

/// Frees the reports. NULL does nothing.
#[no_mangle]
pub unsafe extern "C" fn starttls_reports_free(reports: *mut starttls_reports) {
    guard!(free(reports))
}
