use std::process::Command;

use super::*;

fn certificate(at: &std::path::Path) {
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
        ])
        .args([
            "-days",
            "2",
            "-subj",
            "/CN=ca",
            "-keyout",
            "/dev/null",
            "-out",
        ])
        .arg(at)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
}

#[test]
fn a_file_that_changes_is_followed_and_one_that_goes_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    let wanted = Originate {
        port: 443,
        ca: Some(ca.display().to_string()),
        client_certificate: None,
    };
    let all = Originations::default();
    let begin = Instant::now();
    assert!(all.of(&wanted, begin).is_none());
    certificate(&ca);
    assert!(all.of(&wanted, begin).is_none(), "not looked at again yet");
    let first = all.of(&wanted, begin + TRIED).unwrap();
    assert!(Arc::ptr_eq(
        &first,
        &all.of(&wanted, begin + TRIED).unwrap()
    ));
    let later = |minutes| begin + TRIED + minutes * LOOKED_AT;
    assert!(Arc::ptr_eq(&first, &all.of(&wanted, later(1)).unwrap()));
    certificate(&ca);
    let second = all.of(&wanted, later(2)).unwrap();
    assert!(!Arc::ptr_eq(&first, &second));
    fs::remove_file(&ca).unwrap();
    assert!(Arc::ptr_eq(&second, &all.of(&wanted, later(3)).unwrap()));
}
