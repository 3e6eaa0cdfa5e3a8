//! MTA-STS.

mod fetch;
mod policy;
mod record;
#[cfg(test)]
mod site;
