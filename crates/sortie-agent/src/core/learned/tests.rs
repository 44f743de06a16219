use std::collections::BTreeSet;

use sortie_api::labels::Labels;
use sortie_api::workload::{Engine, Workload};
use sortie_plan::environment::Environment;

use super::*;

const ADDRESS: [u8; 4] = [198, 51, 100, 7];

fn planner() -> Planner {
    let mut planner = Planner::new(Environment::default());
    let web = Workload {
        id: "docker/web".into(),
        name: "web".to_owned(),
        kind: Engine::Docker.into(),
        labels: Labels::default(),
        pid: 30,
        started: 1,
        endpoints: Vec::new(),
        published_udp: BTreeSet::new(),
        cgroup: None,
        unmanageable: None,
    };
    planner.workload(web, None);
    planner
}

fn look_up(learned: &mut LearnedNames, planner: &mut Planner, name: &str) {
    let asked = Learned {
        workload: "docker/web".into(),
        name: name.to_owned(),
        addresses: vec![ADDRESS.into()],
    };
    let (told, _) = planner.learned(&asked.workload, name, &asked.addresses);
    learned.note(planner, &asked, &told);
    learned.keep(planner).unwrap();
}

fn recalled(folder: &Path) -> Vec<String> {
    let mut planner = Planner::new(Environment::default());
    LearnedNames::in_folder(folder).recall(&mut planner);
    let known = planner.known_names();
    known.map(|known| known.name.to_owned()).collect()
}

#[test]
fn what_was_told_is_read_back_up_to_where_a_crash_cut_it_off() {
    let folder = tempfile::tempdir().unwrap();
    let (mut learned, mut planner) = (LearnedNames::in_folder(folder.path()), planner());
    for name in ["a.example", "b.example", "a.example", "c.example"] {
        look_up(&mut learned, &mut planner, name);
    }
    let all = ["a.example", "b.example", "c.example"];
    assert_eq!(recalled(folder.path()), all);
    let file = folder.path().join(FILE);
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(text.lines().count(), 3, "{text}");
    fs::write(&file, &text[..text.len() - 9]).unwrap();
    assert_eq!(recalled(folder.path()), all[..2]);

    learned.remove().unwrap();
    assert_eq!(recalled(folder.path()), [""; 0]);
    learned.remove().unwrap();
}

#[test]
fn a_file_that_has_grown_is_written_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (mut learned, mut planner) = (LearnedNames::in_folder(folder.path()), planner());
    look_up(&mut learned, &mut planner, "a.example");
    learned.lines += SLACK + 3;
    look_up(&mut learned, &mut planner, "b.example");
    assert_eq!((learned.lines, learned.needed), (2, 2));
    look_up(&mut learned, &mut planner, "c.example");
    assert_eq!(
        recalled(folder.path()),
        ["a.example", "b.example", "c.example"]
    );
}

#[test]
fn what_cannot_be_kept_is_an_error_and_is_written_later() {
    let folder = tempfile::tempdir().unwrap();
    let (mut learned, mut planner) = (LearnedNames::in_folder(folder.path()), planner());
    look_up(&mut learned, &mut planner, "a.example");
    learned.file = Some(File::open("/dev/null").unwrap());
    let asked = Learned {
        workload: "docker/web".into(),
        name: "b.example".to_owned(),
        addresses: vec![ADDRESS.into()],
    };
    let (told, _) = planner.learned(&asked.workload, &asked.name, &asked.addresses);
    learned.note(&planner, &asked, &told);
    let error = learned.keep(&planner).unwrap_err().to_string();
    assert!(error.contains(FILE), "{error}");
    look_up(&mut learned, &mut planner, "c.example");
    assert_eq!(
        recalled(folder.path()),
        ["a.example", "b.example", "c.example"]
    );
}
