//! The policy file of MTA-STS, against whatever its host may serve.
//!
//! In `tests/`: `cargo +nightly fuzz run sts_policy`. The cases in `tests/mta_sts/*/*.policy` are seeds: copy them
//! to `fuzz/corpus/sts_policy`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| starttls::fuzz::sts_policy(input));
