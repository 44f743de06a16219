//! Statements and chains in few words, for those that compile them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::nft::rule::Field::Ip6Saddr;
use crate::nft::rule::Statement::{self, Compare, Count, Counter, Log, Lookup, Prefix};
use crate::nft::rule::Verdict::{Drop, Goto};
use crate::nft::rule::{Field, Rule, Value};
use crate::nft::set::KeyType;
use crate::nft::{Chain, Hook, HookKind, HookPoint, Name};
use crate::reason::{LOG_GROUP, Reason};

/// The name of the chain that drops for a reason.
pub(crate) fn drop_chain(reason: Reason) -> Name {
    format!("drop-{}", reason.name()).into()
}

/// `meta protocol`, where a rule has no field that presumes it.
pub(crate) const IPV4: Statement = is(Field::Protocol, Value::Short(0x0800));
pub(crate) const IPV6: Statement = is(Field::Protocol, Value::Short(0x86dd));
pub(crate) const UNSPECIFIED_V4: Value = Value::Address(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
pub(crate) const UNSPECIFIED_V6: Value = Value::Address(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
pub(crate) const LINK_LOCAL_V6: Statement = Prefix {
    field: Ip6Saddr,
    network: IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)),
    length: 10,
};

/// `goto` the chain that drops for this reason.
pub(crate) fn goto_drop(reason: Reason) -> Rule {
    vec![Goto(drop_chain(reason)).into()]
}

pub(crate) fn on(condition: Statement, then: impl IntoIterator<Item = Statement>) -> Rule {
    std::iter::once(condition).chain(then).collect()
}

pub(crate) const fn is(field: Field, value: Value) -> Statement {
    Compare {
        field,
        not: false,
        value,
    }
}

pub(crate) fn lookup(fields: &[Field], set: &'static str) -> Statement {
    Lookup {
        fields: fields.to_vec(),
        set: set.into(),
        not: false,
    }
}

pub(crate) fn lookup_not(fields: &[Field], set: &'static str) -> Statement {
    Lookup {
        fields: fields.to_vec(),
        set: set.into(),
        not: true,
    }
}

/// Behind every right source: another egress address is wrong by its uplink, everything else as a
/// source.
pub(crate) fn otherwise() -> [Rule; 3] {
    let elsewhere = |field, set| on(lookup(&[field], set), goto_drop(Reason::WrongUplink));
    [
        elsewhere(Field::IpSaddr, "egress4"),
        elsewhere(Ip6Saddr, "egress6"),
        goto_drop(Reason::WrongSource),
    ]
}

pub(crate) fn plain(rules: Vec<Rule>) -> Chain {
    Chain { hook: None, rules }
}

pub(crate) fn refuse(reason: Reason) -> Vec<Statement> {
    vec![
        Counter(reason.name().into()),
        Log {
            group: LOG_GROUP,
            prefix: reason.name().into(),
        },
        Drop.into(),
    ]
}

pub(crate) fn hooked(kind: HookKind, point: HookPoint, priority: i32, rules: Vec<Rule>) -> Chain {
    Chain {
        hook: Some(Hook {
            kind,
            point,
            priority,
            device: None,
        }),
        rules,
    }
}

/// Drops, and counts the drop for the workload too. That is a rule of its own: the set may be full.
pub(crate) fn drop_counting(reason: Reason, of: &[(Field, &'static str)]) -> Vec<Rule> {
    let count = |(field, workloads): &(Field, &'static str)| {
        let v6 = field.key_type() == Some(KeyType::Ipv6Addr);
        let set = if v6 { "dropped6" } else { "dropped4" };
        let (field, set) = (*field, set.into());
        on(lookup(&[field], workloads), vec![Count { field, set }])
    };
    let mut rules: Vec<Rule> = of.iter().map(count).collect();
    rules.push(refuse(reason));
    rules
}

/// Drops what claims to be somebody else.
pub(crate) fn claimed() -> Vec<Statement> {
    vec![Goto("claimed".into()).into()]
}
