//! SCTP packets that begin an association, byte by byte: not every kernel has its sockets.

/// Ports and tags of the two packets that begin an association (RFC 9260).
#[derive(Clone, Copy, Debug)]
pub struct Association {
    /// The port of who begins it.
    pub source_port: u16,
    /// The port that it is begun to.
    pub destination_port: u16,
    /// What the beginner wants to see in every packet that it gets; not 0.
    pub tag: u32,
}

const INIT: u8 = 1;
const INIT_ACK: u8 = 2;

impl Association {
    /// The INIT, with its checksum.
    pub fn init(&self) -> Vec<u8> {
        packet([self.source_port, self.destination_port], 0, INIT, self.tag)
    }

    /// An answer to it.
    pub fn init_ack(&self) -> Vec<u8> {
        let ports = [self.destination_port, self.source_port];
        packet(ports, self.tag, INIT_ACK, !self.tag)
    }
}

/// A common header and one chunk: INIT and INIT ACK have the same fields (RFC 9260 3.3.2, 3.3.3).
fn packet(ports: [u16; 2], verification: u32, kind: u8, tag: u32) -> Vec<u8> {
    const WINDOW: u32 = 0xffff;
    const FIRST_SEQUENCE: u32 = 1;
    let [from, to] = ports.map(u16::to_be_bytes);
    let mut packet = [from, to].concat();
    packet.extend(verification.to_be_bytes());
    packet.extend([0; 4]);
    packet.extend([kind, 0, 0, 20]);
    packet.extend([tag, WINDOW].map(u32::to_be_bytes).concat());
    // One stream each way.
    packet.extend([0, 1, 0, 1]);
    packet.extend(FIRST_SEQUENCE.to_be_bytes());
    let checksum = crc32c(&packet).to_le_bytes();
    packet[8..12].copy_from_slice(&checksum);
    packet
}

/// CRC32c, bit by bit; the checksum field counts as 0 in it (RFC 9260, appendix A).
fn crc32c(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let crc = bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (POLYNOMIAL & (crc & 1).wrapping_neg())
        })
    });
    !crc
}

#[cfg(test)]
mod tests;
