//! Any bytes as a client's message and as a server's answer: nothing panics, refusals are messages
//! of the right size, and what is told of an answer tells no address that was left out.

#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use sortie_api::workload::Families;
use sortie_dns::{Answer, Answered, Code, Judged, Learning, Told, Wanted, fit, judge};

const WANTED: Wanted = Wanted {
    learning: Learning::Required,
    families: Families { v4: true, v6: true },
    sees_name: true,
};

/// Half of all addresses are left out.
fn fate(address: IpAddr) -> Answered {
    let even = match address {
        IpAddr::V4(address) => address.octets()[3] % 2 == 0,
        IpAddr::V6(address) => address.octets()[15] % 2 == 0,
    };
    if even { Answered::Kept } else { Answered::LeftOut }
}

fuzz_target!(|message: &[u8]| {
    if let Judged::Query(query) = judge(message) {
        assert!(query.refuse(Code::NotLearned, Some("why")).len() <= 512);
        assert!(query.udp_limit() >= 512);
        let _ = query.host();
        let _ = query.is_answered_by(query.id, message);
    }
    if let Ok(answer) = Answer::read(message)
        && let Ok(Told::Changed(told)) = answer.told(WANTED, &fate)
        && let Ok(again) = Answer::read(&told)
    {
        let addresses = again.addresses(WANTED);
        assert!(addresses.iter().all(|address| fate(*address) == Answered::Kept), "{addresses:?}");
        let _ = fit(told, 512);
    }
});
