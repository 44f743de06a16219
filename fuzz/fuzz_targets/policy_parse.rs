//! Any text as a policy file, as the agent's file and as labels: nothing panics, each caret points
//! into the text, and a policy that is written is read back the same.

#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use sortie_api::config::AgentConfig;
use sortie_api::label::{from_container_labels, from_network_labels};
use sortie_api::policy::{Owner, parse};
use sortie_api::problem::FileErrors;

fn points_into(text: &str, errors: &FileErrors) {
    assert!(!errors.problems().is_empty());
    for problem in errors.problems() {
        let (start, end) = (problem.span.offset, problem.span.offset + problem.span.len);
        assert!(text.get(start..end).is_some(), "{problem:?}");
        let lines = text.matches('\n').count() + text.matches('\r').count() + 1;
        assert!((1..=lines).contains(&problem.line), "{problem:?}");
        assert!((1..=text.chars().count() + 1).contains(&problem.column), "{problem:?}");
    }
    assert!(errors.to_string().ends_with('\n'));
}

/// A line `NAME=VALUE` each.
fn labels(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fuzz_target!(|text: &str| {
    match parse("fuzz.yaml", text) {
        Ok(policies) => {
            // What a VirtualService says no policy file can say.
            for policy in policies.into_iter().filter(|policy| policy.owner == Owner::Policy) {
                let written = policy.to_yaml().expect("a policy has a form in YAML");
                assert_eq!(parse("fuzz.yaml", &written), Ok(vec![policy]), "{written}");
            }
        }
        Err(errors) => points_into(text, &errors),
    }
    if let Err(errors) = AgentConfig::parse("agent.yaml", text) {
        points_into(text, &errors);
    }
    let labels = labels(text);
    for errors in [
        from_container_labels("web", &labels.clone().into()).err(),
        from_network_labels("web", &labels).err(),
    ]
    .into_iter()
    .flatten()
    {
        assert!(errors.errors().iter().all(|error| labels.contains_key(&error.label)));
    }
});
