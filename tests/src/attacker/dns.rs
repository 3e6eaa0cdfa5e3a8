//! The attacker between a validating resolver and the servers that know the names: it may do anything with questions and
//! answers, but it has no key to sign with.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::message::{text, wire, Message, Record, A, AAAA, CNAME, DNSKEY, DS, MX, RRSIG, TLSA, TXT};

/// Whoever is at this address is not who should be.
pub const ELSEWHERE: [u8; 4] = [127, 0, 0, 66];
/// A host of the attacker's own: signed, with TLSA records, and with a good certificate for its name.
pub const HOST: &str = "mx.attacker.test";
const ZONE: &str = "attacker.test";
const PATIENCE: Duration = Duration::from_secs(10);

/// Questions of some kind. What a validator asks for itself (DS, DNSKEY) is `All` only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    All,
    Mx,
    Address,
    Tlsa,
    Txt,
    /// The address of the policy host.
    Web,
}

/// How what is there is denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    None,
    /// The signed proof that another name does not exist.
    Replayed,
    /// No proof, but it is said to stay so for so many seconds (RFC 2308 §5).
    For(u32),
}

/// One thing that it does.
#[derive(Clone, Copy, Debug)]
pub enum Dns {
    Drop(Of),
    Late(Of, Duration),
    /// SERVFAIL, REFUSED and so on.
    Code(Of, u16),
    NoSuchName(Of, Proof),
    NoData(Of, Proof),
    /// No signatures.
    StripSignatures,
    /// As from a server that has never heard of DNSSEC; no keys either.
    StripDnssec,
    /// All hosts are the attacker's address.
    ForgeAddress,
    /// All mail goes to the attacker's host.
    ForgeMx,
    /// The same, but to one that is not signed.
    ForgeUnsignedMx,
    /// To the attacker's host by an alias.
    ForgeAlias,
    /// The attacker's TLSA records, which are signed for another name.
    ForgeTlsa,
    /// TLSA records that nobody can use.
    UnusableTlsa,
    /// Another MTA-STS policy is said to be there.
    ForgeTxt,
    /// What is no MTA-STS record.
    GarbleTxt,
    /// TC over UDP, and nobody listens to TCP.
    Truncate,
    Ttl(u32),
}

impl Of {
    fn includes(self, query: &Message) -> bool {
        let is_web = text(&query.name).starts_with("mta-sts.");
        match self {
            Self::All => true,
            Self::Mx => query.kind == MX,
            Self::Address => matches!(query.kind, A | AAAA) && !is_web,
            Self::Web => matches!(query.kind, A | AAAA) && is_web,
            Self::Tlsa => query.kind == TLSA,
            Self::Txt => query.kind == TXT,
        }
    }
}

/// What becomes of an answer.
enum Fate {
    Sent(Message, Duration),
    Never,
}

type Upstream<'a> = &'a dyn Fn(&Message) -> Option<Message>;

fn answer(attacks: &[Dns], query: &Message, is_udp: bool, ask: Upstream<'_>) -> Fate {
    let mut asked = query.clone();
    if attacks.iter().any(|attack| matches!(attack, Dns::StripDnssec)) {
        asked.set_dnssec_ok(false);
    }
    let Some(mut reply) = ask(&asked) else {
        return Fate::Never;
    };
    let mut late = Duration::ZERO;
    for attack in attacks {
        match *attack {
            Dns::Drop(of) if of.includes(query) => return Fate::Never,
            Dns::Late(of, time) if of.includes(query) => late = time,
            Dns::Code(of, code) if of.includes(query) => reply = query.bare(code),
            Dns::NoSuchName(of, proof) if of.includes(query) => reply = denied(query, 3, proof, ask),
            Dns::NoData(of, proof) if of.includes(query) => reply = denied(query, 0, proof, ask),
            Dns::Truncate if is_udp => reply = query.truncated(),
            Dns::Truncate => return Fate::Never,
            Dns::StripSignatures => reply.retain(|record| record.kind != RRSIG),
            Dns::StripDnssec if matches!(query.kind, DS | DNSKEY) => reply = query.bare(0),
            Dns::Ttl(ttl) => reply.records().for_each(|record| record.ttl = ttl),
            Dns::Drop(_)
            | Dns::Late(..)
            | Dns::Code(..)
            | Dns::NoSuchName(..)
            | Dns::NoData(..)
            | Dns::StripDnssec => {}
            forgery => forge(forgery, query, &mut reply, ask),
        }
    }
    Fate::Sent(reply, late)
}

fn denied(query: &Message, code: u16, proof: Proof, ask: Upstream<'_>) -> Message {
    let mut reply = query.bare(code);
    let name = text(&query.name);
    let zones = ["example.test", "insecure.test", "attacker.test", "test"];
    let zone = zones.into_iter().find(|zone| name.ends_with(zone)).unwrap_or("");
    if let Proof::For(seconds) = proof {
        let names = [wire("ns.test"), wire("hostmaster.test")].concat();
        let numbers = [1, 3600, 600, 86_400, seconds].map(u32::to_be_bytes).concat();
        reply.flags |= 0x0400;
        reply.authority = vec![Record::new(&wire(zone), 6, [names, numbers].concat())];
        reply.authority[0].ttl = seconds;
    }
    if proof == Proof::Replayed {
        let mut other = query.clone();
        other.name = wire(&format!("zzz-nobody.{zone}"));
        reply.authority = ask(&other).map(|heard| heard.authority).unwrap_or_default();
    }
    reply
}

