use super::*;
use sortie_api::workload::IfIndex;

use crate::docker::sample::{BRIDGE, mac, network, seen};
use crate::interfaces::Port;

fn survey(seen: Vec<Seen>) -> Survey {
    Survey {
        seen,
        failed: Vec::new(),
        networks: vec![network("front", "bridge")],
    }
}

/// A desk that has said its first snapshot.
fn desk(containers: Vec<Seen>) -> Desk {
    let mut desk = Desk::default();
    desk.begin_survey();
    desk.surveyed(survey(containers));
    desk.take_changes();
    desk
}

fn started(id: &str) -> Action {
    Action::Started(id.to_owned())
}

fn changed(id: &str) -> Action {
    Action::Changed(id.to_owned())
}

fn ended(id: &str, at: i64) -> Action {
    Action::Ended(id.to_owned(), at)
}

fn connected(id: &str) -> Action {
    Action::Connected {
        id: id.to_owned(),
        network: "id-of-front".to_owned(),
        at: 5,
    }
}

fn starting(id: &str) -> Job {
    Job::Starting {
        id: id.to_owned(),
        network: "id-of-front".to_owned(),
    }
}

fn up(number: u8) -> PortNews {
    let port = Port {
        index: IfIndex(100 + u32::from(number)),
        bridge: Some(BRIDGE),
    };
    PortNews::Up(port, mac(number))
}

fn job(id: &str, name: &str) -> Job {
    Job::Container {
        id: id.to_owned(),
        name: name.to_owned(),
    }
}

fn timeout() -> Error {
    Error::Timeout {
        operation: "inspect container web".to_owned(),
        limit: std::time::Duration::from_secs(10),
    }
}

/// `+web` for a workload, `-web` for one that is gone, networks alike, `=web,db` for a snapshot.
fn said(desk: &mut Desk) -> Vec<String> {
    let bare = |id: &str| id.trim_start_matches("docker/").to_owned();
    desk.take_changes()
        .into_iter()
        .map(|change| match change {
            Change::Snapshot(snapshot) => {
                let all: Vec<String> = snapshot
                    .workloads
                    .iter()
                    .map(|it| bare(it.id.as_str()))
                    .collect();
                format!("={}", all.join(","))
            }
            Change::Workload(workload) => format!("+{}", bare(workload.id.as_str())),
            Change::WorkloadGone(id) => format!("-{}", bare(id.as_str())),
            Change::Network(network) => format!("+{}", network.name),
            Change::NetworkGone(name) => format!("-{name}"),
            Change::Away(reason) | Change::Absent(reason) => reason,
        })
        .collect()
}

const NOTHING: [&str; 0] = [];

#[test]
fn a_container_is_said_once_it_was_looked_at() {
    let mut desk = desk(Vec::new());
    desk.act(started("web"));
    assert_eq!(said(&mut desk), NOTHING);
    assert_eq!(desk.take_jobs(), [job("web", "web")]);
    desk.looked("web", Ok(Some(seen("web", 7))));
    assert_eq!(said(&mut desk), ["+web"]);
    desk.act(ended("web", 8));
    assert_eq!(said(&mut desk), ["-web"]);
    assert_eq!(desk.take_jobs(), []);
}

#[test]
fn nobody_inspects_a_container_before_its_start() {
    let mut desk = desk(vec![seen("db", 9)]);
    desk.act(changed("web"));
    assert_eq!(desk.take_jobs(), []);
    desk.act(connected("web"));
    desk.act(changed("web"));
    assert_eq!(desk.take_jobs(), [starting("web")]);
    desk.act(changed("db"));
    assert_eq!(desk.take_jobs(), [job("db", "db-name")]);
    // Restarting: what is disconnected and connected between `die` and `start` waits for that.
    desk.looked("db", Ok(Some(seen("db", 9))));
    desk.act(ended("db", 10));
    desk.act(changed("db"));
    desk.act(Action::Disconnected("db".to_owned()));
    assert_eq!(desk.take_jobs(), []);
    desk.act(connected("db"));
    assert_eq!(desk.take_jobs(), [starting("db")]);
}

