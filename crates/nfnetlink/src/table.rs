//! Tables: create, own, delete, list.

use crate::socket::{Reply, Request};
use crate::uapi::bit_flags;
use crate::uapi::nft::{
    NFT_MSG_DELTABLE, NFT_MSG_GETTABLE, NFT_MSG_NEWTABLE, NFTA_TABLE_FLAGS, NFTA_TABLE_HANDLE,
    NFTA_TABLE_NAME, NFTA_TABLE_OWNER, NFTA_TABLE_USE, NFTA_TABLE_USERDATA,
};
use crate::uapi::nl::{NFNL_SUBSYS_NFTABLES, NLM_F_CREATE, NLM_F_EXCL, message_type};
use crate::userdata::{self, OBJECT_COMMENT};
use crate::wire::{Malformed, Writer, attrs};
use crate::{Batch, Error, Family, Socket};

bit_flags! {
    /// Table flags (`enum nft_table_flags`).
    pub Flags: u32 {
        /// The table's chains are not hooked in.
        DORMANT = 0x1;
        /// Only the socket that made the table may edit it; other sockets' `flush ruleset`
        /// leaves it (kernel 5.12).
        OWNER = 0x2;
        /// An owned table outlives its socket, as an orphan, listed with this flag
        /// alone, that anybody may flush and that a socket takes over by adding it again
        /// with both flags (kernel 6.9).
        PERSIST = 0x4;
    }
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Address family.
    pub family: Family,
    /// Name, unique in its family.
    pub name: String,
    /// Flags.
    pub flags: Flags,
    /// Comment, up to 127 bytes.
    pub comment: Option<String>,
    /// The kernel's number for it; set in listings.
    pub handle: Option<u64>,
    /// How many chains, sets, objects and flow tables it holds; set in listings.
    pub use_count: u32,
    /// Port id of the owning socket; set in listings, and absent for orphans.
    pub owner: Option<u32>,
}

impl Table {
    /// A table without flags.
    pub fn new(family: Family, name: impl Into<String>) -> Self {
        Self {
            family,
            name: name.into(),
            flags: Flags::NONE,
            comment: None,
            handle: None,
            use_count: 0,
            owner: None,
        }
    }

    /// With flags.
    #[must_use]
    pub fn flags(mut self, flags: Flags) -> Self {
        self.flags = flags;
        self
    }

    /// With a comment.
    #[must_use]
    pub fn comment(mut self, comment: impl Into<String>) -> Self {
        self.comment = Some(comment.into());
        self
    }

    fn encode(&self, w: &mut Writer) {
        w.str(NFTA_TABLE_NAME, &self.name);
        w.be32(NFTA_TABLE_FLAGS, self.flags.0);
        if let Some(comment) = &self.comment {
            let mut userdata = Vec::new();
            userdata::push_comment(&mut userdata, OBJECT_COMMENT, comment);
            w.bytes(NFTA_TABLE_USERDATA, &userdata);
        }
    }

    pub(crate) fn decode(reply: Reply<'_>) -> Result<Self, Malformed> {
        let mut table = Self::new(reply.family, "");
        for attr in attrs(reply.attrs) {
            let attr = attr?;
            match attr.kind {
                NFTA_TABLE_NAME => table.name = attr.string(),
                NFTA_TABLE_FLAGS => table.flags = Flags(attr.be32()?),
                NFTA_TABLE_USE => table.use_count = attr.be32()?,
                NFTA_TABLE_HANDLE => table.handle = Some(attr.be64()?),
                NFTA_TABLE_USERDATA => {
                    table.comment = userdata::comment(attr.data, OBJECT_COMMENT);
                }
                NFTA_TABLE_OWNER => table.owner = Some(attr.be32()?),
                _ => {}
            }
        }
        Ok(table)
    }
}

impl Batch {
    /// Adds a table, or updates the flags of an existing one.
    ///
    /// An orphan with [`Flags::OWNER`] and [`Flags::PERSIST`] becomes the socket's own. A
    /// plain table cannot become an owned one: delete it first, in the same batch.
    pub fn add_table(&mut self, table: &Table) {
        self.new_table(table, NLM_F_CREATE, "add");
    }

    /// Adds a table that must not exist yet.
    pub fn create_table(&mut self, table: &Table) {
        self.new_table(table, NLM_F_CREATE | NLM_F_EXCL, "create");
    }

    fn new_table(&mut self, table: &Table, flags: u16, verb: &str) {
        let operation = format!("{verb} table {} {}", table.family, table.name);
        self.push(NFT_MSG_NEWTABLE, flags, table.family, operation, |w| {
            table.encode(w);
        });
    }

    /// Deletes a table and all it holds.
    pub fn delete_table(&mut self, family: Family, name: &str) {
        let operation = format!("delete table {family} {name}");
        self.push(NFT_MSG_DELTABLE, 0, family, operation, |w| {
            w.str(NFTA_TABLE_NAME, name);
        });
    }

    /// Deletes a table if there is one.
    ///
    /// Two messages that every kernel knows (`NFT_MSG_DESTROYTABLE` needs 6.3): one that
    /// makes sure the table exists, one that deletes it.
    pub fn destroy_table(&mut self, family: Family, name: &str) {
        let operation = format!("destroy table {family} {name}");
        // Without flags in the message, an existing table keeps its own.
        self.push(
            NFT_MSG_NEWTABLE,
            NLM_F_CREATE,
            family,
            operation.clone(),
            |w| {
                w.str(NFTA_TABLE_NAME, name);
            },
        );
        self.push(NFT_MSG_DELTABLE, 0, family, operation, |w| {
            w.str(NFTA_TABLE_NAME, name);
        });
    }
}

impl Socket {
    /// Lists the tables of a family; [`Family::Unspec`] for all.
    pub fn tables(&mut self, family: Family) -> Result<Vec<Table>, Error> {
        let kind = message_type(NFNL_SUBSYS_NFTABLES, NFT_MSG_GETTABLE);
        let operation = format!("list tables {family}");
        self.list(
            &Request::new(kind, family, &operation),
            |_| {},
            Table::decode,
        )
    }

    /// Reads one table; `None` when there is none.
    pub fn table(&mut self, family: Family, name: &str) -> Result<Option<Table>, Error> {
        let kind = message_type(NFNL_SUBSYS_NFTABLES, NFT_MSG_GETTABLE);
        let operation = format!("get table {family} {name}");
        let request = Request::new(kind, family, &operation);
        let found = self.get(&request, |w| w.str(NFTA_TABLE_NAME, name), Table::decode);
        none_if_not_found(found)
    }
}

/// Turns the kernel's `ENOENT` into `None`.
pub(crate) fn none_if_not_found<T>(found: Result<Option<T>, Error>) -> Result<Option<T>, Error> {
    match found {
        Err(error) if error.is_not_found() => Ok(None),
        other => other,
    }
}
