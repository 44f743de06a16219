use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use sortie_api::policy::parse;

use super::of;

/// The subject of a certificate with these attributes, in this order.
fn subject(attributes: &[(DnType, &str)]) -> Option<String> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    for (of, value) in attributes {
        params.distinguished_name.push(of.clone(), *value);
    }
    let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
    of(made.der())
}

#[test]
fn subjects_are_spelled_as_policies_name_them() {
    let mail = DnType::CustomDnType(vec![1, 2, 840, 113_549, 1, 9, 1]);
    for (attributes, expected) in [
        (vec![(DnType::CommonName, "runner")], "CN=runner"),
        (
            vec![
                (DnType::CountryName, "DE"),
                (DnType::OrganizationName, "Example, Inc."),
                (DnType::CommonName, " #1 Jürgen "),
            ],
            "CN=\\ #1 Jürgen\\ ,O=Example\\, Inc.,C=DE",
        ),
        (
            vec![(DnType::CommonName, "a"), (mail, "x")],
            "1.2.840.113549.1.9.1=#0c0178,CN=a",
        ),
    ] {
        assert_eq!(subject(&attributes).as_deref(), Some(expected));
        let policy = format!(
            "apiVersion: sortie.dev/v1alpha1\nkind: EgressPolicy\nmetadata: {{name: p}}\nspec:\n  workloads: [{{clients: {{certificates: ['{expected}']}}}}]\n  action: Bypass\n"
        );
        assert!(parse("p.yaml", &policy).is_ok(), "{expected}");
    }
    assert_eq!(subject(&[]), None);
}
