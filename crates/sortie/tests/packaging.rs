//! What is shipped beside the binary, and what the documents say of it.

use std::fs;
use std::path::Path;

fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn the_unit_in_the_documents_is_the_one_that_is_shipped() {
    let unit = format!("```ini\n{}```\n", read("packaging/sortie.service"));
    assert!(read("docs/operations.md").contains(&unit));
}
