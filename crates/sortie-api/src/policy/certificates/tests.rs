use super::certified;
use crate::config::{CertificateFiles, Tls};

const TEXT: &str = "apiVersion: sortie.dev/v1alpha1
kind: EgressPolicy
metadata: {name: p}
spec:
  workloads: [{containers: {names: [web]}}]
  destinations:
  - hosts: [a.example.com]
    http: {match: [{pathPrefix: /api}], tls: {inspect: true}}
  - hosts: [b.example.com]
    http: {tls: {originate: true, inspect: false, clientCertificate: partner}}
  action: Bypass
";

#[test]
fn certificates_that_the_agents_file_lacks_are_told_with_what_to_write() {
    let told = certified("p.yaml", TEXT, &Tls::default());
    insta::assert_snapshot!(told.unwrap_err());
    let files = CertificateFiles {
        certificate: "/c.pem".into(),
        key: "/c.key".into(),
    };
    let all = Tls {
        inspect: Some(files.clone()),
        client_certificates: [("partner".to_owned(), files)].into(),
    };
    assert_eq!(certified("p.yaml", TEXT, &all), Ok(()));
}
