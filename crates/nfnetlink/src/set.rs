//! Sets, maps and verdict maps, without their elements.

use crate::datatype::Type;
use crate::expr::Expr;
use crate::socket::{Reply, Request};
use crate::table::none_if_not_found;
use crate::uapi::nft::{
    NFT_DATA_VERDICT, NFT_MSG_DELSET, NFT_MSG_DESTROYSET, NFT_MSG_GETSET, NFT_MSG_NEWSET,
    NFTA_LIST_ELEM, NFTA_SET_DATA_LEN, NFTA_SET_DATA_TYPE, NFTA_SET_DESC, NFTA_SET_DESC_CONCAT,
    NFTA_SET_DESC_SIZE, NFTA_SET_EXPR, NFTA_SET_EXPRESSIONS, NFTA_SET_FIELD_LEN, NFTA_SET_FLAGS,
    NFTA_SET_GC_INTERVAL, NFTA_SET_HANDLE, NFTA_SET_ID, NFTA_SET_KEY_LEN, NFTA_SET_KEY_TYPE,
    NFTA_SET_NAME, NFTA_SET_OBJ_TYPE, NFTA_SET_POLICY, NFTA_SET_TABLE, NFTA_SET_TIMEOUT,
    NFTA_SET_USERDATA,
};
use crate::uapi::nl::{NFNL_SUBSYS_NFTABLES, NLM_F_CREATE, NLM_F_EXCL, message_type};
use crate::uapi::{bit_flags, open_enum};
use crate::userdata::{self, SET_COMMENT, SET_DATA_BYTEORDER, SET_KEY_BYTEORDER};
use crate::wire::{Malformed, Writer, attrs};
use crate::{Batch, Error, Family, Socket};
use std::time::Duration;

bit_flags! {
    /// Set flags (`enum nft_set_flags`). The kinds of set ([`Set::map`] and so on) and of
    /// key set most of them.
    pub Flags: u32 {
        /// Without a name of its own, bound to one rule.
        ANONYMOUS = 0x1;
        /// Its elements do not change once a rule uses it.
        CONSTANT = 0x2;
        /// Keys are intervals.
        INTERVAL = 0x4;
        /// Elements carry data.
        MAP = 0x8;
        /// Elements may expire.
        TIMEOUT = 0x10;
        /// Rules may add elements.
        EVAL = 0x20;
        /// Elements carry a reference to a named object.
        OBJECT = 0x40;
        /// Intervals of concatenations.
        CONCAT = 0x80;
        /// Elements carry expressions.
        EXPR = 0x100;
    }
}

open_enum! {
    /// What to save (`enum nft_set_policies`).
    pub Policy: u32 {
        PERFORMANCE = 0, "performance";
        MEMORY = 1, "memory";
    }
}

/// What the elements of a set carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SetData {
    /// Nothing: a plain set.
    None,
    /// A value: a map.
    Value(Type),
    /// A verdict: a verdict map.
    Verdict,
    /// A reference to a named object of this type (`NFT_OBJECT_*`).
    Object(u32),
}

/// A set, map or verdict map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// The table's family.
    pub family: Family,
    /// The table.
    pub table: String,
    /// Name, unique in the table.
    pub name: String,
    /// Type of the keys.
    pub key: Type,
    /// What elements carry.
    pub data: SetData,
    /// Flags.
    pub flags: Flags,
    /// The most elements it may hold.
    pub size: Option<u32>,
    /// How long elements stay, unless they say otherwise.
    pub timeout: Option<Duration>,
    /// How often expired elements are thrown out.
    pub gc_interval: Option<Duration>,
    /// What to save.
    pub policy: Option<Policy>,
    /// Expressions that each new element gets a copy of, such as a counter.
    pub exprs: Vec<Expr>,
    /// Comment, up to 127 bytes.
    pub comment: Option<String>,
    /// The kernel's number for it; set in listings.
    pub handle: Option<u64>,
}

impl Set {
    /// A plain set.
    pub fn new(
        family: Family,
        table: impl Into<String>,
        name: impl Into<String>,
        key: impl Into<Type>,
    ) -> Self {
        Self {
            family,
            table: table.into(),
            name: name.into(),
            key: key.into(),
            data: SetData::None,
            flags: Flags::NONE,
            size: None,
            timeout: None,
            gc_interval: None,
            policy: None,
            exprs: Vec::new(),
            comment: None,
            handle: None,
        }
    }

    /// A map from keys to values.
    pub fn map(
        family: Family,
        table: impl Into<String>,
        name: impl Into<String>,
        key: impl Into<Type>,
        data: impl Into<Type>,
    ) -> Self {
        Self {
            data: SetData::Value(data.into()),
            flags: Flags::MAP,
            ..Self::new(family, table, name, key)
        }
    }

    /// A map from keys to verdicts.
    pub fn verdict_map(
        family: Family,
        table: impl Into<String>,
        name: impl Into<String>,
        key: impl Into<Type>,
    ) -> Self {
        Self {
            data: SetData::Verdict,
            flags: Flags::MAP,
            ..Self::new(family, table, name, key)
        }
    }

