//! TLSRPT for tests in Python, which have the real collector: reads event lines.
//!
//! `tlsrpt send SOCKET` hands them to a collector; `tlsrpt report ORGANIZATION CONTACT TIME DIRECTORY` folds them,
//! as two processes would, into the reports of the day in which the Unix time lies.

use std::error::Error;
use std::io;
use std::path::Path;
use std::process::exit;
use std::time::{Duration, UNIX_EPOCH};

use starttls::tlsrpt::{Collector, Event, Period, Reports};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["send", socket] => send(socket),
        ["report", organization, contact, time, directory] => {
            report(organization, contact, time.parse()?, Path::new(directory))
        }
        _ => {
            eprintln!("usage: tlsrpt send SOCKET | report ORGANIZATION CONTACT TIME DIRECTORY <EVENTS");
            exit(2)
        }
    }
}

fn send(socket: &str) -> Result<(), Box<dyn Error>> {
    let collector = Collector::new(socket)?;
    for line in io::stdin().lines() {
        let event = Event::from_json(&line?)?;
        // A mail program would let it be lost; here each one is counted.
        while let Err(e) = collector.send(&event) {
            if e.os_error() != Some(libc::EAGAIN) {
                return Err(e.into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    Ok(())
}

fn report(organization: &str, contact: &str, time: u64, directory: &Path) -> Result<(), Box<dyn Error>> {
    let period = Period::day(UNIX_EPOCH + Duration::from_secs(time))?;
    let mut parts = [
        Reports::new(organization, contact, period)?,
        Reports::new(organization, contact, period)?,
    ];
    for (n, line) in io::stdin().lines().enumerate() {
        parts[n % 2].add(&Event::from_json(&line?)?);
    }
    let [mut whole, other] = parts;
    whole.merge(other)?;
    for report in whole.iter() {
        std::fs::write(directory.join(report.file_name()), report.gzip())?;
    }
    Ok(())
}
