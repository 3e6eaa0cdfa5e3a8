//! Every good dialog, cut off after every byte of the server's; and lines of 10 MB.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use conformance::check::{all, outcome, policy_for, side_by_side, verdict};
use conformance::script::{self, Play, Step};
use conformance::scripted::Scripted;
use starttls::{Session, Stage};

/// Every good dialog once, at the first level that it is written for; `accepted.txt` at all.
fn good() -> Vec<Play> {
    let mut good: Vec<Play> = Vec::new();
    for play in script::all() {
        let known = good.iter().any(|p| p.file == play.file && p.steps == play.steps);
        let all_levels = play.file.ends_with("/accepted.txt");
        if play.verdict == "tls" && play.server_bytes().len() < 4000 && (all_levels || !known) {
            good.push(play);
        }
    }
    good
}

/// What becomes of the dialog if the server has said so many bytes and then does this.
fn cut(play: &Play, bytes: usize, end: &Step) -> Play {
    let mut left = bytes;
    let mut steps = Vec::new();
    for step in &play.steps {
        match step {
            Step::Say(said) if said.len() <= left => {
                left -= said.len();
                steps.push(step.clone());
            }
            Step::Say(said) => {
                steps.push(Step::Say(said[..left].to_vec()));
                break;
            }
            // The go-ahead was said; the handshake never is.
            Step::Tls => break,
            other => steps.push(other.clone()),
        }
    }
    steps.push(end.clone());
    Play {
        steps,
        verdict: "error closed temporary".to_owned(),
        ..play.clone()
    }
}

fn upgrade(play: &Play, chunk: usize) -> Result<Duration, String> {
    let wrong = |e: String| format!("{} at {}, {:?}: {e}", play.file, play.level, play.steps);
    let server = Scripted::start(play, chunk);
    let stream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    let stage = Stage::from_word(&play.stage).unwrap();
    let start = Instant::now();
    let result = Session::upgrade(
        &play.protocol,
        &stream,
        &play.host,
        stage,
        &play.pending,
        &policy_for(play),
    );
    let took = start.elapsed();
    if verdict(&result) != play.verdict {
        return Err(wrong(verdict(&result)));
    }
    outcome(&result).map_err(wrong)?;
    drop(result);
    drop(stream);
    server.finish().map_err(wrong)?;
    Ok(took)
}

#[test]
fn the_server_closes_after_every_byte() {
    let mut jobs = Vec::new();
    for play in good() {
        for bytes in 0..=play.server_bytes().len() {
            jobs.push(cut(&play, bytes, &Step::Close));
        }
    }
    assert!(jobs.len() > 2000, "{}", jobs.len());
    all(&jobs, |play| upgrade(play, 0).map(drop));
}

#[test]
fn the_server_falls_silent() {
    let mut jobs = Vec::new();
    for play in good() {
        let length = play.server_bytes().len();
        for bytes in [0, 1, length / 3, length / 2, length.saturating_sub(1), length] {
            let mut play = cut(&play, bytes, &Step::Silence);
            // Long enough for a busy machine to get as far as the silence.
            play.timeout = 0.5;
            play.verdict = "error timeout temporary".to_owned();
            jobs.push(play);
        }
    }
    // They do nothing but wait.
    side_by_side(40, &jobs, |play| {
        let took = upgrade(play, 0)?;
        let in_time = (Duration::from_millis(500)..Duration::from_secs(3)).contains(&took);
        in_time
            .then_some(())
            .ok_or_else(|| format!("{}: it took {took:?}", play.file))
    });
}

/// A server that trickles cannot outlast the deadline, which is for the whole dialog.
#[test]
fn one_byte_at_a_time_does_not_move_the_deadline() {
    let play = Play {
        timeout: 0.2,
        verdict: "error timeout temporary".to_owned(),
        ..script::parse(
            "smtp/x.txt",
            "smtp",
            "# x\noffered: unknown\nverify -> tls\nS: 220 x\n",
        )
        .unwrap()
        .remove(0)
    };
    let server = conformance::peer::Peer::start(|listener| {
        use std::io::Write;
        let mut stream = conformance::peer::accept(listener).unwrap();
        let mut bytes = 0;
        while stream.write_all(b"2").is_ok() && bytes < 10_000 {
            bytes += 1;
            std::thread::sleep(Duration::from_millis(2));
        }
        bytes
    });
    let start = Instant::now();
    let result = Session::connect("smtp", "localhost", server.port, &policy_for(&play));
    assert_eq!(verdict(&result), play.verdict);
    assert!(start.elapsed() < Duration::from_secs(2));
    drop(result);
    assert!(server.finish() < 10_000);
}

#[test]
fn a_line_of_10_mb_wherever_a_line_may_be() {
    let mut jobs = Vec::new();
    for play in good().into_iter().filter(|p| p.file.ends_with("/accepted.txt")) {
        let mut steps = Vec::new();
        let mut after_ours = true;
        for step in &play.steps {
            let is_line = matches!(step, Step::Say(said) if said.ends_with(b"\n"));
            if let (Step::Say(said), true) = (step, after_ours && is_line) {
                let mut long = steps.clone();
                // Begins like the real one, but never ends.
                let mut line = said[..1].to_vec();
                line.resize(10_000_000, b'x');
                long.push(Step::Say(line));
                jobs.push(Play {
                    steps: long,
                    verdict: "error too-long permanent".to_owned(),
                    ..play.clone()
                });
            }
            after_ours = matches!(step, Step::Hear(_));
            steps.push(step.clone());
        }
    }
    assert!(jobs.len() > 20);
    all(&jobs, |play| {
        let server = Scripted::start(play, 0);
        let result = Session::connect(&play.protocol, &play.host, server.port(), &policy_for(play));
        let got = verdict(&result);
        drop(result);
        server.finish()?;
        (got == play.verdict)
            .then_some(())
            .ok_or_else(|| format!("{} at {}: {got}", play.file, play.level))
    });
}

/// The same where messages are not lines: what begins like the real one and goes on for 1 MB is no
/// message, too long for one, or comes behind one.
#[test]
fn a_mb_wherever_a_message_may_be() {
    let binary = |p: &Play| ["ldap", "postgres", "mysql", "telnet"].contains(&p.protocol.as_str());
    let accepted = |p: &Play| p.file.ends_with("/accepted.txt") && binary(p) && p.level == "verify";
    let mut jobs = Vec::new();
    for play in good().into_iter().filter(accepted) {
        for (i, step) in play.steps.iter().enumerate() {
            let Step::Say(said) = step else { continue };
            for kept in 1..=said.len() {
                let mut flood = said[..kept].to_vec();
                flood.resize(1_000_000, b'x');
                let steps = [&play.steps[..i], &[Step::Say(flood)]].concat();
                jobs.push(Play {
                    steps,
                    ..play.clone()
                });
            }
        }
    }
    assert!(jobs.len() > 50, "{}", jobs.len());
    all(&jobs, |play| {
        let server = Scripted::start(play, 0);
        let start = Instant::now();
        let result = Session::connect(&play.protocol, &play.host, server.port(), &policy_for(play));
        let (got, took) = (verdict(&result), start.elapsed());
        drop(result);
        // What the client has said to a part of it does not matter here.
        let _ = server.finish();
        let ends = ["malformed", "too-long", "injected"].map(|word| format!("error {word} permanent"));
        (ends.contains(&got) && took < Duration::from_secs(5))
            .then_some(())
            .ok_or_else(|| format!("{} {:?}: {got} in {took:?}", play.file, play.steps.len()))
    });
}
