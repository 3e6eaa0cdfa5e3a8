//! The data of the records that this library asks for, from the wire. What does not parse fails the whole answer:
//! to leave one record out could leave out the one that binds.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use domain::base::{ParsedName, Rtype};
use domain::dep::octseq::Parser;
use domain::rdata;

use super::message::text;
use super::{Mx, Srv, Tlsa};

pub(super) const A: u16 = Rtype::A.to_int();
pub(super) const AAAA: u16 = Rtype::AAAA.to_int();
pub(super) const MX: u16 = Rtype::MX.to_int();
pub(super) const SRV: u16 = Rtype::SRV.to_int();
pub(super) const TLSA: u16 = Rtype::TLSA.to_int();
pub(super) const TXT: u16 = Rtype::TXT.to_int();

/// An address of either family.
pub(super) fn address(data: &[u8]) -> Option<IpAddr> {
    match data.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?).into()),
        16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(data).ok()?).into()),
        _ => None,
    }
}

pub(super) fn mx(data: &[u8]) -> Option<Mx> {
    let mx = whole(data, rdata::Mx::<ParsedName<&[u8]>>::parse)?;
    Some(Mx {
        preference: mx.preference(),
        exchange: text(mx.exchange()),
    })
}

pub(super) fn srv(data: &[u8]) -> Option<Srv> {
    let srv = whole(data, rdata::Srv::<ParsedName<&[u8]>>::parse)?;
    Some(Srv {
        priority: srv.priority(),
        weight: srv.weight(),
        port: srv.port(),
        target: text(srv.target()),
    })
}

pub(super) fn tlsa(data: &[u8]) -> Option<Tlsa> {
    let (&[usage, selector, matching], data) = data.split_first_chunk()?;
    Some(Tlsa {
        usage,
        selector,
        matching,
        data: data.to_vec(),
    })
}

/// The character-strings joined, as RFC 8461 §3.1 and RFC 8460 §3 want them.
pub(super) fn txt(data: &[u8]) -> Option<Vec<u8>> {
    let txt = whole(data, rdata::Txt::<&[u8]>::parse)?;
    Some(txt.iter().flatten().copied().collect())
}

/// Parses all of the data, nothing left over.
fn whole<'a, T, E>(
    data: &'a [u8],
    parse: impl FnOnce(&mut Parser<'a, [u8]>) -> std::result::Result<T, E>,
) -> Option<T> {
    let mut parser = Parser::from_ref(data);
    let parsed = parse(&mut parser).ok()?;
    (parser.remaining() == 0).then_some(parsed)
}
