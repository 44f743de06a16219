//! Flags on a command line.

use super::{Daemon, flag};

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn a_flag_has_its_value_behind_a_space_or_a_sign() {
    let line = words("dockerd --config-file /a.json --default-runtime=crun --add-runtime x=/x");
    assert_eq!(flag(&line, "config-file"), Some("/a.json"));
    assert_eq!(flag(&line, "default-runtime"), Some("crun"));
    assert_eq!(flag(&line, "add-runtime"), Some("x=/x"));
    assert_eq!(flag(&line, "default"), None);
    assert_eq!(flag(&line, "debug"), None);
}

#[test]
fn a_flag_that_the_file_would_repeat_is_refused() {
    let daemon = |line| Daemon {
        pid: 1,
        words: words(line),
    };
    let names = ["default-runtime", "add-runtime"];
    assert!(daemon("dockerd -H fd://").refuse_flags(&names).is_ok());
    let refused = daemon("dockerd --default-runtime crun").refuse_flags(&names);
    let error = refused.unwrap_err().to_string();
    assert!(error.contains("--default-runtime"), "{error}");
}
