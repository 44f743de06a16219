//! What may be the name of a policy, a container, a network and an interface.

use crate::problem::{Fault, quoted};
use crate::workload::Engine;

/// Longest policy name, in bytes (RFC 1123 as Kubernetes reads it: a DNS subdomain).
const POLICY_MAX: usize = 253;
/// Longest interface name, in bytes (linux/if.h: IFNAMSIZ without the closing zero).
const INTERFACE_MAX: usize = 15;

/// A DNS-1123 subdomain, as `metadata.name` is in Kubernetes.
pub(crate) fn policy(name: &str) -> Result<(), Fault> {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let good = |name: &str| {
        name.len() <= POLICY_MAX
            && name.split('.').all(|part| {
                !part.is_empty()
                    && part.chars().all(inner)
                    && !part.starts_with('-')
                    && !part.ends_with('-')
            })
    };
    if good(name) {
        return Ok(());
    }
    let mended: String = name
        .to_lowercase()
        .chars()
        .map(|c| if inner(c) || c == '.' { c } else { '-' })
        .collect();
    let mended = mended.trim_matches(['-', '.']);
    let help = if good(mended) {
        format!("write `{mended}`: lower-case letters, digits, `-` and `.`")
    } else {
        format!(
            "write at most {POLICY_MAX} lower-case letters, digits, `-` and `.`, a letter or digit first and last"
        )
    };
    Err(Fault::new(
        format!("{} cannot be a policy's name", quoted(name)),
        help,
    ))
}

/// Docker's rule for names of containers and networks: `[a-zA-Z0-9][a-zA-Z0-9_.-]*`
/// (moby, daemon/names).
fn engine(c: char) -> bool {
    c.is_ascii_alphanumeric() || ['_', '.', '-'].contains(&c)
}

/// A glob that a container's name can match.
pub(crate) fn container_glob(glob: &str) -> Result<(), Fault> {
    let fault = |help: String| {
        Err(Fault::new(
            format!("no container's name can match {}", quoted(glob)),
            help,
        ))
    };
    if glob.is_empty() {
        return fault("write a name, or `\"*\"` for every container".to_owned());
    }
    if let Some(name) = glob.strip_prefix('/')
        && container_glob(name).is_ok()
    {
        return fault(format!("write `{name}`, without the slash"));
    }
    if glob.contains(['[', ']', '{', '}']) {
        return fault("`*` stands for any characters and `?` for one; there are no classes or alternatives: write several names".to_owned());
    }
    if !glob.chars().all(|c| engine(c) || c == '*' || c == '?') {
        return fault("a name has letters, digits, `_`, `.` and `-`; `*` stands for any of them and `?` for one".to_owned());
    }
    Ok(())
}

/// A network's name.
pub(crate) fn network(name: &str) -> Result<(), Fault> {
    let of_one = Engine::ALL
        .iter()
        .find_map(|of| name.strip_prefix(of.name())?.strip_prefix('/'));
    let bare = of_one.unwrap_or(name);
    if !bare.is_empty() && bare.chars().all(engine) {
        return Ok(());
    }
    if bare.is_empty() {
        return Err(Fault::new("an empty name", "write a network's name"));
    }
    let help = if name.contains(['*', '?']) {
        "networks are written in full, without `*` or `?`"
    } else {
        "a name has letters, digits, `_`, `.` and `-`; `docker/` or `podman/` before it means that engine's only"
    };
    Err(Fault::new(
        format!("no network can be named {}", quoted(name)),
        help,
    ))
}

/// A token's name, as the gateway's file lists it.
pub(crate) fn token(name: &str) -> Result<(), Fault> {
    if !name.is_empty() && name.chars().all(engine) {
        return Ok(());
    }
    let message = format!("no token can be named {}", quoted(name));
    let help = "write the token's name, of letters, digits, `_`, `.` and `-`, not the token";
    Err(Fault::new(message, help))
}

/// An interface's name (linux: net/core/dev.c, `dev_valid_name`).
pub(crate) fn interface(name: &str) -> Result<(), Fault> {
    let good = !name.is_empty()
        && name.len() <= INTERFACE_MAX
        && name != "."
        && name != ".."
        && !name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control());
    if good {
        return Ok(());
    }
    Err(Fault::new(
        format!("no interface can be named {}", quoted(name)),
        format!("write a name of at most {INTERFACE_MAX} bytes, as `ip link` shows it"),
    ))
}
