//! Certificates that are made, kept and renewed.

use rcgen::{BasicConstraints, GeneralSubtree, IsCa, NameConstraints};

use super::*;

/// A CA's certificate and key.
fn authority(name: &str) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    params
        .distinguished_name
        .push(DnType::OrganizationName, "An operator");
    let certificate = params.self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
}

fn minter() -> Minter {
    let (chain, key) = authority("ours");
    Minter::new(chain.as_bytes(), key.as_bytes()).unwrap()
}

#[test]
fn a_name_has_one_certificate() {
    let minter = minter();
    let first = minter.of("a.example").unwrap();
    assert!(Arc::ptr_eq(&first, &minter.of("a.example").unwrap()));
    assert!(!Arc::ptr_eq(&first, &minter.of("b.example").unwrap()));
    assert_eq!(first.cert.len(), 2);
}

#[test]
fn names_are_bounded() {
    let minter = minter();
    let first = minter.of("a.example").unwrap();
    for number in 0..KEPT + 10 {
        minter.of(&format!("{number}.example")).unwrap();
    }
    assert_eq!(minter.minted.lock().unwrap().len(), KEPT);
    assert!(!Arc::ptr_eq(&first, &minter.of("a.example").unwrap()));
    // Longer than a common name may be.
    minter.of(&format!("{}.example", "a.".repeat(50))).unwrap();
}

/// What is said of a CA whose certificate is changed so.
fn tried(change: impl FnOnce(&mut CertificateParams)) -> Result<(), String> {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    change(&mut params);
    let certificate = params.self_signed(&key).unwrap().pem();
    of(&certificate, &key.serialize_pem())
}

fn of(chain: &str, key: &str) -> Result<(), String> {
    let made = Authority::new(chain.as_bytes(), key.as_bytes());
    made.map(drop).map_err(|error| error.to_string())
}

#[test]
fn a_ca_that_nobody_would_believe_is_refused() {
    let ((ours, key), (_, others)) = (authority("ours"), authority("others"));
    assert_eq!(of(&ours, &key), Ok(()));
    let refused = |told: Result<(), String>, why: &str| {
        let told = told.unwrap_err();
        assert!(told.contains(why), "{told}");
    };
    refused(of(&ours, &others), "its key is not the one");
    refused(of("", &key), "has no certificate");
    refused(of(&ours, ""), "openssl pkcs8");
    let old = "-----BEGIN EC PRIVATE KEY-----\nMAA=\n-----END EC PRIVATE KEY-----\n";
    refused(of(&ours, old), "openssl pkcs8");
    refused(tried(|it| it.is_ca = IsCa::NoCa), "no CA's");
    let wrong = |it: &mut CertificateParams| it.key_usages = vec![KeyUsagePurpose::CrlSign];
    refused(tried(wrong), "keyCertSign");
    let now = SystemTime::now();
    let day = Duration::from_hours(24);
    let ended = |it: &mut CertificateParams| it.not_after = (now - day).into();
    refused(tried(ended), "has ended");
    let begins = |it: &mut CertificateParams| it.not_before = (now + day).into();
    refused(tried(begins), "begins later");
}

#[test]
fn a_ca_for_some_names_only_is_as_good() {
    let told = tried(|it| {
        it.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName("external.com".to_owned())],
            excluded_subtrees: Vec::new(),
        });
        it.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    });
    assert_eq!(told, Ok(()));
}
