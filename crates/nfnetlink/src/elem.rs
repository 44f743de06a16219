//! Elements of sets and maps: add, delete, look up one, list all in chunks.

use crate::data::{Data, Datum};
use crate::expr::{Counter, Expr};
use crate::set::millis;
use crate::socket::{Reply, Request, Visit};
use crate::table::none_if_not_found;
use crate::uapi::bit_flags;
use crate::uapi::nft::{
    NFT_MSG_DELSETELEM, NFT_MSG_DESTROYSETELEM, NFT_MSG_GETSETELEM, NFT_MSG_NEWSETELEM,
    NFTA_LIST_ELEM, NFTA_SET_ELEM_DATA, NFTA_SET_ELEM_EXPIRATION, NFTA_SET_ELEM_EXPR,
    NFTA_SET_ELEM_EXPRESSIONS, NFTA_SET_ELEM_FLAGS, NFTA_SET_ELEM_KEY, NFTA_SET_ELEM_KEY_END,
    NFTA_SET_ELEM_LIST_ELEMENTS, NFTA_SET_ELEM_LIST_SET, NFTA_SET_ELEM_LIST_TABLE,
    NFTA_SET_ELEM_OBJREF, NFTA_SET_ELEM_TIMEOUT, NFTA_SET_ELEM_USERDATA,
};
use crate::uapi::nl::{NFNL_SUBSYS_NFTABLES, NLM_F_CREATE, NLM_F_EXCL, message_type};
use crate::userdata::{self, RULE_COMMENT};
use crate::wire::{Malformed, Writer, attrs};
use crate::{Batch, Error, Family, Socket};
use std::time::Duration;

/// Bytes of elements after which the next message begins. The list's length has 16 bits;
/// what is left of the 64 KiB is more than one element can take.
const CHUNK_BYTES: usize = 40 << 10;

/// Elements after which the next message begins.
const CHUNK_ELEMENTS: usize = 800;

bit_flags! {
    /// Element flags (`enum nft_set_elem_flags`).
    pub Flags: u32 {
        /// The element ends an interval, exclusively; its pair begins it.
        INTERVAL_END = 1;
        /// The element that matches what no other does; it has no key.
        CATCHALL = 2;
    }
}

/// An element of a set or map.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Element {
    /// Key; the first of an interval.
    pub key: Data,
    /// Last key of an interval of a concatenation.
    pub key_end: Option<Data>,
    /// A map's value or verdict.
    pub data: Option<Datum>,
    /// The named object that an object map refers to.
    pub object: Option<String>,
    /// Flags.
    pub flags: Flags,
    /// How long it stays, where the set has timeouts.
    pub timeout: Option<Duration>,
    /// How long it still stays; set in listings.
    pub expiration: Option<Duration>,
    /// Its own expressions, such as a counter.
    pub exprs: Vec<Expr>,
    /// Comment, up to 127 bytes.
    pub comment: Option<String>,
}

impl Element {
    /// A key of a plain set.
    pub fn new(key: impl Into<Data>) -> Self {
        Self {
            key: key.into(),
            ..Self::default()
        }
    }

    /// A key and its value or verdict.
    pub fn map(key: impl Into<Data>, data: impl Into<Datum>) -> Self {
        Self {
            data: Some(data.into()),
            ..Self::new(key)
        }
    }

    /// A key and its named object.
    pub fn object(key: impl Into<Data>, name: impl Into<String>) -> Self {
        Self {
            object: Some(name.into()),
            ..Self::new(key)
        }
    }

    /// The element that matches what no other does.
    pub fn catchall() -> Self {
        Self {
            flags: Flags::CATCHALL,
            ..Self::default()
        }
    }

    /// With a last key: an interval of a concatenation, both ends included.
    #[must_use]
    pub fn key_end(mut self, last: impl Into<Data>) -> Self {
        self.key_end = Some(last.into());
        self
    }

    /// The elements of an interval of a single key: the first, and the one behind `last`.
    ///
    /// An interval up to the highest key has no end element.
    pub fn interval(self, last: impl Into<Data>) -> impl Iterator<Item = Self> {
        let end = last.into().successor().map(|behind| Self {
            flags: Flags::INTERVAL_END,
            ..Self::new(behind)
        });
        std::iter::once(self).chain(end)
    }

    /// With a time to stay.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// With an expression of its own.
    #[must_use]
    pub fn expr(mut self, expr: impl Into<Expr>) -> Self {
        self.exprs.push(expr.into());
        self
    }

    /// With a comment.
    #[must_use]
    pub fn comment(mut self, comment: impl Into<String>) -> Self {
        self.comment = Some(comment.into());
        self
    }

    /// Its counter, where it has one.
    pub fn counter(&self) -> Option<Counter> {
        self.exprs.iter().find_map(|expr| match expr {
            Expr::Counter(counter) => Some(*counter),
            _ => None,
        })
    }

