//! TLSRPT records from DNS, and event lines from other processes.
//!
//! In `tests/`: `cargo +nightly fuzz run tlsrpt fuzz/corpus/tlsrpt tlsrpt/good tlsrpt/bad`.
#![no_main]

use conformance::tlsrpt::{event, record};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    record(input.strip_prefix(b"TXT ").unwrap_or(input));
    event(input);
});
