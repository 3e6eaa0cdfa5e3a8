//! DNS messages, resolv.conf and the text that names a resolver.
//!
//! `cp tests/dns/*/*.conf tests/dns/*/specs.txt tests/fuzz/corpus/dns/` are seeds; messages come from the target's own
//! mutations. Then, in `tests/`, `cargo +nightly fuzz run dns`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    starttls::fuzz::dns_message(input);
    starttls::fuzz::resolv_conf(input);
    if let Ok(text) = std::str::from_utf8(input) {
        starttls::fuzz::resolver(text);
    }
});
