use crate::policy::parse;

#[test]
fn what_nothing_enforces_yet_is_refused() {
    let text = r"
apiVersion: sortie.dev/v1alpha1
kind: EgressPolicy
metadata: {name: p}
spec:
  workloads:
  - clients: {tokens: [ci]}
  destinations:
  - hosts: [api.example.com]
    http: {match: [{pathPrefix: /api}]}
  unlearned: Deny
  onlyTheseHosts: true
  action: Bypass
";
    insta::assert_snapshot!(parse("p.yaml", text).unwrap_err());
}

#[test]
fn so_is_a_virtual_service() {
    let text = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v}\nspec:\n  hosts: [a.example]\n  http:\n  - route: [{destination: {host: a.example}}]\n    source: [{ip: 192.0.2.2}]\n";
    insta::assert_snapshot!(parse("v.yaml", text).unwrap_err());
}
