//! Which resolver is the system's. One test: the environment is the whole process's.

use starttls::{Resolver, Word};

#[test]
fn the_file_that_the_environment_names() {
    let directory = std::env::temp_dir().join(format!("starttls-resolv-{}", std::process::id()));
    std::fs::create_dir(&directory).unwrap();
    let file = directory.join("resolv.conf");
    std::env::set_var("STARTTLS_RESOLV_CONF", &file);
    // None is as an empty one.
    assert!(Resolver::system().unwrap().is_trusted());
    std::fs::write(&file, "nameserver 192.0.2.1\n").unwrap();
    let resolver = Resolver::system().unwrap();
    assert!(!resolver.is_trusted());
    assert!(format!("{resolver:?}").contains("192.0.2.1:53"), "{resolver:?}");
    std::fs::write(&file, "nameserver 192.0.2.1\noptions trust-ad\n").unwrap();
    assert!(Resolver::system().unwrap().is_trusted());
    // One that is there but cannot be read is not as none.
    std::env::set_var("STARTTLS_RESOLV_CONF", &directory);
    assert_eq!(Resolver::system().unwrap_err().word(), Word::Io);
    std::fs::remove_dir_all(directory).unwrap();
}
