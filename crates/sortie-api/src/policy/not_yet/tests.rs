use crate::policy::parse;

#[test]
fn what_nothing_enforces_yet_is_refused() {
    let text = r"
apiVersion: sortie.dev/v1alpha1
kind: EgressPolicy
metadata: {name: p}
spec:
  workloads:
  - clients: {tokens: [ci], certificates: [CN=runner]}
  destinations:
  - hosts: [api.example.com]
    http: {match: [{pathPrefix: /api}], tls: {inspect: true, clientCertificate: partner}}
  unlearned: Deny
  onlyTheseHosts: true
  action: Bypass
";
    insta::assert_snapshot!(parse("p.yaml", text).unwrap_err());
}
