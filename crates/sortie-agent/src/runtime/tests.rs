//! By which names the runtime is called.

use std::path::Path;

use super::{called_as, folder};

#[test]
fn only_the_links_name_calls_it() {
    let called = |name: &str| called_as(Some(name.into()));
    for (link, settings) in [
        (
            "/var/lib/sortie/docker/sortie-runtime",
            "/var/lib/sortie/docker",
        ),
        (
            "/var/lib/sortie/podman/sortie-runtime/crun",
            "/var/lib/sortie/podman",
        ),
    ] {
        assert_eq!(called(link).as_deref(), Some(Path::new(link)));
        assert_eq!(folder(Path::new(link)), Some(Path::new(settings)));
    }
    for other in ["/usr/local/bin/sortie", "sortie", "sortie-runtime-2", "/"] {
        assert_eq!(called(other), None, "{other}");
    }
    assert_eq!(folder(Path::new("sortie-runtime")), None, "found in PATH");
    assert_eq!(called_as(None), None);
}
