//! `status`, `get`, `explain`, `verify`: golden texts of what they print.

use insta::assert_snapshot;
use serde_json::json;

use crate::agent::Agent;

fn status(right: bool) -> String {
    let fix = "ip addr add 203.0.113.12/32 dev eth0";
    let mut status = json!({
        "version": "0.1.0", "pid": 4711, "tables": "owned",
        "engines": [
            {"name": "docker", "socket": "/run/docker.sock", "state": "Connected"},
            {"name": "podman", "socket": "/run/podman/podman.sock", "state": "Absent",
             "reason": "there is no socket"},
        ],
        "uplinks": ["eth0", "eth1"],
        "workloads": [
            {"id": "docker/0123456789ab", "name": "web", "kind": "docker",
             "addresses": ["172.17.0.2"], "policies": ["label:web"],
             "egress": ["203.0.113.11", "2001:db8::11"], "state": "Ready", "dropped": 0},
        ],
        "addresses": [
            {"address": "203.0.113.11", "interface": "eth0", "uplink": "eth0", "usable": true},
        ],
        "problems": [], "drops": [], "leaks": 0,
    });
    if !right {
        status["engines"][0] = json!({"name": "docker", "socket": "/run/docker.sock",
            "state": "Away", "reason": "connection refused; `systemctl start docker`"});
        let workloads = status["workloads"].as_array_mut().unwrap();
        workloads.push(
            json!({"id": "docker/abcdef012345", "name": "database", "kind": "docker",
            "addresses": ["172.17.0.3"], "policies": ["bank", "everything"],
            "egress": ["203.0.113.12"], "state": "Blocked",
            "reason": "203.0.113.12 is not on this host", "fix": fix, "dropped": 1234}),
        );
        workloads.push(json!({"id": "docker/ffff", "name": "net", "kind": "docker",
            "addresses": [], "policies": [], "egress": [], "state": "Error",
            "reason": "it uses the host's network", "dropped": 0}));
        let addresses = status["addresses"].as_array_mut().unwrap();
        addresses.push(json!({"address": "203.0.113.12", "usable": false, "fix": fix}));
        addresses.push(
            json!({"address": "203.0.113.13", "interface": "eth0", "usable": false,
            "fix": "ip route add default via GATEWAY dev UPLINK"}),
        );
        status["problems"] = json!([{"object": "bad.yaml", "message":
            "bad.yaml:1:1: the field `spec` is missing\n  help: add it\n"}]);
        status["drops"] = json!([{"reason": "address-lost",
            "meaning": "the egress address is not on this host", "packets": 1234}]);
    }
    status.to_string()
}

#[test]
fn status_where_all_is_right() {
    let agent = Agent::start(&[("GET /v1/status", status(true))]);
    assert_snapshot!(agent.shown(&["status"]));
    assert_snapshot!(agent.shown(&["status", "--all", "-o", "yaml"]));
    let asked = ["GET /v1/status?all=false", "GET /v1/status?all=true"];
    assert_eq!(agent.requests(), asked);
}

