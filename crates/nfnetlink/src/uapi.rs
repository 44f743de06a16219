//! Numbers of the kernel's interface, named as in its headers.

pub(crate) mod ct;
pub(crate) mod log;
pub(crate) mod nft;
pub(crate) mod nl;

/// A number with names: every value the kernel may send can be kept, known ones have a name.
macro_rules! open_enum {
    ($(#[$doc:meta])* $vis:vis $name:ident: $repr:ty { $($konst:ident = $value:expr, $text:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        $vis struct $name(pub $repr);

        impl $name {
            $(
                #[doc = concat!("`", $text, "`")]
                $vis const $konst: Self = Self($value);
            )*

            /// The name nft or the kernel uses, where it is known.
            $vis fn name(self) -> Option<&'static str> {
                match self.0 {
                    $(x if x == $value => Some($text),)*
                    _ => None,
                }
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self.name() {
                    Some(name) => write!(f, "{}({name})", stringify!($name)),
                    None => write!(f, "{}({})", stringify!($name), self.0),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self.name() {
                    Some(name) => f.write_str(name),
                    None => write!(f, "{}", self.0),
                }
            }
        }
    };
}
pub(crate) use open_enum;

/// A set of bits of the kernel's, combined with `|`; unknown bits are kept.
macro_rules! bit_flags {
    ($(#[$doc:meta])* $vis:vis $name:ident: $repr:ty { $($(#[$kdoc:meta])* $konst:ident = $value:expr;)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
        $vis struct $name(pub $repr);

        impl $name {
            /// No flag.
            $vis const NONE: Self = Self(0);
            $(
                $(#[$kdoc])*
                $vis const $konst: Self = Self($value);
            )*

            /// Whether every bit of `other` is set.
            $vis const fn contains(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }
        }

        impl std::ops::BitOr for $name {
            type Output = Self;
            fn bitor(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }
        }

        impl std::ops::BitOrAssign for $name {
            fn bitor_assign(&mut self, other: Self) {
                self.0 |= other.0;
            }
        }
    };
}
pub(crate) use bit_flags;
