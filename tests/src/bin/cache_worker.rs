//! Puts and gets in a cache until it is killed: `cache_worker CACHE SEED`. Whatever it reads must be whole and of the
//! right key. It ends by itself, and says why, only if that is not so.

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use conformance::cache_entries::{check, key, value, KEYS};
use conformance::random::Random;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, cache, seed] = arguments.as_slice() else {
        eprintln!("usage: cache_worker CACHE SEED");
        return ExitCode::from(2);
    };
    let cache = match starttls::cache::open(cache) {
        Ok(cache) => cache,
        Err(e) => {
            eprintln!("{e}");
            return ExitCode::from(3);
        }
    };
    let mut random = Random(seed.parse().unwrap_or(1));
    let parent = std::os::unix::process::parent_id();
    loop {
        if std::os::unix::process::parent_id() != parent {
            // The test itself was killed.
            return ExitCode::SUCCESS;
        }
        let n = random.below(KEYS);
        let key = key(n);
        // Some are gone at once, so that there is something to sweep.
        let (lasts, seconds) = if n % 4 == 3 { (false, 1) } else { (true, 3600) };
        let expires = SystemTime::now() + Duration::from_secs(seconds);
        let length = random.below(40_000);
        if let Err(e) = cache.put(&key, &value(&key, length), expires) {
            eprintln!("put {key}: {e}");
            return ExitCode::from(4);
        }
        let wrong = match cache.get(&key) {
            Ok(Some(found)) => check(&key, &found).err(),
            Ok(None) if lasts => Some("it is lost".to_string()),
            Ok(None) => None,
            Err(e) => Some(e.to_string()),
        };
        if let Some(why) = wrong {
            eprintln!("get {key}: {why}");
            return ExitCode::from(5);
        }
    }
}
