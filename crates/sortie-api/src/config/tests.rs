use std::fmt::Write;

use super::{AgentConfig, Guard, Unidentified, Uplink};

#[test]
fn an_empty_file_has_the_defaults() {
    for text in ["", "# guard: All\n", "---\n", "{}"] {
        assert_eq!(
            AgentConfig::parse("agent.yaml", text),
            Ok(AgentConfig::default()),
            "{text}"
        );
    }
    let config = AgentConfig::default();
    assert_eq!(
        (config.guard, config.unidentified),
        (Guard::Networks, Unidentified::Drop)
    );
    assert_eq!(config.docker.socket.to_str(), Some("/var/run/docker.sock"));
}

fn files(name: &str) -> super::CertificateFiles {
    super::CertificateFiles {
        certificate: format!("/etc/sortie/{name}.pem").into(),
        key: format!("/etc/sortie/{name}.key").into(),
    }
}

#[test]
fn reads_every_field() {
    let text = "
guard: All
guardExceptions: [ci, bridge]
unidentified: NodeAddress
uplinks:
- {interface: eth0, gateway4: 192.0.2.1, gateway6: fe80::1}
- interface: eth1
localRanges: [10.0.0.0/8, 'fd00::/8']
docker: {socket: /run/docker.sock}
metrics: {listen: '127.0.0.1:9469'}
markMask: 0xff000
gateway:
  proxy: {listen: ['192.0.2.1:3128', '[2001:db8::1]:3128'], tokens: /etc/sortie/tokens, tls: {listen: ['192.0.2.1:3129'], certificate: /etc/sortie/proxy.pem, key: /etc/sortie/proxy.key, ca: /etc/sortie/clients.pem}}
  dnsOverTls:
  - {server: 192.0.2.53, name: Dns.Example., ca: /etc/sortie/dns.pem}
  - {server: '2001:db8::53', port: 8853}
tls:
  inspect: {certificate: /etc/sortie/inspect.pem, key: /etc/sortie/inspect.key}
  clientCertificates:
    partner: {certificate: /etc/sortie/partner.pem, key: /etc/sortie/partner.key}
";
    let config = AgentConfig::parse("agent.yaml", text).unwrap();
    let expected = AgentConfig {
        guard: Guard::All,
        guard_exceptions: ["bridge".to_owned(), "ci".to_owned()].into(),
        unidentified: Unidentified::NodeAddress,
        uplinks: vec![
            Uplink {
                interface: "eth0".to_owned(),
                gateway4: Some("192.0.2.1".parse().unwrap()),
                gateway6: Some("fe80::1".parse().unwrap()),
            },
            Uplink {
                interface: "eth1".to_owned(),
                gateway4: None,
                gateway6: None,
            },
        ],
        local_ranges: vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()],
        docker: super::Docker {
            socket: "/run/docker.sock".into(),
        },
        mark_mask: 0xf_f000.try_into().unwrap(),
        gateway: super::Gateway {
            proxy: super::Proxy {
                listen: vec![
                    "192.0.2.1:3128".parse().unwrap(),
                    "[2001:db8::1]:3128".parse().unwrap(),
                ],
                tokens: Some("/etc/sortie/tokens".into()),
                tls: Some(super::ProxyTls {
                    listen: vec!["192.0.2.1:3129".parse().unwrap()],
                    shown: files("proxy"),
                    ca: Some("/etc/sortie/clients.pem".into()),
                }),
            },
            dns_over_tls: vec![
                super::DnsOverTls {
                    server: "192.0.2.53".parse().unwrap(),
                    name: Some("dns.example".to_owned()),
                    port: 853,
                    ca: Some("/etc/sortie/dns.pem".into()),
                },
                super::DnsOverTls {
                    server: "2001:db8::53".parse().unwrap(),
                    name: None,
                    port: 8853,
                    ca: None,
                },
            ],
        },
        tls: super::Tls {
            inspect: Some(files("inspect")),
            client_certificates: [("partner".to_owned(), files("partner"))].into(),
        },
        metrics: super::Metrics {
            listen: Some("127.0.0.1:9469".parse().unwrap()),
        },
        ..AgentConfig::default()
    };
    assert_eq!(config, expected);
    let networks = AgentConfig::parse("agent.yaml", "guardedNetworks: [shop]").unwrap();
    assert_eq!(networks.guarded_networks, ["shop".to_owned()].into());
    // What `-o yaml` prints is read back.
    let printed = serde_json::to_string(&Uplink {
        gateway6: None,
        ..expected.uplinks[0].clone()
    })
    .unwrap();
    let read = AgentConfig::parse("agent.yaml", &format!("uplinks: [{printed}]")).unwrap();
    assert_eq!(read.uplinks[0].gateway4, expected.uplinks[0].gateway4);
}

