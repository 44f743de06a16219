use super::*;

fn record(name: &str) -> Record {
    Record {
        name: name.into(),
        started: 1,
        uid: 0,
        pid: Some(4711),
        reason: "ticket 7".into(),
        since: "2026-01-01T00:00:00Z".into(),
        until: "2026-01-01T00:10:00Z".into(),
        until_since_boot: Duration::from_mins(10),
    }
}

#[test]
fn what_is_kept_is_read_back_in_the_same_boot_only() {
    let folder = tempfile::tempdir().unwrap();
    let mut bypasses = Bypasses::load(folder.path());
    bypasses.known.insert("docker/1".into(), record("web"));
    bypasses.keep().unwrap();
    assert_eq!(Bypasses::load(folder.path()).waiting, bypasses.known);

    let file = folder.path().join(FILE);
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace(&boot().unwrap(), "another")).unwrap();
    assert_eq!(Bypasses::load(folder.path()).waiting, BTreeMap::new());
    fs::write(&file, "half a fi").unwrap();
    assert_eq!(Bypasses::load(folder.path()).waiting, BTreeMap::new());
}

#[test]
fn a_request_is_one_line_for_a_bounded_time() {
    let minute = Duration::from_mins(1);
    assert_eq!(checked(" why ", minute).unwrap(), "why");
    for (reason, time) in [
        ("  ", minute),
        ("two\nlines", minute),
        (&*"x".repeat(501), minute),
        ("why", Duration::ZERO),
        ("why", LONGEST + Duration::from_secs(1)),
    ] {
        assert!(checked(reason, time).is_err(), "{reason:?} {time:?}");
    }
    assert!(checked("why", LONGEST).is_ok());
}

#[test]
fn the_journal_has_a_line_each_and_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::in_folder(folder.path());
    journal.write("begin", &"docker/1".into(), &record("web"), None);
    journal.write("end", &"docker/1".into(), &record("web"), Some("why"));
    let file = folder.path().join("bypass.log");
    let lines: Vec<serde_json::Value> = fs::read_to_string(&file)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["event"], "begin");
    assert_eq!(lines[0]["reason"], "ticket 7");
    assert_eq!(lines[1]["why"], "why");

    fs::write(&file, vec![b'x'; 1 << 20]).unwrap();
    journal.write("begin", &"docker/1".into(), &record("web"), None);
    assert!(fs::metadata(&file).unwrap().len() < 1000);
    let former = fs::metadata(folder.path().join("bypass.log.1")).unwrap();
    assert_eq!(former.len(), 1 << 20);
}
