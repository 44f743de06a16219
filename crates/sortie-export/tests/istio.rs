//! Istio's resources are what an API server with Istio's own CRDs accepts, for random policies.

#[path = "envoy/any.rs"]
#[expect(dead_code, reason = "only policies are of use here, and no requests")]
mod any;

use std::fmt::Write;
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use crate::any::Set;

const SETS: u64 = 40;

fn go(arguments: &[&str]) -> Command {
    let mut go = Command::new("go");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/istio");
    go.current_dir(folder).args(arguments);
    go
}

/// What the checker says of these documents.
fn check(documents: &str) -> (bool, String) {
    let list = go(&["list", "-m", "-f", "{{.Dir}}", "istio.io/api"])
        .output()
        .expect("Go is installed and in PATH");
    // Empty until the module has been fetched.
    let mut fetch = go(&["mod", "download", "istio.io/api"]);
    let mut folder = String::from_utf8_lossy(&list.stdout).trim().to_owned();
    if folder.is_empty() {
        assert!(fetch.status().expect("Go runs").success());
        let list = go(&["list", "-m", "-f", "{{.Dir}}", "istio.io/api"]).output();
        let list = list.expect("Go runs");
        folder = String::from_utf8_lossy(&list.stdout).trim().to_owned();
    }
    // From a file: nobody waits for anybody.
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("istio.yaml");
    fs::write(&path, documents).expect("a file");
    let output = go(&["run", ".", &folder])
        .stdin(File::open(&path).expect("the file"))
        .output()
        .expect("Go runs");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    (output.status.success(), said)
}

#[test]
fn istios_own_schemas_accept_all() {
    let mut documents = String::new();
    for seed in 1..=SETS {
        let policies = Set::any(seed).policies;
        let origin = any::originating("b.test", 8443, "/etc/ca.pem");
        let policies: Vec<_> = policies.into_iter().chain([origin]).collect();
        for resource in sortie_export::istio(&policies).documents {
            writeln!(documents, "---\n{resource}").expect("a string");
        }
    }
    let (right, said) = check(&documents);
    assert!(right, "{said}");
    // It sees what is wrong.
    let wrong = documents.replace("\"exact\":", "\"exactly\":");
    let (right, said) = check(&wrong);
    assert!(!right && said.contains("exactly"), "{said}");
}
