//! The order of a change's steps, in which nothing leaks.

use std::collections::{BTreeMap, BTreeSet};

use super::sets::{
    COUNTS, MANAGED, SNAT, TRANSLATE, TRANSLATIONS, bound, bypassed, drained, in_sets, sources,
    translates,
};
use super::{Place, Steps};
use crate::compile::policy_set::is_of_names;
use crate::flow::{Keep, Source};
use crate::nft::key::Key;
use crate::nft::set::Data;
use crate::nft::{Elements, Name};
use crate::op::{NftOp, Op};

impl Steps {
    /// Steps, in order:
    /// 1. Addresses go that workloads have themselves no longer, while the rules still know them.
    ///    Workloads' namespaces lead to resolver and gateway, before anything may leave by the rules:
    ///    an answer that the resolver does not see would be to an address without a name.
    /// 2. What translates sources that lose their translation goes, alone: the guard still holds
    ///    them, so from here on they can only be dropped.
    /// 3. Flows end whose source loses its binding or translation.
    /// 4. One transaction: tables, new chains and sets, elements that go, elements that come.
    /// 5. Flows end that were decided under the old state, but for what `keep` says of their source
    ///    now: others have begun since the transaction, and are right. And those whose drain is over.
    /// 6. Sysctls, routes and the like.
    /// 7. Once no packet is on its way that the state before decides: chains and sets that nothing
    ///    names any more, and what names were told for. A packet asks the rules of one state, and sets
    ///    as they are at each moment (`nft_do_chain` in net/netfilter/nf_tables_core.c).
    pub fn into_ops(mut self, keep: impl Fn(Source) -> Keep) -> Vec<Op> {
        let released = self.take_released();
        let before = self.forget_before(&released);
        let after = self.forget_after(keep);
        let counted = self.count_anew();
        let behind = self.take_behind();

        let mut ops: Vec<Op> = self.gone_own.into_iter().map(Op::DeleteOwn).collect();
        let mut led_no_longer = Vec::new();
        for (pid, redirect) in self.redirects {
            match redirect {
                Some(redirect) => ops.push(Op::AddRedirect(pid, redirect)),
                None => led_no_longer.push(Op::DeleteRedirect(pid)),
            }
        }
        ops.extend(delete_elements(released));
        ops.extend(before.into_iter().map(|source| Op::ForgetFlows {
            source,
            translated: None,
            keep: Keep::default(),
        }));
        ops.append(&mut self.tables);
        let nft = |family, op| Op::Nft(family, op);
        for ((family, name), chain) in &self.chains {
            ops.push(nft(*family, NftOp::AddChain(name.clone(), chain.clone())));
        }
        ops.extend(
            self.sets
                .into_iter()
                .map(|((family, name), set)| nft(family, NftOp::AddSet(name, set))),
        );
        ops.extend(
            self.chains
                .into_iter()
                .map(|((family, name), chain)| nft(family, NftOp::AddRules(name, chain))),
        );
        ops.append(&mut delete_elements(counted));
        ops.append(&mut delete_elements(self.remove));
        for ((family, set), elements) in self
            .add
            .into_iter()
            .filter(|(_, elements)| !elements.is_empty())
        {
            ops.push(nft(
                family,
                NftOp::AddElements(set, elements.into_iter().collect()),
            ));
        }
        ops.extend(after);
        ops.append(&mut self.network);
        ops.append(&mut led_no_longer);
        if !behind.is_empty() {
            ops.push(Op::LetPass);
            ops.extend(behind);
        }
        ops
    }

    /// Step 7. What is in a set that goes needs no step of its own.
    fn take_behind(&mut self) -> Vec<Op> {
        let nft =
            |(family, name): &Place, op: fn(Name) -> NftOp| Op::Nft(*family, op(name.clone()));
        self.remove
            .retain(|place, _| !self.gone_sets.contains(place));
        let told: BTreeMap<Place, Elements> = self
            .remove
            .extract_if(.., |(_, set), _| is_of_names(set))
            .collect();
        let mut ops = delete_elements(told);
        // Chains name sets in rules, and sets name chains in elements.
        ops.extend(self.gone_chains.iter().map(|it| nft(it, NftOp::FlushChain)));
        ops.extend(self.gone_sets.iter().map(|it| nft(it, NftOp::DeleteSet)));
        ops.extend(
            self.gone_chains
                .iter()
                .map(|it| nft(it, NftOp::DeleteChain)),
        );
        ops
    }

