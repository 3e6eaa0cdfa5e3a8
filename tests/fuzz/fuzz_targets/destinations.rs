//! The file of destinations, a table or a list, against whatever somebody may write.
//!
//! In `tests/`: `cargo +nightly fuzz run destinations`. The cases in `tests/destinations/*/*` are seeds: copy them
//! to `fuzz/corpus/destinations`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| starttls::fuzz::destinations(input));
