//! Every dialog of `tests/dialogs/`, by `connect` and by `upgrade`, sent by 1, by 3 and by all bytes.

use std::io::Write;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::process::Command;

use conformance::check::{all, flags, is_shut_down, outcome, policy, policy_for, usable, verdict};
use conformance::script::{self, Play, Step};
use conformance::scripted::Scripted;
use conformance::{certs, comments, peer};
use starttls::{protocol, Session, Stage};

type Checked = Result<(), String>;

/// Everything there is to play, so many bytes at a time.
fn jobs(wanted: impl Fn(&Play) -> bool) -> Vec<(Play, usize)> {
    let plays = script::all().into_iter().filter(wanted);
    plays
        .flat_map(|play| {
            let chunks = play.chunks.clone();
            chunks.into_iter().map(move |chunk| (play.clone(), chunk))
        })
        .collect()
}

/// Puts the name of the play before what went wrong with it.
fn named(play: &Play, chunk: usize, result: Checked) -> Checked {
    result.map_err(|e| format!("{} at {} by {chunk}: {e}", play.file, play.level))
}

/// What both ends found wrong.
fn both(client: Checked, server: Checked) -> Checked {
    match (client, server) {
        (Err(client), Err(server)) => Err(format!("{client}; {server}")),
        (client, server) => client.and(server),
    }
}

fn equal<T: PartialEq + std::fmt::Debug>(what: &str, got: T, wanted: T) -> Checked {
    if got == wanted {
        Ok(())
    } else {
        Err(format!("{what} is {got:?}, not {wanted:?}"))
    }
}

/// What must hold whichever way the session was made.
fn compare(play: &Play, result: &starttls::Result<Session<'_>>) -> Checked {
    let outcome = outcome(result)?;
    let message = match result {
        Ok(_) => "",
        Err(e) => e.message(),
    };
    equal("the verdict", verdict(result), play.verdict.clone()).map_err(|e| format!("{e} ({message})"))?;
    equal("offered", outcome.offered, play.offered)?;
    equal("suspicions", &outcome.suspicions, &play.suspicions)?;
    equal("the protocol", outcome.protocol, Some(play.protocol.as_str()))?;
    let again = usize::from(play.steps.contains(&Step::Again));
    equal("the number of attempts", outcome.attempts.len(), again)?;
    if let Ok(session) = result {
        usable(session)?;
        session.close().map_err(|e| e.to_string())?;
    }
    Ok(())
}

fn by_connect(play: &Play, chunk: usize) -> Checked {
    let server = Scripted::start(play, chunk);
    let result = Session::connect(&play.protocol, &play.host, server.port(), &policy_for(play));
    let compared = compare(play, &result);
    drop(result);
    both(compared, server.finish())
}

fn by_upgrade(play: &Play, chunk: usize) -> Checked {
    let server = Scripted::start(play, chunk);
    let stream = TcpStream::connect(("127.0.0.1", server.port())).map_err(|e| e.to_string())?;
    if chunk == 3 {
        stream.set_nonblocking(true).map_err(|e| e.to_string())?;
    }
    let before = flags(&stream);
    let stage = Stage::from_word(&play.stage).map_err(|e| e.to_string())?;
    let result = Session::upgrade(
        &play.protocol,
        &stream,
        &play.host,
        stage,
        &play.pending,
        &policy_for(play),
    );
    let mut compared = compare(play, &result);
    if result.is_err() && !play.steps.contains(&Step::Reset) {
        // From the go-ahead on nobody may go on in clear; before it, there is still a QUIT to say.
        let implicit = matches!(protocol::find(&play.protocol), Ok(protocol::Service::Implicit(_)));
        let injected = play.verdict.starts_with("error injected");
        let wanted = injected || implicit || play.reaches_handshake();
        let got = is_shut_down(stream.as_raw_fd());
        compared = compared.and(equal("whether it is shut down", got, wanted));
        if wanted {
            let careless = (&stream).write_all(b"MAIL FROM:<me@example.test>\r\n");
            compared = compared.and(equal("a careless write's success", careless.is_ok(), false));
        }
    }
    compared = compared.and(equal("the flags", flags(&stream), before));
    drop(result);
    drop(stream);
    both(compared, server.finish())
}

