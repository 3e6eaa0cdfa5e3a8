//! Servers that lie, fail, delay and cut.

use super::*;

#[test]
fn what_does_not_fit_the_question_is_dropped() {
    let server = Server::start(|q| {
        let good = q.reply().record(&q.name, MX, 60, &mx(10, "good.test"));
        let evil = q.reply().record(&q.name, MX, 60, &mx(1, "evil.test"));
        let mut other_id = evil.clone();
        other_id.id ^= 1;
        let mut other_name = evil.clone();
        other_name.name = "y.test".to_owned();
        let mut other_kind = evil.clone();
        other_kind.kind = TXT;
        let mut a_query = evil.clone();
        a_query.flags &= 0x7fff;
        let mut packets: Vec<Vec<u8>> = [other_id, other_name, other_kind, a_query, good]
            .iter()
            .map(super::super::server::Message::bytes)
            .collect();
        packets.insert(0, Vec::new());
        packets.insert(0, vec![0; 11]);
        packets
    });
    let answer = asking(&resolver(&[&server])).mx("x.test").unwrap();
    assert_eq!(answer.records[0].exchange, "good.test");
}

#[test]
fn a_flood_of_forgeries_ends_at_the_deadline() {
    let server = Server::start(|q| {
        let mut forged = q.reply();
        forged.id ^= 1;
        vec![forged.bytes(); 20_000]
    });
    let resolver = resolver(&[&server]);
    let asking = Asking::new(&resolver, Deadline::after(Some(Duration::from_millis(100))), None);
    let start = Instant::now();
    failed(asking.mx("x.test"), Word::Timeout, "MX of x.test");
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[test]
fn truncated_comes_over_tcp() {
    let server = Server::start(|q| {
        if !q.tcp {
            return q.reply().flag(TC).sent();
        }
        // Near the limit of a message.
        let mut reply = q.reply().flag(AD);
        for n in 0..1_000_u16 {
            let data = [&n.to_be_bytes()[..], &[b'x'; 30]].concat();
            reply = reply.record(&q.name, TLSA, 60, &data);
        }
        reply.sent()
    });
    let answer = asking(&resolver(&[&server])).tlsa("_25._tcp.x.test").unwrap();
    assert_eq!(answer.records.len(), 1_000);
    assert_eq!(answer.records[1].selector, 1);
    assert_eq!(answer.proof, Proof::Secure);
    assert_eq!(server.asked().len(), 2);
}

#[test]
fn truncated_over_tcp_too_is_no_answer() {
    let server = Server::start(|q| q.reply().flag(TC).sent());
    failed(
        asking(&resolver(&[&server])).mx("x.test"),
        Word::LookupFailed,
        "TCP",
    );
    // One that closes instead.
    let server = Server::start(|q| {
        if q.tcp {
            Vec::new()
        } else {
            q.reply().flag(TC).sent()
        }
    });
    failed(
        asking(&resolver(&[&server])).mx("x.test"),
        Word::LookupFailed,
        "closed",
    );
}

#[test]
fn a_server_that_fails_leads_to_the_next() {
    for rcode in [SERVFAIL, REFUSED, FORMERR, 4] {
        let bad = Server::start(move |q| q.reply().flag(rcode).sent());
        let good = Server::start(|q| q.records(&[(&q.name, q.kind, mx(10, "a.test"))], true));
        let resolver = resolver(&[&bad, &good]);
        let answer = asking(&resolver).mx("x.test").unwrap();
        assert_eq!(answer.proof, Proof::Secure, "{rcode}");
        assert_eq!(good.asked().len(), 1);
    }
    let refused = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let good = Server::start(|q| q.records(&[(&q.name, q.kind, mx(10, "a.test"))], true));
    let resolver = Resolver::parse(&format!("{refused},{}", good.at)).unwrap();
    let start = Instant::now();
    asking(&resolver).mx("x.test").unwrap();
    assert!(
        start.elapsed() < Duration::from_millis(900),
        "a refusal was waited out"
    );
}

#[test]
fn a_silent_server_costs_its_time() {
    let silent = Server::start(no_answer);
    let good = Server::start(|q| q.records(&[(&q.name, q.kind, mx(10, "a.test"))], false));
    let text = "nameserver 127.0.0.1\nnameserver 127.0.0.1\noptions timeout:1";
    let resolver = Resolver::conf(text, &[silent.at, good.at]);
    let start = Instant::now();
    asking(&resolver).mx("x.test").unwrap();
    let took = start.elapsed();
    assert!((900..3_000).contains(&took.as_millis()), "{took:?}");
    let resolver = Resolver::conf("options timeout:1 attempts:1", &[silent.at]);
    let e = failed(asking(&resolver).mx("x.test"), Word::LookupFailed, "no answer");
    assert!(e.temporary());
    let short = Asking::new(&resolver, Deadline::after(Some(Duration::from_millis(50))), None);
    let e = failed(short.mx("x.test"), Word::Timeout, &silent.at.to_string());
    assert!(e.temporary());
}

#[test]
fn a_server_without_edns() {
    let server = Server::start(|q| {
        if q.edns {
            return q.reply().flag(FORMERR).sent();
        }
        q.records(&[(&q.name, q.kind, mx(10, "a.test"))], false)
    });
    asking(&resolver(&[&server])).mx("x.test").unwrap();
    assert_eq!(server.asked().len(), 2);
}

#[test]
fn bogus_is_final() {
    // Said so (RFC 8914); the next server, which does not validate, is not asked.
    let validates = Server::start(|q| q.reply().flag(SERVFAIL).error(6).sent());
    let does_not = Server::start(|q| q.records(&[(&q.name, q.kind, mx(10, "evil.test"))], false));
    let two = resolver(&[&validates, &does_not]);
    let e = failed(asking(&two).mx("x.test"), Word::DnsBogus, "\\x1b!");
    assert!(e.temporary());
    assert!(does_not.asked().is_empty());
    // Not said: it has data if nobody checks.
    let validates = Server::start(|q| match q.cd {
        false => q.reply().flag(SERVFAIL).sent(),
        true => q.records(&[(&q.name, q.kind, mx(10, "evil.test"))], false),
    });
    failed(
        asking(&resolver(&[&validates])).mx("x.test"),
        Word::DnsBogus,
        "SERVFAIL",
    );
    let two = resolver(&[&validates, &does_not]);
    failed(asking(&two).mx("x.test"), Word::DnsBogus, "SERVFAIL");
    // Broken, but not bogus.
    let broken = Server::start(|q| q.reply().flag(SERVFAIL).sent());
    failed(
        asking(&resolver(&[&broken])).mx("x.test"),
        Word::LookupFailed,
        "SERVFAIL",
    );
    // Codes of other failures do not mean bogus.
    let broken = Server::start(|q| q.reply().flag(SERVFAIL).error(22).sent());
    failed(
        asking(&resolver(&[&broken])).mx("x.test"),
        Word::LookupFailed,
        "No Reachable",
    );
}

#[test]
fn the_hook_ends_a_wait() {
    let silent = Server::start(no_answer);
    let resolver = resolver(&[&silent]);
    let hook = || Err(std::io::Error::from(std::io::ErrorKind::Interrupted));
    let asking = Asking::new(&resolver, Deadline::after(None), Some(hook));
    let start = Instant::now();
    failed(asking.mx("x.test"), Word::Io, "x.test");
    assert!(start.elapsed() < Duration::from_secs(3));
}

#[test]
fn tcp_only_and_any_server_first() {
    let servers: Vec<Server> = (0..2)
        .map(|_| Server::start(|q| q.records(&[(&q.name, q.kind, mx(10, "a.test"))], false)))
        .collect();
    let at: Vec<_> = servers.iter().map(|s| s.at).collect();
    let resolver = Resolver::conf("options use-vc rotate", &at);
    for _ in 0..40 {
        asking(&resolver).mx("x.test").unwrap();
    }
    // Never one of them in 40 times: once in 2^39.
    assert!(servers.iter().all(|s| !s.asked().is_empty()));
    assert!(servers.iter().flat_map(Server::asked).all(|q| q.tcp));
}
