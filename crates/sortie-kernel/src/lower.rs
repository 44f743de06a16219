//! The plan's ruleset in nf_tables' terms: tables, chains, sets, elements. Pure.

mod element;
mod rule;

#[cfg(test)]
mod tests;

pub(crate) use element::{elements, lift};

use nfnetlink::chain::{ChainType, HookPoint as Point};
use nfnetlink::datatype::{DataType, Type};
use nfnetlink::{Batch, NamedCounter};
use sortie_plan::nft::set::{COUNTED, DataType as Yield, KeyType, Set};
use sortie_plan::nft::{Chain, Family, HookKind, HookPoint};
use sortie_plan::op::NftOp;

use crate::error::Error;

/// The name of our tables, in every family.
pub const TABLE: &str = "sortie";

/// nf_tables' family for the plan's.
pub fn family(family: Family) -> nfnetlink::Family {
    match family {
        Family::Bridge => nfnetlink::Family::Bridge,
        Family::Inet => nfnetlink::Family::Inet,
        Family::Netdev => nfnetlink::Family::Netdev,
    }
}

/// Appends one step to a transaction. Tables are made with these flags.
pub(crate) fn operation(
    batch: &mut Batch,
    on: Family,
    op: &NftOp,
    flags: nfnetlink::table::Flags,
    destroy: bool,
) -> Result<(), Error> {
    let into = family(on);
    match op {
        NftOp::AddTable(tag) => batch.add_table(
            &nfnetlink::Table::new(into, TABLE)
                .flags(flags)
                .comment(tag.as_str()),
        ),
        NftOp::DeleteTable => batch.destroy_table(into, TABLE),
        NftOp::AddCounter(name) => {
            batch.add_counter(&NamedCounter::new(into, TABLE, name.as_ref()));
        }
        NftOp::AddSet(name, set) => batch.add_set(&lower_set(on, name, set)?),
        NftOp::DeleteSet(name) if destroy => batch.destroy_set(into, TABLE, name),
        NftOp::DeleteSet(name) => batch.delete_set(into, TABLE, name),
        NftOp::AddChain(name, chain) => batch.add_chain(&lower_chain(on, name, chain)),
        NftOp::AddRules(name, chain) => {
            // Doing it twice must not double the rules.
            batch.flush_chain(into, TABLE, name);
            for statements in &chain.rules {
                let expressions = rule::expressions(on, statements)?;
                batch.add_rule(&nfnetlink::Rule::new(
                    into,
                    TABLE,
                    name.as_ref(),
                    expressions,
                ));
            }
        }
        NftOp::FlushChain(name) => batch.flush_chain(into, TABLE, name),
        NftOp::DeleteChain(name) => batch.destroy_chain(into, TABLE, name),
        NftOp::AddElements(name, added) => {
            batch.add_elements(into, TABLE, name, elements(added));
        }
        NftOp::DeleteElements(name, removed) if destroy => {
            batch.destroy_elements(into, TABLE, name, elements(removed));
        }
        NftOp::DeleteElements(name, removed) => {
            // Before kernel 6.3 a missing element cannot be deleted, so it is made first.
            batch.add_elements(into, TABLE, name, elements(removed));
            batch.delete_elements(into, TABLE, name, elements(removed));
        }
    }
    Ok(())
}

fn lower_chain(on: Family, name: &str, chain: &Chain) -> nfnetlink::Chain {
    let Some(hook) = &chain.hook else {
        return nfnetlink::Chain::regular(family(on), TABLE, name);
    };
    let kind = match hook.kind {
        HookKind::Filter => ChainType::Filter,
        HookKind::Nat => ChainType::Nat,
        HookKind::Route => ChainType::Route,
    };
    let point = match hook.point {
        HookPoint::Prerouting => Point::PREROUTING,
        HookPoint::Output => Point::OUTPUT,
        HookPoint::Postrouting => Point::POSTROUTING,
        HookPoint::Egress => Point::NETDEV_EGRESS,
    };
    nfnetlink::Chain::base(family(on), TABLE, name, kind, point, hook.priority)
        .devices(hook.device.clone())
}

fn lower_set(on: Family, name: &str, set: &Set) -> Result<nfnetlink::Set, Error> {
    if set.key == [KeyType::EtherAddr] {
        // Its keys would be 6 bytes, while a Key pads every part to 8.
        return Err(Error::Plan {
            object: format!("set {on} {TABLE} {name}"),
            reason: "a key of one Ethernet address is not supported",
        });
    }
    let parts: Vec<DataType> = set.key.iter().map(|part| key_type(*part)).collect();
    let key = Type::concat(&parts);
    let into = family(on);
    let mut lowered = match set.data {
        Yield::None => nfnetlink::Set::new(into, TABLE, name, key),
        Yield::Ipv4Addr => nfnetlink::Set::map(into, TABLE, name, key, DataType::IPV4_ADDR),
        Yield::Ipv6Addr => nfnetlink::Set::map(into, TABLE, name, key, DataType::IPV6_ADDR),
        Yield::Verdict => nfnetlink::Set::verdict_map(into, TABLE, name, key),
    };
    if set.interval {
        lowered = lowered.interval();
    }
    if set.counts {
        lowered = lowered
            .counter()
            .size(COUNTED)
            .flags(nfnetlink::set::Flags::EVAL);
    }
    if set.expiring {
        lowered = lowered.flags(nfnetlink::set::Flags::TIMEOUT);
    }
    Ok(lowered)
}

fn key_type(part: KeyType) -> DataType {
    match part {
        KeyType::Interface => DataType::IFINDEX,
        KeyType::InterfaceName => DataType::IFNAME,
        KeyType::EtherAddr => DataType::ETHER_ADDR,
        KeyType::Ipv4Addr => DataType::IPV4_ADDR,
        KeyType::Cgroup => DataType::CGROUPV2,
        KeyType::Ipv6Addr => DataType::IPV6_ADDR,
    }
}
