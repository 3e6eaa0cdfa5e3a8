//! For tests: a DNS server on loopback that says what a script wants, over UDP and TCP on one port.

#![allow(clippy::arithmetic_side_effects)]

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A question as it came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query {
    pub(crate) id: u16,
    pub(crate) name: String,
    pub(crate) kind: u16,
    pub(crate) ad: bool,
    pub(crate) cd: bool,
    pub(crate) edns: bool,
    pub(crate) tcp: bool,
}

impl Query {
    fn read(bytes: &[u8], tcp: bool) -> Self {
        let mut name = Vec::new();
        let mut at = 12;
        while bytes[at] != 0 {
            let end = at + 1 + usize::from(bytes[at]);
            name.push(String::from_utf8(bytes[at + 1..end].to_vec()).unwrap());
            at = end;
        }
        Self {
            id: u16::from_be_bytes([bytes[0], bytes[1]]),
            name: name.join("."),
            kind: u16::from_be_bytes([bytes[at + 1], bytes[at + 2]]),
            ad: bytes[3] & 0x20 != 0,
            cd: bytes[3] & 0x10 != 0,
            edns: bytes[11] != 0,
            tcp,
        }
    }

    /// An answer to it, empty so far.
    pub(crate) fn reply(&self) -> Message {
        Message {
            id: self.id,
            name: self.name.clone(),
            kind: self.kind,
            flags: 0x8180,
            answer: Vec::new(),
            authority: Vec::new(),
            error: None,
        }
    }

    /// The whole of an answer with these records, for `Server`.
    pub(crate) fn records(&self, records: &[(&str, u16, Vec<u8>)], ad: bool) -> Vec<Vec<u8>> {
        let mut reply = self.reply();
        reply.flags |= if ad { 0x20 } else { 0 };
        for (name, kind, data) in records {
            reply = reply.record(name, *kind, 300, data);
        }
        reply.sent()
    }
}

/// A message to be sent.
#[derive(Clone)]
pub(crate) struct Message {
    pub(crate) id: u16,
    pub(crate) name: String,
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    answer: Vec<Vec<u8>>,
    authority: Vec<Vec<u8>>,
    /// Extended error (RFC 8914).
    error: Option<u16>,
}

impl Message {
    pub(crate) fn flag(mut self, bits: u16) -> Self {
        self.flags |= bits;
        self
    }

    pub(crate) fn record(mut self, name: &str, kind: u16, ttl: u32, data: &[u8]) -> Self {
        self.answer.push(record(name, kind, ttl, data));
        self
    }

    /// The SOA of a denial.
    pub(crate) fn soa(mut self, zone: &str, ttl: u32, minimum: u32) -> Self {
        let mut data = [wire("ns.test"), wire("root.test"), vec![0; 16]].concat();
        data.extend(minimum.to_be_bytes());
        self.authority.push(record(zone, 6, ttl, &data));
        self
    }

    pub(crate) fn error(mut self, code: u16) -> Self {
        self.error = Some(code);
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let count = |n: usize| u16::try_from(n).unwrap();
        for number in [
            self.id,
            self.flags,
            1,
            count(self.answer.len()),
            count(self.authority.len()),
            u16::from(self.error.is_some()),
        ] {
            bytes.extend(number.to_be_bytes());
        }
        bytes.extend(wire(&self.name));
        bytes.extend(self.kind.to_be_bytes());
        bytes.extend([0, 1]);
        bytes.extend(self.answer.concat());
        bytes.extend(self.authority.concat());
        if let Some(code) = self.error {
            bytes.extend([0, 0, 41, 4, 0xd0, 0, 0, 0, 0, 0, 8, 0, 15, 0, 4]);
            bytes.extend(code.to_be_bytes());
            bytes.extend(b"\x1b!");
        }
        bytes
    }

    /// As all that a script wants to send.
    pub(crate) fn sent(&self) -> Vec<Vec<u8>> {
        vec![self.bytes()]
    }
}

fn record(name: &str, kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = wire(name);
    bytes.extend(kind.to_be_bytes());
    bytes.extend([0, 1]);
    bytes.extend(ttl.to_be_bytes());
    bytes.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
    bytes.extend(data);
    bytes
}

/// A name on the wire.
pub(crate) fn wire(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.').filter(|l| !l.is_empty()) {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes
}

/// The data of an MX record.
pub(crate) fn mx(preference: u16, exchange: &str) -> Vec<u8> {
    [preference.to_be_bytes().to_vec(), wire(exchange)].concat()
}

type Script = Box<dyn FnMut(&Query) -> Vec<Vec<u8>> + Send>;

/// Stops when it is dropped.
pub(crate) struct Server {
    pub(crate) at: SocketAddr,
    asked: Arc<Mutex<Vec<Query>>>,
    over: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Server {
    /// The script says what is sent for a query: any number of packets over UDP; over TCP each with its length before
    /// it, octet by octet.
    pub(crate) fn start(script: impl FnMut(&Query) -> Vec<Vec<u8>> + Send + 'static) -> Self {
        // A port that is free for both.
        let (udp, tcp) = std::iter::repeat_with(|| {
            let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
            let tcp = TcpListener::bind(udp.local_addr().unwrap());
            tcp.map(|tcp| (udp, tcp))
        })
        .find_map(Result::ok)
        .unwrap();
        let at = udp.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let over = Arc::new(AtomicBool::new(false));
        let script: Arc<Mutex<Script>> = Arc::new(Mutex::new(Box::new(script)));
        let hear = {
            let (asked, over) = (asked.clone(), over.clone());
            move |bytes: &[u8], tcp| {
                if over.load(Ordering::SeqCst) {
                    return None;
                }
                let query = Query::read(bytes, tcp);
                asked.lock().unwrap().push(query.clone());
                Some((script.lock().unwrap())(&query))
            }
        };
        let hear_tcp = hear.clone();
        let over_udp = over.clone();
        let by_udp = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            udp.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            while !over_udp.load(Ordering::SeqCst) {
                let Ok((n, from)) = udp.recv_from(&mut buffer) else {
                    continue;
                };
                for packet in hear(&buffer[..n], false).into_iter().flatten() {
                    udp.send_to(&packet, from).ok();
                }
            }
        });
        let over_tcp = over.clone();
        let by_tcp = std::thread::spawn(move || {
            while let Ok((mut stream, _)) = tcp.accept() {
                if over_tcp.load(Ordering::SeqCst) {
                    return;
                }
                stream.set_nodelay(true).unwrap();
                let mut length = [0; 2];
                if stream.read_exact(&mut length).is_err() {
                    continue;
                }
                let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
                stream.read_exact(&mut query).unwrap();
                for message in hear_tcp(&query, true).into_iter().flatten() {
                    let length = u16::try_from(message.len()).unwrap().to_be_bytes();
                    let mut rest: VecDeque<u8> = length.into_iter().chain(message).collect();
                    while !rest.is_empty() {
                        // The first ones singly, a huge rest at once.
                        let n = if rest.len() > 1000 { rest.len() - 600 } else { 1 };
                        let piece: Vec<u8> = rest.drain(..n).collect();
                        if stream.write_all(&piece).is_err() {
                            break;
                        }
                    }
                }
            }
        });
        Self {
            at,
            asked,
            over,
            threads: vec![by_udp, by_tcp],
        }
    }

    /// All that was asked, in order.
    pub(crate) fn asked(&self) -> Vec<Query> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        std::net::TcpStream::connect(self.at).ok();
        for thread in self.threads.drain(..) {
            thread.join().ok();
        }
    }
}
