//! What is noted of networks, and what comes back of it.

use super::*;

fn network(name: &str, bridge: Option<u32>) -> Network {
    Network {
        name: name.to_owned(),
        labels: BTreeMap::from([("sortie.guard".to_owned(), "true".to_owned())]),
        bridge: bridge.map(IfIndex),
        subnets: vec!["10.77.1.0/24".parse().unwrap()],
    }
}

fn before_boot(index: IfIndex) -> Option<String> {
    (index == IfIndex(7)).then(|| "br-shop".to_owned())
}

#[test]
fn a_network_comes_back_with_the_index_that_its_bridge_has_then() {
    let folder = tempfile::tempdir().unwrap();
    let mut notes = NetworkNotes::load(folder.path());
    notes.note(
        &[network("shop", Some(7)), network("host", None)],
        before_boot,
    );
    assert_eq!(notes.problem, None);

    let notes = NetworkNotes::load(folder.path());
    let booted = |name: &str| (name == "br-shop").then_some(IfIndex(9));
    assert_eq!(notes.networks(booted), [network("shop", Some(9))]);
    assert_eq!(notes.networks(|_| None), [network("shop", None)]);
}

#[test]
fn a_bridge_that_the_host_does_not_show_keeps_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let mut notes = NetworkNotes::load(folder.path());
    notes.note(&[network("new", Some(8))], before_boot);
    assert_eq!(notes.networks(|_| None), [], "no name is known");
    notes.note(&[network("shop", Some(7))], before_boot);
    notes.note(&[network("shop", Some(8))], before_boot);
    let found = notes.networks(|name| (name == "br-shop").then_some(IfIndex(1)));
    assert_eq!(found, [network("shop", Some(1))]);
    notes.note(&[], before_boot);
    assert_eq!(notes.networks(|_| None), [], "the engine has none any more");
}

#[test]
fn a_disk_that_takes_nothing_is_a_problem_until_it_does() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    fs::write(&state, "in the way of the folder").unwrap();
    let mut notes = NetworkNotes::load(&state);
    notes.note(&[network("shop", Some(7))], before_boot);
    let problem = notes.problem.clone().expect("a problem");
    assert!(problem.contains("state"), "{problem}");
    fs::remove_file(&state).unwrap();
    notes.note(&[network("shop", Some(7))], before_boot);
    assert_eq!(notes.problem, None);
    assert_eq!(NetworkNotes::load(&state).noted, notes.noted);
}

#[test]
fn damaged_notes_are_a_problem_and_nothing_is_remembered() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(FILE), "{").unwrap();
    let notes = NetworkNotes::load(folder.path());
    assert!(
        notes
            .problem
            .as_ref()
            .is_some_and(|it| it.contains("understand"))
    );
    assert_eq!(notes.networks(|_| None), []);
}
