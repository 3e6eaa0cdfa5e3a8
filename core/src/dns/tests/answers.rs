//! What an answer says: CNAMEs, denials, proofs, records and names.

use super::*;

#[test]
fn both_families_at_once_and_the_weaker_proof() {
    let mut first = None;
    // Answers nothing before both questions are there.
    let server = Server::start(move |q| {
        let data = if q.kind == A { ONE.to_vec() } else { vec![0x20; 16] };
        let reply = q.records(&[(&q.name, q.kind, data)], q.kind == A);
        match first.take() {
            None => {
                first = Some(reply);
                Vec::new()
            }
            Some(before) => [reply, before].concat(),
        }
    });
    let resolver = resolver(&[&server]);
    let asking = asking(&resolver);
    let answer = asking.addresses("Mail.Example.TEST.").unwrap();
    assert_eq!(
        answer.records,
        [ip("192.0.2.1"), ip("2020:2020:2020:2020:2020:2020:2020:2020")]
    );
    assert_eq!(answer.proof, Proof::Insecure);
    assert_eq!(answer.name, "mail.example.test");
    assert_eq!(answer.ttl, Duration::from_secs(300));
    assert_eq!(asking.asked.get(), 2);
    for query in server.asked() {
        assert!(query.ad && query.edns && !query.cd && !query.tcp, "{query:?}");
    }
    let ids: Vec<u16> = server.asked().iter().map(|q| q.id).collect();
    assert_eq!(ids.len(), 2);
}

#[test]
fn ad_counts_from_the_trusted_only() {
    let server = Server::start(|q| q.records(&[(&q.name, q.kind, mx(10, "a.test"))], true));
    let trusted = resolver(&[&server]);
    assert!(trusted.is_trusted());
    assert_eq!(asking(&trusted).mx("x.test").unwrap().proof, Proof::Secure);
    let not = Resolver::untrusted(&trusted);
    assert!(!not.is_trusted());
    assert_eq!(asking(&not).mx("x.test").unwrap().proof, Proof::Indeterminate);
}

#[test]
fn cnames_are_followed() {
    let server = Server::start(|q| {
        q.reply()
            .flag(AD)
            .record("b.test", CNAME, 20, &wire("C.test"))
            .record("x.test", CNAME, 100, &wire("b.test"))
            .record("c.test", MX, 300, &mx(5, "Mail.test"))
            .record("other.test", MX, 1, &mx(1, "evil.test"))
            .sent()
    });
    let answer = asking(&resolver(&[&server])).mx("x.test").unwrap();
    assert_eq!(answer.name, "c.test");
    assert_eq!(answer.records.len(), 1);
    assert_eq!(answer.records[0].exchange, "mail.test");
    assert_eq!(answer.ttl, Duration::from_secs(20));
}

