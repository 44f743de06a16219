//! Pure decisions: resolve, compile, diff, explain.
