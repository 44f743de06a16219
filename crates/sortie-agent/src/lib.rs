//! The loop from sources to kernel to proof, and its admin API.