#[test]
fn refuses_bad_files_with_place_and_remedy() {
    let cases = [
        "guard: all\nguardExceptions: [ci]\n",
        "guard: None\n",
        "guards: All\n",
        "guard: All\nguardedNetworks: [shop]\n",
        "guardExceptions: [ci]\n",
        "guardedNetworks: [shop, shop, 'a b', '']\n",
        "guardedNetworks: []\n",
        "unidentified: Bypass\n",
        "inbound: Drop\n",
        "inbound: {203.0.113.11: Deny, 203.0.113.0/24: Drop, '2001:db8::1': Drop, '2001:DB8::1': Allow}\n",
        "markMask: 0xf1\n",
        "uplinks: []\n",
        "uplinks: [eth0]\n",
        "uplinks: [{gateway4: 192.0.2.1}]\n",
        "uplinks:\n- {interface: eth0}\n- {interface: eth0}\n- {interface: a-name-too-long-for-linux}\n- {interface: 'a/b'}\n",
        "uplinks: [{interface: eth0, gateway4: fe80::1, gateway6: 192.0.2.1}]\n",
        "uplinks: [{interface: eth0, gateway4: 127.0.0.1, gateway6: ff02::1}]\n",
        "uplinks: [{interface: eth0, gateway4: 192.0.2.1/24, gateway6: fe80::1%eth0}]\n",
        "localRanges: [10.0.0.1/8, 10.0.0.0/8, 10.0.0.0/8, 0.0.0.0/0]\n",
        "docker: /run/docker.sock\n",
        "docker: {socket: run/docker.sock}\n",
        "docker: {socket: 'unix:///run/docker.sock'}\n",
        "docker: {socket: 'tcp://192.0.2.1'}\n",
        "docker: {host: 192.0.2.1}\n",
        "metrics: true\n",
        "gateway: {proxy: {tokens: tokens}}\n",
        "gateway: {dnsOverTls: [{name: dns.example}, {server: 192.0.2.53, name: '*', port: 0, ca: dns.pem}]}\n",
        "gateway: {dnsOverTls: [{server: 127.0.0.11}, {server: 192.0.2.53, name: 192.0.2.53}, {server: dns.example}, {server: 192.0.2.53}]}\n",
        "gateway: {proxy: {tls: {listen: ['192.0.2.1:1'], ca: clients.pem}}}\n",
        "gateway: {proxy: {listen: ['192.0.2.1:1'], tls: {listen: ['192.0.2.1:1'], certificate: /a, key: /b}}}\n",
        "gateway: {proxy: {listen: ['192.0.2.1', '192.0.2.1:1', '192.0.2.1:1']}}\n",
        "metrics: {listen: 9469}\n",
        "metrics: {listen: localhost:9469, port: 1}\n",
        "tls: {inspect: inspect.pem}\n",
        "tls: {inspect: {certificate: inspect.pem}, clientCertificates: {'a b': {certificate: /a, key: /b}}}\n",
        "tls: {clientCertificates: [partner], ca: /ca.pem}\n",
        "guard: All\n---\nguard: Networks\n",
        "- guard\n",
    ];
    let mut told = String::new();
    for text in cases {
        let errors = AgentConfig::parse("agent.yaml", text).expect_err(text);
        writeln!(told, "{errors}").unwrap();
    }
    insta::assert_snapshot!("refused", told);
}