    fn encode_key(&self, w: &mut Writer) {
        if self.flags != Flags::NONE {
            w.be32(NFTA_SET_ELEM_FLAGS, self.flags.0);
        }
        if !self.flags.contains(Flags::CATCHALL) {
            self.key.encode(w, NFTA_SET_ELEM_KEY);
        }
        if let Some(key_end) = &self.key_end {
            key_end.encode(w, NFTA_SET_ELEM_KEY_END);
        }
    }

    fn encode(&self, w: &mut Writer) {
        self.encode_key(w);
        if let Some(data) = &self.data {
            data.encode(w, NFTA_SET_ELEM_DATA);
        }
        if let Some(object) = &self.object {
            w.str(NFTA_SET_ELEM_OBJREF, object);
        }
        if let Some(timeout) = self.timeout {
            w.be64(NFTA_SET_ELEM_TIMEOUT, millis(timeout));
        }
        match self.exprs.as_slice() {
            [] => {}
            [single] => single.encode(w, NFTA_SET_ELEM_EXPR),
            several => Expr::encode_list(several, w, NFTA_SET_ELEM_EXPRESSIONS),
        }
        if let Some(comment) = &self.comment {
            let mut userdata = Vec::new();
            userdata::push_comment(&mut userdata, RULE_COMMENT, comment);
            w.bytes(NFTA_SET_ELEM_USERDATA, &userdata);
        }
    }

    fn decode(nested: &[u8]) -> Result<Self, Malformed> {
        let mut element = Self::default();
        for attr in attrs(nested) {
            let attr = attr?;
            match attr.kind {
                NFTA_SET_ELEM_KEY => element.key = Data::decode(attr.data)?,
                NFTA_SET_ELEM_KEY_END => element.key_end = Some(Data::decode(attr.data)?),
                NFTA_SET_ELEM_DATA => element.data = Some(Datum::decode(attr.data)?),
                NFTA_SET_ELEM_OBJREF => element.object = Some(attr.string()),
                NFTA_SET_ELEM_FLAGS => element.flags = Flags(attr.be32()?),
                NFTA_SET_ELEM_TIMEOUT => {
                    element.timeout = Some(Duration::from_millis(attr.be64()?));
                }
                NFTA_SET_ELEM_EXPIRATION => {
                    element.expiration = Some(Duration::from_millis(attr.be64()?));
                }
                NFTA_SET_ELEM_EXPR => element.exprs = vec![Expr::decode(attr.data)?],
                NFTA_SET_ELEM_EXPRESSIONS => element.exprs = Expr::decode_list(&attr)?,
                NFTA_SET_ELEM_USERDATA => {
                    element.comment = userdata::comment(attr.data, RULE_COMMENT);
                }
                _ => {}
            }
        }
        Ok(element)
    }
}

/// One message of elements, of some set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ElementList {
    pub(crate) table: String,
    pub(crate) set: String,
    pub(crate) elements: Vec<Element>,
}

impl ElementList {
    pub(crate) fn decode(reply: Reply<'_>) -> Result<Self, Malformed> {
        let mut list = Self::default();
        for attr in attrs(reply.attrs) {
            let attr = attr?;
            match attr.kind {
                NFTA_SET_ELEM_LIST_TABLE => list.table = attr.string(),
                NFTA_SET_ELEM_LIST_SET => list.set = attr.string(),
                NFTA_SET_ELEM_LIST_ELEMENTS => {
                    for element in attr.nested() {
                        list.elements.push(Element::decode(element?.data)?);
                    }
                }
                _ => {}
            }
        }
        Ok(list)
    }
}

/// A step of a streamed listing.
#[derive(Debug)]
pub enum Listed {
    /// The next elements, some hundred at a time.
    Elements(Vec<Element>),
    /// The ruleset changed meanwhile and the listing starts again: forget what came before.
    Restart,
}

impl Batch {
    /// Adds elements to a set or map. Elements that exist must be the same.
    ///
    /// Any number: they are spread over as many messages as needed, and count as one
    /// operation.
    pub fn add_elements(
        &mut self,
        family: Family,
        table: &str,
        set: &str,
        elements: impl IntoIterator<Item = Element>,
    ) {
        let message = (NFT_MSG_NEWSETELEM, NLM_F_CREATE, "add");
        self.change_elements(message, (family, table, set), elements, Element::encode);
    }

    /// Adds elements that must not exist yet.
    pub fn create_elements(
        &mut self,
        family: Family,
        table: &str,
        set: &str,
        elements: impl IntoIterator<Item = Element>,
    ) {
        let message = (NFT_MSG_NEWSETELEM, NLM_F_CREATE | NLM_F_EXCL, "create");
        self.change_elements(message, (family, table, set), elements, Element::encode);
    }

