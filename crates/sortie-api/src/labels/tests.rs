//! Labels are what they were made of.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::Labels;

proptest! {
    /// Any names and values, empty ones and such with any character included.
    #[test]
    fn all_come_back(given: BTreeMap<String, String>) {
        let labels = Labels::from(given.clone());
        for (name, value) in &given {
            prop_assert_eq!(labels.get(name), Some(value.as_str()));
        }
        prop_assert_eq!(labels.get("no such name\u{1}"), given.get("no such name\u{1}").map(String::as_str));
        let json = serde_json::to_string(&labels).unwrap();
        prop_assert_eq!(&json, &serde_json::to_string(&given).unwrap());
        prop_assert_eq!(serde_json::from_str::<Labels>(&json).unwrap(), labels.clone());
        prop_assert_eq!(BTreeMap::from(labels), given);
    }
}

#[test]
fn the_later_of_one_name_counts() {
    let labels: Labels = [("b", "1"), ("a", "2"), ("b", "3")].into_iter().collect();
    assert_eq!(labels.iter().collect::<Vec<_>>(), [("a", "2"), ("b", "3")]);
}
