//! Any first bytes of a connection: the answer does not depend on what comes later, and never
//! comes back to `Incomplete`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sortie_gateway::tls::client_hello::{Sniffed, sniff};

fuzz_target!(|bytes: &[u8]| {
    let whole = sniff(bytes);
    for end in [bytes.len() / 2, bytes.len().saturating_sub(1)] {
        let part = sniff(&bytes[..end]);
        assert!(part == Sniffed::Incomplete || part == whole, "{part:?} {whole:?}");
    }
});
