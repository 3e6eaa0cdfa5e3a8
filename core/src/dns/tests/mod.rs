//! The stub resolver against scripted servers.

use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::rdata::{A, AAAA, MX, SRV, TLSA, TXT};
use super::server::{mx, wire, Query, Server};
use super::{Asking, Lookup, Proof, RawAnswer, Resolver};
use crate::sys::Deadline;
use crate::{Error, Word};

mod answers;
mod servers;

const CNAME: u16 = 5;
const AD: u16 = 0x20;
const TC: u16 = 0x200;
const NXDOMAIN: u16 = 3;
const SERVFAIL: u16 = 2;
const REFUSED: u16 = 5;
const FORMERR: u16 = 1;

const ONE: [u8; 4] = [192, 0, 2, 1];

fn resolver(servers: &[&Server]) -> Resolver {
    let list: Vec<String> = servers.iter().map(|s| s.at.to_string()).collect();
    Resolver::parse(&list.join(",")).unwrap()
}

fn asking(resolver: &Resolver) -> Asking<'_> {
    Asking::new(resolver, Deadline::after(Some(Duration::from_secs(10))), None)
}

fn no_answer(_: &Query) -> Vec<Vec<u8>> {
    Vec::new()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn failed<T: std::fmt::Debug>(result: crate::Result<T>, word: Word, why: &str) -> Error {
    let e = result.unwrap_err();
    assert_eq!(e.word(), word, "{e}");
    assert!(e.message().contains(why), "{e}");
    e
}
