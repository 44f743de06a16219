//! The folder keeps what is good, refuses what is not, and survives a restart with a bad file.

use super::*;

const GOOD: &str = "apiVersion: sortie.dev/v1alpha1\nkind: EgressPolicy\nmetadata: {name: bank}\nspec:\n  action: Egress\n  workloads: [{containers: {names: [web]}}]\n  egress: {addresses: [203.0.113.11]}\n";

fn file(name: &str, text: &str) -> api::File {
    api::File {
        name: name.into(),
        text: text.into(),
    }
}

fn folder(at: &Path) -> PolicyFolder {
    PolicyFolder::new(at.join("policies"), &at.join("state"))
}

#[test]
fn a_file_is_kept_under_its_own_name_and_goes_with_its_last_policy() {
    let at = tempfile::tempdir().unwrap();
    let mut policies = folder(at.path());
    let (texts, set) = policies.with(&[file("somewhere/bank.yaml", GOOD)]).unwrap();
    assert_eq!(set.policies().count(), 1);
    policies.write(&texts).unwrap();
    policies.reload().unwrap();
    assert!(at.path().join("policies/bank.yaml").exists());
    let (texts, set) = policies.without("bank").unwrap();
    assert_eq!(set.policies().count(), 0);
    policies.write(&texts).unwrap();
    assert!(!at.path().join("policies/bank.yaml").exists());
    assert!(policies.without("bank").is_err());
}

#[test]
fn a_full_disk_keeps_no_copy_and_changes_no_policy() {
    let at = tempfile::tempdir().unwrap();
    std::fs::write(at.path().join("state"), "in the way of the folder").unwrap();
    let mut policies = folder(at.path());
    let (texts, _) = policies.with(&[file("bank.yaml", GOOD)]).unwrap();
    policies.write(&texts).unwrap();
    policies.reload().unwrap();
    assert_eq!(policies.set.policies().count(), 1);
    assert!(policies.unkept.is_some());
    std::fs::remove_file(at.path().join("state")).unwrap();
    policies.reload().unwrap();
    assert_eq!(policies.unkept, None);
    assert!(at.path().join("state/policies.last-good.json").exists());
}

#[test]
fn a_bad_file_is_refused_whole_and_names_itself() {
    let at = tempfile::tempdir().unwrap();
    let policies = folder(at.path());
    let error = policies
        .with(&[file(
            "mine.yaml",
            &GOOD.replace("203.0.113.11", "203.0.113.999"),
        )])
        .unwrap_err();
    assert!(error.to_string().contains("mine.yaml:7:"), "{error}");
}

#[test]
fn what_ran_before_keeps_running_across_a_restart() {
    let at = tempfile::tempdir().unwrap();
    let mut policies = folder(at.path());
    policies
        .write(&Texts::from([("bank.yaml".into(), GOOD.into())]))
        .unwrap();
    policies.reload().unwrap();
    fs::write(at.path().join("policies/bank.yaml"), "nonsense: [").unwrap();
    policies.reload().unwrap();
    assert!(policies.problem.is_some());
    assert_eq!(policies.set.policies().count(), 1);
    let mut restarted = folder(at.path());
    restarted.reload().unwrap();
    assert!(restarted.problem.is_some());
    assert_eq!(restarted.set.policies().count(), 1);
}
