//! What the tests of all languages share: dialogs as data ([`script`]), a server that plays them
//! ([`scripted`]), certificates made on the spot ([`certs`]), and servers whose behaviour a test
//! writes down in Rust ([`peer`]).

pub mod attacker;
pub mod cache_entries;
pub mod certs;
pub mod check;
pub mod comments;
pub mod drive;
pub mod peer;
pub mod random;
pub mod script;
pub mod scripted;
pub mod tlsrpt;