#[test]
fn a_cname_without_its_target_is_asked_on() {
    let server = Server::start(|q| match q.name.as_str() {
        "x.test" => q.records(&[("x.test", CNAME, wire("y.test"))], true),
        _ => q.records(&[("y.test", MX, mx(1, "a.test"))], false),
    });
    let resolver = resolver(&[&server]);
    let asking = asking(&resolver);
    let answer = asking.mx("x.test").unwrap();
    assert_eq!((answer.name.as_str(), answer.proof), ("y.test", Proof::Insecure));
    assert_eq!(asking.asked.get(), 2);
    // The target's denial is one.
    let server = Server::start(|q| {
        let reply = q.reply().record("x.test", CNAME, 50, &wire("y.test"));
        reply.soa("test", 90, 40).flag(AD).sent()
    });
    let answer = self::asking(&self::resolver(&[&server])).mx("x.test").unwrap();
    assert!(answer.is_empty() && !answer.no_such_name);
    assert_eq!(
        (answer.proof, answer.ttl),
        (Proof::Secure, Duration::from_secs(40))
    );
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn cname_loops_end() {
    let within = Server::start(|q| {
        let reply = q.reply().record("x.test", CNAME, 1, &wire("y.test"));
        reply.record("y.test", CNAME, 1, &wire("x.test")).sent()
    });
    failed(
        asking(&resolver(&[&within])).mx("x.test"),
        Word::LookupFailed,
        "loop",
    );
    let across = Server::start(|q| {
        let other = if q.name == "x.test" { "y.test" } else { "x.test" };
        q.records(&[(&q.name, CNAME, wire(other))], false)
    });
    failed(
        asking(&resolver(&[&across])).mx("x.test"),
        Word::LookupFailed,
        "loop",
    );
    let endless = Server::start(|q| q.records(&[(&q.name, CNAME, wire(&format!("a.{}", q.name)))], false));
    failed(
        asking(&resolver(&[&endless])).mx("x.test"),
        Word::LookupFailed,
        "never end",
    );
    let two = Server::start(|q| {
        let reply = q.reply().record("x.test", CNAME, 1, &wire("y.test"));
        reply.record("x.test", CNAME, 1, &wire("z.test")).sent()
    });
    failed(
        asking(&resolver(&[&two])).mx("x.test"),
        Word::LookupFailed,
        "two CNAMEs",
    );
}

#[test]
fn denials() {
    let server = Server::start(|q| q.reply().flag(NXDOMAIN | AD).soa("test", 900, 60).sent());
    let answer = asking(&resolver(&[&server])).mx("x.test").unwrap();
    assert!(answer.no_such_name && answer.is_empty());
    assert_eq!(
        (answer.proof, answer.ttl),
        (Proof::Secure, Duration::from_secs(60))
    );
    let server = Server::start(|q| q.reply().sent());
    let answer = asking(&resolver(&[&server])).addresses("x.test").unwrap();
    assert!(!answer.no_such_name && answer.is_empty());
    assert_eq!(answer.ttl, Duration::ZERO, "nobody said how long");
}

#[test]
fn one_family_that_fails() {
    let fails = |q: &Query| match q.kind {
        AAAA => q.reply().flag(SERVFAIL).sent(),
        _ => q.records(&[(&q.name, A, ONE.to_vec())], true),
    };
    let server = Server::start(fails);
    let answer = asking(&resolver(&[&server])).addresses("x.test").unwrap();
    assert_eq!((answer.records.len(), answer.proof), (1, Proof::Secure));
    assert!(answer.note.unwrap().contains("AAAA of x.test"));
    // None of the one and who knows of the other.
    let server = Server::start(|q| match q.kind {
        AAAA => q.reply().flag(SERVFAIL).error(7).sent(),
        _ => q.reply().sent(),
    });
    failed(
        asking(&resolver(&[&server])).addresses("x.test"),
        Word::DnsBogus,
        "AAAA",
    );
}

#[test]
fn malformed_records_fail_the_answer() {
    for (kind, data) in [
        (A, vec![1, 2, 3]),
        (A, vec![0; 5]),
        (MX, vec![0]),
        (MX, vec![0, 1, 0, 0]),
        (MX, vec![0, 1, 5, b'a']),
        (MX, vec![0, 1, 0xff, 0xff]),
        (TXT, vec![5, b'a']),
        (TLSA, vec![3, 1]),
        (SRV, vec![0; 6]),
    ] {
        let server = Server::start(move |q| q.records(&[(&q.name, q.kind, data.clone())], true));
        let resolver = resolver(&[&server]);
        let asking = asking(&resolver);
        let e = match kind {
            A => asking.addresses("x.test").unwrap_err(),
            MX => asking.mx("x.test").unwrap_err(),
            TXT => asking.txt("x.test").unwrap_err(),
            TLSA => asking.tlsa("x.test").unwrap_err(),
            _ => asking.srv("x.test").unwrap_err(),
        };
        assert_eq!(e.word(), Word::LookupFailed, "{kind}: {e}");
    }
}

#[test]
fn types() {
    let server = Server::start(|q| {
        let data = match q.kind {
            TXT => b"\x04v=ST\x00\x03Sv1".to_vec(),
            SRV => [&[0, 1, 0, 2, 3, 0xe1][..], &wire("Imap.test")].concat(),
            MX => mx(0, ""),
            _ => vec![3, 1, 1, 0xab],
        };
        q.records(&[(&q.name, q.kind, data)], true)
    });
    let resolver = resolver(&[&server]);
    let asking = asking(&resolver);
    assert_eq!(
        asking.txt("_mta-sts.x.test").unwrap().records,
        [b"v=STSv1".to_vec()]
    );
    assert_eq!(asking.mx("x.test").unwrap().records[0].exchange, "");
    let srv = asking.srv("_imaps._tcp.x.test").unwrap().records.remove(0);
    assert_eq!(
        (srv.priority, srv.weight, srv.port, srv.target.as_str()),
        (1, 2, 993, "imap.test")
    );
    assert_eq!(asking.tlsa("x.test").unwrap().records[0].data, [0xab]);
    assert_eq!(asking.asked.get(), 4);
}

#[test]
fn names_that_pass_for_others_are_escaped() {
    for (label, text) in [
        ("a.b", "a\\.b.test"),
        ("a\r\nb", "a\\013\\010b.test"),
        ("ü", "\\195\\188.test"),
    ] {
        let mut data = vec![0, 1, u8::try_from(label.len()).unwrap()];
        data.extend(label.as_bytes());
        data.extend(wire("test"));
        let server = Server::start(move |q| q.records(&[(&q.name, MX, data.clone())], true));
        let answer = asking(&resolver(&[&server])).mx("x.test").unwrap();
        assert_eq!(answer.records[0].exchange, text);
        assert!(crate::name::ServerName::parse(text).is_err());
    }
}

#[test]
fn names_that_cannot_be_asked() {
    let server = Server::start(no_answer);
    let resolver = resolver(&[&server]);
    let long = "a.".repeat(127) + "a";
    for name in ["", "a..b", "ü.test", "a b", "a\nb", &"a".repeat(64), &long] {
        failed(asking(&resolver).mx(name), Word::Invalid, "DNS name");
    }
    assert!(server.asked().is_empty());
}

/// Answers by name.
struct Own;

impl Lookup for Own {
    fn look_up(&self, name: &str, kind: u16, time_left: Duration) -> crate::Result<RawAnswer> {
        assert!(time_left <= Duration::from_secs(10));
        let proof = match name {
            "bogus.test" => Proof::Bogus,
            "down.test" => return Err(Error::at_border(Word::LookupFailed, "it is down")),
            _ => Proof::Secure,
        };
        Ok(RawAnswer {
            rdata: if kind == MX {
                vec![mx(1, "Mail.test")]
            } else {
                Vec::new()
            },
            proof,
            ttl: Duration::from_secs(5),
            name: "Real.test.".to_owned(),
            no_such_name: kind == MX,
        })
    }
}

#[test]
fn the_callers_own_answers() {
    let resolver = Resolver::custom(Arc::new(Own));
    assert!(resolver.is_trusted());
    let answer = asking(&resolver).mx("X.test").unwrap();
    assert_eq!((answer.proof, answer.name.as_str()), (Proof::Secure, "real.test"));
    assert_eq!(answer.records[0].exchange, "mail.test");
    assert!(!answer.no_such_name, "there are records");
    failed(asking(&resolver).mx("bogus.test"), Word::DnsBogus, "bogus.test");
    failed(
        asking(&resolver).mx("down.test"),
        Word::LookupFailed,
        "it is down",
    );
    let late = Asking::new(&resolver, Deadline::after(Some(Duration::ZERO)), None);
    failed(late.mx("x.test"), Word::Timeout, "x.test");
}
