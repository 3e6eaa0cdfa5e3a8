//! What a hostile server can make a negotiation hold: counted by the allocator.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use starttls::{Level, Negotiation, Policy, Stage, Want, Word};

struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is left to the system's allocator; only sizes are added up.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// 256 KiB are heard; they are held raw, as unread lines and as a transcript.
const BOUND: usize = 1 << 20;

/// LDAP: message id 0, and the name of a notification that nobody knows.
const NOTIFICATION: &[u8] = b"\x30\x11\x02\x01\x00\x78\x0c\x0a\x01\x00\x04\x00\x04\x00\x8a\x031.2";

/// Sends this line again and again until the negotiation has had enough.
fn endless(protocol: &str, level: Level, before: &[u8], line: &[u8]) -> (Word, usize) {
    let policy = Policy::new(level);
    let piece = line.repeat(4096 / line.len() + 1);
    let start = NOW.load(Ordering::Relaxed);
    PEAK.store(start, Ordering::Relaxed);
    let mut negotiation = Negotiation::new(protocol, "mail.example.test", Stage::Greeting, &policy).unwrap();
    let mut result = negotiation.receive(before);
    let mut heard = 0;
    while result.is_ok() {
        match negotiation.want() {
            Want::Write => negotiation.sent(usize::MAX),
            Want::Read => {
                heard += piece.len();
                assert!(heard < 1 << 20, "{protocol} listens to more than 1 MiB");
                result = negotiation.receive(&piece);
            }
            other => panic!("{other:?}"),
        }
    }
    let word = result.unwrap_err().word();
    (word, PEAK.load(Ordering::Relaxed) - start)
}

/// One test only: the counters are the process's.
#[test]
fn lines_and_dialogs_without_end_cost_bounded_memory() {
    type Case<'a> = (&'a str, &'a [u8], &'a [u8]);
    let cases: [Case<'_>; 17] = [
        ("smtp", b"", b"x"),
        ("smtp", b"", b"220-\n"),
        ("smtp", b"220 hi\r\n", b"250-SIZE\r\n"),
        ("lmtp", b"220 hi\r\n", b"250-XXXXXXXA\n"),
        ("imap", b"", b"x"),
        ("imap", b"* OK hi\r\n", b"* A\n"),
        ("imap", b"* OK hi\r\n", b"* LIST {9}\r\n123456789\r\n"),
        ("pop3", b"", b"+"),
        ("pop3", b"+OK hi\r\n", b"+OK\n"),
        ("sieve", b"", b"\"\n"),
        ("sieve", b"", b"\"XXXXXXXX\"\r\n"),
        ("ldap", b"", NOTIFICATION),
        ("mysql", b"", b"x"),
        ("telnet", b"", b"x"),
        ("telnet", b"", b"\xff\xfd\x01"),
        ("telnet", b"", b"\xff\xf1"),
        ("telnet", b"\xff\xfa\x18", b"\xff\xff"),
    ];
    for (protocol, before, line) in cases {
        let shown = line.escape_ascii();
        let (word, peak) = endless(protocol, Level::May, before, line);
        assert_eq!(word, Word::TooLong, "{protocol} {shown}");
        assert!(peak < BOUND, "{protocol} {shown}: {peak} bytes");
    }
    // The counter counts.
    let start = NOW.load(Ordering::Relaxed);
    PEAK.store(start, Ordering::Relaxed);
    drop(std::hint::black_box(vec![0u8; BOUND]));
    assert!(PEAK.load(Ordering::Relaxed) - start >= BOUND);
}
