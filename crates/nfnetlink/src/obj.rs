//! Named counters (`nf_tables` objects).

use crate::expr::Counter;
use crate::socket::{Reply, Request};
use crate::table::none_if_not_found;
use crate::uapi::nft::{
    NFT_MSG_DELOBJ, NFT_MSG_DESTROYOBJ, NFT_MSG_GETOBJ, NFT_MSG_GETOBJ_RESET, NFT_MSG_NEWOBJ,
    NFTA_OBJ_DATA, NFTA_OBJ_HANDLE, NFTA_OBJ_NAME, NFTA_OBJ_TABLE, NFTA_OBJ_TYPE, NFTA_OBJ_USE,
    NFTA_OBJ_USERDATA,
};
use crate::uapi::nl::{NFNL_SUBSYS_NFTABLES, NLM_F_CREATE, message_type};
use crate::userdata::{self, OBJECT_COMMENT};
use crate::wire::{Malformed, Writer, attrs};
use crate::{Batch, Error, Family, Socket};

/// The object type of counters.
pub(crate) const NFT_OBJECT_COUNTER: u32 = 1;

/// A named counter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedCounter {
    /// The table's family.
    pub family: Family,
    /// The table.
    pub table: String,
    /// Name, unique among the table's counters.
    pub name: String,
    /// What it counted, or starts from.
    pub counter: Counter,
    /// Comment, up to 127 bytes.
    pub comment: Option<String>,
    /// The kernel's number for it; set in listings.
    pub handle: Option<u64>,
    /// How many rules and elements refer to it; set in listings.
    pub use_count: u32,
}

impl NamedCounter {
    /// A counter that starts at zero.
    pub fn new(family: Family, table: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            family,
            table: table.into(),
            name: name.into(),
            counter: Counter::default(),
            comment: None,
            handle: None,
            use_count: 0,
        }
    }

    /// With a comment.
    #[must_use]
    pub fn comment(mut self, comment: impl Into<String>) -> Self {
        self.comment = Some(comment.into());
        self
    }

    fn encode(&self, w: &mut Writer) {
        w.str(NFTA_OBJ_TABLE, &self.table);
        w.str(NFTA_OBJ_NAME, &self.name);
        w.be32(NFTA_OBJ_TYPE, NFT_OBJECT_COUNTER);
        w.nest(NFTA_OBJ_DATA, |w| self.counter.encode_attrs(w));
        if let Some(comment) = &self.comment {
            let mut userdata = Vec::new();
            userdata::push_comment(&mut userdata, OBJECT_COMMENT, comment);
            w.bytes(NFTA_OBJ_USERDATA, &userdata);
        }
    }

    /// Decodes an object; `None` when it is not a counter.
    pub(crate) fn decode(reply: Reply<'_>) -> Result<Option<Self>, Malformed> {
        let mut object_type = NFT_OBJECT_COUNTER;
        let mut object = Self::new(reply.family, "", "");
        let mut data = [].as_slice();
        for attr in attrs(reply.attrs) {
            let attr = attr?;
            match attr.kind {
                NFTA_OBJ_TABLE => object.table = attr.string(),
                NFTA_OBJ_NAME => object.name = attr.string(),
                NFTA_OBJ_TYPE => object_type = attr.be32()?,
                NFTA_OBJ_DATA => data = attr.data,
                NFTA_OBJ_USE => object.use_count = attr.be32()?,
                NFTA_OBJ_HANDLE => object.handle = Some(attr.be64()?),
                NFTA_OBJ_USERDATA => object.comment = userdata::comment(attr.data, OBJECT_COMMENT),
                _ => {}
            }
        }
        if object_type != NFT_OBJECT_COUNTER {
            return Ok(None);
        }
        object.counter = Counter::decode_attrs(data)?;
        Ok(Some(object))
    }
}

