//! nftables and conntrack over netlink, without libraries or child processes.
