//! SVCB and HTTPS records (RFC 9460): hints are addresses, and some parameters hide the name.

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use hickory_proto::rr::rdata::svcb::{Alpn, IpHint, Mandatory, SVCB, SvcParamKey, SvcParamValue};

use crate::learn::Answered;

/// The addresses in hints.
pub(crate) fn hints(record: &SVCB) -> Vec<IpAddr> {
    let mut hints = Vec::new();
    for (_, value) in &record.svc_params {
        match value {
            SvcParamValue::Ipv4Hint(IpHint(v4)) => hints.extend(v4.iter().map(|a| IpAddr::V4(a.0))),
            SvcParamValue::Ipv6Hint(IpHint(v6)) => hints.extend(v6.iter().map(|a| IpAddr::V6(a.0))),
            _ => {}
        }
    }
    hints
}

/// The record as the client is told it; none where nothing usable is left. In this order:
///
/// 1. Hints are told like address records; a list of hints that is empty goes.
/// 2. Where the name must be seen, `ech` goes, and HTTP/3 out of `alpn`. A record that offers
///    nothing but HTTP/3 goes whole.
/// 3. What went is no longer `mandatory`, or clients would throw the record away (§8).
pub(crate) fn told(
    record: &SVCB,
    sees_name: bool,
    fate: &dyn Fn(IpAddr) -> Answered,
) -> Option<SVCB> {
    let only_listed = has(&record.svc_params, SvcParamKey::NoDefaultAlpn);
    let mut params = Vec::with_capacity(record.svc_params.len());
    for (key, value) in &record.svc_params {
        let value = match value {
            SvcParamValue::Ipv4Hint(IpHint(v4)) => {
                let v4 = v4.iter().filter_map(|a| match shown(a.0.into(), fate)? {
                    IpAddr::V4(address) => Some(address.into()),
                    IpAddr::V6(_) => None,
                });
                non_empty(v4.collect()).map(|v4| SvcParamValue::Ipv4Hint(IpHint(v4)))
            }
            SvcParamValue::Ipv6Hint(IpHint(v6)) => {
                let v6 = v6.iter().filter_map(|a| match shown(a.0.into(), fate)? {
                    IpAddr::V6(address) => Some(address.into()),
                    IpAddr::V4(_) => None,
                });
                non_empty(v6.collect()).map(|v6| SvcParamValue::Ipv6Hint(IpHint(v6)))
            }
            SvcParamValue::EchConfigList(_) if sees_name => None,
            SvcParamValue::Alpn(Alpn(ids)) if sees_name => {
                let ids: Vec<String> = ids.iter().filter(|id| !is_http3(id)).cloned().collect();
                if ids.is_empty() && only_listed {
                    return None;
                }
                non_empty(ids).map(|ids| SvcParamValue::Alpn(Alpn(ids)))
            }
            other => Some(other.clone()),
        };
        if let Some(value) = value {
            params.push((*key, value));
        }
    }
    let params = without_missing(params);
    Some(SVCB::new(
        record.svc_priority,
        record.target_name.clone(),
        params,
    ))
}

/// What the client is told of an address.
pub(crate) fn shown(address: IpAddr, fate: &dyn Fn(IpAddr) -> Answered) -> Option<IpAddr> {
    match fate(address) {
        Answered::Kept => Some(address),
        Answered::Replaced(other) => (other.is_ipv4() == address.is_ipv4()).then_some(other),
        Answered::LeftOut => None,
    }
}

/// `h3` and its drafts, `h3-29` (IANA, "TLS Application-Layer Protocol Negotiation").
fn is_http3(id: &str) -> bool {
    id == "h3" || id.starts_with("h3-")
}

fn without_missing(params: Vec<Param>) -> Vec<Param> {
    let keys: Vec<SvcParamKey> = params.iter().map(|(key, _)| *key).collect();
    let mended = params.into_iter().filter_map(|(key, value)| match value {
        SvcParamValue::Mandatory(Mandatory(mut needed)) => {
            needed.retain(|needed| keys.contains(needed));
            non_empty(needed).map(|needed| (key, SvcParamValue::Mandatory(Mandatory(needed))))
        }
        other => Some((key, other)),
    });
    mended.collect()
}

type Param = (SvcParamKey, SvcParamValue);

fn has(params: &[Param], wanted: SvcParamKey) -> bool {
    params.iter().any(|(key, _)| *key == wanted)
}

fn non_empty<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}
