//! What is kept of a run that leaked or failed, before its lab is taken down: without it a wrong
//! frame of one run in many could not be explained.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::SystemTime;

use sortie_lab::Result;

use crate::stage::Stage;

/// In the host's folder: each fault when it struck and when it was over.
const FAULTS: &str = "faults.out";

/// Notes what happens, by the clock of frames.
pub(super) fn note(stage: &Stage, what: &str) {
    let path = stage.folder().join(FAULTS);
    let list = OpenOptions::new().create(true).append(true).open(path);
    let line = |mut list: File| writeln!(list, "{} {what}", time(SystemTime::now()));
    list.and_then(line).expect("the list of faults");
}

/// Seconds since 1970, as `date +%s.%3N` prints them.
pub(super) fn time(at: SystemTime) -> String {
    let since = at
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    format!("{}.{:03}", since.as_secs(), since.subsec_millis())
}

/// Copies the outputs of all programs, with what the host's kernel holds now, beside the report.
pub(super) fn keep(stage: &Stage) -> Result<()> {
    let report = env::var_os("LEAK_REPORT").map(PathBuf::from);
    let beside = report.and_then(|path| Some(path.parent()?.to_owned()));
    let folder = beside.unwrap_or_else(env::temp_dir).join("leak-evidence");
    let done = fs::create_dir_all(&folder).and_then(|()| {
        for entry in fs::read_dir(stage.folder())? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                fs::copy(entry.path(), folder.join(entry.file_name()))?;
            }
        }
        Ok(())
    });
    done.expect("the folder for what is known of the wrong frame");
    for (file, command) in [
        ("ruleset", "nft list ruleset"),
        ("conntrack", "conntrack -L && conntrack -L -f ipv6"),
        (
            "addresses",
            "ip addr; ip rule; ip -6 rule; ip route show table all",
        ),
    ] {
        let mut shell = Command::new("sh");
        shell.args(["-c", command]);
        let text = stage.host.netns().output(shell)?;
        fs::write(folder.join(file), text).expect("what the kernel holds");
    }
    let status = stage.run(&["status", "--all"])?;
    fs::write(folder.join("status"), status.stdout).expect("what the agent says");
    println!("  what is known of it: {}", folder.display());
    Ok(())
}
