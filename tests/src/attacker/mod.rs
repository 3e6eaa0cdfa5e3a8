//! An attacker in the middle (RFC 3552 §3): whatever passes between us and DNS, mail and policy hosts passes through it.
//! It may drop, strip, delay and forge everything; signatures and certificates it cannot forge.

pub mod dns;
mod door;
pub mod mail;
pub mod message;
pub mod resolver;
pub mod web;
