use proptest::prelude::*;

use super::{Node, Special, Value, documents, special};
use crate::reader::Reader;

fn read(text: &str) -> Vec<Node> {
    let mut reader = Reader::new("f", text);
    let documents = documents(&mut reader);
    reader.finish(documents).unwrap()
}

/// Every scalar with the text at its place.
fn scalars<'t>(node: &Node, source: &'t str, into: &mut Vec<(String, &'t str)>) {
    match &node.value {
        Value::Scalar { text, .. } => {
            into.push((text.clone(), &source[node.span.offset..][..node.span.len]));
        }
        Value::List(list) => list.iter().for_each(|n| scalars(n, source, into)),
        Value::Map(entries) => {
            for entry in entries {
                let key = &source[entry.key_span.offset..][..entry.key_span.len];
                into.push((entry.key.clone(), key));
                scalars(&entry.value, source, into);
            }
        }
        Value::Bad => panic!("a good text has no bad value"),
    }
}

#[test]
fn places_are_those_of_the_tokens() {
    let text = "ä: [b , \"c\\n\" ]\n? 'd''e'\n: {f: ::/0}\ng: # h\n  i j # k\n";
    let mut found = Vec::new();
    scalars(&read(text)[0], text, &mut found);
    let expected = [
        ("ä", "ä"),
        ("b", "b"),
        ("c\n", "\"c\\n\""),
        ("d'e", "'d''e'"),
        ("f", "f"),
        ("::/0", "::/0"),
        ("g", "g"),
        ("i j", "i j"),
    ];
    assert_eq!(
        found,
        expected.map(|(text, source)| (text.to_owned(), source))
    );
}

#[test]
fn knows_what_is_no_string() {
    for text in ["", "~", "null", "NULL"] {
        assert_eq!(special(text), Some(Special::Null), "{text}");
    }
    for text in ["true", "False", "yes", "NO", "on", "Off"] {
        assert_eq!(special(text), Some(Special::Boolean), "{text}");
    }
    for text in [
        "0", "-1", "+7", "1.5", ".5", "1e3", "0x1F", "0o17", "0b11", "1_000", ".inf", "-.INF",
        ".nan",
    ] {
        assert_eq!(special(text), Some(Special::Number), "{text}");
    }
    for text in [
        "a",
        "1.2.3.4",
        "::1",
        "10.0.0.0/8",
        "0x",
        "1a",
        "-",
        ".",
        "truely",
        "inf",
        "e3",
        "ööö",
        "nullable",
    ] {
        assert_eq!(special(text), None, "{text}");
    }
}

proptest! {
    /// A list of quoted strings comes back as it was, each with its own place.
    #[test]
    fn strings_survive(strings in prop::collection::vec("[^\\p{C}\u{feff}]{0,12}", 0..8)) {
        let quoted: Vec<String> = strings.iter().map(|s| format!("'{}'", s.replace('\'', "''"))).collect();

        let text = quoted.iter().fold(String::new(), |text, s| text + "- " + s + "\n");
        let documents = read(&text);
        let mut found = Vec::new();
        for node in &documents {
            scalars(node, &text, &mut found);
        }
        let expected: Vec<_> = strings.iter().cloned().zip(quoted.iter().map(String::as_str)).collect();
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn the_place_of_a_syntax_error_is_one_whole_character() {
    for text in [
        "a: b\n  -\u{fffd}\u{fffd}: c\n",
        "a: [",
        "a: 'b\n",
        "\u{e4}: ]",
    ] {
        let mut reader = Reader::new("f", text);
        let documents = documents(&mut reader);
        let errors = reader.finish(documents).unwrap_err();
        for problem in errors.problems() {
            let (start, len) = (problem.span.offset, problem.span.len);
            let place = text.get(start..start + len).expect("inside the text");
            assert_eq!(
                place.chars().count(),
                usize::from(start < text.len()),
                "{text}"
            );
        }
    }
}
