//! MTA-STS.

mod fetch;
mod policy;
mod record;
#[cfg(test)]
mod site;

pub(crate) use policy::{Pattern, StsPolicy};
