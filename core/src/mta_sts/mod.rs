//! MTA-STS.

mod policy;
mod record;
