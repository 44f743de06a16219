//! What is noted of networks, and what comes back of it.

use super::*;

fn network(name: &str, bridge: Option<u32>) -> Network {
    Network {
        name: name.to_owned(),
        labels: BTreeMap::from([("sortie.guard".to_owned(), "true".to_owned())]),
        bridge: bridge.map(IfIndex),
        bridge_name: Some(format!("br-{name}")),
        subnets: vec!["10.77.1.0/24".parse().unwrap()],
    }
}

fn load(state: &Path) -> NetworkNotes {
    NetworkNotes::load(state, Engine::Docker)
}

#[test]
fn a_network_comes_back_with_the_index_that_its_bridge_has_then() {
    let folder = tempfile::tempdir().unwrap();
    let mut notes = load(folder.path());
    let host = Network {
        bridge_name: None,
        ..network("host", None)
    };
    notes.note(&[network("shop", Some(7)), host]);
    assert_eq!(notes.problem, None);

    let notes = load(folder.path());
    let booted = |name: &str| (name == "br-shop").then_some(IfIndex(9));
    assert_eq!(notes.networks(booted), [network("shop", Some(9))]);
    assert_eq!(notes.networks(|_| None), [network("shop", None)]);
}

#[test]
fn what_an_engine_has_no_more_is_forgotten_and_another_one_has_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let mut notes = load(folder.path());
    notes.note(&[network("shop", None)]);
    let mut podman = NetworkNotes::load(folder.path(), Engine::Podman);
    podman.note(&[network("podman/shop", None)]);
    notes.note(&[]);
    assert_eq!(load(folder.path()).networks(|_| None), []);
    let podman = NetworkNotes::load(folder.path(), Engine::Podman);
    assert_eq!(podman.networks(|_| None), [network("podman/shop", None)]);
}

#[test]
fn a_disk_that_takes_nothing_is_a_problem_until_it_does() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    fs::write(&state, "in the way of the folder").unwrap();
    let mut notes = load(&state);
    notes.note(&[network("shop", Some(7))]);
    let problem = notes.problem.clone().expect("a problem");
    assert!(problem.contains("state"), "{problem}");
    fs::remove_file(&state).unwrap();
    notes.note(&[network("shop", Some(7))]);
    assert_eq!(notes.problem, None);
    assert_eq!(load(&state).noted, notes.noted);
}

#[test]
fn damaged_notes_are_a_problem_and_nothing_is_remembered() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(file(Engine::Docker)), "{").unwrap();
    let notes = load(folder.path());
    assert!(
        notes
            .problem
            .as_ref()
            .is_some_and(|it| it.contains("understand"))
    );
    assert_eq!(notes.networks(|_| None), []);
}
