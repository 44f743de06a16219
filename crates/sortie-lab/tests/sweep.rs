//! A killed test leaves nothing that stops the next one.

#![expect(
    clippy::unwrap_used,
    reason = "clippy's exception for tests covers only functions marked #[test]"
)]

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sortie_lab::{
    ContainerSpec, Engine, EngineKind, EngineSpec, HostSpec, Lab, Result, SOON, UplinkSpec,
    eventually_true,
};

fn lab_with_a_container() -> Result<(Lab, Engine)> {
    let lab = Lab::new("killed")?;
    let host = lab.host(&HostSpec::new("h1").uplink(UplinkSpec::new(&["203.0.113.5/24"])))?;
    let engine = Engine::start(&host, &EngineSpec::new(EngineKind::Docker20))?;
    engine.run(&ContainerSpec::new("web"))?;
    Ok((lab, engine))
}

/// Not a test of its own: [`what_a_killed_lab_leaves_is_swept`] runs it in a process to kill.
#[test]
#[ignore = "started by another test, which kills it"]
fn a_lab_to_be_killed() -> Result<()> {
    let (lab, _engine) = lab_with_a_container()?;
    println!("\nlab {}", lab.folder().display());
    // Ends when the other test does.
    let _ = std::io::stdin().read(&mut [0]);
    Ok(())
}

/// The processes whose command line names a path below the lab's folder, and all below its hosts.
fn processes_of(lab: &Path) -> Vec<String> {
    let record = std::fs::read_to_string(lab.join("h1/init")).unwrap();
    let init = record.split(' ').next().unwrap();
    let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/pid_for_children")).ok();
    let wanted = namespace(init).expect("the host's first process runs");
    let all = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name().into_string().unwrap());
    all.filter(|pid| {
        pid.parse::<u32>().is_ok() && namespace(pid).is_some_and(|other| other == wanted)
    })
    .collect()
}

fn cgroups_of(lab: &Path) -> Vec<PathBuf> {
    let name = format!("sortie-lab-{}", lab.file_name().unwrap().to_string_lossy());
    let hierarchies = std::fs::read_dir("/sys/fs/cgroup")
        .unwrap()
        .flatten()
        .map(|entry| entry.path().join(&name));
    hierarchies
        .chain([Path::new("/sys/fs/cgroup").join(&name)])
        .filter(|path| path.is_dir())
        .collect()
}

#[test]
fn what_a_killed_lab_leaves_is_swept() -> Result<()> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_lab_to_be_killed", "--ignored", "--nocapture"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok);
    let folder = lines
        .find_map(|line| line.strip_prefix("lab ").map(PathBuf::from))
        .expect("the lab stands");
    let processes = processes_of(&folder);
    assert!(
        processes.len() > 3,
        "dockerd, containerd, a shim and a container run: {processes:?}"
    );
    assert!(!cgroups_of(&folder).is_empty());

    child.kill().unwrap();
    child.wait().unwrap();
    let alive = || {
        processes
            .iter()
            .any(|pid| Path::new("/proc").join(pid).exists())
    };
    eventually_true(
        SOON,
        "the kernel ends the processes of the killed lab",
        || !alive(),
    )?;
    assert!(!cgroups_of(&folder).is_empty());

    Lab::new("next")?;
    assert!(!folder.exists());
    assert_eq!(cgroups_of(&folder), Vec::<PathBuf>::new());
    Ok(())
}

#[test]
fn a_lab_that_ends_leaves_nothing() -> Result<()> {
    let (lab, engine) = lab_with_a_container()?;
    let folder = lab.folder().to_path_buf();
    let processes = processes_of(&folder);
    drop(engine);
    drop(lab);
    assert!(!folder.exists());
    assert_eq!(cgroups_of(&folder), Vec::<PathBuf>::new());
    assert!(
        !processes
            .iter()
            .any(|pid| Path::new("/proc").join(pid).exists())
    );
    Ok(())
}

#[test]
fn labs_of_living_processes_are_left_alone() -> Result<()> {
    let first = Lab::new("first")?;
    let host = first.host(&HostSpec::new("h1"))?;
    let _second = Lab::new("second")?;
    assert!(first.folder().join("h1").is_dir());
    host.ip("link show lo")?;
    assert_eq!(host.run(SOON, Command::new("true"))?.code(), 0);
    Ok(())
}