    /// Deletes elements by their keys; all must exist.
    pub fn delete_elements(
        &mut self,
        family: Family,
        table: &str,
        set: &str,
        elements: impl IntoIterator<Item = Element>,
    ) {
        let message = (NFT_MSG_DELSETELEM, 0, "delete");
        self.change_elements(message, (family, table, set), elements, Element::encode_key);
    }

    /// Deletes those elements that exist (kernel 6.3, [`Socket::supports_destroy`]).
    pub fn destroy_elements(
        &mut self,
        family: Family,
        table: &str,
        set: &str,
        elements: impl IntoIterator<Item = Element>,
    ) {
        let message = (NFT_MSG_DESTROYSETELEM, 0, "destroy");
        self.change_elements(message, (family, table, set), elements, Element::encode_key);
    }

    /// Deletes all elements of a set or map.
    pub fn flush_set(&mut self, family: Family, table: &str, set: &str) {
        let operation = format!("flush set {family} {table} {set}");
        self.push(NFT_MSG_DELSETELEM, 0, family, operation, |w| {
            w.str(NFTA_SET_ELEM_LIST_TABLE, table);
            w.str(NFTA_SET_ELEM_LIST_SET, set);
        });
    }

    fn change_elements(
        &mut self,
        (kind, flags, verb): (u16, u16, &str),
        (family, table, set): (Family, &str, &str),
        elements: impl IntoIterator<Item = Element>,
        encode: fn(&Element, &mut Writer),
    ) {
        let mut elements = elements.into_iter().peekable();
        // No elements in a deletion would mean all of them.
        if elements.peek().is_none() {
            return;
        }
        self.push_operation(format!("{verb} element {family} {table} {set}"));
        let mut before = 0;
        while elements.peek().is_some() {
            let message = self.begin(kind, flags, family, before);
            let w = self.writer();
            w.str(NFTA_SET_ELEM_LIST_TABLE, table);
            w.str(NFTA_SET_ELEM_LIST_SET, set);
            let list = w.begin_nest(NFTA_SET_ELEM_LIST_ELEMENTS);
            let mut count = 0;
            while count < CHUNK_ELEMENTS
                && w.since(list) < CHUNK_BYTES
                && let Some(element) = elements.next()
            {
                w.nest(NFTA_LIST_ELEM, |w| encode(&element, w));
                count += 1;
            }
            w.end_nest(list);
            w.end_message(message);
            before += count;
        }
    }
}

impl Socket {
    /// Looks one element up, with its data and counter, without listing the others.
    ///
    /// In an interval set, the interval that holds the key. `None` when there is none.
    pub fn element(
        &mut self,
        family: Family,
        table: &str,
        set: &str,
        key: &Data,
    ) -> Result<Option<Element>, Error> {
        let kind = message_type(NFNL_SUBSYS_NFTABLES, NFT_MSG_GETSETELEM);
        let operation = format!("get element {family} {table} {set}");
        let fill = |w: &mut Writer| {
            w.str(NFTA_SET_ELEM_LIST_TABLE, table);
            w.str(NFTA_SET_ELEM_LIST_SET, set);
            w.nest(NFTA_SET_ELEM_LIST_ELEMENTS, |w| {
                w.nest(NFTA_LIST_ELEM, |w| key.encode(w, NFTA_SET_ELEM_KEY));
            });
        };
        let request = Request::new(kind, family, &operation);
        let list = none_if_not_found(self.get(&request, fill, ElementList::decode))?;
        Ok(list.and_then(|list| list.elements.into_iter().next()))
    }

    /// Lists a set's elements. See [`Socket::stream_elements`] for large ones.
    pub fn elements(
        &mut self,
        family: Family,
        table: &str,
        set: &str,
    ) -> Result<Vec<Element>, Error> {
        let mut all = Vec::new();
        self.stream_elements(family, table, set, |listed| match listed {
            Listed::Elements(chunk) => all.extend(chunk),
            Listed::Restart => all.clear(),
        })?;
        Ok(all)
    }

    /// Lists a set's elements in chunks.
    ///
    /// The listing starts again when any ruleset of the namespace changes meanwhile.
    pub fn stream_elements(
        &mut self,
        family: Family,
        table: &str,
        set: &str,
        mut each: impl FnMut(Listed),
    ) -> Result<(), Error> {
        let kind = message_type(NFNL_SUBSYS_NFTABLES, NFT_MSG_GETSETELEM);
        let operation = format!("list elements {family} {table} {set}");
        let fill = |w: &mut Writer| {
            w.str(NFTA_SET_ELEM_LIST_TABLE, table);
            w.str(NFTA_SET_ELEM_LIST_SET, set);
        };
        let request = Request::new(kind, family, &operation);
        self.dump(&request, fill, &mut |visit| {
            each(match visit {
                Visit::Object(reply) => Listed::Elements(ElementList::decode(reply)?.elements),
                Visit::Restart => Listed::Restart,
            });
            Ok(())
        })
    }
}
