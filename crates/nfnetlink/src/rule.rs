//! Rules: expressions in a chain.

use crate::expr::Expr;
use crate::socket::{Reply, Request};
use crate::uapi::nft::{
    NFT_MSG_DELRULE, NFT_MSG_GETRULE, NFT_MSG_NEWRULE, NFTA_RULE_CHAIN, NFTA_RULE_EXPRESSIONS,
    NFTA_RULE_HANDLE, NFTA_RULE_POSITION, NFTA_RULE_TABLE, NFTA_RULE_USERDATA,
};
use crate::uapi::nl::{
    NFNL_SUBSYS_NFTABLES, NLM_F_APPEND, NLM_F_CREATE, NLM_F_REPLACE, message_type,
};
use crate::userdata::{self, RULE_COMMENT};
use crate::wire::{Malformed, Writer, attrs};
use crate::{Batch, Error, Family, Socket};

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The table's family.
    pub family: Family,
    /// The table.
    pub table: String,
    /// The chain.
    pub chain: String,
    /// What it does.
    pub exprs: Vec<Expr>,
    /// Comment, up to 127 bytes.
    pub comment: Option<String>,
    /// The kernel's number for it; set in listings, and the key to delete it by.
    pub handle: Option<u64>,
    /// The handle of the rule before it; set in listings.
    pub position: Option<u64>,
}

impl Rule {
    /// A rule of these expressions.
    pub fn new(
        family: Family,
        table: impl Into<String>,
        chain: impl Into<String>,
        exprs: impl Into<Vec<Expr>>,
    ) -> Self {
        Self {
            family,
            table: table.into(),
            chain: chain.into(),
            exprs: exprs.into(),
            comment: None,
            handle: None,
            position: None,
        }
    }

    /// With a comment.
    #[must_use]
    pub fn comment(mut self, comment: impl Into<String>) -> Self {
        self.comment = Some(comment.into());
        self
    }

    fn encode(&self, w: &mut Writer) {
        w.str(NFTA_RULE_TABLE, &self.table);
        w.str(NFTA_RULE_CHAIN, &self.chain);
        Expr::encode_list(&self.exprs, w, NFTA_RULE_EXPRESSIONS);
        if let Some(comment) = &self.comment {
            let mut userdata = Vec::new();
            userdata::push_comment(&mut userdata, RULE_COMMENT, comment);
            w.bytes(NFTA_RULE_USERDATA, &userdata);
        }
    }

    pub(crate) fn decode(reply: Reply<'_>) -> Result<Self, Malformed> {
        let mut rule = Self::new(reply.family, "", "", []);
        for attr in attrs(reply.attrs) {
            let attr = attr?;
            match attr.kind {
                NFTA_RULE_TABLE => rule.table = attr.string(),
                NFTA_RULE_CHAIN => rule.chain = attr.string(),
                NFTA_RULE_HANDLE => rule.handle = Some(attr.be64()?),
                NFTA_RULE_POSITION => rule.position = Some(attr.be64()?),
                NFTA_RULE_EXPRESSIONS => rule.exprs = Expr::decode_list(&attr)?,
                NFTA_RULE_USERDATA => rule.comment = userdata::comment(attr.data, RULE_COMMENT),
                _ => {}
            }
        }
        Ok(rule)
    }
}

impl Batch {
    /// Appends a rule to its chain.
    pub fn add_rule(&mut self, rule: &Rule) {
        self.new_rule(rule, NLM_F_CREATE | NLM_F_APPEND, "add", |_| {});
    }

    /// Puts a rule at its chain's start.
    pub fn insert_rule(&mut self, rule: &Rule) {
        self.new_rule(rule, NLM_F_CREATE, "insert", |_| {});
    }

    /// Puts a rule behind the one with this handle.
    pub fn add_rule_after(&mut self, rule: &Rule, handle: u64) {
        self.new_rule(rule, NLM_F_CREATE | NLM_F_APPEND, "add", |w| {
            w.be64(NFTA_RULE_POSITION, handle);
        });
    }

    /// Puts a rule before the one with this handle.
    pub fn insert_rule_before(&mut self, rule: &Rule, handle: u64) {
        self.new_rule(rule, NLM_F_CREATE, "insert", |w| {
            w.be64(NFTA_RULE_POSITION, handle);
        });
    }

    /// Replaces the rule with this handle.
    pub fn replace_rule(&mut self, rule: &Rule, handle: u64) {
        self.new_rule(rule, NLM_F_REPLACE, "replace", |w| {
            w.be64(NFTA_RULE_HANDLE, handle);
        });
    }

    fn new_rule(&mut self, rule: &Rule, flags: u16, verb: &str, place: impl FnOnce(&mut Writer)) {
        let operation = format!("{verb} rule {} {} {}", rule.family, rule.table, rule.chain);
        self.push(NFT_MSG_NEWRULE, flags, rule.family, operation, |w| {
            rule.encode(w);
            place(w);
        });
    }

    /// Deletes the rule with this handle.
    pub fn delete_rule(&mut self, family: Family, table: &str, chain: &str, handle: u64) {
        let operation = format!("delete rule {family} {table} {chain} handle {handle}");
        self.push(NFT_MSG_DELRULE, 0, family, operation, |w| {
            w.str(NFTA_RULE_TABLE, table);
            w.str(NFTA_RULE_CHAIN, chain);
            w.be64(NFTA_RULE_HANDLE, handle);
        });
    }
}

impl Socket {
    /// Lists the rules of a table, or of one of its chains, in order.
    pub fn rules(
        &mut self,
        family: Family,
        table: &str,
        chain: Option<&str>,
    ) -> Result<Vec<Rule>, Error> {
        let kind = message_type(NFNL_SUBSYS_NFTABLES, NFT_MSG_GETRULE);
        let operation = format!("list rules {family} {table} {}", chain.unwrap_or_default());
        let fill = |w: &mut Writer| {
            w.str(NFTA_RULE_TABLE, table);
            if let Some(chain) = chain {
                w.str(NFTA_RULE_CHAIN, chain);
            }
        };
        let request = Request::new(kind, family, operation.trim_end());
        self.list(&request, fill, Rule::decode)
    }
}
