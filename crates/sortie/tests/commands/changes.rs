//! `apply`, `plan`, `delete`, `validate`, `attach`, `detach`, `down`.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use insta::assert_snapshot;
use serde_json::json;
use tempfile::TempDir;

use crate::agent::Agent;
use crate::{shown, sortie};

fn policy(name: &str) -> String {
    format!(
        "apiVersion: sortie.dev/v1alpha1\nkind: EgressPolicy\nmetadata: {{name: {name}}}\nspec:\n  workloads:\n  - containers: {{names: [{name}]}}\n  action: Egress\n  egress: {{addresses: [203.0.113.11]}}\n"
    )
}

fn change() -> String {
    json!({"dryRun": true,
        "policies": [{"name": "web", "change": "created"}],
        "workloads": [{"name": "web", "before": "as without Sortie", "after": "203.0.113.11"}],
        "steps": ["add element inet sortie sources { 172.17.0.2 : 203.0.113.11 }", "two\nlines"]})
    .to_string()
}

/// A folder with two policies and another file.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("web.yaml", policy("web")),
        ("bank.yaml", policy("bank")),
        ("notes.txt", "no policy".to_owned()),
    ] {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn apply_shows_the_plan_first() {
    let folder = folder();
    let agent = Agent::start(&[("POST /v1/policies", change())]);
    assert_snapshot!("apply", agent.shown(&["apply", text(folder.path())]));
    let asked = agent.asked();
    let names = ["bank.yaml", "web.yaml"].map(|name| folder.path().join(name));
    let files = json!({"files": [
        {"name": text(&names[0]), "text": policy("bank")},
        {"name": text(&names[1]), "text": policy("web")},
    ]});
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[0].request, "POST /v1/policies?dryRun=true");
    assert_eq!(asked[1].request, "POST /v1/policies?dryRun=false");
    assert!(asked.iter().all(|asked| asked.body == files));
}

#[test]
fn plan_changes_nothing() {
    let folder = folder();
    let file = folder.path().join("web.yaml");
    let agent = Agent::start(&[("POST /v1/policies", change())]);
    let plan = agent.shown(&["plan", text(&file)]);
    assert_snapshot!("plan", plan);
    assert_eq!(agent.shown(&["apply", "--dry-run", text(&file)]), plan);
    agent.shown(&["plan", text(&file), "-o", "json"]);
    assert_eq!(agent.requests(), ["POST /v1/policies?dryRun=true"; 3]);
}

#[test]
fn standard_input_gets_the_policys_name() {
    let agent = Agent::start(&[("POST /v1/policies", change())]);
    let mut child = agent
        .command(&["apply", "-", "-o", "json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(policy("web").as_bytes()).unwrap();
    drop(stdin);
    assert!(child.wait().unwrap().success());
    let asked = agent.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].body["files"][0]["name"], "web.yaml");
}

#[test]
fn mistakes_are_found_without_an_agent() {
    let folder = tempfile::tempdir().unwrap();
    let text = policy("web").replace("Egress\n  egress", "Egres\n  egress");
    fs::write(folder.path().join("web.yaml"), &text).unwrap();
    fs::write(folder.path().join("good.yaml"), policy("good")).unwrap();
    let inside = |arguments: &[&str]| {
        let mut command = sortie(arguments);
        command.current_dir(folder.path());
        shown(&command.output().unwrap())
    };
    assert_snapshot!(
        "validate_bad",
        inside(&["validate", "web.yaml", "good.yaml"])
    );
    assert_snapshot!(
        "validate_bad_json",
        inside(&["validate", "web.yaml", "-o", "json"])
    );
    assert_snapshot!("validate_good", inside(&["validate", "good.yaml"]));
    assert_snapshot!("apply_bad", inside(&["apply", "web.yaml"]));
    assert_snapshot!("apply_twice", inside(&["plan", "good.yaml", "./good.yaml"]));
}

#[test]
fn two_files_of_one_name() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a", "b"] {
        fs::create_dir(folder.path().join(name)).unwrap();
        fs::write(folder.path().join(name).join("p.yaml"), policy(name)).unwrap();
    }
    let mut command = sortie(&["plan", "a/p.yaml", "b"]);
    let output = command.current_dir(folder.path()).output().unwrap();
    assert_snapshot!(shown(&output));
}

#[test]
fn delete() {
    let folder = folder();
    let agent = Agent::start(&[("DELETE /v1/policies/web", change())]);
    assert_snapshot!("delete", agent.shown(&["delete", "web"]));
    // What can be deleted is, and the rest is told.
    assert_snapshot!(
        "delete_some",
        agent.shown(&["delete", "nope", "web", "label:x"])
    );
    agent.shown(&["delete", "--dry-run", "-f", text(folder.path())]);
    assert_eq!(
        agent.requests(),
        [
            "DELETE /v1/policies/web?dryRun=false",
            "DELETE /v1/policies/nope?dryRun=false",
            "DELETE /v1/policies/web?dryRun=false",
            "DELETE /v1/policies/label%3Ax?dryRun=false",
            "DELETE /v1/policies/bank?dryRun=true",
            "DELETE /v1/policies/web?dryRun=true",
        ]
    );
}

#[test]
fn attach_and_detach() {
    let attachment = json!({"owner": "attach/container1", "interface": "sortie3",
        "addresses": ["192.0.2.11", "2001:db8::11"], "uplink": "eth0"});
    let agent = Agent::start(&[
        ("POST /v1/attachments", attachment.to_string()),
        (
            "DELETE /v1/attachments/attach%2Fcontainer1",
            "{}".to_owned(),
        ),
        ("DELETE /v1/attachments/run%2F12", "{}".to_owned()),
    ]);
    let arguments = [
        "attach",
        "container1",
        "-a",
        "192.0.2.11,2001:db8::11",
        "--via",
        "eth0",
    ];
    assert_snapshot!("attach", agent.shown(&arguments));
    assert_snapshot!("detach", agent.shown(&["detach", "container1"]));
    assert_snapshot!("detach_run", agent.shown(&["detach", "run/12"]));
    let request = json!({"to": {"container": "container1"},
        "addresses": ["192.0.2.11", "2001:db8::11"], "via": "eth0"});
    assert_eq!(agent.asked()[0].body, request);
}

#[test]
fn down() {
    let removed = json!({"steps": ["table inet sortie", "address 203.0.113.11 on eth0"]});
    let agent = Agent::start(&[("POST /v1/down", removed.to_string())]);
    assert_snapshot!("down", agent.shown(&["down"]));
    let agent = Agent::start(&[("POST /v1/down", json!({"steps": []}).to_string())]);
    assert_snapshot!("down_nothing", agent.shown(&["down"]));
}
