//! DNS messages taken apart so that an attacker can change them (RFC 1035 §4): names are kept whole, without
//! compression, so that a record may go away without taking others' names with it.

pub const A: u16 = 1;
pub const CNAME: u16 = 5;
pub const MX: u16 = 15;
pub const TXT: u16 = 16;
pub const AAAA: u16 = 28;
pub const DS: u16 = 43;
pub const RRSIG: u16 = 46;
pub const DNSKEY: u16 = 48;
pub const TLSA: u16 = 52;
const NS: u16 = 2;
const SOA: u16 = 6;
const OPT: u16 = 41;

const QR: u16 = 0x8000;
const TC: u16 = 0x0200;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// As on the wire, in lower case.
    pub name: Vec<u8>,
    pub kind: u16,
    pub class: u16,
    pub ttl: u32,
    pub data: Vec<u8>,
}

/// A message with one question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub id: u16,
    pub flags: u16,
    pub name: Vec<u8>,
    pub kind: u16,
    pub answer: Vec<Record>,
    pub authority: Vec<Record>,
    pub additional: Vec<Record>,
}

impl Record {
    pub fn new(name: &[u8], kind: u16, data: Vec<u8>) -> Self {
        Self {
            name: name.to_vec(),
            kind,
            class: 1,
            ttl: 300,
            data,
        }
    }

    fn parse(bytes: &[u8], at: &mut usize) -> Option<Self> {
        let name = name_at(bytes, at)?;
        let (kind, class) = (u16_at(bytes, at)?, u16_at(bytes, at)?);
        let ttl = u32::from(u16_at(bytes, at)?) << 16 | u32::from(u16_at(bytes, at)?);
        let length = usize::from(u16_at(bytes, at)?);
        let end = *at + length;
        let raw = bytes.get(*at..end)?;
        // Names in these may be compressed.
        let data = match kind {
            NS | CNAME => name_at(bytes, &mut at.clone())?,
            MX => [&raw[..2], &name_at(bytes, &mut (*at + 2))?].concat(),
            SOA => {
                let mut inner = *at;
                let names = [name_at(bytes, &mut inner)?, name_at(bytes, &mut inner)?].concat();
                [&names, bytes.get(inner..end)?].concat()
            }
            _ => raw.to_vec(),
        };
        *at = end;
        Some(Self {
            name,
            kind,
            class,
            ttl,
            data,
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend(&self.name);
        out.extend(self.kind.to_be_bytes());
        out.extend(self.class.to_be_bytes());
        out.extend(self.ttl.to_be_bytes());
        out.extend(u16::try_from(self.data.len()).unwrap().to_be_bytes());
        out.extend(&self.data);
    }
}

impl Message {
    /// `None` for what is not a message with one question.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut at = 0;
        let mut head = [0; 6];
        for word in &mut head {
            *word = u16_at(bytes, &mut at)?;
        }
        if head[2] != 1 {
            return None;
        }
        let name = name_at(bytes, &mut at)?;
        let kind = u16_at(bytes, &mut at)?;
        at += 2;
        let mut section = |count: u16| -> Option<Vec<Record>> {
            (0..count).map(|_| Record::parse(bytes, &mut at)).collect()
        };
        Some(Self {
            id: head[0],
            flags: head[1],
            name,
            kind,
            answer: section(head[3])?,
            authority: section(head[4])?,
            additional: section(head[5])?,
        })
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let sections = [&self.answer, &self.authority, &self.additional];
        out.extend(self.id.to_be_bytes());
        out.extend(self.flags.to_be_bytes());
        out.extend([0, 1]);
        for section in sections {
            out.extend(u16::try_from(section.len()).unwrap().to_be_bytes());
        }
        out.extend(&self.name);
        out.extend(self.kind.to_be_bytes());
        out.extend([0, 1]);
        sections
            .into_iter()
            .flatten()
            .for_each(|record| record.write(&mut out));
        out
    }

    /// To this query: this code (RFC 1035 §4.1.1) and nothing else.
    pub fn bare(&self, code: u16) -> Self {
        let mut reply = self.clone();
        reply.flags = QR | (self.flags & 0x0110) | code;
        (reply.answer, reply.authority) = (Vec::new(), Vec::new());
        reply
    }

    /// All sections but OPT, which is no record.
    pub fn records(&mut self) -> impl Iterator<Item = &mut Record> {
        let additional = self.additional.iter_mut().filter(|record| record.kind != OPT);
        self.answer
            .iter_mut()
            .chain(&mut self.authority)
            .chain(additional)
    }

    pub fn retain(&mut self, keep: impl Fn(&Record) -> bool) {
        for section in [&mut self.answer, &mut self.authority, &mut self.additional] {
            section.retain(&keep);
        }
    }

    /// Whether the asker wants signatures (RFC 3225).
    pub fn set_dnssec_ok(&mut self, wanted: bool) {
        for record in self.additional.iter_mut().filter(|record| record.kind == OPT) {
            record.ttl = record.ttl & !0x8000 | if wanted { 0x8000 } else { 0 };
        }
    }

    /// How long an answer over UDP may be.
    pub fn udp_size(&self) -> usize {
        let opt = self.additional.iter().find(|record| record.kind == OPT);
        opt.map_or(512, |record| usize::from(record.class.max(512)))
    }

    pub fn is_truncated(&self) -> bool {
        self.flags & TC != 0
    }

    /// Nothing but "ask again over TCP".
    pub fn truncated(&self) -> Self {
        let mut short = self.bare(0);
        short.flags |= TC;
        short
    }
}

/// A name as on the wire.
pub fn wire(name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        out.push(u8::try_from(label.len()).unwrap());
        out.extend(label.as_bytes());
    }
    out.push(0);
    out
}