#[test]
fn an_answer_older_than_an_event_does_not_count() {
    let mut desk = desk(Vec::new());
    desk.act(started("web"));
    desk.take_jobs();
    desk.act(changed("web"));
    assert_eq!(desk.take_jobs(), [], "one look at a time");
    desk.looked("web", Ok(Some(seen("web", 7))));
    assert_eq!(said(&mut desk), NOTHING);
    assert_eq!(desk.take_jobs(), [job("web", "web")]);
    desk.act(ended("web", 8));
    desk.looked("web", Ok(Some(seen("web", 7))));
    assert_eq!(said(&mut desk), NOTHING, "it ended while we looked");
    desk.act(started("web"));
    desk.take_jobs();
    desk.act(ended("web", 9));
    desk.act(started("web"));
    desk.looked("web", Ok(Some(seen("web", 7))));
    assert_eq!(said(&mut desk), NOTHING, "that was the run before");
    assert_eq!(desk.take_jobs(), [job("web", "web")]);
    desk.looked("web", Ok(Some(seen("web", 10))));
    assert_eq!(said(&mut desk), ["+web"]);
}

#[test]
fn the_end_of_an_older_run_ends_nothing() {
    let mut desk = desk(vec![seen("web", 7)]);
    desk.act(ended("web", 6));
    assert_eq!(said(&mut desk), NOTHING);
    desk.act(ended("web", 7));
    assert_eq!(said(&mut desk), ["-web"]);
}

#[test]
fn vanished_is_gone_and_an_error_changes_nothing() {
    let mut desk = desk(vec![seen("web", 7), seen("db", 9)]);
    desk.act(changed("web"));
    desk.act(changed("db"));
    desk.looked("web", Ok(None));
    desk.looked("db", Err(timeout()));
    assert_eq!(said(&mut desk), ["-web"]);
}

#[test]
fn a_network_is_said_before_the_containers_on_it() {
    let mut desk = Desk::default();
    desk.begin_survey();
    desk.surveyed(Survey {
        networks: Vec::new(),
        ..survey(Vec::new())
    });
    desk.take_changes();
    // The event of its creation is still being handled, or was lost.
    desk.act(started("web"));
    assert_eq!(desk.take_jobs(), [job("web", "web")]);
    desk.looked("web", Ok(Some(seen("web", 7))));
    assert_eq!(said(&mut desk), NOTHING);
    assert_eq!(desk.take_jobs(), [Job::Networks]);
    desk.act(Action::Networks);
    assert_eq!(desk.take_jobs(), []);
    desk.listed(Vec::new());
    assert_eq!(desk.take_jobs(), [Job::Networks], "that list was too old");
    desk.listed(vec![network("front", "bridge")]);
    assert_eq!(said(&mut desk), ["+front", "+web"]);
    // A network that the engine never lists holds nobody up for ever.
    let mut odd = seen("odd", 8);
    odd.container.face.attachments[0].network_id = "unheard-of".to_owned();
    desk.act(started("odd"));
    desk.looked("odd", Ok(Some(odd)));
    desk.listed(vec![network("front", "bridge")]);
    assert_eq!(said(&mut desk), ["+odd"]);
}

#[test]
fn a_container_that_ends_while_its_network_is_listed_is_not_said() {
    let mut desk = desk(Vec::new());
    desk.act(Action::Networks);
    desk.act(started("web"));
    desk.looked("web", Ok(Some(seen("web", 7))));
    desk.act(ended("web", 8));
    desk.listed(vec![network("front", "bridge")]);
    assert_eq!(said(&mut desk), NOTHING);
}

