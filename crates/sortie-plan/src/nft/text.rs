//! A ruleset as `nft` would print it, for golden files, `sortie plan` and people.
