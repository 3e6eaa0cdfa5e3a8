//! The policy file: which hosts take the domain's mail, and whether a sender must insist on it (RFC 8461 §3.2).
//!
//! ```text
//! version: STSv1
//! mode: enforce
//! mx: mail.example.com
//! mx: *.example.net
//! max_age: 604800
//! ```
//!
//! Where the grammar leaves a choice the reader takes what protects: a line that is blank, which the grammar
//! does not know and many files end with, is passed over; a line that is no `name: value` spoils the file.

use std::fmt;
use std::time::Duration;

use super::record::is_name;
use crate::name::ServerName;
use crate::outcome::StsMode;
use crate::text::printable;

/// The size that §3.3 suggests to accept.
pub(crate) const MAX_SIZE: usize = 64 * 1024;

/// A year, the longest that §3.2 allows.
const MAX_AGE: u64 = 31_557_600;

/// More patterns than any domain has hosts for.
const MAX_PATTERNS: usize = 256;
const MAX_LINES: usize = 512;

/// A policy, from whatever place: what §3.2 makes of the file, or an entry of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StsPolicy {
    pub(crate) mode: StsMode,
    /// How long it holds from the moment when it was fetched.
    pub(crate) max_age: Duration,
    /// Not empty, unless the mode is `none`.
    pub(crate) mx: Vec<Pattern>,
    /// For reports (RFC 8460 §4.2, `policy-string`): its lines, printable.
    pub(crate) lines: Vec<String>,
}

impl StsPolicy {
    /// Reads the file. The error says what is wrong with it.
    pub(crate) fn parse(file: &[u8]) -> Result<Self, String> {
        if file.len() > MAX_SIZE {
            return Err("the policy is over 64 KiB".to_owned());
        }
        let text = std::str::from_utf8(file).map_err(|_| "the policy is not UTF-8".to_owned())?;
        let (mut version, mut mode, mut max_age) = (None, None, None);
        let mut this = Self {
            mode: StsMode::None,
            max_age: Duration::ZERO,
            mx: Vec::new(),
            lines: Vec::new(),
        };
        for line in text.split('\n') {
            let line = line.strip_suffix('\r').unwrap_or(line).trim_end_matches(SPACES);
            if line.is_empty() {
                continue;
            }
            if this.lines.len() >= MAX_LINES {
                return Err(format!("the policy has over {MAX_LINES} lines"));
            }
            this.lines.push(printable(line.as_bytes()));
            let (name, value) = field(line)?;
            // All but the first of a field that is there twice are ignored, and so are unknown ones.
            match name {
                "version" if version.is_none() => version = Some(value),
                "mode" if mode.is_none() => mode = Some(value),
                "max_age" if max_age.is_none() => max_age = Some(value),
                "mx" if this.mx.len() >= MAX_PATTERNS => {
                    return Err(format!("the policy has over {MAX_PATTERNS} mx patterns"));
                }
                "mx" => this.mx.push(Pattern::parse(value)?),
                _ => {}
            }
        }
        let said = |value: &str| printable(value.as_bytes());
        match version {
            Some("STSv1") => {}
            Some(other) => return Err(format!("version \"{}\" is not STSv1", said(other))),
            None => return Err("the policy has no version".to_owned()),
        }
        this.mode = match mode {
            Some("enforce") => StsMode::Enforce,
            Some("testing") => StsMode::Testing,
            Some("none") => StsMode::None,
            Some(other) => return Err(format!("mode \"{}\" is unknown", said(other))),
            None => return Err("the policy has no mode".to_owned()),
        };
        let seconds = max_age.ok_or("the policy has no max_age")?;
        this.max_age = Some(seconds)
            .filter(|s| s.len() <= 10 && s.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|s| s.parse().ok())
            .filter(|s| *s <= MAX_AGE)
            .map(Duration::from_secs)
            .ok_or_else(|| format!("max_age \"{}\" is no number from 0 to {MAX_AGE}", said(seconds)))?;
        if this.mx.is_empty() && this.mode != StsMode::None {
            return Err("the policy names no mx".to_owned());
        }
        Ok(this)
    }

    /// The pattern that names this host (§4.1); `None` if the policy does not.
    pub(crate) fn matching(&self, host: &str) -> Option<&Pattern> {
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        self.mx.iter().find(|pattern| pattern.matches(&host))
    }
}

const SPACES: [char; 2] = [' ', '\t'];

/// The two halves of a line.
fn field(line: &str) -> Result<(&str, &str), String> {
    let wrong = |what: &str| format!("line \"{}\" {what}", printable(line.as_bytes()));
    let (name, value) = line
        .split_once(':')
        .ok_or_else(|| wrong("is no field name: value"))?;
    if !is_name(name.as_bytes()) {
        return Err(wrong("has no name that a field may have"));
    }
    let value = value.trim_start_matches(SPACES);
    if value.is_empty() || value.bytes().any(|b| b.is_ascii_control()) {
        return Err(wrong("has no value that a field may have"));
    }
    Ok((name, value))
}

/// Which hosts are meant. Names are lower-case A-labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pattern {
    /// This one.
    Host(String),
    /// All with one label more than this: `*.example.net`.
    OneBelow(String),
    /// All that end so, however deep: `.example.net` in a STARTTLS Everywhere list, not in MTA-STS.
    AllBelow(String),
}

