//! Values of which every part can be recognised, for tests that look whether a cache keeps them whole.

use openssl::sha::sha256;

/// How many keys there are; few, so that many processes meet at each.
pub const KEYS: usize = 40;

/// The key number `n`.
pub fn key(n: usize) -> String {
    format!("test/{n}.example")
}

/// A value of this key: a digest of all that follows, and bytes that say whose they are.
pub fn value(key: &str, length: usize) -> Vec<u8> {
    let body: Vec<u8> = key.bytes().chain([b'\n']).cycle().take(length).collect();
    let mut value = digest(key, &body).to_vec();
    value.extend_from_slice(&body);
    value
}

/// Whether these bytes are a whole value of this key.
///
/// # Errors
/// What is wrong with them.
pub fn check(key: &str, found: &[u8]) -> Result<(), String> {
    match found.split_at_checked(32) {
        Some((sum, body)) if sum == digest(key, body) => Ok(()),
        _ => Err(format!("it is damaged: {} bytes", found.len())),
    }
}

fn digest(key: &str, body: &[u8]) -> [u8; 32] {
    sha256(&[key.as_bytes(), b"\n", body].concat())
}
