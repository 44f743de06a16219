//! A map of 100,000 elements: load it, add one, look one up, list all; and what `nft` takes.
//!
//! Runs in a network namespace of its own and needs root.

#![expect(clippy::unwrap_used, reason = "a bench fails by panicking")]

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::process::Command;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use nfnetlink::datatype::DataType;
use nfnetlink::elem::Listed;
use nfnetlink::{Batch, Data, Element, Family, Set, Socket, Table};
use nix::sched::{CloneFlags, unshare};

const INET: Family = Family::Inet;
const COUNT: u32 = 100_000;

fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a00_0000 + number)
}

fn element(number: u32) -> Element {
    Element::map(address(number), address(number + 1))
}

/// A socket in a new namespace, with an empty map.
fn namespace() -> Socket {
    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace: run as root");
    let mut socket = Socket::open().unwrap();
    let mut batch = Batch::new();
    batch.add_table(&Table::new(INET, "t"));
    let ip = DataType::IPV4_ADDR;
    batch.add_set(&Set::map(INET, "t", "m", ip, ip));
    socket.commit(&batch).unwrap();
    socket
}

fn flush(socket: &mut Socket) {
    let mut batch = Batch::new();
    batch.flush_set(INET, "t", "m");
    socket.commit(&batch).unwrap();
}

fn load(socket: &mut Socket) {
    let mut batch = Batch::new();
    batch.add_elements(INET, "t", "m", (0..COUNT).map(element));
    socket.commit(&batch).unwrap();
}

/// Runs `measured` so many times, each after `prepare`, and adds up the time of `measured` alone.
fn alternate(
    socket: &mut Socket,
    times: u64,
    mut prepare: impl FnMut(&mut Socket),
    mut measured: impl FnMut(&mut Socket),
) -> Duration {
    let mut total = Duration::ZERO;
    for _ in 0..times {
        prepare(socket);
        let start = Instant::now();
        measured(socket);
        total += start.elapsed();
    }
    total
}

fn add_one(socket: &mut Socket) {
    let mut batch = Batch::new();
    batch.add_elements(INET, "t", "m", [element(COUNT)]);
    socket.commit(&batch).unwrap();
}

fn delete_one(socket: &mut Socket) {
    let mut batch = Batch::new();
    batch.delete_elements(INET, "t", "m", [Element::new(address(COUNT))]);
    socket.commit(&batch).unwrap();
}

fn nft(file: &str) {
    let status = Command::new("nft").args(["-f", file]).status().unwrap();
    assert!(status.success(), "nft -f {file}");
}

fn elements(criterion: &mut Criterion) {
    let mut socket = namespace();
    let mut group = criterion.benchmark_group("map-100k");

    group.sample_size(10);
    group.bench_function("load", |bencher| {
        bencher.iter_custom(|times| alternate(&mut socket, times, flush, load));
    });
    flush(&mut socket);
    load(&mut socket);
    group.bench_function("list", |bencher| {
        bencher.iter(|| {
            let mut count = 0;
            let count_all = |listed| match listed {
                Listed::Elements(chunk) => count += chunk.len(),
                Listed::Restart => count = 0,
            };
            socket.stream_elements(INET, "t", "m", count_all).unwrap();
            assert_eq!(count, COUNT as usize);
        });
    });
    group.sample_size(100);
    group.bench_function("add-one", |bencher| {
        add_one(&mut socket);
        bencher.iter_custom(|times| alternate(&mut socket, times, delete_one, add_one));
        delete_one(&mut socket);
    });
    group.bench_function("delete-one", |bencher| {
        bencher.iter_custom(|times| alternate(&mut socket, times, add_one, delete_one));
    });
    let key = Data::from(address(77_777));
    group.bench_function("look-up-one", |bencher| {
        bencher.iter(|| socket.element(INET, "t", "m", &key).unwrap().unwrap());
    });

    // For comparison only: the same by the nft program.
    group.sample_size(10);
    let directory = std::env::temp_dir();
    let file = |name: &str, text: &str| {
        let path = directory.join(format!("nfnetlink-bench-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        path.to_string_lossy().into_owned()
    };
    let mut all = String::from("add element inet t m {\n");
    for number in 0..COUNT {
        writeln!(all, "{} : {},", address(number), address(number + 1)).unwrap();
    }
    all.push('}');
    let all = file("all", &all);
    let (key, value) = (address(COUNT), address(COUNT + 1));
    let one = file(
        "one",
        &format!("add element inet t m {{ {key} : {value} }}"),
    );
    group.bench_function("nft-load", |bencher| {
        bencher.iter_custom(|times| alternate(&mut socket, times, flush, |_| nft(&all)));
    });
    group.bench_function("nft-add-one", |bencher| {
        add_one(&mut socket);
        bencher.iter_custom(|times| alternate(&mut socket, times, delete_one, |_| nft(&one)));
    });
    for path in [all, one] {
        std::fs::remove_file(path).unwrap();
    }
    group.finish();
}

criterion_group!(benches, elements);
criterion_main!(benches);