#[test]
fn through_connect() {
    all(&jobs(Play::by_connect), |(play, chunk)| {
        named(play, *chunk, by_connect(play, *chunk))
    });
}

#[test]
fn through_upgrade() {
    all(&jobs(Play::by_upgrade), |(play, chunk)| {
        named(play, *chunk, by_upgrade(play, *chunk))
    });
}

/// What already lies in the socket is found before anything is said: that it did not come with the
/// bytes which the caller has read makes no difference.
#[test]
fn what_lies_in_the_socket_came_before_our_command() {
    for (protocol, stage, pending, early, word) in [
        (
            "smtp",
            Stage::Greeting,
            "220 hi\r\n",
            "250 STARTTLS\r\n",
            "malformed",
        ),
        ("smtp", Stage::Ready, "", "220 Go ahead\r\n", "malformed"),
        (
            "imap",
            Stage::Greeting,
            "* OK hi\r\n",
            "a1 OK go\r\n",
            "malformed",
        ),
        ("imap", Stage::Ready, "", "a1 OK go\r\n", "malformed"),
        ("pop3", Stage::Ready, "", "+OK\r\n", "malformed"),
        ("sieve", Stage::Greeting, "OK\r\n", "O", "malformed"),
        ("ldap", Stage::Greeting, "", "\x30", "malformed"),
        ("ldap", Stage::Ready, "", "\x30\x00", "malformed"),
        ("postgres", Stage::Greeting, "", "S", "malformed"),
        ("postgres", Stage::Ready, "", "S", "malformed"),
        ("telnet", Stage::GoAhead, "", "x", "injected"),
        ("smtp", Stage::GoAhead, "", "2", "injected"),
        ("pop3", Stage::GoAhead, "", "\x16", "injected"),
        ("smtps", Stage::Greeting, "", "220 hi\r\n", "malformed"),
        ("nntp", Stage::Ready, "", "382 go\r\n", "malformed"),
        ("irc", Stage::Greeting, "", "670 * :go\r\n", "malformed"),
        ("ftp", Stage::Greeting, "220 hi\r\n", "234 go\r\n", "malformed"),
        ("http", Stage::Greeting, "", "H", "malformed"),
        ("xmpp", Stage::Greeting, "", "<stream>", "malformed"),
        ("xmpp", Stage::Ready, "", "<proceed/>", "malformed"),
    ] {
        let server = peer::Peer::start(move |listener| {
            let mut stream = peer::accept(listener).unwrap();
            stream.write_all(early.as_bytes()).unwrap();
            peer::drain(stream)
        });
        let stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        assert!(peer::readable(stream.as_raw_fd(), peer::PATIENCE));
        let policy = policy("encrypt");
        let pending = pending.as_bytes();
        let result = Session::upgrade(protocol, &stream, "localhost", stage, pending, &policy);
        assert_eq!(
            verdict(&result),
            format!("error {word} permanent"),
            "{protocol} {early}"
        );
        drop(result);
        drop(stream);
        assert_eq!(server.finish(), b"", "{protocol} {early}: something was said");
    }
}

/// At level `none` nothing is said, and nothing is read: what the server says is the caller's.
#[test]
fn nothing_is_asked_at_none() {
    let mut plays: Vec<(Play, usize)> = Vec::new();
    for (mut play, _) in jobs(|p| p.by_connect() && p.chunks.contains(&0)) {
        if protocol::words().any(|w| w.word() == play.protocol && matches!(w, protocol::Service::Implicit(_)))
            || plays.iter().any(|(p, _)| p.file == play.file)
        {
            continue;
        }
        let Some(Step::Say(_)) = play.steps.first() else {
            continue;
        };
        play.level = "none".to_owned();
        play.verdict = "plain not-asked".to_owned();
        play.offered = None;
        play.suspicions.clear();
        play.steps.truncate(1);
        plays.push((play, 0));
    }
    all(&plays, |(play, chunk)| {
        named(play, *chunk, by_connect(play, *chunk))
    });
}

