//! LDAP's extended operations (RFC 4511 §4.12): a request by its name, and the response.

use super::ber::{self, element, Reader};

const REQUEST: u8 = 0x77;
const REQUEST_NAME: u8 = 0x80;
const REQUEST_VALUE: u8 = 0x81;
const RESPONSE: u8 = 0x78;
const RESPONSE_NAME: u8 = 0x8a;
const CONTROLS: u8 = 0xa0;

/// A request without a value.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request<'a> {
    pub(crate) id: i32,
    pub(crate) name: &'a [u8],
}

/// A response; a referral or a value in it is passed over.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Response<'a> {
    pub(crate) id: i32,
    pub(crate) code: i32,
    pub(crate) diagnostic: &'a [u8],
    pub(crate) name: Option<&'a [u8]>,
}

impl<'a> Request<'a> {
    /// `None` also where it has a value, or a control that is critical: it cannot be obeyed.
    pub(crate) fn read(message: &'a [u8]) -> Option<Self> {
        let mut envelope = Reader::new(Reader::new(message).next(ber::SEQUENCE)?);
        let id = envelope.number(ber::INTEGER).filter(|id| *id > 0)?;
        let mut request = Reader::new(envelope.next(REQUEST)?);
        let name = request.next(REQUEST_NAME)?;
        let value = request.find(REQUEST_VALUE)?;
        let controls = envelope.find(CONTROLS)?.unwrap_or_default();
        (value.is_none() && !any_critical(controls)?).then_some(Self { id, name })
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        envelope(
            self.id,
            &element(REQUEST, &[&element(REQUEST_NAME, &[self.name])]),
        )
    }
}

fn any_critical(controls: &[u8]) -> Option<bool> {
    let mut controls = Reader::new(controls);
    let mut critical = false;
    while !controls.is_empty() {
        let mut control = Reader::new(controls.next(ber::SEQUENCE)?);
        control.next(ber::OCTET_STRING)?; // controlType
        critical |= control.find(ber::BOOLEAN)?.is_some_and(|truth| truth != [0]);
    }
    Some(critical)
}

impl<'a> Response<'a> {
    pub(crate) fn read(message: &'a [u8]) -> Option<Self> {
        let mut envelope = Reader::new(Reader::new(message).next(ber::SEQUENCE)?);
        let id = envelope.number(ber::INTEGER)?;
        let mut response = Reader::new(envelope.next(RESPONSE)?);
        let code = response.number(ber::ENUMERATED)?;
        response.next(ber::OCTET_STRING)?; // matchedDN
        let diagnostic = response.next(ber::OCTET_STRING)?;
        let name = response.find(RESPONSE_NAME)?;
        Some(Self {
            id,
            code,
            diagnostic,
            name,
        })
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        let mut response = [
            element(ber::ENUMERATED, &[&number(self.code)]),
            element(ber::OCTET_STRING, &[]),
            element(ber::OCTET_STRING, &[self.diagnostic]),
        ]
        .concat();
        if let Some(name) = self.name {
            response.extend(element(RESPONSE_NAME, &[name]));
        }
        envelope(self.id, &element(RESPONSE, &[&response]))
    }
}

fn envelope(id: i32, operation: &[u8]) -> Vec<u8> {
    let id = element(ber::INTEGER, &[&number(id)]);
    element(ber::SEQUENCE, &[&id, operation])
}

/// A number that is not negative, in the shortest form: no zero before an octet without the sign bit.
fn number(n: i32) -> Vec<u8> {
    let octets = n.to_be_bytes();
    let pairs = octets.windows(2);
    let zeros = pairs.take_while(|w| matches!(w, [0, 0..=0x7f])).count();
    octets.into_iter().skip(zeros).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(id: &[u8], operation: &[&[u8]], controls: &[u8]) -> Vec<u8> {
        let operation = element(REQUEST, operation);
        element(ber::SEQUENCE, &[id, &operation, controls])
    }

    const ONE: &[u8] = b"\x02\x01\x01";
    const NAME: &[u8] = b"\x80\x031.2";

    #[test]
    fn message_ids() {
        for (written, id) in [
            (&b"\x02\x01\x01"[..], 1),
            (b"\x02\x02\x00\x80", 128),
            (b"\x02\x04\x00\x00\x00\x05", 5),
            (b"\x02\x04\x7f\xff\xff\xff", i32::MAX),
        ] {
            let read = Request { id, name: b"1.2" };
            assert_eq!(Request::read(&request(written, &[NAME], b"")), Some(read));
            let again = Request { id, name: b"1.2" }.write();
            assert_eq!(Request::read(&again).unwrap().id, id);
        }
        for bad in [
            &b"\x02\x01\x00"[..],
            b"\x02\x01\xff",
            b"\x02\x05\x01\x00\x00\x00\x00",
            b"",
        ] {
            assert_eq!(Request::read(&request(bad, &[NAME], b"")), None, "{bad:x?}");
        }
        assert_eq!(number(0), [0]);
        assert_eq!(number(127), [127]);
        assert_eq!(number(128), [0, 128]);
        assert_eq!(number(0x10000), [1, 0, 0]);
    }

    #[test]
    fn what_cannot_be_obeyed() {
        assert_eq!(Request::read(&request(ONE, &[], b"")), None);
        assert_eq!(Request::read(&request(ONE, &[NAME, b"\x81\x00"], b"")), None);
        assert_eq!(Request::read(b"\x30\x00"), None);
        let control = |more: &[u8]| {
            let control = element(ber::SEQUENCE, &[b"\x04\x031.2", more]);
            request(ONE, &[NAME], &element(CONTROLS, &[&control]))
        };
        for fine in [&b""[..], b"\x01\x01\x00\x04\x01x"] {
            assert!(Request::read(&control(fine)).is_some(), "{fine:x?}");
        }
        for bad in [&b"\x01\x01\xff"[..], b"\x01\x01\x01\x04\x01x", b"\x01\x09"] {
            assert_eq!(Request::read(&control(bad)), None, "{bad:x?}");
        }
    }

    #[test]
    fn responses_are_read_as_they_are_written() {
        for name in [None, Some(&b"1.2"[..])] {
            let response = Response {
                id: 7,
                code: 52,
                diagnostic: b"not now",
                name,
            };
            assert_eq!(Response::read(&response.write()), Some(response));
        }
        // A referral and a value are not looked at.
        let more = b"\x30\x12\x02\x01\x01\x78\x0d\x0a\x01\x0a\x04\x00\x04\x00\xa3\x00\x8b\x02hi";
        assert_eq!(Response::read(more).unwrap().code, 10);
        for bad in [
            // No resultCode; a diagnosticMessage that is cut off; another operation.
            &b"\x30\x09\x02\x01\x01\x78\x04\x04\x00\x04\x00"[..],
            b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x09",
            b"\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\x00\x04\x00\x04\x00",
        ] {
            assert_eq!(Response::read(bad), None, "{bad:x?}");
        }
    }
}
