//! Expressions: the instructions of `nf_tables`' virtual machine, as types.
//!
//! A rule is a list of them. [`Expr`] is the raw form, one variant per expression of the
//! kernel; [`Exprs`] builds lists from what nft users write.

mod bitwise;
mod builder;
mod cmp;
mod counter;
mod ct;
mod dynset;
mod fib;
mod immediate;
mod limit;
mod log;
mod lookup;
mod meta;
mod nat;
mod payload;
mod register;
mod reject;
mod selector;
mod socket;
mod tproxy;

pub use bitwise::{Bitwise, Byteorder, ByteorderOp};
pub use builder::Exprs;
pub use cmp::{Cmp, CmpOp, Range};
pub use counter::{Counter, Objref, ObjrefMap};
pub use ct::{Ct, CtKey, Direction, state};
pub use dynset::Dynset;
pub use fib::{Fib, FibFlags, FibResult, addr_type};
pub use immediate::Immediate;
pub use limit::Limit;
pub use log::Log;
pub use lookup::Lookup;
pub use meta::{Meta, MetaKey};
pub use nat::{Masq, Nat, NatFlags, NatType, Redir};
pub use payload::{Payload, PayloadBase};
pub use register::Reg;
pub use reject::{Notrack, Reject};
pub use selector::{Selector, selectors};
pub use socket::{Numgen, SocketExpr, SocketKey};
pub use tproxy::Tproxy;

use crate::uapi::nft::{NFTA_EXPR_DATA, NFTA_EXPR_NAME, NFTA_LIST_ELEM};
use crate::uapi::nl::NLA_F_NESTED;
use crate::wire::{Attr, Malformed, Writer, attrs};

/// What every expression type does: name itself, write its attributes, read them.
trait Expression: Sized {
    const NAME: &'static str;
    fn encode(&self, w: &mut Writer);
    fn decode(nested: &[u8]) -> Result<Self, Malformed>;
}

macro_rules! expressions {
    ($($(#[$doc:meta])* $variant:ident($kind:ty),)*) => {
        /// One expression.
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Expr {
            $($(#[$doc])* $variant($kind),)*
            /// An expression this crate does not know, kept as it came.
            Unknown {
                /// The kernel's name for it.
                name: String,
                /// Its attributes, encoded.
                data: Vec<u8>,
            },
        }

        $(impl From<$kind> for Expr {
            fn from(expression: $kind) -> Self {
                Self::$variant(expression)
            }
        })*

        impl Expr {
            /// The kernel's name of the expression.
            pub fn name(&self) -> &str {
                match self {
                    $(Self::$variant(_) => <$kind as Expression>::NAME,)*
                    Self::Unknown { name, .. } => name,
                }
            }

            fn encode_data(&self, w: &mut Writer) {
                match self {
                    $(Self::$variant(expression) => {
                        w.nest(NFTA_EXPR_DATA, |w| expression.encode(w));
                    })*
                    Self::Unknown { data, .. } if data.is_empty() => {}
                    Self::Unknown { data, .. } => w.bytes(NFTA_EXPR_DATA | NLA_F_NESTED, data),
                }
            }

            /// Decodes by name. What a newer kernel says in ways unknown here stays raw.
            fn from_name(name: &str, data: &[u8]) -> Self {
                let known = $(
                    if name == <$kind as Expression>::NAME
                        && let Ok(expression) = <$kind as Expression>::decode(data)
                    {
                        Some(Self::$variant(expression))
                    } else
                )* {
                    None
                };
                known.unwrap_or_else(|| Self::Unknown {
                    name: name.to_owned(),
                    data: data.to_vec(),
                })
            }
        }
    };
}

expressions! {
    /// Puts an element into a set.
    Dynset(Dynset),
    /// Loads or writes bytes of the packet.
    Payload(Payload),
    /// Loads or sets what the kernel knows about the packet: devices, mark, protocol, user.
    Meta(Meta),
    /// Loads or sets properties of the packet's connection.
    Ct(Ct),
    /// Asks the routing table.
    Fib(Fib),
    /// Goes on if a register compares.
    Cmp(Cmp),
    /// Goes on if a register is within a range, or outside.
    Range(Range),
    /// Masks, inverts or shifts a register.
    Bitwise(Bitwise),
    /// Swaps a register's bytes.
    Byteorder(Byteorder),
    /// Loads a constant, or gives a verdict.
    Immediate(Immediate),
    /// Looks registers up in a set or map.
    Lookup(Lookup),
    /// Translates addresses and ports.
    Nat(Nat),
    /// Translates the source to the output device's address.
    Masq(Masq),
    /// Translates the destination to this host.
    Redir(Redir),
    /// Counts packets and bytes.
    Counter(Counter),
    /// Refers to a named object.
    Objref(Objref),
    /// Refers to the object that a map yields.
    ObjrefMap(ObjrefMap),
    /// Logs the packet to the kernel's log or to NFLOG.
    Log(Log),
    /// Goes on within a rate.
    Limit(Limit),
    /// Keeps connection tracking off the packet.
    Notrack(Notrack),
    /// Drops the packet and tells its sender.
    Reject(Reject),
    /// Asks for the socket the packet is for or from.
    Socket(SocketExpr),
    /// Hands the packet to a local socket.
    Tproxy(Tproxy),
    /// Counts up or draws a number.
    Numgen(Numgen),
}

impl Expr {
    pub(crate) fn encode(&self, w: &mut Writer, kind: u16) {
        w.nest(kind, |w| {
            w.str(NFTA_EXPR_NAME, self.name());
            self.encode_data(w);
        });
    }

    pub(crate) fn decode(nested: &[u8]) -> Result<Self, Malformed> {
        let (mut name, mut data) = (None, [].as_slice());
        for attr in attrs(nested) {
            let attr = attr?;
            match attr.kind {
                NFTA_EXPR_NAME => name = Some(attr.string()),
                NFTA_EXPR_DATA => data = attr.data,
                _ => {}
            }
        }
        let name = name.ok_or(Malformed("an expression without a name"))?;
        Ok(Self::from_name(&name, data))
    }

    /// Writes a list of expressions as nested `NFTA_LIST_ELEM`.
    pub(crate) fn encode_list(exprs: &[Self], w: &mut Writer, kind: u16) {
        w.nest(kind, |w| {
            for expr in exprs {
                expr.encode(w, NFTA_LIST_ELEM);
            }
        });
    }

    pub(crate) fn decode_list(list: &Attr<'_>) -> Result<Vec<Self>, Malformed> {
        list.nested()
            .map(|attr| attr.and_then(|attr| Self::decode(attr.data)))
            .collect()
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::samples;