#[test]
fn the_first_word_is_a_snapshot_with_what_events_told_meanwhile() {
    let mut desk = Desk::default();
    desk.begin_survey();
    desk.act(started("new"));
    desk.act(ended("old", i64::MAX));
    desk.looked("new", Ok(Some(seen("new", 9))));
    desk.listed(vec![network("front", "bridge")]);
    assert_eq!(said(&mut desk), NOTHING);
    assert!(!desk.has_spoken());
    desk.surveyed(survey(vec![seen("old", 7), seen("web", 8)]));
    assert!(desk.has_spoken());
    assert_eq!(said(&mut desk), ["=new,web"]);
}

/// A new agent hears again of what started just before it.
#[test]
fn a_start_that_is_told_again_takes_nothing_out_of_the_first_snapshot() {
    let mut desk = Desk::default();
    desk.begin_survey();
    desk.act(started("web"));
    desk.surveyed(survey(vec![seen("web", 7)]));
    assert_eq!(said(&mut desk), ["=web"]);
    desk.looked("web", Ok(Some(seen("web", 7))));
    assert_eq!(said(&mut desk), NOTHING);
}

/// The same when it was looked at before the survey is there, but its network is not known.
#[test]
fn a_container_that_waits_for_its_network_is_in_the_first_snapshot() {
    let mut desk = Desk::default();
    desk.begin_survey();
    desk.act(started("web"));
    desk.looked("web", Ok(Some(seen("web", 7))));
    desk.surveyed(survey(vec![seen("web", 7)]));
    assert_eq!(said(&mut desk), ["=web"]);
    desk.listed(vec![network("front", "bridge")]);
    assert_eq!(said(&mut desk), NOTHING);
}

#[test]
fn a_later_survey_speaks_only_of_what_no_event_told() {
    let mut desk = desk(vec![seen("web", 7)]);
    assert_eq!(desk.begin_survey().len(), 1);
    assert!(desk.is_surveying());
    desk.act(started("db"));
    desk.looked("db", Ok(Some(seen("db", 8))));
    assert_eq!(said(&mut desk), ["+db"]);
    desk.surveyed(survey(vec![seen("web", 7)]));
    assert_eq!(said(&mut desk), NOTHING, "db is newer than the list");
    desk.begin_survey();
    desk.surveyed(survey(vec![seen("web", 7), seen("missed", 8)]));
    assert_eq!(said(&mut desk), ["=missed,web"]);
}

#[test]
fn a_container_that_cannot_be_inspected_stays_or_is_shown_with_the_reason() {
    let mut desk = desk(vec![seen("web", 7)]);
    desk.begin_survey();
    desk.surveyed(Survey {
        failed: vec![
            (seen("web", 7).container.face, timeout()),
            (seen("stuck", 8).container.face, timeout()),
        ],
        ..survey(Vec::new())
    });
    let [Change::Snapshot(snapshot)] = &desk.take_changes()[..] else {
        panic!("no snapshot");
    };
    let [stuck, web] = &snapshot.workloads[..] else {
        panic!("{snapshot:?}");
    };
    assert_eq!((web.endpoints.len(), &web.unmanageable), (1, &None));
    let reason = stuck.unmanageable.as_deref().unwrap_or_default();
    assert!(
        reason.contains("no answer from the engine within 10 s"),
        "{reason}"
    );
}

#[test]
fn a_container_is_said_before_it_starts_and_completed_when_it_has() {
    let mut desk = desk(Vec::new());
    desk.act(connected("web"));
    assert_eq!(desk.take_jobs(), [starting("web")]);
    desk.told("web", Ok(Some(seen("web", 7).container.face)));
    assert_eq!(said(&mut desk), NOTHING);
    desk.port(up(7));
    let [Change::Workload(early)] = &desk.take_changes()[..] else {
        panic!("not said");
    };
    assert_eq!((early.pid, early.started), (0, 5));
    // It is not in the engine's list yet, and does not run yet: no inspect, and no going away.
    desk.act(connected("web"));
    assert_eq!(desk.take_jobs(), [starting("web")]);
    desk.begin_survey();
    desk.surveyed(survey(Vec::new()));
    assert_eq!(said(&mut desk), NOTHING);
    desk.act(started("web"));
    assert_eq!(desk.take_jobs(), [job("web", "web-name")]);
    desk.looked("web", Ok(Some(seen("web", 7))));
    let [Change::Workload(late)] = &desk.take_changes()[..] else {
        panic!("not said");
    };
    assert_eq!((late.pid, late.started), (1007, 7));
    assert_eq!(late.endpoints, early.endpoints);
}

