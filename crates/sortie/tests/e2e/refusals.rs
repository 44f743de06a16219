//! What cannot be done: one clear error, an exit code, and what ran before keeps running.

use sortie_lab::{ALL_TRAFFIC, ContainerSpec, Outcome, Result, Traffic, eventually};

use crate::stage::{DOCKER_20, HOST_V4, LIMIT, Stage, ip, refusal, snapshot};

const POLICY: &str = "apiVersion: sortie.dev/v1alpha1
kind: EgressPolicy
metadata: {name: shop}
spec:
  workloads:
  - containers: {names: [web]}
  action: Egress
  egress: {addresses: [203.0.113.12]}
";

/// Runs an agent that must end by itself.
fn agent(stage: &mut Stage, more: &[&str]) -> Result<Outcome> {
    stage.spawn_agent("", more)?;
    let agent = stage.agent();
    Ok(Outcome {
        status: agent.wait(LIMIT)?,
        stdout: agent.stdout()?,
        stderr: agent.stderr()?,
    })
}

#[test]
fn a_wrong_label_blocks_its_container_only() -> Result<()> {
    let stage = Stage::new("label", DOCKER_20)?;
    let wrong = ContainerSpec::new("wrong").label("sortie.egress", "203.0.113.300");
    let wrong = stage.engine.run(&wrong)?;
    let web = stage.labelled("web", "203.0.113.11")?;
    stage.wait_for("wrong", "Error")?;
    let reason = stage.workload("wrong").expect("known")["reason"].to_string();
    assert!(reason.contains("203.0.113.300"), "{reason}");
    let to = stage.lab.destination()?;
    for traffic in ALL_TRAFFIC {
        stage.lab.expect_nothing(&wrong, traffic, to.v4)?;
        stage.lab.expect_nothing(&wrong, traffic, to.v6)?;
        stage
            .lab
            .expect_source(&web, traffic, to.v4, ip("203.0.113.11"))?;
    }
    let status = stage.run(&["status"])?;
    assert_eq!(status.code(), 1);
    assert!(
        status.stdout.contains("wrong is Error"),
        "{}",
        status.stdout
    );
    Ok(())
}

