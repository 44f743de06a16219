use super::*;

const RULES: &str = "table inet sortie {\n\tmap snat4 {\n\t\ttype ipv4_addr : ipv4_addr\n\t}\n\n\tchain guard {\n\t\tdrop\n\t}\n}\n";

fn of(section: &'static str, lines: &[&str]) -> Snapshot {
    Snapshot {
        sections: BTreeMap::from([(section, lines.iter().map(ToString::to_string).collect())]),
    }
}

#[test]
fn a_rule_is_shown_with_its_table_and_chain() {
    assert_eq!(
        with_paths(RULES),
        [
            "table inet sortie",
            "table inet sortie / map snat4",
            "table inet sortie / map snat4 / type ipv4_addr : ipv4_addr",
            "table inet sortie / chain guard",
            "table inet sortie / chain guard / drop",
        ]
    );
}

#[test]
fn lifetimes_do_not_count() {
    let line =
        "2: up0    inet6 fe80::1/64 scope link \\       valid_lft forever preferred_lft forever";
    assert_eq!(settled(line), "2: up0 inet6 fe80::1/64 scope link");
}

#[test]
fn what_is_gone_and_what_is_new_is_shown_and_nothing_else() {
    let before = of("addresses", &["a", "b", "b"]);
    assert_eq!(before.diff(&before), "");
    assert_eq!(
        before.diff(&of("addresses", &["a", "b", "c"])),
        "addresses:\n  - b\n  + c\n\n"
    );
}

#[test]
fn another_order_of_rules_is_a_difference() {
    let diff = of(RULESET, &["a", "b"]).diff(&of(RULESET, &["b", "a"]));
    assert_eq!(diff, "nft ruleset:\n  the same lines in another order\n\n");
}
