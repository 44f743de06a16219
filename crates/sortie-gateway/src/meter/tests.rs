use super::*;

fn by(policy: &str) -> By {
    By {
        policy: Some(policy.into()),
        left: Left::With(IpAddr::from([203, 0, 113, 11])),
    }
}

#[test]
fn cores_are_put_together() {
    let cores = [Counts::default(), Counts::default()];
    let meter = Meter::of(cores.clone());
    for core in &cores {
        core.ended(by("api"), "ok", 1, 20);
        core.opened();
    }
    cores[0].ended(by("api"), "Denied", 0, 0);
    cores[0].closed();
    cores[1].failed_bind(by("api"));
    let tally = meter.read();
    let two = Carried {
        count: 2,
        sent: 2,
        received: 40,
    };
    assert_eq!(tally.ended[&(by("api"), "ok")], two);
    assert_eq!(tally.ended[&(by("api"), "Denied")].count, 1);
    assert_eq!(tally.connections, 1);
    assert_eq!(tally.failed_binds[&by("api")], 1);
}

/// Policies that are renamed with each deployment do not fill the memory.
#[test]
fn series_have_an_end_and_nothing_is_lost() {
    let core = Counts::default();
    let many = SERIES * 2;
    for number in 0..many {
        core.ended(by(&number.to_string()), "ok", 0, 0);
    }
    let tally = Meter::of([core]).read();
    assert_eq!(tally.ended.len(), SERIES + 1);
    let all: u64 = tally.ended.values().map(|carried| carried.count).sum();
    assert_eq!(all, many as u64);
}