/// A name as people write it, without the last dot.
pub fn text(name: &[u8]) -> String {
    let mut labels = Vec::new();
    let mut rest = name;
    while let [length, tail @ ..] = rest {
        if *length == 0 {
            break;
        }
        let (label, tail) = tail.split_at(usize::from(*length));
        labels.push(String::from_utf8_lossy(label).into_owned());
        rest = tail;
    }
    labels.join(".")
}

fn u16_at(bytes: &[u8], at: &mut usize) -> Option<u16> {
    let word = bytes.get(*at..*at + 2)?;
    *at += 2;
    Some(u16::from_be_bytes([word[0], word[1]]))
}

fn name_at(bytes: &[u8], at: &mut usize) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut here = *at;
    let mut jumped = false;
    for _ in 0..200 {
        let length = usize::from(*bytes.get(here)?);
        match length {
            0 => {
                out.push(0);
                if !jumped {
                    *at = here + 1;
                }
                return Some(out);
            }
            1..=63 => {
                out.extend(bytes.get(here..=here + length)?.to_ascii_lowercase());
                here += 1 + length;
            }
            _ => {
                if !jumped {
                    *at = here + 2;
                }
                jumped = true;
                here = (length & 63) << 8 | usize::from(*bytes.get(here + 1)?);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_out_whole() {
        // A question for a.test MX, answered by 10 b.a.test with pointers.
        let mut bytes = vec![0, 7, 0x80, 0, 0, 1, 0, 1, 0, 0, 0, 0];
        bytes.extend(wire("A.test"));
        bytes.extend([0, 15, 0, 1]);
        bytes.extend([0xc0, 12, 0, 15, 0, 1, 0, 0, 0, 60, 0, 6, 0, 10, 1, b'b', 0xc0, 12]);
        let message = Message::parse(&bytes).unwrap();
        assert_eq!(text(&message.name), "a.test");
        let record = &message.answer[0];
        assert_eq!((record.kind, record.ttl), (MX, 60));
        assert_eq!(text(&record.name), "a.test");
        assert_eq!(text(&record.data[2..]), "b.a.test");
        assert_eq!(Message::parse(&message.to_bytes()), Some(message.clone()));
        let truncated = message.truncated();
        assert!(truncated.is_truncated() && truncated.answer.is_empty());
    }
}
