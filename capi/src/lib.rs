//! The C library of `starttls`: the core's policies, sessions, outcomes and errors as opaque handles.
//!
//! `guard` is the one way in: every exported function is a single `guard!`, which turns a panic into
//! the error `bug` and keeps the rules about `error`. `handle` is the one way to make, find and free
//! what C holds. The other files are the functions themselves, in the header's order.
//!
//! `include/starttls.h` is generated from this source and `cbindgen.toml`, where its first page
//! stands; a test keeps both, and `include/symbols.txt`, in step.

// C has no `unsafe fn`: what a caller must keep to is the first page of the header.
#![allow(clippy::missing_safety_doc)]
// The names of C's types are C's.
#![allow(non_camel_case_types)]

#[macro_use]
mod guard;
mod handle;

pub mod about;
pub mod error;
pub mod event_loop;
pub mod outcome;
pub mod own_ssl;
pub mod policy;
pub mod routes;
pub mod session;
pub mod survey;
pub mod tlsrpt;
