//! The guard without one of its rules: for each rule that drops, what the others let through.

use sortie_lab::Result;

use super::claims::Claims;
use super::tally::Tally;
use crate::stage::{DOCKER_29_NFTABLES, LIMIT, Stage};

pub(super) mod gateway;

/// A rule as `nft` prints it, and where it is.
pub(super) struct Rule {
    pub(super) family: &'static str,
    pub(super) chain: String,
    place: usize,
    pub(super) text: String,
}

/// What a rule's absence means when nothing leaves.
enum Covered {
    /// Nothing of the other side's: it says what for.
    For(&'static str),
    /// Another rule drops the same, in this chain and with this beginning: without both it leaves.
    By(&'static str, &'static str),
}

impl Rule {
    pub(super) fn failpoint(&self) -> String {
        let Self {
            family,
            chain,
            place,
            ..
        } = self;
        format!("rule:{family}/{chain}/{place}=absent")
    }

    /// Whether it drops, or leads to where all is dropped that is not accepted first.
    fn drops(&self) -> bool {
        let (_, leads) = self.text.rsplit_once(' ').unwrap_or_default();
        let goes = self.text.contains("goto ");
        let chains = [
            "claimed",
            "port",
            "refused4",
            "refused6",
            "unmanaged",
            "guarded",
            "cgroup-refused",
        ];
        leads == "drop" || goes && (chains.contains(&leads) || leads.starts_with("drop-"))
    }

    /// Rules whose absence alone lets nothing out.
    fn covered(&self) -> Option<Covered> {
        use Covered::{By, For};
        let has = |part: &str| self.text.contains(part);
        match (self.family, self.chain.as_str()) {
            ("bridge", _) if has("arp saddr ip @known4") || has("nd-neighbor-advert") => {
                Some(For("answers would go to a neighbour: odd.rs asks for it"))
            }
            (_, "guard")
                if has("ip saddr @managed4 goto drop-untracked") && !has("ct original") =>
            {
                Some(By("uplink-up0", "ip saddr @own4"))
            }
            (_, "guard") if has("ip6 saddr @managed6 goto drop-untracked") => {
                Some(By("uplink-up0", "ip6 saddr @own6"))
            }
            (_, "drop-untracked") => Some(By("uplink-up0", "ip saddr @own4")),
            (_, "sniffed" | "drop-by-gateway" | "drop-unlearned") => {
                Some(For("it is about names: the gateway's trial asks for it"))
            }
            (_, chain) if chain.starts_with("leaves-as-") && has("goto drop-wrong-source") => {
                // An IPv6 address has underscores in a chain's name.
                let refused = if chain.contains('_') {
                    "refused6"
                } else {
                    "refused4"
                };
                Some(By(refused, "goto drop-wrong-source"))
            }
            (_, "drop-wrong-uplink") => {
                Some(For("the source would be right, and the uplink would not"))
            }
            (_, "drop-identity") => Some(For("no rule leads to this chain")),
            (_, "drop-inbound" | "closed") => Some(For(
                "it stops who comes from outside: inbound.rs asks for it",
            )),
            (_, "guard") if has("ct direction original goto unmanaged") => {
                Some(For("more would be dropped: it is before rules that drop"))
            }
            _ if has("goto drop-address-lost")
                || has("goto drop-wrong-uplink")
                || has("goto drop-earlier") =>
            {
                Some(For("a reason: the rule behind it drops too"))
            }
            _ => None,
        }
    }
}

/// All rules of ours that are in force.
fn rules(stage: &Stage) -> Result<Vec<Rule>> {
    let mut rules = Vec::new();
    for family in ["bridge", "inet", "netdev"] {
        let text = stage
            .host
            .netns()
            .nft(&format!("list table {family} sortie"))?;
        let mut inside: Option<(String, usize)> = None;
        for line in text.lines().map(str::trim) {
            if let Some(chain) = line.strip_prefix("chain ") {
                let name = chain.trim_end_matches(" {").trim_matches('"');
                inside = Some((name.to_owned(), 0));
            } else if line == "}" {
                inside = None;
            } else if let Some((chain, place)) = &mut inside
                && !line.starts_with("type ")
            {
                rules.push(Rule {
                    family,
                    chain: chain.clone(),
                    place: *place,
                    text: line.to_owned(),
                });
                *place += 1;
            }
        }
    }
    Ok(rules)
}

/// Claims made on a host, again and again with other rules missing.
struct Trial {
    claims: Claims,
    tally: Tally,
    stage: Stage,
}

impl Trial {
    /// How many frames leave wrongly without these rules.
    fn leaks_without(&mut self, rules: &[&Rule]) -> Result<u64> {
        let failpoints: Vec<String> = rules.iter().map(|rule| rule.failpoint()).collect();
        self.stage.ok(&["down"]);
        self.stage.agent().wait(LIMIT)?;
        let arguments = ["--failpoints", &failpoints.join(",")];
        self.stage.spawn_agent("", &arguments)?;
        self.stage.wait_for_engine()?;
        let before = self.tally.leaked;
        self.tally.examples.clear();
        self.claims.ask(&self.stage, &mut self.tally)?;
        Ok(self.tally.leaked - before)
    }
}

/// Takes out each rule that drops, if it is wanted: something must leave, or another rule must be
/// known to cover it. With all rules nothing leaves.
pub(super) fn each_leaks(wanted: &dyn Fn(&Rule) -> bool) -> Result<()> {
    let stage = Stage::new("weakened", DOCKER_29_NFTABLES)?;
    let mut tally = Tally::default();
    let claims = Claims::new(&stage, &mut tally)?;
    let mut trial = Trial {
        claims,
        tally,
        stage,
    };
    let leaks = trial.leaks_without(&[])?;
    assert_eq!(leaks, 0, "with all rules: {:?}", trial.tally.examples);
    let all = rules(&trial.stage)?;
    let mut silent = Vec::new();
    let mut tried = 0;
    for rule in all.iter().filter(|rule| rule.drops() && wanted(rule)) {
        let Rule { family, chain, .. } = rule;
        // Without what each drop says of itself.
        let text = rule.text.split_once("counter name");
        let text = text.map_or(rule.text.clone(), |(when, _)| format!("{when}drop"));
        let (leaks, note) = match rule.covered() {
            Some(Covered::For(why)) => {
                println!("{family} {chain}: {text}: {why}");
                continue;
            }
            Some(Covered::By(chain, beginning)) => {
                let covers =
                    |other: &&Rule| other.chain == chain && other.text.starts_with(beginning);
                let other = all.iter().find(covers).expect("the covering rule");
                let alone = trial.leaks_without(&[rule])?;
                let note = format!("leak without chain {chain} as well, {alone} without it alone");
                (trial.leaks_without(&[rule, other])?, note)
            }
            None => (trial.leaks_without(&[rule])?, "leak".to_owned()),
        };
        println!("{family} {chain}: {text}: {leaks} {note}");
        tried += 1;
        if leaks == 0 {
            silent.push(text);
        }
    }
    assert!(tried > 0, "no rule was tried");
    assert!(silent.is_empty(), "nothing leaves without {silent:#?}");
    Ok(())
}
