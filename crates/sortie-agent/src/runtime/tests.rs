//! By which names the runtime is called.

use std::path::Path;

use super::called_as;

#[test]
fn only_the_links_name_calls_it() {
    let called = |name: &str| called_as(Some(name.into()));
    let link = "/var/lib/sortie/docker/sortie-runtime";
    assert_eq!(called(link).as_deref(), Some(Path::new(link)));
    for other in ["/usr/local/bin/sortie", "sortie", "sortie-runtime-2", "/"] {
        assert_eq!(called(other), None, "{other}");
    }
    assert_eq!(called_as(None), None);
}