/// The same files through C: `tests/c/run` builds the program and says where it is.
#[test]
fn through_c() {
    let Some(program) = std::env::var_os("STARTTLS_C_DIALOG") else {
        // Not eprintln, which a passing test hides.
        let _ = std::io::stderr().write_all(b"left out: dialogs through C ($STARTTLS_C_DIALOG is not set)\n");
        return;
    };
    let mut runs = Vec::new();
    for (play, chunk) in jobs(|_| true) {
        // A process each, so not every size in every way.
        let (connect, upgrade) = (play.by_connect(), play.by_upgrade());
        if connect && (chunk == 0 || !upgrade) {
            runs.push((play.clone(), chunk, "connect"));
        }
        if upgrade && chunk != 3 {
            runs.push((play, chunk, "upgrade"));
        }
    }
    // By an event loop once for each level of each file, byte by byte and all at once in turn.
    for (turn, play) in script::all().into_iter().filter(Play::by_upgrade).enumerate() {
        let wanted = turn % 2;
        let chunk = if play.chunks.contains(&wanted) {
            wanted
        } else {
            1 - wanted
        };
        runs.push((play, chunk, "poll"));
    }
    all(&runs, |(play, chunk, mode)| {
        let server = Scripted::start(play, *chunk);
        let pending: String = play.pending.iter().map(|b| format!("{b:02x}")).collect();
        let output = Command::new(&program)
            .args([&play.protocol, &server.port().to_string(), &play.host])
            .args([&play.stage, &play.level])
            .arg(certs::ca_file())
            .args([&pending, *mode])
            .env("DIALOG_TIMEOUT_MS", (play.timeout * 1000.0).to_string())
            .output()
            .map_err(|e| e.to_string())?;
        let said = String::from_utf8_lossy(&output.stdout);
        let compared = equal("what it prints", said.trim_end(), play.verdict.as_str());
        let compared = compared.and(equal("its exit code", output.status.code(), Some(0)));
        let compared = compared.map_err(|e| format!("{e} ({})", String::from_utf8_lossy(&output.stderr)));
        let mut finished = server.finish();
        if *mode == "poll" && play.verdict.starts_with("error injected") {
            // What follows our last command is found before the ClientHello, which then never leaves.
            finished = finished.or_else(|e| {
                if e.starts_with("no ClientHello") {
                    Ok(())
                } else {
                    Err(e)
                }
            });
        }
        named(play, *chunk, both(compared, finished)).map_err(|e| format!("{mode}: {e}"))
    });
}

/// The comment that opens a protocol's file is its dialog; it must not go stale.
#[test]
fn the_dialog_in_each_protocols_comment() {
    for row in protocol::PROTOCOLS {
        let (play, client) = comments::dialog(row.name);
        let server = Scripted::start(&play, 0);
        let policy = policy_for(&play).client_name(&client).unwrap();
        let result = Session::connect(row.name, &play.host, server.port(), &policy);
        named(&play, 0, compare(&play, &result)).unwrap();
        // And one for the handshake of TLS 1.3.
        let trips = result.unwrap().outcome().round_trips;
        assert_eq!(trips, row.round_trips + 1, "{}", row.name);
        named(&play, 0, server.finish()).unwrap();
    }
}

/// A server that says what it should not is found out: the tests above can fail.
#[test]
fn the_scripted_server_notices_what_differs() {
    let text = "# A client that says something else.\noffered: no\nmay -> plain not-offered\n\
                S: 220 hello\nC: EHLO somebody.else.test\nS: 250 hello\n";
    let play = script::parse("smtp/x.txt", "smtp", text).unwrap().remove(0);
    assert!(by_connect(&play, 0).is_err());
    let text = text
        .replace("plain not-offered", "tls")
        .replace("somebody.else.test", "[127.0.0.1]");
    let play = script::parse("smtp/x.txt", "smtp", &text).unwrap().remove(0);
    assert!(by_connect(&play, 0).is_err());
    // It wants no word after an error, and none at all at (nothing).
    for (text, said) in [
        ("S: 554 no\n", &b"QUIT\r\n"[..]),
        ("S: 554 no\n(nothing)\n", b"\x16\x03\x01"),
    ] {
        let text = format!("# x\noffered: unknown\nmay -> error refused permanent\n{text}");
        let play = script::parse("smtp/x.txt", "smtp", &text).unwrap().remove(0);
        let server = Scripted::start(&play, 0);
        let mut stream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
        peer::read_line(&mut stream).unwrap();
        stream.write_all(said).unwrap();
        drop(stream);
        assert!(server.finish().is_err());
    }
}
