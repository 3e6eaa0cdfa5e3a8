//! The TXT record of MTA-STS, against whatever DNS may say.
//!
//! In `tests/`: `cargo +nightly fuzz run sts_record`. The cases in `tests/mta_sts/*/*.record` are seeds: copy them
//! to `fuzz/corpus/sts_record`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| starttls::fuzz::sts_record(input));
