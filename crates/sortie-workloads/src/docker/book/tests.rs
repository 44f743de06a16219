use super::*;
use crate::docker::container::Mode;
use crate::docker::sample::{network, seen};

fn ids(changes: &[Change]) -> Vec<String> {
    changes
        .iter()
        .map(|change| match change {
            Change::Snapshot(_) => "snapshot".to_owned(),
            Change::Workload(workload) => format!("+{}", workload.name),
            Change::WorkloadGone(id) => format!("-{}", id.as_str()),
            Change::Network(network) => format!("+{}", network.name),
            Change::NetworkGone(name) => format!("-{name}"),
            Change::Away(reason) | Change::Absent(reason) => reason.clone(),
        })
        .collect()
}

#[test]
fn only_what_differs_is_said() {
    let mut book = Book::default();
    assert_eq!(
        ids(&book.set_networks(vec![network("front", "bridge")])),
        ["+front"]
    );
    assert_eq!(ids(&book.put(seen("web", 7))), ["+web-name"]);
    assert_eq!(ids(&book.put(seen("web", 7))), Vec::<String>::new());
    assert_eq!(ids(&book.put(seen("web", 8))), ["+web-name"]);
    assert_eq!(ids(&book.remove("web")), ["-docker/web"]);
    assert_eq!(ids(&book.remove("web")), Vec::<String>::new());
    assert_eq!(ids(&book.set_networks(Vec::new())), ["-front"]);
}

#[test]
fn a_network_that_changes_changes_its_containers_after_it_came_and_before_it_goes() {
    let mut book = Book::default();
    book.set_networks(vec![network("front", "bridge")]);
    book.put(seen("web", 7));
    let mut moved = network("front", "bridge");
    moved.network.bridge = None;
    moved.network.labels.insert("a".to_owned(), "b".to_owned());
    assert_eq!(ids(&book.set_networks(vec![moved])), ["+front"]);
    let mut other_bridge = network("front", "bridge");
    other_bridge.network.bridge = Some(sortie_api::workload::IfIndex(99));
    let changes = book.set_networks(vec![other_bridge]);
    assert_eq!(ids(&changes), ["+front", "+web-name"]);
    let Some(Change::Workload(workload)) = changes.last() else {
        panic!("{changes:?}");
    };
    assert!(workload.unmanageable.is_some(), "{workload:?}");
    let changes = book.set_networks(Vec::new());
    assert_eq!(ids(&changes), ["+web-name", "-front"]);
}

#[test]
fn containers_that_share_a_namespace_follow_their_owner() {
    let mut book = Book::default();
    book.set_networks(vec![network("front", "bridge")]);
    let mut sidecar = seen("sidecar", 7);
    sidecar.container.face.mode = Mode::Container("web".to_owned());
    assert_eq!(ids(&book.put(sidecar)), ["+sidecar-name"]);
    assert_eq!(
        ids(&book.put(seen("web", 7))),
        ["+web-name", "+sidecar-name"]
    );
    let mut renamed = seen("web", 7);
    renamed.container.face.name = "shop".to_owned();
    assert_eq!(ids(&book.put(renamed)), ["+shop", "+sidecar-name"]);
    assert_eq!(ids(&book.remove("web")), ["-docker/web", "+sidecar-name"]);
}

#[test]
fn a_replacement_is_said_as_a_whole_or_not_at_all() {
    let mut book = Book::default();
    book.set_networks(vec![network("front", "bridge")]);
    book.put(seen("web", 7));
    let same = BTreeMap::from([("web".to_owned(), seen("web", 7))]);
    assert_eq!(
        book.replace(same, Some(vec![network("front", "bridge")])),
        None
    );
    let other = BTreeMap::from([("db".to_owned(), seen("db", 9))]);
    let snapshot = book.replace(other, None).unwrap();
    let names: Vec<&str> = snapshot
        .workloads
        .iter()
        .map(|it| it.name.as_str())
        .collect();
    assert_eq!(names, ["db-name"]);
    assert_eq!(snapshot.networks.len(), 1);
    // Changes continue from there.
    assert_eq!(ids(&book.remove("web")), Vec::<String>::new());
    assert_eq!(ids(&book.remove("db")), ["-docker/db"]);
}
