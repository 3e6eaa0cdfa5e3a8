//! What a get and a put of each cache cost, as ratios to the least that could do it: reading a file, writing one
//! and renaming it, one question and answer on a socket. Called by `make bench`.
//!
//! Usage: `cache_cost DIRECTORY [REDIS_ADDRESS]`

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use starttls::cache;

const ROUNDS: usize = 400;
const BATCHES: usize = 15;

/// Median of the ratio ours / floor, and ours in microseconds; batches alternate.
fn compare(what: &str, mut floor: impl FnMut(), mut ours: impl FnMut()) {
    let batch = |work: &mut dyn FnMut()| {
        let start = Instant::now();
        (0..ROUNDS).for_each(|_| work());
        start.elapsed()
    };
    batch(&mut floor);
    batch(&mut ours);
    let mut ratios = Vec::new();
    let mut each = Vec::new();
    for _ in 0..BATCHES {
        let theirs = batch(&mut floor);
        let mine = batch(&mut ours);
        ratios.push(mine.as_secs_f64() / theirs.as_secs_f64());
        each.push(mine.as_secs_f64() * 1e6 / ROUNDS as f64);
    }
    ratios.sort_by(f64::total_cmp);
    each.sort_by(f64::total_cmp);
    let middle = BATCHES / 2;
    println!(
        "{what:<34} {:5.2} times the floor  ({:.1} us)",
        ratios[middle], each[middle]
    );
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments
        .next()
        .expect("usage: cache_cost DIRECTORY [REDIS_ADDRESS]");
    let directory = Path::new(&directory);
    // The size of an MTA-STS policy as it is kept.
    let value = vec![b'x'; 600];
    let until = SystemTime::now() + Duration::from_secs(3600);

    let file = directory.join("floor");
    let temporary = directory.join("floor.new");
    std::fs::write(&file, &value).unwrap();
    let place = cache::open(&format!("directory:{}", directory.join("cache").display())).unwrap();
    place.put("sts/example.org", &value, until).unwrap();
    compare(
        "directory, get / read a file",
        || drop(black_box(std::fs::read(&file).unwrap())),
        || drop(black_box(place.get("sts/example.org").unwrap().unwrap())),
    );
    compare(
        "directory, put / write and rename",
        || {
            std::fs::write(&temporary, &value).unwrap();
            std::fs::rename(&temporary, &file).unwrap();
        },
        || place.put("sts/example.org", &value, until).unwrap(),
    );

    let Some(address) = arguments.next() else {
        println!("redis: n/a, there is no server");
        return;
    };
    let place = cache::open(&format!("redis://{address}/0")).unwrap();
    place.put("sts/example.org", &value, until).unwrap();
    let mut socket = TcpStream::connect(&address).unwrap();
    socket.set_nodelay(true).unwrap();
    let mut answer = vec![0; 4096];
    let key = "starttls:floor";
    let set = [
        format!(
            "*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${}\r\n",
            key.len(),
            value.len()
        )
        .into_bytes(),
        value.clone(),
        b"\r\n".to_vec(),
    ]
    .concat();
    let get = format!("*2\r\n$3\r\nGET\r\n${}\r\n{key}\r\n", key.len()).into_bytes();
    let mut ask = |question: &[u8], length: usize| {
        socket.write_all(question).unwrap();
        let mut n = 0;
        while n < length {
            n += socket.read(&mut answer[n..]).unwrap();
        }
    };
    ask(&set, 5);
    compare(
        "redis, get / the same by hand",
        || ask(&get, value.len() + 8),
        || drop(black_box(place.get("sts/example.org").unwrap().unwrap())),
    );
    compare(
        "redis, put / the same by hand",
        || ask(&set, 5),
        || place.put("sts/example.org", &value, until).unwrap(),
    );
}
