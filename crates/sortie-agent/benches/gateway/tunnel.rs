//! Bytes through CONNECT, from the server to the client.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};

use crate::Failure;
use crate::rig::{name, on_load_cpu, source};

/// What is sent at once, so many times as the client's first line says.
static PART: [u8; 1 << 20] = [b'x'; 1 << 20];

/// Serves whoever comes from the first source, on a thread of its own.
pub(crate) fn serve(listener: TcpListener) {
    std::thread::spawn(move || -> Result<(), Failure> {
        on_load_cpu()?;
        loop {
            let (stream, peer) = listener.accept()?;
            if let Err(failure) = send(&stream, peer) {
                eprintln!("the server of tunnels: {failure}");
            }
        }
    });
}

fn send(mut stream: &TcpStream, peer: SocketAddr) -> Result<(), Failure> {
    let mut said = String::new();
    // HAProxy comes here also for who only looks whether it listens.
    if BufReader::new(stream).read_line(&mut said)? == 0 {
        return Ok(());
    }
    if peer.ip() != source(0) {
        return Err(format!("a wrong source: {peer}").into());
    }
    for _ in 0..said.trim().parse::<u32>()? {
        stream.write_all(&PART)?;
    }
    Ok(())
}

/// Takes so many MiB through one tunnel, which is asked for with CONNECT to a port, or is there already.
///
/// # Errors
/// When less comes, as it does for who has a wrong source.
pub(crate) fn take(to: SocketAddr, connect_to: Option<u16>, mebibytes: u32) -> Result<(), Failure> {
    let stream = TcpStream::connect(to)?;
    let mut reader = BufReader::with_capacity(256 * 1024, &stream);
    if let Some(port) = connect_to {
        let host = format!("{}:{port}", name(0));
        write!(&stream, "CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n")?;
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if !line.starts_with("HTTP/1.1 200 ") {
            return Err(format!("CONNECT was answered: {line}").into());
        }
        while line != "\r\n" {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Err("the answer to CONNECT has no end".into());
            }
        }
    }
    writeln!(&stream, "{mebibytes}")?;
    let bytes = u64::from(mebibytes) << 20;
    let mut taken = 0;
    while taken < bytes {
        let length = reader.fill_buf()?.len();
        if length == 0 {
            return Err(format!("only {taken} of {bytes} bytes came").into());
        }
        reader.consume(length);
        taken += length as u64;
    }
    Ok(())
}
