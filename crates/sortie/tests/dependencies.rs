//! Who may depend on whom: pure crates stay pure, and arrows point one way (ARCHITECTURE.md).

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// Crates that decide: they see no runtime, no socket and no cluster.
const PURE: [&str; 3] = ["sortie-api", "sortie-export", "sortie-plan"];

/// What a pure crate may never reach, however far away: by name, or by a prefix that ends in `-`.
const IMPURE: [&str; 14] = [
    "axum",
    "bollard",
    "hyper",
    "k8s-openapi",
    "kube",
    "kube-",
    "libc",
    "mio",
    "netlink-",
    "nfnetlink",
    "nix",
    "rtnetlink",
    "tokio",
    "tokio-",
];

/// Each crate of the workspace, with those that it may name as dependencies. A new crate needs a
/// line here, and in ARCHITECTURE.md.
const ALLOWED: [(&str, &[&str]); 11] = [
    ("nfnetlink", &[]),
    ("sortie-api", &[]),
    ("sortie-dns", &["nfnetlink", "sortie-api"]),
    ("sortie-export", &["sortie-api", "sortie-plan"]),
    ("sortie-gateway", &["sortie-api", "sortie-plan"]),
    ("sortie-lab", &[]),
    ("sortie-plan", &["sortie-api"]),
    ("sortie-workloads", &["sortie-api"]),
    ("sortie-kernel", &["nfnetlink", "sortie-api", "sortie-plan"]),
    (
        "sortie-agent",
        &[
            "nfnetlink",
            "sortie-api",
            "sortie-dns",
            "sortie-gateway",
            "sortie-kernel",
            "sortie-plan",
            "sortie-workloads",
        ],
    ),
    // The binary parses arguments and calls libraries; how they act is not its business.
    (
        "sortie",
        &[
            "sortie-agent",
            "sortie-api",
            "sortie-export",
            "sortie-kernel",
            "sortie-lab",
            "sortie-workloads",
        ],
    ),
];

/// The resolved dependencies of this workspace, tests' own left out.
struct Graph {
    /// Names by package id.
    names: BTreeMap<String, String>,
    /// Package ids of direct dependencies, by package id.
    direct: BTreeMap<String, BTreeSet<String>>,
    members: BTreeSet<String>,
}

impl Graph {
    fn read() -> Self {
        // Only what is built here: packages of other platforms need not have been fetched.
        let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        let output = Command::new(env!("CARGO"))
            .args(["metadata", "--format-version", "1", "--locked"])
            .args(["--filter-platform", &platform])
            .args([
                "--manifest-path",
                concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"),
            ])
            .output()
            .expect("cargo runs");
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "cargo metadata: {complaint}");
        let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
        let text = |value: &Value| value.as_str().expect("a string").to_owned();
        let list = |value: &Value| value.as_array().expect("a list").clone();
        let is_shipped = |dependency: &Value| {
            list(&dependency["dep_kinds"])
                .iter()
                .any(|kind| kind["kind"] != "dev")
        };
        Self {
            names: list(&metadata["packages"])
                .iter()
                .map(|package| (text(&package["id"]), text(&package["name"])))
                .collect(),
            direct: list(&metadata["resolve"]["nodes"])
                .iter()
                .map(|node| {
                    let dependencies = list(&node["deps"]).into_iter().filter(is_shipped);
                    (
                        text(&node["id"]),
                        dependencies
                            .map(|dependency| text(&dependency["pkg"]))
                            .collect(),
                    )
                })
                .collect(),
            members: list(&metadata["workspace_members"])
                .iter()
                .map(text)
                .collect(),
        }
    }

    fn member(&self, name: &str) -> &str {
        let mut members = self.members.iter();
        let found = members.find(|id| self.names[*id] == name);
        found.unwrap_or_else(|| panic!("no crate {name} in this workspace"))
    }

    /// The names of all that a crate is built from, itself left out.
    fn reached(&self, name: &str) -> BTreeSet<&str> {
        let mut reached = BTreeSet::new();
        let mut waiting = vec![self.member(name)];
        while let Some(id) = waiting.pop() {
            for dependency in &self.direct[id] {
                if reached.insert(dependency.as_str()) {
                    waiting.push(dependency);
                }
            }
        }
        reached
            .into_iter()
            .map(|id| self.names[id].as_str())
            .collect()
    }
}

fn is_impure(name: &str) -> bool {
    IMPURE
        .iter()
        .any(|impure| name == *impure || (impure.ends_with('-') && name.starts_with(impure)))
}

#[test]
fn pure_crates_reach_no_runtime_and_no_socket() {
    let graph = Graph::read();
    for name in PURE {
        let impure: Vec<&str> = graph
            .reached(name)
            .into_iter()
            .filter(|reached| is_impure(reached))
            .collect();
        assert!(
            impure.is_empty(),
            "{name} must stay pure, but reaches {impure:?}"
        );
    }
    // The walk sees what is there: the agent is built from all of it.
    let agent = graph.reached("sortie-agent");
    for name in ["tokio", "netlink-packet-route", "nfnetlink", "sortie-plan"] {
        assert!(
            agent.contains(name),
            "sortie-agent is not seen to reach {name}"
        );
    }
}

#[test]
fn crates_depend_one_way() {
    let graph = Graph::read();
    let allowed = BTreeMap::from(ALLOWED);
    for id in &graph.members {
        let name = graph.names[id].as_str();
        let Some(allowed) = allowed.get(name) else {
            panic!("{name} is not in the table of allowed dependencies");
        };
        let own = graph.direct[id]
            .iter()
            .filter(|id| graph.members.contains(*id));
        for dependency in own.map(|id| graph.names[id].as_str()) {
            assert!(
                allowed.contains(&dependency),
                "{name} may not depend on {dependency}"
            );
        }
    }
}
