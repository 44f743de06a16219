use super::{PolicySet, without};

fn policy(name: &str) -> String {
    format!(
        "apiVersion: sortie.dev/v1alpha1\nkind: EgressPolicy\nmetadata: {{name: {name}}}\nspec: {{action: Deny}}\n"
    )
}

#[test]
fn holds_the_policies_of_all_files() {
    let two = format!("{}---\n{}", policy("a"), policy("b"));
    let set = PolicySet::load([("1.yaml", two), ("2.yaml", policy("c"))]).unwrap();
    let names: Vec<&str> = set.policies().map(|p| p.name.0.as_str()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert_eq!(set.files[1].name, "2.yaml");
    let nothing: [(&str, &str); 0] = [];
    assert_eq!(PolicySet::load(nothing), Ok(PolicySet::default()));
}

#[test]
fn names_the_files_that_are_bad() {
    let files = [
        ("1.yaml", policy("a")),
        ("2.yaml", "kind: x".to_owned()),
        ("3.yaml", format!("{}---\n{}", policy("b"), policy("a"))),
        ("4.yaml", policy("c")),
    ];
    let errors = PolicySet::load(files).unwrap_err();
    assert_eq!(errors.files(), ["2.yaml", "3.yaml"]);
    insta::assert_snapshot!(errors, @r"
    2.yaml:1:7: unknown kind `x`
        1 | kind: x
          |       ^
      help: this version reads `kind: EgressPolicy`
    3.yaml:8:18: a second policy is named `a`
        8 | metadata: {name: a}
          |                  ^
      help: the first is in 1.yaml:3: rename one of them
    ");
}

#[test]
fn a_policy_goes_and_the_others_stay_as_they_were_written() {
    let two = format!("# one\n{}--- # two\n{}# end\n", policy("a"), policy("b"));
    assert_eq!(
        without(&two, "a").unwrap(),
        format!("--- # two\n{}# end\n", policy("b"))
    );
    assert_eq!(
        without(&two, "b").unwrap(),
        format!("# one\n{}", policy("a"))
    );
    assert_eq!(without(&two, "c"), None);
    assert_eq!(without(&policy("a"), "a"), None);
    let commented = format!("# all\n---\n{}", policy("a"));
    assert_eq!(without(&commented, "a"), None);
}
