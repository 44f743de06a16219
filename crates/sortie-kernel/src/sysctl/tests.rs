use super::*;
use crate::testing::{in_namespace, sh};

fn forwarding() -> Sysctl {
    Sysctl("net/ipv4/conf/lo/forwarding".to_owned())
}

fn fresh() -> (Changes, tempfile::TempDir) {
    let state = tempfile::tempdir().unwrap();
    (Changes::load(state.path()).unwrap(), state)
}

#[test]
fn the_value_from_before_us_comes_back_after_a_restart() {
    in_namespace(|| {
        let (mut changes, state) = fresh();
        let before = read(&forwarding()).unwrap();
        let ours = if before == "1" { "0" } else { "1" };
        changes.set(&forwarding(), ours).unwrap();
        changes.set(&forwarding(), ours).unwrap();
        assert_eq!(read(&forwarding()).unwrap(), ours);
        let mut later = Changes::load(state.path()).unwrap();
        assert_eq!(later.observe().unwrap()[&forwarding()], ours);
        later.restore(&forwarding()).unwrap();
        assert_eq!(read(&forwarding()).unwrap(), before);
        assert!(
            Changes::load(state.path())
                .unwrap()
                .observe()
                .unwrap()
                .is_empty()
        );
    });
}

#[test]
fn a_value_that_others_changed_stays() {
    in_namespace(|| {
        let (mut changes, _state) = fresh();
        let ttl = Sysctl("net/ipv4/ip_default_ttl".to_owned());
        changes.set(&ttl, "70").unwrap();
        sh("echo 80 > /proc/sys/net/ipv4/ip_default_ttl");
        changes.restore(&ttl).unwrap();
        assert_eq!(read(&ttl).unwrap(), "80");
    });
}

#[test]
fn a_setting_of_a_gone_interface_is_forgotten() {
    in_namespace(|| {
        let (mut changes, _state) = fresh();
        sh("ip link add v0 type veth peer name v1");
        let setting = Sysctl("net/ipv4/conf/v0/forwarding".to_owned());
        changes.set(&setting, "1").unwrap();
        sh("ip link del v0");
        changes.restore(&setting).unwrap();
        assert!(changes.observe().unwrap().is_empty());
    });
}

#[test]
fn damaged_notes_do_no_harm() {
    in_namespace(|| {
        let (mut changes, state) = fresh();
        fs::write(state.path().join(FILE), "{ half").unwrap();
        let mut damaged = Changes::load(state.path()).unwrap();
        assert!(damaged.observe().unwrap().is_empty());
        damaged.set(&forwarding(), "1").unwrap();
        changes.restore(&forwarding()).unwrap();
    });
}

#[test]
fn names_that_leave_the_folder_are_refused() {
    for name in ["", "/etc/passwd", "net/../../etc/passwd", "net//ipv4"] {
        assert!(matches!(
            read(&Sysctl(name.to_owned())),
            Err(Error::SysctlName { .. })
        ));
    }
}

#[test]
fn a_value_that_the_kernel_refuses_is_told() {
    in_namespace(|| {
        let (mut changes, _state) = fresh();
        let error = changes
            .set(&Sysctl("net/ipv4/ip_default_ttl".to_owned()), "nonsense")
            .unwrap_err();
        assert!(error.to_string().contains("ip_default_ttl"), "{error}");
    });
}
