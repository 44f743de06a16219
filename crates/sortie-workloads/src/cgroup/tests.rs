use super::*;

const ID: &str = "3f0c";

#[test]
fn a_containers_cgroup_is_named_after_it() {
    for (path, expected) in [
        ("/docker/3f0c", Some("/docker/3f0c")),
        (
            "/system.slice/docker-3f0c.scope",
            Some("/system.slice/docker-3f0c.scope"),
        ),
        // A container with a service manager of its own makes cgroups below.
        ("/docker/3f0c/init.scope", Some("/docker/3f0c")),
        ("/system.slice/containerd.service", None),
        ("/", None),
        // Outside of what this process may see.
        ("../docker/3f0c", None),
    ] {
        assert_eq!(own(path, ID), expected, "{path}");
    }
    assert_eq!(own("/docker/3f0c", ""), None);
}

#[test]
fn the_hierarchy_of_version_2_is_found_beside_others() {
    let hybrid = "\
30 29 0:26 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
31 29 0:27 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw
";
    assert_eq!(mount_point(hybrid), Some("/sys/fs/cgroup/unified".into()));
    let part = "31 29 0:27 /docker/3f0c /sys/fs/cgroup ro - cgroup2 cgroup2 rw\n";
    assert_eq!(mount_point(part), None);
    assert_eq!(
        path("9:name=systemd:/\n0::/docker/3f0c\n"),
        Some("/docker/3f0c")
    );
    assert_eq!(path("9:name=systemd:/\n"), None);
}
