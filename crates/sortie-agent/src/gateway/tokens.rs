//! Tokens of the proxy's clients: a file with a line `NAME HASH` for each, the hash as `sha256sum`
//! prints it. Two lines of one name are two tokens, so that one can take the other's place.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use sortie_gateway::TokenHash;

/// What the file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tokens(Vec<(String, TokenHash)>);

impl Tokens {
    /// Reads the file.
    ///
    /// # Errors
    /// When it cannot be read, others may write it, or a line is none.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let at = |error: std::io::Error| format!("{}: {error}", path.display());
        let metadata = fs::metadata(path).map_err(at)?;
        if metadata.mode() & 0o022 != 0 {
            return Err(format!(
                "{0}: others than its owner may write it; chmod go-w {0}",
                path.display()
            ));
        }
        let text = fs::read_to_string(path).map_err(at)?;
        Self::parse(&text).map_err(|error| format!("{}:{error}", path.display()))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut tokens = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let mut words = line.split_ascii_whitespace();
            let (name, hash) = match (words.next(), words.next(), words.next()) {
                (None, ..) => continue,
                (Some(word), ..) if word.starts_with('#') => continue,
                (Some(name), Some(hash), None) => (name, TokenHash::from_hex(hash)),
                _ => ("", None),
            };
            // What may be wrong is not repeated: it could be the token itself.
            let Some(hash) = hash else {
                return Err(format!(
                    "{}: the line is no `NAME HASH`; get the hash by: printf %s \"$TOKEN\" | sha256sum",
                    number + 1
                ));
            };
            tokens.push((name.to_owned(), hash));
        }
        Ok(Self(tokens))
    }

    /// The name of a token, which must be `wanted` if one is told. All are compared, whoever it is.
    pub(super) fn name_of(&self, token: &[u8], wanted: Option<&[u8]>) -> Option<&str> {
        let shown = TokenHash::of(token)?;
        let mut found = None;
        for (name, hash) in &self.0 {
            let is_wanted = wanted.is_none_or(|wanted| wanted == name.as_bytes());
            if hash.is(&shown) && is_wanted {
                found = Some(&**name);
            }
        }
        found
    }

    pub(super) fn names(&self) -> BTreeSet<String> {
        self.0.iter().map(|(name, _)| name.clone()).collect()
    }
}
