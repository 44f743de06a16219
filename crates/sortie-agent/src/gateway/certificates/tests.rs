use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use sortie_api::policy::Originate;

use super::followed::{LOOKED_AT, TRIED};
use super::*;

/// A certificate for so many days, and its key.
fn certificate(folder: &Path, name: &str, extension: &str, days: u32) -> CertificateFiles {
    let file = |end: &str| folder.join(format!("{name}.{end}"));
    let made = Command::new("openssl")
        .args(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=ca".split(' '),
        )
        .args(["-days", &days.to_string(), "-addext", extension, "-keyout"])
        .arg(file("key"))
        .arg("-out")
        .arg(file("pem"))
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    CertificateFiles {
        certificate: file("pem"),
        key: file("key"),
    }
}

const CA: &str = "keyUsage=keyCertSign";
const CLIENT: &str = "extendedKeyUsage=clientAuth";

fn originate(ca: Option<&Path>, shown: Option<&str>) -> Tls {
    Tls::Originate(Originate {
        port: 443,
        ca: ca.map(|ca| ca.display().to_string()),
        client_certificate: shown.map(str::to_owned),
    })
}

#[test]
fn a_file_that_changes_is_followed_and_one_that_goes_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    let wanted = originate(Some(&ca), None);
    let all = Certificates::default();
    let begin = Instant::now();
    let known = config::Tls::default();
    let at = |now| all.begun(&wanted, 443, &known, now);
    assert!(at(begin).is_none());
    certificate(folder.path(), "ca", CA, 2);
    assert!(at(begin).is_none(), "not looked at again yet");
    let first = at(begin + TRIED).unwrap();
    assert_eq!(first, at(begin + TRIED).unwrap());
    let later = |minutes| begin + TRIED + minutes * LOOKED_AT;
    assert_eq!(first, at(later(1)).unwrap());
    certificate(folder.path(), "ca", CA, 2);
    let second = at(later(2)).unwrap();
    assert_ne!(first, second);
    fs::remove_file(&ca).unwrap();
    assert_eq!(second, at(later(3)).unwrap());
    let faults = all.check([&wanted].into_iter(), &[], &known, later(3));
    let told = format!("cannot read {}: No such file", ca.display());
    assert!(faults.first().unwrap().starts_with(&told), "{faults:?}");
    // What nobody wants is forgotten, with its faults.
    assert!(all.check([].into_iter(), &[], &known, later(3)).is_empty());
    assert!(at(later(3)).is_none());
}

#[test]
fn a_client_certificate_must_be_whole_and_its_key_roots_alone() {
    let folder = tempfile::tempdir().unwrap();
    let ca = certificate(folder.path(), "ca", CA, 2).certificate;
    let shown = certificate(folder.path(), "partner", CLIENT, 2);
    let other = certificate(folder.path(), "other", CLIENT, 2);
    let known = |certificate: &Path, key: &Path| config::Tls {
        client_certificates: [(
            "partner".to_owned(),
            CertificateFiles {
                certificate: certificate.into(),
                key: key.into(),
            },
        )]
        .into(),
        ..config::Tls::default()
    };
    let wanted = originate(Some(&ca), Some("partner"));
    let fault = |known: &config::Tls| {
        let all = Certificates::default();
        let faults = all.check([&wanted].into_iter(), &[], known, Instant::now());
        let made = all.begun(&wanted, 443, known, Instant::now());
        assert_eq!(made.is_none(), !faults.is_empty());
        faults.into_iter().next()
    };
    let good = known(&shown.certificate, &shown.key);
    assert_eq!(fault(&good), None);
    // Not in the agent's file: the agent tells that.
    let all = Certificates::default();
    let nothing = config::Tls::default();
    assert!(all.begun(&wanted, 443, &nothing, Instant::now()).is_none());
    let told = fault(&known(&shown.certificate, &other.key)).unwrap();
    assert!(
        told.contains("partner.pem") && told.contains("and its key cannot be used"),
        "{told}"
    );
    let told = fault(&known(&shown.key, &shown.key)).unwrap();
    assert!(told.contains("has no certificate"), "{told}");
    fs::set_permissions(&shown.key, fs::Permissions::from_mode(0o640)).unwrap();
    let told = fault(&good).unwrap();
    assert!(
        told.contains("others than root may read the key") && told.contains("chmod 600"),
        "{told}"
    );
}

#[test]
fn a_ca_that_cannot_sign_looks_into_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let good = certificate(folder.path(), "good", CA, 2);
    let wanted = Inspect {
        ca: Some(good.certificate.display().to_string()),
        client_certificate: None,
    };
    let tls = Tls::Inspect(wanted.clone());
    let fault = |files: &CertificateFiles| {
        let known = config::Tls {
            inspect: Some(files.clone()),
            ..config::Tls::default()
        };
        let all = Certificates::default();
        let faults = all.check([&tls].into_iter(), &[], &known, Instant::now());
        let made = all.inspection(&wanted, &known, Instant::now());
        assert_eq!(made.is_none(), !faults.is_empty());
        faults.into_iter().next()
    };
    assert_eq!(fault(&good), None);
    let cannot_sign = certificate(folder.path(), "leaf", "keyUsage=digitalSignature", 2);
    let told = fault(&cannot_sign).unwrap();
    assert!(
        told.contains("leaf.pem") && told.contains("keyCertSign"),
        "{told}"
    );
    fs::remove_file(&good.key).unwrap();
    let told = fault(&good).unwrap();
    assert!(
        told.contains("cannot read") && told.contains("good.key"),
        "{told}"
    );
}
