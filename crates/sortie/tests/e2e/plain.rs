//! A kernel without persistent tables (before 6.9): whoever deletes ours finds them made anew.

use std::time::Instant;

use sortie_lab::{ContainerSpec, Result, eventually};

use crate::sender::Sender;
use crate::stage::{DOCKER_29_NFTABLES, GUARD_ALL, LIMIT, Stage};

/// Our tables as `nft` lists them, without counts; words sorted, because the kernel lists the
/// elements of a set in any order.
fn tables(stage: &Stage) -> Result<Vec<String>, String> {
    let list = |family| {
        stage
            .host
            .netns()
            .nft(&format!("--stateless list table {family} sortie"))
            .map_err(|error| error.to_string())
    };
    let mut words = Vec::new();
    for family in ["bridge", "inet", "netdev"] {
        let listed = list(family)?;
        words.extend(
            listed
                .split([' ', ',', '\n'])
                .map(|word| word.trim().to_owned()),
        );
    }
    words.retain(|word| !word.is_empty());
    words.sort_unstable();
    Ok(words)
}

/// While containers send without end, another program deletes everything, a table, rules.
#[test]
fn what_another_program_deletes_is_made_anew() -> Result<()> {
    let mut stage = Stage::without_agent("plain", DOCKER_29_NFTABLES)?;
    stage.spawn_agent(GUARD_ALL, &["--failpoints", "probe:persist=unsupported"])?;
    stage.wait_for_engine()?;
    assert_eq!(stage.json(&["status"])?["tables"], "plain");
    let mut senders = Vec::new();
    for (name, last) in [("web", 11), ("mail", 12), ("batch", 13)] {
        senders.push(Sender::labelled(&stage, ContainerSpec::new(name), last)?);
    }
    for sender in &senders {
        sender.arrives(&stage)?;
        sender.never_otherwise(&stage)?;
    }
    let before = tables(&stage).expect("our tables");
    for foreign in [
        "flush ruleset",
        "delete table inet sortie",
        "flush chain inet sortie guard",
        "insert rule inet sortie guard accept",
    ] {
        stage.host.netns().nft(foreign)?;
        let began = Instant::now();
        eventually(
            LIMIT,
            &format!("all is there after {foreign}"),
            || match tables(&stage)? {
                now if now == before => Ok(()),
                now => Err(now.join(" ")),
            },
        )?;
        println!("after {foreign}: as before within {:?}", began.elapsed());
        for sender in &mut senders {
            sender.begins_anew(&stage)?;
            sender.arrives(&stage)?;
            sender.never_otherwise(&stage)?;
        }
    }
    let status = stage.json(&["status"])?;
    let problems = status["problems"].to_string();
    assert!(problems.contains("4 times"), "{problems}");
    Ok(())
}
