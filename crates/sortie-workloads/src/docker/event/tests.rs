use super::*;

fn event(json: &str) -> EventMessage {
    serde_json::from_str(json).unwrap()
}

#[test]
fn a_container_is_looked_at_when_it_starts_and_is_gone_when_it_dies() {
    let start = event(
        r#"{"status":"start","id":"d03f","Type":"container","Action":"start",
            "Actor":{"ID":"d03f","Attributes":{"image":"local/busybox:1","name":"c1"}},
            "scope":"local","time":1795491273,"timeNano":1795491273118374809}"#,
    );
    assert_eq!(
        action(start, Engine::Docker),
        Some(Action::Started("d03f".to_owned()))
    );
    for name in ["die", "died", "destroy", "remove"] {
        let die = event(&format!(
            r#"{{"Type":"container","Action":"{name}","Actor":{{"ID":"d03f"}},"timeNano":7}}"#
        ));
        assert_eq!(
            action(die, Engine::Docker),
            Some(Action::Ended("d03f".to_owned(), 7))
        );
    }
}

#[test]
fn a_network_connection_is_about_its_container() {
    let connection = |name: &str| {
        event(&format!(
            r#"{{"Type":"network","Action":"{name}","Actor":{{"ID":"df18","Attributes":
                {{"container":"d03f","name":"front","type":"bridge"}}}},"timeNano":7}}"#
        ))
    };
    assert_eq!(
        action(connection("connect"), Engine::Docker),
        Some(Action::Connected {
            id: "d03f".to_owned(),
            network: "df18".to_owned(),
            at: 7,
        })
    );
    assert_eq!(
        action(connection("disconnect"), Engine::Docker),
        Some(Action::Disconnected("d03f".to_owned()))
    );
    for name in ["create", "destroy", "update"] {
        let network = event(&format!(
            r#"{{"Type":"network","Action":"{name}","Actor":{{"ID":"df18"}}}}"#
        ));
        assert_eq!(action(network, Engine::Docker), Some(Action::Networks));
    }
}

#[test]
fn what_changes_no_workload_is_passed_over() {
    for (kind, name) in [
        ("container", "create"),
        ("container", "pause"),
        ("container", "exec_create: sh"),
        ("container", "health_status: healthy"),
        ("container", "kill"),
        ("image", "import"),
        ("volume", "create"),
        ("network", "connect"),
    ] {
        let other = event(&format!(
            r#"{{"Type":"{kind}","Action":"{name}","Actor":{{"ID":"d03f"}}}}"#
        ));
        assert_eq!(action(other, Engine::Docker), None, "{kind} {name}");
    }
    assert_eq!(
        action(
            event(r#"{"Type":"container","Action":"start"}"#),
            Engine::Docker
        ),
        None
    );
}

#[test]
fn podman_tells_of_containers_on_their_way() {
    let podman = |kind: &str, name: &str| {
        let event = event(&format!(
            r#"{{"Type":"{kind}","Action":"{name}","Actor":{{"ID":"d03f","Attributes":
                {{"containerExitCode":"0","image":"","name":"two","podId":""}}}},"timeNano":7}}"#
        ));
        action(event, Engine::Podman)
    };
    for name in ["create", "init"] {
        assert_eq!(podman("container", name), Some(Action::Networks));
    }
    for name in ["connect", "disconnect"] {
        let changed = Action::Changed("d03f".to_owned());
        assert_eq!(podman("network", name), Some(changed));
    }
    assert_eq!(podman("container", "cleanup"), None);
}