#[test]
fn status_where_something_is_not() {
    let agent = Agent::start(&[("GET /v1/status", status(false))]);
    assert_snapshot!(agent.shown(&["status"]));
    // Everything that the agent said is in the JSON.
    let output = agent.command(&["status", "-o", "json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let said: serde_json::Value = serde_json::from_str(&status(false)).unwrap();
    assert_eq!(value, said);
}

#[test]
fn a_leak_alone_is_not_right() {
    let text = status(true).replace("\"leaks\":0", "\"leaks\":1");
    let agent = Agent::start(&[("GET /v1/status", text)]);
    let output = agent.command(&["status"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn get() {
    let yaml = |name| {
        format!("apiVersion: sortie.dev/v1alpha1\nkind: EgressPolicy\nmetadata: {{name: {name}}}\n")
    };
    let policies = json!([
        {"name": "bank", "file": "bank.yaml", "action": "Egress",
         "addresses": ["203.0.113.12"], "workloads": ["database", "web"], "yaml": yaml("bank")},
        {"name": "label:web", "action": "Egress", "addresses": ["203.0.113.11", "2001:db8::11"],
         "workloads": [], "yaml": yaml("web")},
    ]);
    let agent = Agent::start(&[
        ("GET /v1/status", status(false)),
        ("GET /v1/policies", policies.to_string()),
    ]);
    assert_snapshot!("get_policies", agent.shown(&["get"]));
    assert_eq!(agent.shown(&["get", "policies"]), agent.shown(&["get"]));
    assert_snapshot!("get_policies_yaml", agent.shown(&["get", "-o", "yaml"]));
    assert_snapshot!(
        "get_one_policy",
        agent.shown(&["get", "policy", "bank", "-o", "json"])
    );
    assert_snapshot!("get_workloads", agent.shown(&["get", "workloads"]));
    assert_snapshot!(
        "get_workload",
        agent.shown(&["get", "workload", "web", "-o", "yaml"])
    );
    assert_snapshot!("get_addresses", agent.shown(&["get", "addresses"]));
    assert_snapshot!(
        "get_address",
        agent.shown(&["get", "address", "203.0.113.12"])
    );
    assert_snapshot!("get_unknown", agent.shown(&["get", "policies", "bnak"]));
}

#[test]
fn explain() {
    let answer = json!({"workload": "web", "destination": "2001:db8::9", "port": "443/udp",
        "verdict": "Egress", "plane": "kernel", "policy": "bank", "source": "2001:db8::11",
        "uplink": "eth0", "reason": "as the policy says", "candidates": [
            {"policy": "bank", "matches": "partner: 2001:db8::/32 udp/443", "outcome": "decides"},
            {"policy": "all", "matches": "everything",
             "outcome": "lost to bank: more specific destination"}]});
    let agent = Agent::start(&[("POST /v1/explain", answer.to_string())]);
    assert_snapshot!(
        "explain",
        agent.shown(&["explain", "web", "[2001:db8::9]:443/udp"])
    );
    let question = json!({"workload": "web", "address": "2001:db8::9", "port": 443,
        "protocol": "udp"});
    assert_eq!(agent.asked()[0].body, question);

    let answer = json!({"workload": "web", "destination": "203.0.113.9", "verdict": "Drop",
        "plane": "kernel", "policy": "all", "source": "203.0.113.12",
        "reason": "203.0.113.12 is not on this host",
        "fix": "ip addr add 203.0.113.12/32 dev eth0", "candidates": []});
    let agent = Agent::start(&[("POST /v1/explain", answer.to_string())]);
    assert_snapshot!(
        "explain_drop",
        agent.shown(&["explain", "web", "203.0.113.9"])
    );
}

#[test]
fn explain_a_url() {
    let local = "answers that are private, local and translated addresses";
    let answer = json!({"workload": "web", "name": "api.example", "port": "80/tcp",
        "request": "POST /api/x", "plane": "gateway", "verdict": "Egress", "policy": "api",
        "sources": [{"source": "203.0.113.11", "uplink": "eth0"}, {"source": "2001:db8::11"}],
        "reason": "as the policy says", "lookup": "a policy names it",
        "addresses": [
            {"address": "198.51.100.7", "verdict": "Egress", "policy": "api",
             "source": "203.0.113.11", "reason": "as the policy says"},
            {"address": "192.0.2.7", "verdict": "Drop", "policy": "metadata",
             "reason": "the policy says Deny"}],
        "refused": [{"what": local, "why": "PrivateAnswer: a policy names the name"}],
        "candidates": [
            {"policy": "api", "matches": "POST api.example/api… tcp/80", "outcome": "decides"}]});
    let agent = Agent::start(&[("POST /v1/explain/name", answer.to_string())]);
    let url = "http://API.example/api/x?page=2";
    let arguments = ["explain", "web", url, "-X", "POST", "-H", "X-Tenant: blue"];
    assert_snapshot!("explain_url", agent.shown(&arguments));
    let question = json!({"workload": "web", "name": "api.example", "port": 80,
        "protocol": null, "encrypted": false, "request": {"method": "POST", "path": "/api/x",
        "headers": [["X-Tenant", "blue"]]}});
    assert_eq!(agent.asked()[0].body, question);
}

#[test]
fn explain_a_name() {
    let answer = json!({"workload": "web", "name": "other.example", "port": "5432/tcp",
        "plane": "resolver", "verdict": "Drop", "policy": "only", "sources": [],
        "reason": "the resolver answers REFUSED: `onlyTheseHosts`",
        "lookup": "REFUSED: policy only says `onlyTheseHosts`, and no policy names it",
        "addresses": [], "refused": [], "candidates": []});
    let agent = Agent::start(&[("POST /v1/explain/name", answer.to_string())]);
    let name = "other.example:5432";
    assert_snapshot!("explain_name", agent.shown(&["explain", "web", name]));
    let json = agent.shown(&["explain", "web", name, "-o", "json"]);
    assert!(json.contains(r#""plane": "resolver""#), "{json}");
    let question = json!({"workload": "web", "name": "other.example", "port": 5432,
        "protocol": null, "encrypted": false, "request": null});
    assert_eq!(agent.asked()[0].body, question);
    let request = agent.shown(&["explain", "web", name, "-X", "POST"]);
    assert!(request.contains("write a URL"), "{request}");
}

#[test]
fn bypass() {
    let web = json!({"workload": "web", "id": "docker/0123456789ab", "secondsLeft": 540,
        "since": "2026-01-01T00:00:00Z", "until": "2026-01-01T00:10:00Z", "uid": 0, "pid": 4711,
        "reason": "ticket 4711"});
    let agent = Agent::start(&[
        ("GET /v1/bypasses", json!([web]).to_string()),
        ("POST /v1/bypasses", web.to_string()),
        ("DELETE /v1/bypasses/web", web.to_string()),
    ]);
    assert_snapshot!("bypass_list", agent.shown(&["bypass"]));
    let begin = ["bypass", "web", "--for", "10m", "--reason", "ticket 4711"];
    assert_snapshot!("bypass_begin", agent.shown(&begin));
    assert_snapshot!("bypass_end", agent.shown(&["bypass", "web", "--end"]));
    let request = json!({"workload": "web", "seconds": 600, "reason": "ticket 4711"});
    assert_eq!(agent.asked()[1].body, request);
}

#[test]
fn verify() {
    let row = |workload: &str, seen: Option<&str>, verdict: &str| {
        json!({"workload": workload, "policy": "all", "observer": "udp://198.51.100.1:8080",
            "expected": "203.0.113.11", "seen": seen, "verdict": verdict})
    };
    let answer = |rows: &[serde_json::Value]| json!(rows).to_string();
    let arguments = ["verify", "web", "--observer", "udp://198.51.100.1:8080"];
    let right = row("web", Some("203.0.113.11"), "right");
    let agent = Agent::start(&[("POST /v1/verify", answer(std::slice::from_ref(&right)))]);
    assert_snapshot!("verify_right", agent.shown(&arguments));
    let request = json!({"workloads": ["web"], "observers": ["udp://198.51.100.1:8080"]});
    assert_eq!(agent.asked()[0].body, request);
    for (verdict, code) in [
        ("wrong", 1),
        ("unreachable", 1),
        ("blocked", 0),
        ("unmanaged", 0),
        ("from the future", 1),
    ] {
        let rows = [right.clone(), row("database", None, verdict)];
        let agent = Agent::start(&[("POST /v1/verify", answer(&rows))]);
        let output = agent.command(&arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{verdict}");
    }
    let wrong = [right, row("database", Some("203.0.113.1"), "wrong")];
    let agent = Agent::start(&[("POST /v1/verify", answer(&wrong))]);
    assert_snapshot!("verify_wrong", agent.shown(&arguments));
    let agent = Agent::start(&[("POST /v1/verify", answer(&[]))]);
    assert_snapshot!("verify_nobody", agent.shown(&arguments));
}
