//! nftables and conntrack over netlink, without libraries or child processes.
//!
//! [`Socket`] talks to the kernel. A [`Batch`] is a transaction: operations on
//! [tables](table), [chains](chain), [rules](rule), [sets](set), [elements](elem) and
//! [named counters](obj), applied all together or not at all. Rules are lists of
//! [expressions](expr).
//!
//! ```no_run
//! use nfnetlink::chain::{Chain, ChainType, HookPoint};
//! use nfnetlink::datatype::DataType;
//! use nfnetlink::elem::Element;
//! use nfnetlink::expr::{Exprs, selectors::*};
//! use nfnetlink::{Batch, Family, Rule, Set, Socket, Table};
//! use std::net::Ipv4Addr;
//!
//! # fn main() -> Result<(), nfnetlink::Error> {
//! let mut socket = Socket::open()?;
//! let mut batch = Batch::new();
//! batch.add_table(&Table::new(Family::Inet, "demo"));
//! batch.add_set(&Set::map(
//!     Family::Inet, "demo", "snat4", DataType::IPV4_ADDR, DataType::IPV4_ADDR,
//! ));
//! batch.add_chain(&Chain::base(
//!     Family::Inet, "demo", "translate", ChainType::Nat, HookPoint::POSTROUTING, 99,
//! ));
//! // snat ip to ip saddr map @snat4
//! let exprs = Exprs::new(Family::Inet).map(&[IP_SADDR], "snat4").snat(Family::Ip);
//! batch.add_rule(&Rule::new(Family::Inet, "demo", "translate", exprs));
//! batch.add_elements(Family::Inet, "demo", "snat4", [
//!     Element::map(Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(203, 0, 113, 11)),
//! ]);
//! socket.commit(&batch)?;
//! # Ok(())
//! # }
//! ```
//!
//! Everything is synchronous. A socket is [`AsFd`](std::os::fd::AsFd), to be polled
//! together with others. Names are the kernel's and nft's.

mod batch;
pub mod chain;
pub mod conntrack;
pub mod data;
pub mod datatype;
mod decode;
pub mod elem;
mod error;
pub mod expr;
mod family;
mod generation;
mod listen;
pub mod log;
pub mod monitor;
pub mod obj;
pub mod rule;
pub mod set;
mod socket;
pub mod table;
mod uapi;
mod userdata;
mod verdict;
mod wire;

pub use batch::Batch;
pub use chain::Chain;
pub use data::{Data, Datum};
pub use decode::{Decoded, decode};
pub use elem::Element;
pub use error::{Error, Refusal};
pub use expr::{Expr, Exprs};
pub use family::Family;
pub use generation::Generation;
pub use listen::{Listener, Notice};
pub use obj::NamedCounter;
pub use rule::Rule;
pub use set::Set;
pub use socket::Socket;
pub use table::Table;
pub use userdata::COMMENT_MAX;
pub use verdict::Verdict;
pub use wire::Malformed;
