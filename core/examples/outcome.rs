//! Connects, says nothing but good-bye, and prints the outcome as JSON.
//! Usage: outcome PROTOCOL HOST PORT [LEVEL [CA_FILE [ADDRESS]]]

use starttls::{Level, Policy, Session};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let arg = |i: usize| args.get(i).map(String::as_str);
    let (Some(protocol), Some(host), Some(port)) = (arg(0), arg(1), arg(2)) else {
        eprintln!("usage: outcome PROTOCOL HOST PORT [LEVEL [CA_FILE [ADDRESS]]]");
        std::process::exit(2);
    };
    let run = || {
        let mut policy = Policy::new(Level::from_word(arg(3).unwrap_or("strict"))?);
        if let Some(file) = arg(4) {
            policy = policy.ca_file(file)?;
        }
        if let Some(address) = arg(5).and_then(|a| a.parse().ok()) {
            policy = policy.address(address);
        }
        let session = Session::connect(protocol, host, port.parse().unwrap_or(0), &policy)?;
        println!("{}", session.outcome().to_json());
        session.close()
    };
    if let Err(error) = run() {
        eprintln!("{error}");
        if let Some(outcome) = error.outcome() {
            println!("{}", outcome.to_json());
        }
        std::process::exit(1);
    }
}