    /// What was counted for addresses that no workload has any more goes: another one may get them.
    fn count_anew(&self) -> BTreeMap<Place, Elements> {
        let mut gone: BTreeMap<Place, Elements> = BTreeMap::new();
        for ((family, set), elements) in &self.remove {
            let Some((_, counts)) = COUNTS.iter().find(|(of, _)| of == set) else {
                continue;
            };
            let added = self.add.get(&(*family, set.clone()));
            let keys = elements.keys();
            let left = keys.filter(|key| added.is_none_or(|added| !added.contains_key(*key)));
            let counts = gone.entry((*family, Name::Borrowed(counts))).or_default();
            counts.extend(left.map(|key| (*key, Data::None)));
        }
        gone
    }

    /// Step 2: translations that go without another in their place.
    fn take_released(&mut self) -> BTreeMap<Place, Elements> {
        let mut released = BTreeMap::new();
        for (place, elements) in self
            .remove
            .iter_mut()
            .filter(|((_, set), _)| translates(set))
        {
            let stays = |key: &Key| {
                let mut alike = TRANSLATIONS.iter().filter(|pair| pair.contains(&&*place.1));
                let mut sets = alike.by_ref().flatten();
                sets.any(|set| {
                    self.add
                        .get(&(place.0, Name::Borrowed(*set)))
                        .is_some_and(|add| add.contains_key(key))
                })
            };
            let (replaced, gone) = std::mem::take(elements)
                .into_iter()
                .partition(|(key, _)| stays(key));
            *elements = replaced;
            released.insert(place.clone(), gone);
        }
        released
    }

    /// Step 3: released sources, and those whose binding goes.
    fn forget_before(&self, released: &BTreeMap<Place, Elements>) -> BTreeSet<Source> {
        sources(released.iter())
            .map(|(source, _)| source)
            .chain(bound(&self.remove))
            .collect()
    }

    /// Step 5: sources that are newly bound, newly managed, get another treatment, or are let by
    /// no more; those that are let by from now on, of which nothing stays; and of the others, flows
    /// with a former address whose drain is over.
    fn forget_after(&self, keep: impl Fn(Source) -> Keep) -> Vec<Op> {
        let treated = in_sets(&self.add, &MANAGED)
            .chain(in_sets(&self.add, &TRANSLATE))
            .chain(in_sets(&self.add, &SNAT));
        let let_by: BTreeSet<Source> = bypassed(&self.add).collect();
        let sources: BTreeSet<Source> = sources(treated)
            .map(|(source, _)| source)
            .chain(bound(&self.add))
            .chain(bypassed(&self.remove))
            .chain(let_by.iter().copied())
            .collect();
        let over = drained(&self.remove)
            .map(|(source, address)| (Source::Address(source), Some(address)))
            .filter(|(source, _)| !sources.contains(source));
        let all = sources.iter().map(|source| (*source, None)).chain(over);
        let stays = |source| match let_by.get(&source) {
            Some(_) => Keep::default(),
            None => keep(source),
        };
        let forget = |(source, translated)| Op::ForgetFlows {
            source,
            translated,
            keep: stays(source),
        };
        all.map(forget).collect()
    }
}

fn delete_elements(removed: BTreeMap<Place, Elements>) -> Vec<Op> {
    let removed = removed
        .into_iter()
        .filter(|(_, elements)| !elements.is_empty());
    removed
        .map(|((family, set), elements)| {
            Op::Nft(
                family,
                NftOp::DeleteElements(set, elements.into_iter().collect()),
            )
        })
        .collect()
}
