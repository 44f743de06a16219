use super::*;

#[test]
fn a_list_is_parsed() {
    let failpoints: Failpoints = "before:nft=error, probe:persist=unsupported"
        .parse()
        .unwrap();
    assert!(failpoints.hides(Feature::Persist));
    assert!(!failpoints.hides(Feature::Owner));
    let reached = failpoints.around(Step::Nft, || Ok(()));
    assert!(reached.unwrap_err().to_string().contains("before:nft"));
    failpoints.around(Step::AddRoute, || Ok(())).unwrap();
}

#[test]
fn after_means_that_it_was_done() {
    let failpoints: Failpoints = "after:nft=error".parse().unwrap();
    let mut done = false;
    let result = failpoints.around(Step::Nft, || {
        done = true;
        Ok(())
    });
    assert!(done && result.is_err());
}

#[test]
fn tables_of_another_version_are_not_taken_for_ones_own() {
    let another: Failpoints = "tables:version=another".parse().unwrap();
    let made = NftOp::AddTable("1".into());
    let NftOp::AddTable(kept) = another.altered(Family::Inet, &made).into_owned() else {
        panic!("it makes a table");
    };
    assert_eq!(another.meant_tag(kept.clone()), "1");
    assert_ne!(another.meant_tag("1".into()), "1");
    let usual = Failpoints::default();
    assert_ne!(usual.meant_tag(kept), "1");
    assert_eq!(usual.meant_tag("1".into()), "1");
    assert_eq!(*usual.altered(Family::Inet, &made), made);
}

#[test]
fn what_is_wrong_is_said() {
    for (text, expected) in [
        ("nft", "=ACTION"),
        ("nft=error", "WHEN:"),
        ("during:nft=error", "\"during\""),
        ("before:nonsense=error", "\"nonsense\""),
        ("before:nft=explode", "\"explode\""),
        ("before:nft=abort-unless:", "\"abort-unless\""),
        ("tables:version=older", "version"),
        ("probe:persist=error", "unsupported"),
        ("rule:inet/guard/1=error", "absent"),
        ("rule:inet/guard=absent", "FAMILY/CHAIN/PLACE"),
    ] {
        let error = text.parse::<Failpoints>().unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}
