use super::{Fault, Source, Span, quoted};

fn shown(text: &str, offset: usize, len: usize) -> String {
    let source = Source { file: "f", text };
    let fault = Fault::new("m", "h");
    source.problem(Span { offset, len }, fault).to_string()
}

#[test]
fn counts_lines_as_yaml_and_columns_in_characters() {
    assert_eq!(
        shown("a\nb: c\n", 5, 1),
        "f:2:4: m\n    2 | b: c\n      |    ^\n  help: h\n"
    );
    assert_eq!(
        shown("a\r\nb\rücd", 7, 2),
        "f:3:2: m\n    3 | ücd\n      |  ^^\n  help: h\n"
    );
    assert_eq!(
        shown("\u{feff}abc", 4, 1),
        "f:1:2: m\n    1 | abc\n      |  ^\n  help: h\n"
    );
}

#[test]
fn carets_stay_on_their_line() {
    assert_eq!(
        shown("ab\ncd", 1, 100),
        "f:1:2: m\n    1 | ab\n      |  ^\n  help: h\n"
    );
    // Behind the end, and inside a character.
    assert_eq!(
        shown("ab", 9, 9),
        "f:1:3: m\n    1 | ab\n      |   ^\n  help: h\n"
    );
    assert_eq!(
        shown("üb", 1, 1),
        "f:1:1: m\n    1 | üb\n      | ^\n  help: h\n"
    );
    assert_eq!(
        shown("", 0, 0),
        "f:1:1: m\n    1 | \n      | ^\n  help: h\n"
    );
}

#[test]
fn long_lines_are_cut_around_the_carets() {
    let text = format!("{}here{}", "a".repeat(1000), "b".repeat(1000));
    let shown = shown(&text, 1000, 4);
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines[0], "f:1:1001: m");
    let line: Vec<char> = lines[1].chars().collect();
    assert_eq!(line.len(), 108);
    let caret = lines[2].find('^').unwrap();
    assert_eq!(line[caret..caret + 4].iter().collect::<String>(), "here");
    assert_eq!(lines[2].matches('^').count(), 4);
}

#[test]
fn nothing_reaches_the_terminal_that_it_would_obey() {
    let shown = shown("\u{1b}[2J\t\u{202e}x", 8, 1);
    assert!(shown.contains("�[2J→�x"), "{shown}");
    assert_eq!(quoted("a\u{7}\u{9b}b"), "`a��b`");
    assert_eq!(quoted(&"x".repeat(61)), format!("`{}…`", "x".repeat(60)));
    assert_eq!(quoted(""), "an empty string");
}
