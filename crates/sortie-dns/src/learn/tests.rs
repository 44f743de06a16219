use super::*;

const KEPT: Answered = Answered::Kept;

fn away() -> Result<Vec<Answered>, NotLearned> {
    Err(NotLearned::Away("connection refused".to_owned()))
}

#[test]
fn the_writers_answer_is_told() {
    let told = settle(Learning::Required, 1, Ok(vec![KEPT]), || None);
    assert_eq!(told, Settled::Told(vec![KEPT]));
}

#[test]
fn while_the_agent_is_away_what_was_learned_still_holds() {
    let told = settle(Learning::Required, 1, away(), || Some(vec![KEPT]));
    assert_eq!(told, Settled::Told(vec![KEPT]));
    // But not against his word.
    let refused = Err(NotLearned::Refused("no room".to_owned()));
    let failed = settle(Learning::Required, 1, refused, || Some(vec![KEPT]));
    assert!(matches!(failed, Settled::Failed(why) if why.contains("no room")));
}

#[test]
fn a_policys_name_without_learning_has_no_answer() {
    let failed = settle(Learning::Required, 1, away(), || None);
    assert!(matches!(failed, Settled::Failed(why) if why.contains("start `sortie agent`")));
    let short = settle(Learning::Required, 2, Ok(vec![KEPT]), || None);
    assert!(matches!(short, Settled::Failed(why) if why.contains("1 of 2")));
    assert_eq!(
        settle(Learning::Offered, 1, away(), || None),
        Settled::Unchanged
    );
}