fn encode_id(w: &mut Writer, table: &str, name: &str) {
    w.str(NFTA_OBJ_TABLE, table);
    w.str(NFTA_OBJ_NAME, name);
    w.be32(NFTA_OBJ_TYPE, NFT_OBJECT_COUNTER);
}

impl Batch {
    /// Adds a named counter. An existing one stays as it is.
    pub fn add_counter(&mut self, counter: &NamedCounter) {
        let operation = format!(
            "add counter {} {} {}",
            counter.family, counter.table, counter.name
        );
        self.push(
            NFT_MSG_NEWOBJ,
            NLM_F_CREATE,
            counter.family,
            operation,
            |w| {
                counter.encode(w);
            },
        );
    }

    /// Deletes a named counter; nothing may refer to it.
    pub fn delete_counter(&mut self, family: Family, table: &str, name: &str) {
        let operation = format!("delete counter {family} {table} {name}");
        self.push(NFT_MSG_DELOBJ, 0, family, operation, |w| {
            encode_id(w, table, name);
        });
    }

    /// Deletes a named counter if there is one (kernel 6.3, [`Socket::supports_destroy`]).
    pub fn destroy_counter(&mut self, family: Family, table: &str, name: &str) {
        let operation = format!("destroy counter {family} {table} {name}");
        self.push(NFT_MSG_DESTROYOBJ, 0, family, operation, |w| {
            encode_id(w, table, name);
        });
    }
}

impl Socket {
    /// Lists the named counters of a table.
    pub fn counters(&mut self, family: Family, table: &str) -> Result<Vec<NamedCounter>, Error> {
        self.list_counters(NFT_MSG_GETOBJ, "list", family, table)
    }

    /// Lists the named counters of a table and sets them to zero.
    pub fn reset_counters(
        &mut self,
        family: Family,
        table: &str,
    ) -> Result<Vec<NamedCounter>, Error> {
        self.list_counters(NFT_MSG_GETOBJ_RESET, "reset", family, table)
    }

    fn list_counters(
        &mut self,
        kind: u16,
        verb: &str,
        family: Family,
        table: &str,
    ) -> Result<Vec<NamedCounter>, Error> {
        let kind = message_type(NFNL_SUBSYS_NFTABLES, kind);
        let operation = format!("{verb} counters {family} {table}");
        let fill = |w: &mut Writer| {
            w.str(NFTA_OBJ_TABLE, table);
            w.be32(NFTA_OBJ_TYPE, NFT_OBJECT_COUNTER);
        };
        let request = Request::new(kind, family, &operation);
        let found = self.list(&request, fill, NamedCounter::decode)?;
        Ok(found.into_iter().flatten().collect())
    }

    /// Reads one named counter; `None` when there is none.
    pub fn counter(
        &mut self,
        family: Family,
        table: &str,
        name: &str,
    ) -> Result<Option<NamedCounter>, Error> {
        let kind = message_type(NFNL_SUBSYS_NFTABLES, NFT_MSG_GETOBJ);
        let operation = format!("get counter {family} {table} {name}");
        let request = Request::new(kind, family, &operation);
        let fill = |w: &mut Writer| encode_id(w, table, name);
        let found = none_if_not_found(self.get(&request, fill, NamedCounter::decode))?;
        Ok(found.flatten())
    }

    /// Reads one named counter and sets it to zero; `None` when there is none.
    pub fn reset_counter(
        &mut self,
        family: Family,
        table: &str,
        name: &str,
    ) -> Result<Option<NamedCounter>, Error> {
        let kind = message_type(NFNL_SUBSYS_NFTABLES, NFT_MSG_GETOBJ_RESET);
        let operation = format!("reset counter {family} {table} {name}");
        let request = Request::new(kind, family, &operation);
        let fill = |w: &mut Writer| encode_id(w, table, name);
        let found = none_if_not_found(self.get(&request, fill, NamedCounter::decode))?;
        Ok(found.flatten())
    }
}