impl Pattern {
    /// Reads a value of `mx`: a domain of RFC 5321, A-labels only, with `*.` before it or not.
    pub(crate) fn parse(value: &str) -> Result<Self, String> {
        let (domain, wildcard) = match value.strip_prefix("*.") {
            Some(domain) => (domain, true),
            None => (value, false),
        };
        let wrong = |why: &str| format!("mx pattern \"{}\" {why}", printable(value.as_bytes()));
        if !domain.is_ascii() {
            return Err(wrong("is not in A-labels"));
        }
        if domain.ends_with('.') {
            return Err(wrong("ends in a dot"));
        }
        match ServerName::parse(domain) {
            Ok(ServerName::Dns(name)) if wildcard => Ok(Self::OneBelow(name)),
            Ok(ServerName::Dns(name)) => Ok(Self::Host(name)),
            Ok(ServerName::Ip(_)) => Err(wrong("is an address, not a name")),
            Err(_) => Err(wrong("is no domain name")),
        }
    }

    fn matches(&self, host: &str) -> bool {
        match self {
            Self::Host(name) => host == name,
            // RFC 8461 §4.1 with RFC 6125 §6.4.3: the wildcard is the whole left-most label.
            Self::OneBelow(parent) => host
                .split_once('.')
                .is_some_and(|(label, rest)| !label.is_empty() && rest == parent),
            Self::AllBelow(parent) => host
                .strip_suffix(parent.as_str())
                .and_then(|below| below.strip_suffix('.'))
                .is_some_and(|below| !below.is_empty()),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(name) => f.write_str(name),
            Self::OneBelow(parent) => write!(f, "*.{parent}"),
            Self::AllBelow(parent) => write!(f, ".{parent}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::cases;

    #[test]
    fn good_policies() {
        for case in cases("mta_sts/good", "policy", 25) {
            let policy =
                StsPolicy::parse(&case.input).unwrap_or_else(|e| panic!("{}: {e}", case.file.display()));
            let mut found = format!("{:?} {}", policy.mode, policy.max_age.as_secs()).to_lowercase();
            for pattern in &policy.mx {
                found.push_str(&format!(" {pattern}"));
            }
            assert_eq!(found, case.expected, "{}", case.file.display());
        }
    }

    #[test]
    fn bad_policies() {
        for case in cases("mta_sts/bad", "policy", 25) {
            let error = StsPolicy::parse(&case.input).expect_err(&case.file.display().to_string());
            assert!(error.contains(&case.expected), "{}: {error}", case.file.display());
        }
    }

    #[test]
    fn what_is_too_much_is_refused() {
        let head = "version: STSv1\nmode: enforce\nmax_age: 1\nmx: a.test\n";
        let with = |more: String| StsPolicy::parse(format!("{head}{more}").as_bytes());
        assert!(with("mx: a.test\n".repeat(MAX_PATTERNS - 1)).is_ok());
        let e = with("mx: a.test\n".repeat(MAX_PATTERNS)).unwrap_err();
        assert!(e.contains("patterns"), "{e}");
        assert!(with("a: b\n".repeat(MAX_LINES - 4)).is_ok());
        assert!(with("a: b\n".repeat(MAX_LINES - 3))
            .unwrap_err()
            .contains("lines"));
        assert!(with("\n".repeat(MAX_SIZE - head.len())).is_ok());
        assert!(with("\n".repeat(MAX_SIZE)).unwrap_err().contains("64 KiB"));
    }

    #[test]
    fn hosts_that_a_policy_names() {
        let text = "version: STSv1\nmode: enforce\nmx: Mail.example.com\nmx: *.example.net\nmax_age: 1\n";
        let mut policy = StsPolicy::parse(text.as_bytes()).unwrap();
        let named = |policy: &StsPolicy, host: &str| policy.matching(host).map(ToString::to_string);
        for (host, pattern) in [
            ("mail.example.com", Some("mail.example.com")),
            ("MAIL.Example.COM.", Some("mail.example.com")),
            ("mx.example.net", Some("*.example.net")),
            ("example.com", None),
            ("a.mail.example.com", None),
            ("example.net", None),
            (".example.net", None),
            ("a.b.example.net", None),
            ("mxexample.net", None),
            ("", None),
        ] {
            assert_eq!(named(&policy, host).as_deref(), pattern, "{host}");
        }
        policy.mx = vec![Pattern::AllBelow("example.org".into())];
        for (host, matches) in [
            ("a.example.org", true),
            ("a.b.example.org", true),
            ("example.org", false),
            (".example.org", false),
            ("aexample.org", false),
        ] {
            assert_eq!(policy.matching(host).is_some(), matches, "{host}");
        }
        assert_eq!(policy.mx[0].to_string(), ".example.org");
    }

    #[test]
    fn the_lines_are_kept_for_reports() {
        let text = "version: STSv1\r\nmode: none \r\nmax_age: 1\r\nnote: \u{202e}x\r\n\r\n";
        let policy = StsPolicy::parse(text.as_bytes()).unwrap();
        let lines = [
            "version: STSv1",
            "mode: none",
            "max_age: 1",
            "note: \\xe2\\x80\\xaex",
        ];
        assert_eq!(policy.lines, lines);
    }
}
