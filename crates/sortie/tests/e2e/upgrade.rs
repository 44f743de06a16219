//! The binary replaced under a running agent, and versions with other tables.

use std::fs;
use std::process::Command;

use sortie_lab::{ContainerSpec, Result, eventually};

use crate::sender::Sender;
use crate::stage::{DOCKER_20, DOCKER_29_NFTABLES, GUARD_ALL, LIMIT, Stage};

/// Kills the agent, and waits until its holder has started another.
fn killed_it_comes_back(stage: &Stage) -> Result<()> {
    let before = stage.worker_pid();
    stage.signal("-KILL", before)?;
    eventually(LIMIT, "another agent answers", || {
        let outcome = stage
            .run(&["status", "-o", "json"])
            .map_err(|error| error.to_string())?;
        let status: serde_json::Value = serde_json::from_str(&outcome.stdout)
            .map_err(|_| format!("{}{}", outcome.stderr, stage.agent().tail()))?;
        if status["pid"] == before {
            return Err("the old one answers".to_owned());
        }
        Ok(())
    })?;
    stage.wait_for_engine()
}

/// The file is replaced by one that is not written whole yet, then deleted.
#[test]
fn the_binary_replaced_and_deleted_under_the_agent() -> Result<()> {
    let mut stage = Stage::without_agent("binary", DOCKER_20)?;
    let program = stage.folder().join("sortie");
    fs::copy(&stage.program, &program).expect("a copy of the binary");
    stage.program.clone_from(&program);
    stage.start_agent(GUARD_ALL)?;
    let web = Sender::labelled(&stage, ContainerSpec::new("web"), 11)?;
    web.arrives(&stage)?;
    let new = stage.folder().join("sortie.new");
    fs::write(&new, "half of a binary").expect("a file");
    fs::rename(&new, &program).expect("install");
    killed_it_comes_back(&stage)?;
    web.arrives(&stage)?;
    fs::remove_file(&program).expect("the file");
    killed_it_comes_back(&stage)?;
    let mut comm = Command::new("cat");
    comm.arg(format!("/proc/{}/comm", stage.worker_pid()));
    assert_eq!(stage.host.run(LIMIT, comm)?.stdout, "sortie\n");
    web.arrives(&stage)?;
    web.never_otherwise(&stage)
}

/// Whether all our tables are those of the other version.
fn are_another_versions(stage: &Stage) -> Result<bool> {
    let mut another = Vec::new();
    for family in ["bridge", "inet", "netdev"] {
        let table = stage
            .host
            .netns()
            .nft(&format!("list table {family} sortie"))?;
        another.push(table.contains("(another version)"));
    }
    assert!(another.iter().all(|it| *it == another[0]), "{another:?}");
    Ok(another[0])
}

/// To a version whose base rules differ and back, while a container sends. No guard is on its
/// network: what a moment without tables lets through would be seen.
#[test]
fn to_another_version_and_back_under_traffic() -> Result<()> {
    let mut stage = Stage::new("upgrade", DOCKER_29_NFTABLES)?;
    let mut web = Sender::labelled(&stage, ContainerSpec::new("web"), 11)?;
    web.arrives(&stage)?;
    web.begins_anew(&stage)?;
    for another in [true, false] {
        stage.stop_agent()?;
        let arguments = ["--failpoints", "tables:version=another"];
        stage.spawn_agent("", if another { &arguments } else { &[] })?;
        stage.wait_for_engine()?;
        assert_eq!(are_another_versions(&stage)?, another);
        web.arrives(&stage)?;
        web.never_otherwise(&stage)?;
    }
    Ok(())
}