    /// A map from keys to named counters.
    pub fn counter_map(
        family: Family,
        table: impl Into<String>,
        name: impl Into<String>,
        key: impl Into<Type>,
    ) -> Self {
        Self {
            data: SetData::Object(crate::obj::NFT_OBJECT_COUNTER),
            flags: Flags::OBJECT,
            ..Self::new(family, table, name, key)
        }
    }

    /// With interval keys. A concatenation's elements then have a
    /// [`key_end`](crate::elem::Element::key_end), a single key's come in pairs
    /// ([`Element::interval`](crate::elem::Element::interval)).
    #[must_use]
    pub fn interval(mut self) -> Self {
        self.flags |= Flags::INTERVAL;
        if self.key.is_concat() {
            self.flags |= Flags::CONCAT;
        }
        self
    }

    /// With further flags.
    #[must_use]
    pub fn flags(mut self, flags: Flags) -> Self {
        self.flags |= flags;
        self
    }

    /// With room for so many elements.
    #[must_use]
    pub fn size(mut self, elements: u32) -> Self {
        self.size = Some(elements);
        self
    }

    /// With elements that expire after this time, unless they say otherwise.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self.flags |= Flags::TIMEOUT;
        self
    }

    /// With a counter in each element.
    #[must_use]
    pub fn counter(mut self) -> Self {
        self.exprs.push(crate::expr::Counter::default().into());
        self
    }

    /// With a comment.
    #[must_use]
    pub fn comment(mut self, comment: impl Into<String>) -> Self {
        self.comment = Some(comment.into());
        self
    }

    fn encode(&self, w: &mut Writer, id: u32) {
        w.str(NFTA_SET_TABLE, &self.table);
        w.str(NFTA_SET_NAME, &self.name);
        w.be32(NFTA_SET_FLAGS, self.flags.0);
        w.be32(NFTA_SET_KEY_TYPE, self.key.id);
        w.be32(NFTA_SET_KEY_LEN, self.key.len);
        w.be32(NFTA_SET_ID, id);
        match self.data {
            SetData::None => {}
            SetData::Value(data) => {
                w.be32(NFTA_SET_DATA_TYPE, data.id);
                w.be32(NFTA_SET_DATA_LEN, data.len);
            }
            SetData::Verdict => {
                w.be32(NFTA_SET_DATA_TYPE, NFT_DATA_VERDICT);
            }
            SetData::Object(kind) => w.be32(NFTA_SET_OBJ_TYPE, kind),
        }
        if let Some(policy) = self.policy {
            w.be32(NFTA_SET_POLICY, policy.0);
        }
        self.encode_description(w);
        if let Some(timeout) = self.timeout {
            w.be64(NFTA_SET_TIMEOUT, millis(timeout));
        }
        if let Some(interval) = self.gc_interval {
            let millis = u32::try_from(interval.as_millis()).unwrap_or(u32::MAX);
            w.be32(NFTA_SET_GC_INTERVAL, millis);
        }
        w.bytes(NFTA_SET_USERDATA, &self.userdata());
        match self.exprs.as_slice() {
            [] => {}
            [single] => single.encode(w, NFTA_SET_EXPR),
            several => Expr::encode_list(several, w, NFTA_SET_EXPRESSIONS),
        }
    }

    /// How many elements, and for intervals of concatenations where the parts end.
    fn encode_description(&self, w: &mut Writer) {
        let fields = if self.flags.contains(Flags::CONCAT) {
            self.key.parts()
        } else {
            None
        };
        if fields.is_none() && self.size.is_none() {
            return;
        }
        w.nest(NFTA_SET_DESC, |w| {
            if let Some(size) = self.size {
                w.be32(NFTA_SET_DESC_SIZE, size);
            }
            if let Some(fields) = fields {
                w.nest(NFTA_SET_DESC_CONCAT, |w| {
                    for len in fields {
                        w.nest(NFTA_LIST_ELEM, |w| w.be32(NFTA_SET_FIELD_LEN, len));
                    }
                });
            }
        });
    }

    /// Byte orders, which nft needs to print integers, and the comment.
    fn userdata(&self) -> Vec<u8> {
        let mut userdata = Vec::new();
        let key = self.key.byteorder().to_ne_bytes();
        userdata::push(&mut userdata, SET_KEY_BYTEORDER, &key);
        if let SetData::Value(data) = self.data {
            let data = data.byteorder().to_ne_bytes();
            userdata::push(&mut userdata, SET_DATA_BYTEORDER, &data);
        }
        if let Some(comment) = &self.comment {
            userdata::push_comment(&mut userdata, SET_COMMENT, comment);
        }
        userdata
    }

    pub(crate) fn decode(reply: Reply<'_>) -> Result<Self, Malformed> {
        let mut set = Self::new(reply.family, "", "", Type::from_raw(0, 0));
        let (mut key_id, mut key_len, mut data_id, mut data_len) = (0, 0, None, 0);
        for attr in attrs(reply.attrs) {
            let attr = attr?;
            match attr.kind {
                NFTA_SET_TABLE => set.table = attr.string(),
                NFTA_SET_NAME => set.name = attr.string(),
                NFTA_SET_HANDLE => set.handle = Some(attr.be64()?),
                NFTA_SET_FLAGS => set.flags = Flags(attr.be32()?),
                NFTA_SET_KEY_TYPE => key_id = attr.be32()?,
                NFTA_SET_KEY_LEN => key_len = attr.be32()?,
                NFTA_SET_DATA_TYPE => data_id = Some(attr.be32()?),
                NFTA_SET_DATA_LEN => data_len = attr.be32()?,
                NFTA_SET_OBJ_TYPE => set.data = SetData::Object(attr.be32()?),
                NFTA_SET_POLICY => set.policy = Some(Policy(attr.be32()?)),
                NFTA_SET_DESC => set.size = decode_size(attr.data)?.or(set.size),
                NFTA_SET_TIMEOUT => set.timeout = Some(Duration::from_millis(attr.be64()?)),
                NFTA_SET_GC_INTERVAL => {
                    set.gc_interval = Some(Duration::from_millis(attr.be32()?.into()));
                }
                NFTA_SET_USERDATA => set.comment = userdata::comment(attr.data, SET_COMMENT),
                NFTA_SET_EXPR => set.exprs = vec![Expr::decode(attr.data)?],
                NFTA_SET_EXPRESSIONS => set.exprs = Expr::decode_list(&attr)?,
                _ => {}
            }
        }
        set.key = Type::from_raw(key_id, key_len);
        match data_id {
            Some(NFT_DATA_VERDICT) => set.data = SetData::Verdict,
            Some(id) => set.data = SetData::Value(Type::from_raw(id, data_len)),
            None => {}
        }
        Ok(set)
    }
}