#[test]
fn who_is_behind_a_port_that_moved_is_looked_at() {
    let mut desk = desk(vec![seen("web", 7), seen("mail", 8)]);
    desk.port(PortNews::Moved(IfIndex(107)));
    assert_eq!(desk.take_jobs(), [job("web", "web-name")]);
    // Back again before the answer: that one may be of before.
    desk.port(PortNews::Moved(IfIndex(107)));
    assert_eq!(desk.take_jobs(), []);
    desk.looked("web", Ok(Some(seen("web", 7))));
    assert_eq!(desk.take_jobs(), [job("web", "web-name")]);
    desk.port(PortNews::Moved(IfIndex(5)));
    assert_eq!(desk.take_jobs(), []);
}

/// As Podman does for `network reload`, of which it tells nothing.
#[test]
fn who_has_lost_its_port_is_looked_at_when_one_comes_up() {
    let mut desk = desk(vec![seen("web", 7), seen("mail", 8), seen("bank", 6)]);
    desk.port(up(9));
    assert_eq!(desk.take_jobs(), []);
    // One is gone at once, the other is taken out of its bridge first.
    desk.port(PortNews::Gone(IfIndex(107)));
    assert_eq!(desk.take_jobs(), []);
    desk.port(PortNews::Moved(IfIndex(108)));
    assert_eq!(desk.take_jobs(), [job("mail", "mail-name")]);
    let mut cut = seen("mail", 8);
    if let Ok(Found::Own { interfaces, .. }) = &mut cut.found {
        interfaces.clear();
    }
    desk.looked("mail", Ok(Some(cut)));
    desk.port(up(9));
    let both = [job("mail", "mail-name"), job("web", "web-name")];
    assert_eq!(desk.take_jobs(), both);
    desk.looked("web", Ok(Some(seen("web", 9))));
    desk.looked("mail", Ok(Some(seen("mail", 10))));
    desk.port(up(10));
    assert_eq!(desk.take_jobs(), []);
}

#[test]
fn a_start_that_fails_leaves_nothing_behind() {
    let begun = || {
        let mut desk = desk(Vec::new());
        desk.act(connected("web"));
        desk.told("web", Ok(Some(seen("web", 7).container.face)));
        desk.port(up(7));
        assert_eq!(said(&mut desk), ["+web"]);
        desk
    };
    for failure in [Action::Disconnected("web".to_owned()), ended("web", 6)] {
        let mut desk = begun();
        desk.act(failure);
        assert_eq!(said(&mut desk), ["-web"]);
        // The next one gets the same MAC.
        desk.port(PortNews::Gone(IfIndex(107)));
        desk.port(up(7));
        assert_eq!(said(&mut desk), NOTHING);
    }
    let mut desk = begun();
    desk.port(PortNews::Gone(IfIndex(107)));
    assert_eq!(said(&mut desk), ["-web"]);
}

#[test]
fn a_start_event_that_was_lost_is_made_good_by_the_survey() {
    let mut desk = desk(Vec::new());
    desk.act(connected("web"));
    desk.told("web", Ok(Some(seen("web", 7).container.face)));
    desk.port(up(7));
    assert_eq!(said(&mut desk), ["+web"]);
    desk.begin_survey();
    desk.surveyed(survey(vec![seen("web", 7)]));
    assert_eq!(said(&mut desk), ["=web"]);
    desk.take_jobs();
    desk.act(changed("web"));
    assert_eq!(desk.take_jobs(), [job("web", "web-name")], "it runs");
}
