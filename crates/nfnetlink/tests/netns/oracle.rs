//! What nft lists after our batch, beside what it lists after its own ruleset.

use nfnetlink::{Batch, Socket};
use serde_json::Value;

use super::namespace::{in_namespace, nft_objects, run};

/// Takes away what differs between two namespaces: the kernel's own numbers, and time.
fn without_handles(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .filter(|(name, _)| name != "handle" && name != "expires")
            .map(|(name, field)| (name, without_handles(field)))
            .collect(),
        Value::Array(all) => all.into_iter().map(without_handles).collect(),
        other => other,
    }
}

fn listed() -> Vec<Value> {
    nft_objects().into_iter().map(without_handles).collect()
}

/// Asserts that nft lists our batch as it lists its own ruleset of this text.
pub(crate) fn assert_same(fill: impl FnOnce(&mut Batch) + Send + 'static, text: &str) {
    let ours = in_namespace(move || {
        let mut batch = Batch::new();
        fill(&mut batch);
        Socket::open().unwrap().commit(&batch).unwrap();
        listed()
    });
    // nft ends statements and blocks at line ends.
    let text = text
        .replace("}; ", "}\n")
        .replace("} ", "}\n")
        .replace(" }", "\n}");
    let theirs = in_namespace(move || {
        run("nft", &[&text]);
        listed()
    });
    assert!(!theirs.is_empty());
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_eq!(ours, theirs);
    }
    assert_eq!(ours.len(), theirs.len());
}
