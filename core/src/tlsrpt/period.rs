//! The time that a report covers: a full day of UTC (RFC 8460 §4.1), or what the caller says.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use humantime::format_rfc3339_seconds;

use crate::error::{Error, Result};

const DAY: u64 = 86_400;
/// The end of the year 9999, which is all that RFC 3339 can write.
const LAST: u64 = 253_402_300_799;

/// From the first to the last second that a report covers, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    begin: u64,
    end: u64,
}

impl Period {
    /// The day of UTC in which this time lies, 00:00:00 to 23:59:59.
    ///
    /// # Errors
    /// `invalid` for a time before 1970 or after 9999.
    pub fn day(time: SystemTime) -> Result<Self> {
        let time = seconds(time)?;
        let begin = time.saturating_sub(time.checked_rem(DAY).unwrap_or(0));
        Ok(Self {
            begin,
            end: begin.saturating_add(DAY).saturating_sub(1),
        })
    }

    /// Any other, to whole seconds.
    ///
    /// # Errors
    /// `invalid` if it ends before it begins, and as [`day`](Self::day).
    pub fn new(begin: SystemTime, end: SystemTime) -> Result<Self> {
        let (begin, end) = (seconds(begin)?, seconds(end)?);
        if end < begin {
            return Err(Error::invalid("the period of a report ends before it begins"));
        }
        Ok(Self { begin, end })
    }

    /// The first second, counted from 1970.
    pub fn begin(&self) -> u64 {
        self.begin
    }

    /// The last second, counted from 1970.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Both as RFC 3339 has them.
    pub(super) fn as_rfc3339(&self) -> [String; 2] {
        [self.begin, self.end].map(|s| {
            let time = UNIX_EPOCH.checked_add(Duration::from_secs(s));
            format_rfc3339_seconds(time.unwrap_or(UNIX_EPOCH)).to_string()
        })
    }
}

fn seconds(time: SystemTime) -> Result<u64> {
    let since = time.duration_since(UNIX_EPOCH).map(|d| d.as_secs());
    match since {
        Ok(seconds) if seconds <= LAST => Ok(seconds),
        _ => Err(Error::invalid(
            "the time of a report is not between 1970 and 9999",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_from_midnight_to_midnight_utc() {
        let at = |s| UNIX_EPOCH + Duration::from_secs(s);
        let day = Period::day(at(1_459_555_199)).unwrap();
        assert_eq!(day.as_rfc3339(), ["2016-04-01T00:00:00Z", "2016-04-01T23:59:59Z"]);
        assert_eq!(Period::day(at(1_459_468_800)).unwrap(), day);
        assert_ne!(Period::day(at(1_459_468_799)).unwrap(), day);
        assert_eq!(Period::new(at(day.begin()), at(day.end())).unwrap(), day);
        assert!(Period::new(at(2), at(1)).is_err());
        assert!(Period::day(UNIX_EPOCH - Duration::from_secs(1)).is_err());
        assert!(Period::day(at(LAST)).is_ok());
        assert!(Period::day(at(LAST + 1)).is_err());
    }
}
