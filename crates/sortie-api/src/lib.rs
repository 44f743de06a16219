//! The policy language: EgressPolicy, label shortcuts, the workloads they select.