#[test]
fn wrong_yaml_leaves_in_force_what_was() -> Result<()> {
    let mut stage = Stage::new("yaml", DOCKER_20)?;
    let web = stage.unmanaged("web")?;
    let applied = stage.apply(POLICY)?;
    assert_eq!(applied.code(), 0, "{}", applied.stderr);
    let to = stage.lab.destination()?.v4;
    let expected = ip("203.0.113.12");
    stage
        .lab
        .expect_source(&web, Traffic::Tcp(7), to, expected)?;
    let wrong = POLICY
        .replace("203.0.113.12", "203.0.113.13")
        .replace("action", "acton");
    let refused = refusal(&stage.apply(&wrong)?);
    assert!(refused.contains("policy.yaml:7:3:"), "{refused}");
    assert!(refused.contains("acton"), "{refused}");
    assert!(refused.contains('^'), "{refused}");
    stage
        .lab
        .expect_source(&web, Traffic::Tcp(7), to, expected)?;
    // The same through the folder, as an editor writes it.
    std::fs::write(stage.policies().join("policy.yaml"), &wrong).expect("the policy folder");
    let problem = eventually(LIMIT, "status tells of the folder", || {
        let status = stage.json(&["status"]).map_err(|error| error.to_string())?;
        let problem = status["problems"][0].to_string();
        if problem.contains("policy.yaml:7:3:") {
            Ok(problem)
        } else {
            Err(problem)
        }
    })?;
    assert!(
        problem.contains("what ran before keeps running"),
        "{problem}"
    );
    stage
        .lab
        .expect_source(&web, Traffic::Tcp(7), to, expected)?;
    assert_eq!(stage.run(&["status"])?.code(), 1);
    // And across the agent's death.
    stage.kill_agent()?;
    stage.start_agent("")?;
    stage.wait_for("web", "Ready")?;
    stage
        .lab
        .expect_source(&web, Traffic::Tcp(7), to, expected)?;
    // Once it is right it comes into force by itself.
    let right = POLICY.replace("203.0.113.12", "203.0.113.13");
    std::fs::write(stage.policies().join("policy.yaml"), right).expect("the policy folder");
    eventually(LIMIT, "the new address is in force", || {
        let web = stage.workload("web").map(|web| web["egress"].to_string());
        match web {
            Some(egress) if egress.contains("203.0.113.13") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })?;
    stage
        .lab
        .expect_source(&web, Traffic::Tcp(7), to, ip("203.0.113.13"))
}

#[test]
fn without_root_nothing_is_tried() -> Result<()> {
    let stage = Stage::new("user", DOCKER_20)?;
    // Where the test's own binary lies only root may go. Another process copies it: a child that a
    // test beside this one forks meanwhile would inherit the open copy, which nobody can execute.
    let mut copy = std::process::Command::new("cp");
    copy.args([env!("CARGO_BIN_EXE_sortie"), "/run/sortie-test"]);
    assert_eq!(
        stage.host.run(LIMIT, copy)?.code(),
        0,
        "a copy of the binary"
    );
    for arguments in [
        &["agent"][..],
        &["run", "--address", "203.0.113.21", "--", "true"],
        &["status"],
        &["down", "--force"],
    ] {
        let mut command = std::process::Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        command.arg("/run/sortie-test").args(arguments);
        let outcome = stage.host.run(LIMIT, command)?;
        let error = refusal(&outcome);
        let root = error.contains("root") || error.contains("permission") || error.contains("sudo");
        assert!(root && error.lines().count() == 1, "{arguments:?}: {error}");
    }
    Ok(())
}

#[test]
fn without_an_engine_the_agent_runs_and_says_so() -> Result<()> {
    let mut stage = Stage::without_agent("engine", DOCKER_20)?;
    stage.spawn_agent("", &[])?;
    stage.wait_for_engine()?;
    stage.engine.stop()?;
    stage.kill_agent()?;
    // Nothing is where the engine's socket should be.
    let _ = std::fs::remove_file(stage.engine.socket());
    stage.spawn_agent("", &[])?;
    let shown = eventually(LIMIT, "the agent tells of the engine", || {
        let status = stage.run(&["status"]).map_err(|error| error.to_string())?;
        if status.stdout.contains("there is no socket at") {
            Ok(status)
        } else {
            Err(status.stdout + &status.stderr)
        }
    })?;
    assert_eq!(shown.code(), 1);
    assert!(shown.stdout.contains("start Docker"), "{}", shown.stdout);
    let log = stage.agent().stderr()?;
    let told = log
        .lines()
        .filter(|line| line.contains("there is no socket at") && line.contains("start Docker"));
    assert_eq!(told.count(), 1, "{log}");
    let status = stage.json(&["status"])?;
    assert_eq!(status["engines"][0]["state"], "Away", "{status}");
    Ok(())
}

#[test]
fn a_second_agent_is_refused() -> Result<()> {
    let stage = Stage::new("second", DOCKER_20)?;
    let web = stage.labelled("web", "203.0.113.11")?;
    let socket = stage.folder().join("other.sock").display().to_string();
    let error = stage.refused(&["--socket", &socket, "agent"]);
    assert!(
        error.contains("another agent runs in this network namespace"),
        "{error}"
    );
    assert_eq!(error.lines().count(), 1, "{error}");
    // The first is not disturbed.
    let to = stage.lab.destination()?.v4;
    stage
        .lab
        .expect_source(&web, Traffic::Tcp(7), to, ip("203.0.113.11"))
}

#[test]
fn a_kernel_without_what_is_needed_is_refused() -> Result<()> {
    let mut stage = Stage::without_agent("needed", DOCKER_20)?;
    let web = ContainerSpec::new("web").label("sortie.egress", "203.0.113.11");
    let web = stage.engine.run(&web)?;
    let before = snapshot(&stage.host)?;
    for feature in ["nf-tables", "bridge-family", "netdev-egress", "fib"] {
        let hidden = format!("probe:{feature}=unsupported");
        let outcome = agent(&mut stage, &["--failpoints", &hidden])?;
        let name = format!("agent-err-{feature}");
        std::fs::rename(
            stage.folder().join("agent-1.err"),
            stage.folder().join(name),
        )
        .ok();
        let error = refusal(&outcome);
        assert!(
            error.contains(&format!("this kernel has no {feature}")),
            "{error}"
        );
        assert_eq!(before.diff(&snapshot(&stage.host)?), "");
    }
    let to = stage.lab.destination()?.v4;
    stage
        .lab
        .expect_source(&web, Traffic::Tcp(7), to, ip(HOST_V4))
}

#[test]
fn a_kernel_without_the_rest_works_and_says_what_is_missing() -> Result<()> {
    let mut stage = Stage::without_agent("older", DOCKER_20)?;
    let features = ["owner", "persist", "conntrack-events", "nflog"];
    let hidden = features.map(|feature| format!("probe:{feature}=unsupported"));
    stage.spawn_agent("", &["--failpoints", &hidden.join(",")])?;
    stage.wait_for_engine()?;
    let web = stage.labelled("web", "203.0.113.11")?;
    let to = stage.lab.destination()?.v4;
    for traffic in ALL_TRAFFIC {
        stage
            .lab
            .expect_source(&web, traffic, to, ip("203.0.113.11"))?;
    }
    let status = stage.json(&["status"])?;
    assert_eq!(status["tables"], "plain", "{status}");
    let problems = status["problems"].to_string();
    for feature in features {
        assert!(problems.contains(&format!("no {feature}: ")), "{problems}");
    }
    Ok(())
}

#[test]
fn what_nobody_knows_is_named() -> Result<()> {
    let stage = Stage::new("unknown", DOCKER_20)?;
    let _web = stage.unmanaged("web")?;
    let cases: [(&[&str], &str); 7] = [
        (&["explain", "nobody", "198.51.100.1"], "nobody"),
        (
            &["verify", "nobody", "--observer", "tcp://198.51.100.1:7"],
            "nobody",
        ),
        (&["attach", "nobody", "--address", "203.0.113.21"], "nobody"),
        (
            &["attach", "web", "--address", "203.0.113.21"],
            "--network none",
        ),
        (&["detach", "nobody"], "nobody"),
        (&["delete", "nothing"], "nothing"),
        (&["get", "workloads", "nobody"], "nobody"),
    ];
    for (arguments, named) in cases {
        let error = stage.refused(arguments);
        assert!(error.contains(named), "{arguments:?}: {error}");
        assert_eq!(error.lines().count(), 1, "{arguments:?}: {error}");
    }
    Ok(())
}
