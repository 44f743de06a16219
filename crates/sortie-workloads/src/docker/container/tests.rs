use super::*;

const INSPECT: &str = r#"{
    "Id": "d03ffcd992100d6ddc1cf37f60bf8092cc04fcc41c1a20817f61d39988836226",
    "Name": "/c2",
    "State": {"Status": "running", "Running": true, "Restarting": false, "Pid": 13331,
              "StartedAt": "2026-11-24T03:34:34.442417079Z"},
    "Config": {"Labels": {"sortie.egress": "203.0.113.1"}},
    "HostConfig": {"NetworkMode": "v6net"},
    "NetworkSettings": {
        "SandboxKey": "/run/docker/netns/cacf0f6a5a5e",
        "Networks": {
            "v6net": {"NetworkID": "df18", "EndpointID": "42e2", "MacAddress": "02:42:0a:09:00:02",
                      "IPAddress": "10.9.0.2", "GlobalIPv6Address": "fd00:9::2"},
            "bridge": {"NetworkID": "e595", "EndpointID": "9a01", "MacAddress": "02:42:ac:11:00:02",
                       "IPAddress": "172.17.0.2", "GlobalIPv6Address": ""}
        }
    }
}"#;

fn inspect(change: impl Fn(&mut ContainerInspectResponse)) -> Option<Container> {
    let mut answer = serde_json::from_str(INSPECT).unwrap();
    change(&mut answer);
    Container::from_inspect(answer)
}

#[test]
fn inspect_gives_process_start_labels_and_networks() {
    let container = inspect(|_| {}).unwrap();
    assert_eq!(container.pid, 13331);
    // date -u -d 2026-11-24T03:34:34 +%s
    assert_eq!(container.started, 1_795_491_274_442_417_079);
    assert_eq!(
        container.sandbox,
        Some(PathBuf::from("/run/docker/netns/cacf0f6a5a5e"))
    );
    let face = container.face;
    assert_eq!(face.name, "c2");
    assert_eq!(face.labels["sortie.egress"], "203.0.113.1");
    assert_eq!(face.mode, Mode::Own);
    assert_eq!(
        face.attachments,
        [
            Attachment {
                network: "bridge".to_owned(),
                network_id: "e595".to_owned(),
                mac: Some(MacAddress([0x02, 0x42, 0xac, 0x11, 0, 2])),
                addresses: vec!["172.17.0.2".parse().unwrap()],
            },
            Attachment {
                network: "v6net".to_owned(),
                network_id: "df18".to_owned(),
                mac: Some(MacAddress([0x02, 0x42, 0x0a, 0x09, 0, 2])),
                addresses: vec!["10.9.0.2".parse().unwrap(), "fd00:9::2".parse().unwrap()],
            },
        ]
    );
}

#[test]
fn only_a_container_with_a_process_counts() {
    let state = |answer: &mut ContainerInspectResponse| answer.state.take().unwrap();
    let stopped = inspect(|answer| {
        let mut state = state(answer);
        state.running = Some(false);
        answer.state = Some(state);
    });
    let between_restarts = inspect(|answer| {
        let mut state = state(answer);
        state.restarting = Some(true);
        answer.state = Some(state);
    });
    let without_process = inspect(|answer| {
        let mut state = state(answer);
        state.pid = Some(0);
        answer.state = Some(state);
    });
    assert_eq!(
        [stopped, between_restarts, without_process],
        [None, None, None]
    );
}

#[test]
fn the_list_shows_the_same_face_as_inspect() {
    let listed: ContainerSummary = serde_json::from_str(
        r#"{
            "Id": "d03ffcd992100d6ddc1cf37f60bf8092cc04fcc41c1a20817f61d39988836226",
            "Names": ["/other/alias", "/c2"],
            "Labels": {"sortie.egress": "203.0.113.1"},
            "State": "running",
            "HostConfig": {"NetworkMode": "v6net"},
            "NetworkSettings": {"Networks": {
                "bridge": {"NetworkID": "e595", "MacAddress": "02:42:ac:11:00:02",
                           "IPAddress": "172.17.0.2", "GlobalIPv6Address": ""},
                "v6net": {"NetworkID": "df18", "MacAddress": "02:42:0a:09:00:02",
                          "IPAddress": "10.9.0.2", "GlobalIPv6Address": "fd00:9::2"}
            }}
        }"#,
    )
    .unwrap();
    let inspected = inspect(|_| {}).unwrap().face;
    assert_eq!(Face::from_summary(listed), Some(inspected));
}

#[test]
fn a_network_tells_what_it_gave_a_container_that_is_being_started() {
    let network = || -> NetworkInspect {
        serde_json::from_str(
            r#"{"Name": "n7", "Id": "8067", "Containers": {"c248": {"Name": "s1",
                "EndpointID": "a89b", "MacAddress": "02:42:0a:07:00:02",
                "IPv4Address": "10.7.0.2/24", "IPv6Address": "fd00:7::2/64"}}}"#,
        )
        .unwrap()
    };
    let listed = |id: &str| -> Face {
        let summary = format!(
            r#"{{"Id": "{id}", "Names": ["/s1"], "Labels": {{"k": "v"}}, "State": "created",
                "NetworkSettings": {{"Networks": {{"n7": {{"NetworkID": ""}}}}}}}}"#
        );
        Face::from_summary(serde_json::from_str(&summary).unwrap()).unwrap()
    };
    let face = listed("c248").on_network(network()).unwrap();
    assert_eq!((&*face.name, &*face.labels["k"]), ("s1", "v"));
    assert_eq!(
        face.attachments,
        [Attachment {
            network: "n7".to_owned(),
            network_id: "8067".to_owned(),
            mac: Some(MacAddress([2, 0x42, 0x0a, 7, 0, 2])),
            addresses: vec!["10.7.0.2".parse().unwrap(), "fd00:7::2".parse().unwrap()],
        }]
    );
    assert_eq!(listed("ffff").on_network(network()), None);
}

#[test]
fn network_modes() {
    assert_eq!(mode(Some("host")), Mode::Host);
    assert_eq!(
        mode(Some("container:d03f")),
        Mode::Container("d03f".to_owned())
    );
    for text in ["slirp4netns", "slirp4netns:mtu=1500"] {
        assert_eq!(mode(Some(text)), Mode::Process("slirp4netns".to_owned()));
    }
    assert_eq!(mode(Some("pasta")), Mode::Process("pasta".to_owned()));
    for own in [
        Some("default"),
        Some("pasta-shop"),
        Some("bridge"),
        Some("none"),
        Some("front"),
        None,
    ] {
        assert_eq!(mode(own), Mode::Own);
    }
}

#[test]
fn mac_addresses_have_six_bytes() {
    assert_eq!(
        mac("02:42:ac:11:00:0f"),
        Some(MacAddress([2, 0x42, 0xac, 0x11, 0, 15]))
    );
    for wrong in [
        "",
        "02:42:ac:11:00",
        "02:42:ac:11:00:02:03",
        "02:42:ac:11:00:xx",
    ] {
        assert_eq!(mac(wrong), None, "{wrong}");
    }
}

#[test]
fn start_times_are_nanoseconds_since_the_epoch() {
    assert_eq!(nanoseconds("1970-01-01T00:00:01.000000002Z"), 1_000_000_002);
    assert_eq!(nanoseconds("1970-01-01T01:00:01+01:00"), 1_000_000_000);
    // What the engine says of a container that never started.
    assert_eq!(nanoseconds("0001-01-01T00:00:00Z"), 0);
    assert_eq!(nanoseconds("yesterday"), 0);
}
