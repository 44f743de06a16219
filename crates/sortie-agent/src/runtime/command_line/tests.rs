//! Command lines as engines write them.

use super::CommandLine;

fn parse(line: &str) -> CommandLine {
    CommandLine::parse(line.split_whitespace().map(Into::into).collect())
}

#[test]
fn containerd_starts_a_container() {
    let line = parse(
        "--root /run/docker/runtime-runc/moby --log /b/log.json --log-format json \
         --systemd-cgroup start 0123",
    );
    assert_eq!(line.started(), Some("0123"));
    assert_eq!(line.value("root").unwrap(), "/run/docker/runtime-runc/moby");
    assert_eq!(line.value("log").unwrap(), "/b/log.json");
    assert_eq!(line.value("log-format").unwrap(), "json");
    assert_eq!(line.globals().len(), 7);
}

#[test]
fn values_may_be_in_the_same_word() {
    let line = parse("--root=/run/crun -log=/b/log --cgroup-manager systemd start 0123");
    assert_eq!(line.started(), Some("0123"));
    assert_eq!(line.value("root").unwrap(), "/run/crun");
    assert_eq!(line.value("log").unwrap(), "/b/log");
}

#[test]
fn everything_else_starts_nothing() {
    for line in [
        "",
        "--version",
        "features",
        "start",
        "--root /run/start kill start 9",
        "--root start delete --force 0123",
        "--root /r create --bundle /b --pid-file /b/init.pid start",
        "run start",
    ] {
        assert_eq!(parse(line).started(), None, "{line}");
    }
}
