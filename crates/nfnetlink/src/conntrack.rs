//! Connection tracking: list, delete, create entries, and hear of them.

mod entry;
mod event;
mod filter;
mod tuple;

pub use entry::{Conntrack, Status};
pub use event::{Event, Groups, listen};
pub use filter::Filter;
pub use tuple::{Ports, Tuple};

pub(crate) use event::decode;

use crate::socket::{Request, Visit};
use crate::table::none_if_not_found;
use crate::uapi::ct::{
    CTA_ID, CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, CTA_ZONE, IPCTNL_MSG_CT_DELETE, IPCTNL_MSG_CT_GET,
    IPCTNL_MSG_CT_NEW,
};
use crate::uapi::nl::{NFNL_SUBSYS_CTNETLINK, NLM_F_CREATE, NLM_F_EXCL, message_type};
use crate::wire::Writer;
use crate::{Error, Family, Socket};

impl Socket {
    /// Lists the connections that a filter matches.
    pub fn conntracks(&mut self, filter: &Filter) -> Result<Vec<Conntrack>, Error> {
        let mut all = Vec::new();
        self.stream_conntracks(filter, |entry| all.push(entry))?;
        Ok(all)
    }

    /// Lists the connections that a filter matches, one by one.
    ///
    /// The table changes while it is listed: an entry may be missing, or come twice.
    pub fn stream_conntracks(
        &mut self,
        filter: &Filter,
        mut each: impl FnMut(Conntrack),
    ) -> Result<(), Error> {
        let kind = message_type(NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET);
        let request = Request::new(kind, filter.family(), "list conntrack");
        self.dump(&request, |w| filter.encode(w), &mut |visit| {
            if let Visit::Object(reply) = visit {
                let entry = Conntrack::decode(reply.attrs)?;
                // What the kernel cannot filter, or is too old for.
                if filter.matches(&entry) {
                    each(entry);
                }
            }
            Ok(())
        })
    }

    /// The connection of this original tuple, in no zone.
    pub fn conntrack(&mut self, original: &Tuple) -> Result<Option<Conntrack>, Error> {
        let kind = message_type(NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET);
        let family = family_of(original);
        let request = Request::new(kind, family, "get conntrack");
        let fill = |w: &mut Writer| original.encode(w, CTA_TUPLE_ORIG);
        let found = self.get(&request, fill, |reply| Conntrack::decode(reply.attrs));
        // A tuple of answers is found too.
        none_if_not_found(found.map(|found| found.filter(|it| it.original == *original)))
    }

    /// The connection whose answers look like this before translation, in no zone: how somebody that
    /// a connection was redirected to learns where it went.
    pub fn conntrack_answered(&mut self, answers: &Tuple) -> Result<Option<Conntrack>, Error> {
        let kind = message_type(NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET);
        let request = Request::new(kind, family_of(answers), "get conntrack");
        let fill = |w: &mut Writer| answers.encode(w, CTA_TUPLE_REPLY);
        let found = self.get(&request, fill, |reply| Conntrack::decode(reply.attrs));
        // An original tuple is found too.
        none_if_not_found(found.map(|found| found.filter(|it| it.reply == *answers)))
    }

    /// Deletes the connections that a filter matches and returns how many were deleted.
    pub fn delete_conntracks(&mut self, filter: &Filter) -> Result<usize, Error> {
        let mut deleted = 0;
        for entry in self.conntracks(filter)? {
            match self.delete_conntrack(&entry) {
                Ok(()) => deleted += 1,
                // Ended by itself meanwhile.
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(deleted)
    }

    /// Deletes one connection, by its original tuple, zone and, where it is known, its id,
    /// so that a later connection of the same tuple stays (see [`Conntrack::id`]).
    pub fn delete_conntrack(&mut self, entry: &Conntrack) -> Result<(), Error> {
        let kind = message_type(NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_DELETE);
        let request = Request::new(kind, family_of(&entry.original), "delete conntrack");
        let fill = |w: &mut Writer| {
            entry.original.encode(w, CTA_TUPLE_ORIG);
            if entry.zone != 0 {
                w.be16(CTA_ZONE, entry.zone);
            }
            if let Some(id) = entry.id {
                w.be32(CTA_ID, id);
            }
        };
        self.execute(&request, fill, 0)
    }

    /// Creates a connection that must not exist yet. It needs a timeout.
    pub fn create_conntrack(&mut self, entry: &Conntrack) -> Result<(), Error> {
        let kind = message_type(NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_NEW);
        let request = Request::new(kind, family_of(&entry.original), "create conntrack");
        self.execute(&request, |w| entry.encode(w), NLM_F_CREATE | NLM_F_EXCL)
    }
}

fn family_of(original: &Tuple) -> Family {
    if original.src.is_ipv4() {
        Family::Ip
    } else {
        Family::Ip6
    }
}

#[cfg(test)]
mod tests;
