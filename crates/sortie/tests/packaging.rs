//! What is shipped beside the binary, and what the documents say of it.

use std::fs;
use std::path::Path;

fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn the_units_in_the_documents_are_those_that_are_shipped() {
    for unit in ["sortie.service", "sortie-gateway.service"] {
        let text = format!("```ini\n{}```\n", read(&format!("packaging/{unit}")));
        assert!(read("docs/operations.md").contains(&text), "{unit}");
    }
}
