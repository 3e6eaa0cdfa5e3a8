//! For the fuzzers, which see no internals: parsers of what strangers write. Whatever they are given, none panics, and
//! what must hold of the result is asserted here. No part of the API.

/// A DNS message, as the answer to a question of each type that is asked, and its records.
pub fn dns_message(bytes: &[u8]) {
    crate::dns::fuzz_message(bytes);
}

/// A resolv.conf.
pub fn resolv_conf(bytes: &[u8]) {
    crate::dns::fuzz_resolv_conf(bytes);
}

/// What a caller names as resolver.
pub fn resolver(text: &str) {
    // The outcome is the caller's to read; `unbound` would open files.
    if !text.trim_start().starts_with("unbound") {
        let _described = crate::Resolver::parse(text).map(|resolver| resolver.is_trusted());
    }
}
