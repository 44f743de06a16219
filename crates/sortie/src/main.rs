//! Decides which address a container, pod or process is seen with when it calls out.

fn main() {}
