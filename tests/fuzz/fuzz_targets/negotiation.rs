//! Every protocol's negotiation against whatever a server may send.
//!
//! `cargo run --manifest-path tests/Cargo.toml --bin seeds -- tests/fuzz/corpus/negotiation`
//! writes the dialogs as seeds; then, in `tests/`, `cargo +nightly fuzz run negotiation`.
#![no_main]

use conformance::drive::{negotiate, unpack};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Some((protocol, level, stage, size, bytes)) = unpack(input) {
        negotiate(protocol, level, stage, bytes, &[size]);
    }
});
