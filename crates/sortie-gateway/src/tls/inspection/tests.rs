//! Certificates that are made, kept and renewed.

use rcgen::{BasicConstraints, IsCa};

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

#[test]
fn a_ca_that_nobody_would_believe_is_refused() {
    let ((ours, key), (_, others)) = (authority("ours"), authority("others"));
    let tried = |chain: &str, key: &str| {
        let error = Inspection::new(chain.as_bytes(), key.as_bytes(), Some(ours.as_bytes()));
        error.map(drop).map_err(|error| error.to_string())
    };
    assert_eq!(tried(&ours, &key), Ok(()));
    assert!(
        tried(&ours, &others)
            .unwrap_err()
            .contains("is not believed")
    );
    assert!(tried("", &key).unwrap_err().contains("has no certificate"));
    assert!(tried(&ours, "").unwrap_err().contains("openssl pkcs8"));
    let old = "-----BEGIN EC PRIVATE KEY-----\nMAA=\n-----END EC PRIVATE KEY-----\n";
    assert!(tried(&ours, old).unwrap_err().contains("openssl pkcs8"));
}
