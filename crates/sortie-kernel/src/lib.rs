//! Observe and apply what a plan asks of the Linux kernel.
