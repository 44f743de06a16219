//! NFLOG messages and attributes (`linux/netfilter/nfnetlink_log.h`).

pub(crate) const NFULNL_MSG_PACKET: u16 = 0;
pub(crate) const NFULNL_MSG_CONFIG: u16 = 1;

pub(crate) const NFULA_CFG_CMD: u16 = 1;
pub(crate) const NFULA_CFG_MODE: u16 = 2;
pub(crate) const NFULA_CFG_TIMEOUT: u16 = 4;
pub(crate) const NFULA_CFG_QTHRESH: u16 = 5;
pub(crate) const NFULNL_CFG_CMD_BIND: u8 = 1;
pub(crate) const NFULNL_COPY_PACKET: u8 = 2;

pub(crate) const NFULA_PACKET_HDR: u16 = 1;
pub(crate) const NFULA_MARK: u16 = 2;
pub(crate) const NFULA_TIMESTAMP: u16 = 3;
pub(crate) const NFULA_IFINDEX_INDEV: u16 = 4;
pub(crate) const NFULA_IFINDEX_OUTDEV: u16 = 5;
pub(crate) const NFULA_IFINDEX_PHYSINDEV: u16 = 6;
pub(crate) const NFULA_IFINDEX_PHYSOUTDEV: u16 = 7;
pub(crate) const NFULA_HWADDR: u16 = 8;
pub(crate) const NFULA_PAYLOAD: u16 = 9;
pub(crate) const NFULA_PREFIX: u16 = 10;
pub(crate) const NFULA_HWHEADER: u16 = 16;
pub(crate) const NFULA_L2HDR: u16 = 21;
