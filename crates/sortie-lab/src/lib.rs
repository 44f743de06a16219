//! Hosts, engines, uplinks and an observing internet in network namespaces.
