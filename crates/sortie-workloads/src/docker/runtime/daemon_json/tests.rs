//! What happens to a file, and what does not.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use serde_json::json;

use super::DaemonJson;

fn parse(text: Option<&str>) -> DaemonJson {
    DaemonJson::parse(Path::new("/d.json"), text.map(str::to_owned)).unwrap()
}

fn install(file: &mut DaemonJson) {
    let entry = json!({"path": "/l/sortie-runtime"});
    file.set_runtime("sortie", entry).unwrap();
    file.set_default(Some("sortie"));
}

#[test]
fn what_is_there_stays_in_its_order_with_its_indent() {
    let found = "{\n    \"log-driver\": \"journald\",\n    \"runtimes\": {\n        \"crun\": {\n            \"path\": \"/usr/bin/crun\"\n        }\n    },\n    \"bip\": \"10.1.0.1/24\"\n}\n";
    let mut file = parse(Some(found));
    install(&mut file);
    let text = file.text();
    let places = ["log-driver", "crun", "sortie-runtime", "bip", "default"];
    let places: Vec<usize> = places.iter().map(|it| text.find(it).unwrap()).collect();
    assert!(places.is_sorted(), "{text}");
    assert!(text.contains("\n    \"bip\""), "{text}");
    let mut back = DaemonJson::parse(Path::new("/d.json"), Some(text)).unwrap();
    back.remove_runtime("sortie");
    back.set_default(None);
    back.remove_empty_runtimes();
    assert_eq!(back.text(), found);
}

#[test]
fn nothing_changes_a_file_that_says_it_already() {
    let odd = "{ \"default-runtime\":\"sortie\",\n \"runtimes\":{\"sortie\":{\"path\":\"/l/sortie-runtime\"}} }";
    let mut file = parse(Some(odd));
    install(&mut file);
    assert_eq!(file.text(), odd);
    assert!(file.difference().is_empty());
}

#[test]
fn the_difference_has_the_changed_lines_alone() {
    let mut file = parse(Some("{\n  \"debug\": true,\n  \"bip\": \"x\"\n}\n"));
    file.set_default(Some("sortie"));
    let expected = [
        "-   \"bip\": \"x\"",
        "+   \"bip\": \"x\",",
        "+   \"default-runtime\": \"sortie\"",
    ];
    assert_eq!(file.difference(), expected);
}

#[test]
fn a_missing_or_empty_file_is_an_empty_object() {
    for found in [None, Some(""), Some(" \n"), Some("{}")] {
        let mut file = parse(found);
        install(&mut file);
        let entry = file.path_of("sortie");
        assert_eq!(entry, Some("/l/sortie-runtime"));
        file.remove_runtime("sortie");
        file.remove_empty_runtimes();
        assert!(file.path_of("sortie").is_none());
    }
}

#[test]
fn what_the_daemon_would_not_read_is_refused_whole() {
    for broken in [
        "{\"debug\": true,}",
        "[]",
        "{\"runtimes\": []}",
        "{\"default-runtime\": 1}",
    ] {
        let error = DaemonJson::parse(Path::new("/d.json"), Some(broken.to_owned()));
        let error = error.unwrap_err().to_string();
        assert!(error.contains("/d.json"), "{error}");
    }
}

#[test]
fn arguments_and_shims_are_told_apart() {
    let file = parse(Some(
        r#"{"runtimes": {"n": {"path": "/n", "runtimeArgs": ["a", "b"]}, "k": {"runtimeType": "io.containerd.kata.v2"}}}"#,
    ));
    assert_eq!(file.path_of("n"), Some("/n"));
    assert_eq!(file.arguments_of("n"), ["a", "b"]);
    assert_eq!(file.path_of("k"), None);
}

#[test]
fn mode_and_link_stay() {
    let folder = tempfile::tempdir().unwrap();
    let real = folder.path().join("real.json");
    let link = folder.path().join("daemon.json");
    fs::write(&real, "{}").unwrap();
    fs::set_permissions(&real, Permissions::from_mode(0o640)).unwrap();
    symlink(&real, &link).unwrap();
    let mut file = DaemonJson::read(&link).unwrap();
    install(&mut file);
    file.write().unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    let mode = fs::metadata(&real).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    assert!(
        fs::read_to_string(&real)
            .unwrap()
            .contains("sortie-runtime")
    );
    file.put_back().unwrap();
    assert_eq!(fs::read_to_string(&real).unwrap(), "{}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}