fn forge(forgery: Dns, query: &Message, reply: &mut Message, ask: Upstream<'_>) {
    let name = text(&query.name);
    // Its own it need not forge, and above it there is nothing to win.
    if name.ends_with(ZONE) || name.split('.').count() < 3 && query.kind != MX {
        return;
    }
    let mut put = |kind: u16, data: Vec<u8>| {
        reply.flags &= !15;
        reply.authority.clear();
        // The signatures of what was there are left: they look well from afar.
        reply.answer.retain(|record| record.kind == RRSIG);
        reply.answer.insert(0, Record::new(&query.name, kind, data));
    };
    let of_mail = !["_", "mta-sts."].iter().any(|other| name.starts_with(other));
    match (forgery, query.kind) {
        (Dns::ForgeAddress, A) => put(A, ELSEWHERE.to_vec()),
        (Dns::ForgeMx, MX) => put(MX, [&[0, 1], wire(HOST).as_slice()].concat()),
        (Dns::ForgeUnsignedMx, MX) => put(MX, [&[0, 1], wire("mx.evil.insecure.test").as_slice()].concat()),
        (Dns::ForgeAlias, MX | A | AAAA) if of_mail => put(CNAME, wire(HOST)),
        (Dns::ForgeTlsa, TLSA) => {
            let mut own = query.clone();
            let port = name.split('.').next().unwrap_or_default();
            own.name = wire(&format!("{port}._tcp.{HOST}"));
            if let Some(mut heard) = ask(&own) {
                for record in &mut heard.answer {
                    record.name.clone_from(&query.name);
                }
                reply.flags &= !15;
                (reply.answer, reply.authority) = (heard.answer, Vec::new());
            }
        }
        (Dns::UnusableTlsa, TLSA) => put(TLSA, [&[0, 0, 1][..], &[7; 32]].concat()),
        (Dns::ForgeTxt, TXT) => put(TXT, b"\x14v=STSv1; id=forged0;".to_vec()),
        (Dns::GarbleTxt, TXT) => put(TXT, b"\x0av=STSv1; i".to_vec()),
        _ => {}
    }
}

/// Stands before a server, over UDP and TCP, and writes down what it is asked.
pub struct DnsAttacker {
    pub at: SocketAddr,
    asked: Arc<Mutex<Vec<(String, u16)>>>,
}

impl DnsAttacker {
    /// # Panics
    /// If there is no port to be had.
    pub fn start(authority: SocketAddr, attacks: &'static [Dns]) -> Self {
        let (udp, tcp) = (0..50)
            .find_map(|_| {
                let udp = UdpSocket::bind("127.0.0.1:0").ok()?;
                let tcp = TcpListener::bind(udp.local_addr().ok()?).ok()?;
                Some((udp, tcp))
            })
            .unwrap();
        let at = udp.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let this = Inner {
            authority,
            attacks,
            asked: Arc::clone(&asked),
        };
        let for_tcp = this.clone();
        std::thread::spawn(move || this.serve_udp(udp));
        std::thread::spawn(move || {
            for stream in tcp.incoming().flatten() {
                let this = for_tcp.clone();
                std::thread::spawn(move || this.serve_tcp(stream));
            }
        });
        Self { at, asked }
    }

    /// What was asked since the last time: name and type.
    pub fn asked(&self) -> Vec<(String, u16)> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

#[derive(Clone)]
struct Inner {
    authority: SocketAddr,
    attacks: &'static [Dns],
    asked: Arc<Mutex<Vec<(String, u16)>>>,
}

impl Inner {
    fn serve_udp(&self, socket: UdpSocket) {
        let socket = Arc::new(socket);
        let mut buffer = [0; 4096];
        while let Ok((n, from)) = socket.recv_from(&mut buffer) {
            let Some(query) = Message::parse(&buffer[..n]) else {
                continue;
            };
            let (this, socket) = (self.clone(), Arc::clone(&socket));
            std::thread::spawn(move || {
                this.write_down(&query);
                if let Some(reply) = this.reply(&query, true) {
                    let bytes = reply.to_bytes();
                    let fits = bytes.len() <= query.udp_size();
                    let bytes = if fits { bytes } else { query.truncated().to_bytes() };
                    let _ = socket.send_to(&bytes, from);
                }
            });
        }
    }

    fn serve_tcp(&self, mut stream: TcpStream) {
        let _ = stream.set_read_timeout(Some(PATIENCE));
        while let Ok(bytes) = read_message(&mut stream) {
            let Some(query) = Message::parse(&bytes) else {
                return;
            };
            self.write_down(&query);
            match self.reply(&query, false) {
                Some(reply) if write_message(&mut stream, &reply.to_bytes()).is_ok() => {}
                _ => return,
            }
        }
    }

    fn write_down(&self, query: &Message) {
        self.asked.lock().unwrap().push((text(&query.name), query.kind));
    }

    fn reply(&self, query: &Message, is_udp: bool) -> Option<Message> {
        match answer(self.attacks, query, is_udp, &|query| self.ask(query).ok()) {
            Fate::Sent(reply, late) => {
                std::thread::sleep(late);
                Some(reply)
            }
            Fate::Never => None,
        }
    }

    fn ask(&self, query: &Message) -> io::Result<Message> {
        let bytes = query.to_bytes();
        let bad = || io::Error::other("not a DNS message");
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.connect(self.authority)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.send(&bytes)?;
        let mut buffer = [0; 65_535];
        let n = socket.recv(&mut buffer)?;
        let reply = Message::parse(&buffer[..n]).ok_or_else(bad)?;
        if !reply.is_truncated() {
            return Ok(reply);
        }
        let mut stream = TcpStream::connect(self.authority)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write_message(&mut stream, &bytes)?;
        Message::parse(&read_message(&mut stream)?).ok_or_else(bad)
    }
}

fn read_message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn write_message(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], bytes].concat())
}
