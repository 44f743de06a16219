//! Which known word a wrong one was meant to be.

/// The nearest of `known`, if it is near enough to be meant.
pub(crate) fn nearest<'k>(
    wrong: &str,
    known: impl IntoIterator<Item = &'k str>,
) -> Option<&'k str> {
    // Nobody means a known word with that; and the distance costs the product of the lengths.
    if wrong.len() > 64 {
        return None;
    }
    let length = wrong.chars().count();
    let near = |word: &str| 1.max(word.chars().count() / 3);
    known
        .into_iter()
        // The distance is no less, and costs more to know.
        .filter(|word| length.abs_diff(word.chars().count()) <= near(word))
        .map(|word| (distance(&wrong.to_lowercase(), &word.to_lowercase()), word))
        .filter(|(distance, word)| *distance <= near(word))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// Insertions, deletions, replacements and swaps of neighbours that turn one word into the
/// other (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replace = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replace.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::{distance, nearest};

    #[test]
    fn counts_the_edits() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("cidr", "cird"), 1);
    }

    #[test]
    fn suggests_what_is_near_and_nothing_else() {
        let known = ["addresses", "action", "egress"];
        assert_eq!(nearest("adresses", known), Some("addresses"));
        assert_eq!(nearest("Egress", known), Some("egress"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(nearest(&"e".repeat(1000), known), None);
    }
}
