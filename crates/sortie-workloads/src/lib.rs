//! Where workloads come from: container engines and local processes.