fn decode_size(nested: &[u8]) -> Result<Option<u32>, Malformed> {
    let mut size = None;
    for attr in attrs(nested) {
        let attr = attr?;
        if attr.kind == NFTA_SET_DESC_SIZE {
            size = Some(attr.be32()?);
        }
    }
    Ok(size)
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Batch {
    /// Adds a set. An existing one must be the same.
    pub fn add_set(&mut self, set: &Set) {
        self.new_set(set, NLM_F_CREATE, "add");
    }

    /// Adds a set that must not exist yet.
    pub fn create_set(&mut self, set: &Set) {
        self.new_set(set, NLM_F_CREATE | NLM_F_EXCL, "create");
    }

    fn new_set(&mut self, set: &Set, flags: u16, verb: &str) {
        let noun = match set.data {
            SetData::None => "set",
            _ => "map",
        };
        let operation = format!("{verb} {noun} {} {} {}", set.family, set.table, set.name);
        let id = self.next_set_id();
        self.push(NFT_MSG_NEWSET, flags, set.family, operation, |w| {
            set.encode(w, id);
        });
    }

    /// Deletes a set or map; no rule may use it.
    pub fn delete_set(&mut self, family: Family, table: &str, name: &str) {
        self.remove_set(NFT_MSG_DELSET, "delete", family, table, name);
    }

    /// Deletes a set or map if there is one (kernel 6.3, [`Socket::supports_destroy`]).
    pub fn destroy_set(&mut self, family: Family, table: &str, name: &str) {
        self.remove_set(NFT_MSG_DESTROYSET, "destroy", family, table, name);
    }

    fn remove_set(&mut self, kind: u16, verb: &str, family: Family, table: &str, name: &str) {
        let operation = format!("{verb} set {family} {table} {name}");
        self.push(kind, 0, family, operation, |w| {
            w.str(NFTA_SET_TABLE, table);
            w.str(NFTA_SET_NAME, name);
        });
    }
}

impl Socket {
    /// Lists the sets and maps of a table, without their elements.
    pub fn sets(&mut self, family: Family, table: &str) -> Result<Vec<Set>, Error> {
        let kind = message_type(NFNL_SUBSYS_NFTABLES, NFT_MSG_GETSET);
        let operation = format!("list sets {family} {table}");
        let request = Request::new(kind, family, &operation);
        self.list(&request, |w| w.str(NFTA_SET_TABLE, table), Set::decode)
    }

    /// Reads one set or map, without its elements; `None` when there is none.
    pub fn set(&mut self, family: Family, table: &str, name: &str) -> Result<Option<Set>, Error> {
        let kind = message_type(NFNL_SUBSYS_NFTABLES, NFT_MSG_GETSET);
        let operation = format!("get set {family} {table} {name}");
        let fill = |w: &mut Writer| {
            w.str(NFTA_SET_TABLE, table);
            w.str(NFTA_SET_NAME, name);
        };
        let request = Request::new(kind, family, &operation);
        none_if_not_found(self.get(&request, fill, Set::decode))
    }
}
