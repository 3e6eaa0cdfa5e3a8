//! The system's resolver, read once and again when its file changes: a file that is read for each connection costs as
//! much as a part of its handshake.

use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, PoisonError};

use super::{resolv_conf, Resolver};
use crate::error::Result;

/// What tells one state of the file from the next.
type Stamp = (u64, u64, i64, i64, u64);

/// Kept by a policy and all that are derived from it.
#[derive(Default)]
pub(crate) struct SystemResolver(Mutex<Option<(Option<Stamp>, Resolver)>>);

impl SystemResolver {
    /// As [`Resolver::system`]. Where the file cannot be found any more, as behind chroot(2), what was read of it holds.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn get(&self) -> Result<Resolver> {
        let metadata = std::fs::metadata(resolv_conf::place());
        let stamp = metadata
            .ok()
            .map(|m| (m.dev(), m.ino(), m.mtime(), m.mtime_nsec(), m.size()));
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Some((of, resolver)) if stamp.is_none() || *of == stamp => Ok(resolver.clone()),
            _ => {
                let resolver = Resolver::system()?;
                *kept = Some((stamp, resolver.clone()));
                Ok(resolver)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_again_when_it_changes() {
        // The variable is of the whole process: a process of its own.
        const CHILD: &str = "STARTTLS_TEST_SYSTEM_RESOLVER";
        if std::env::var_os(CHILD).is_none() {
            let file = std::env::temp_dir().join(format!("starttls-resolv-{}", std::process::id()));
            let status = std::process::Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "dns::system::tests::it_is_read_again_when_it_changes"])
                .env(CHILD, "1")
                .env("STARTTLS_RESOLV_CONF", file)
                .status();
            assert!(status.unwrap().success());
            return;
        }
        let file = resolv_conf::place();
        let resolver = SystemResolver::default();
        std::fs::write(&file, "nameserver 192.0.2.1\n").unwrap();
        assert!(!resolver.get().unwrap().is_trusted());
        std::fs::write(&file, "nameserver 192.0.2.1\noptions trust-ad\n").unwrap();
        assert!(resolver.get().unwrap().is_trusted());
        std::fs::remove_file(&file).unwrap();
        assert!(resolver.get().unwrap().is_trusted(), "what was read holds");
        std::fs::write(&file, "nameserver 192.0.2.2\n").unwrap();
        assert!(!resolver.get().unwrap().is_trusted());
        std::fs::remove_file(&file).unwrap();
    }
}
