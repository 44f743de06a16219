//! The version 2 cgroup of a container: what its sockets are known by in the host's network namespace.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use sortie_api::workload::{Cgroup, CgroupId};

/// The cgroup of the container with this id, by one of its processes; the error says why there is
/// none that only it has.
///
/// Its name has the container's id, whatever made it (`/docker/ID`,
/// `/system.slice/docker-ID.scope`, `--cgroup-parent`). What a container makes below that is its
/// own too.
pub(crate) fn of_container(pid: u32, id: &str) -> Result<Cgroup, String> {
    let (mount, path) = find(pid)?;
    let own = own(&path, id).ok_or_else(|| {
        format!(
            "its process is in the cgroup {path}, which is not the container's alone; use runc \
             1.1 or newer, or a host with cgroups of version 2 only"
        )
    })?;
    let folder = mount.join(own.trim_start_matches('/'));
    let number = fs::metadata(&folder).map_err(|error| format!("{}: {error}", folder.display()));
    Ok(Cgroup {
        // On 64 bits a cgroup's id is its folder's inode number (kernfs_id_ino).
        id: CgroupId(number?.ino()),
        level: u32::try_from(own.split('/').skip(1).count()).unwrap_or(u32::MAX),
    })
}

/// Moves the calling process into the cgroup of another one: the sockets that it makes from here on
/// are known as that one's. The error says what stood in the way.
pub fn join(pid: u32) -> Result<(), String> {
    let (mount, path) = find(pid)?;
    let file = mount
        .join(path.trim_start_matches('/'))
        .join("cgroup.procs");
    // 0 is who writes it (cgroups(7)).
    fs::write(&file, "0").map_err(|error| format!("{}: {error}", file.display()))
}

/// Where the hierarchy is mounted, and the path of a process in it.
fn find(pid: u32) -> Result<(PathBuf, String), String> {
    let read = |path: &str| fs::read_to_string(path).map_err(|error| format!("{path}: {error}"));
    let cgroups = read(&format!("/proc/{pid}/cgroup"))?;
    let mounts = read("/proc/self/mountinfo")?;
    let mount = mount_point(&mounts).ok_or("this host has no cgroups of version 2")?;
    let path = path(&cgroups).ok_or("its process is in no cgroup of version 2")?;
    Ok((mount, path.to_owned()))
}

/// Where the version 2 hierarchy is mounted, by `/proc/self/mountinfo` (proc(5)).
fn mount_point(mounts: &str) -> Option<PathBuf> {
    let of_line = |line: &str| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let whole = mount.split(' ').nth(3)? == "/";
        let of_version_2 = filesystem.split(' ').next()? == "cgroup2";
        let point = mount.split(' ').nth(4)?;
        (whole && of_version_2).then(|| Path::new(point).to_owned())
    };
    mounts.lines().find_map(of_line)
}

/// A process's path in that hierarchy, by its `/proc/PID/cgroup` (cgroups(7)).
fn path(cgroups: &str) -> Option<&str> {
    let mut lines = cgroups.lines();
    lines.find_map(|line| line.strip_prefix("0::"))
}

/// The part of the path that ends with what is named after the container.
fn own<'a>(path: &'a str, id: &str) -> Option<&'a str> {
    let named = path.rfind(id).filter(|_| !id.is_empty())?;
    let end = path[named..]
        .find('/')
        .map_or(path.len(), |end| named + end);
    path.starts_with('/').then(|| &path[..end])
}

#[cfg(test)]
mod tests;
