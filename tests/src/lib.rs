//! The tests that all languages share.
