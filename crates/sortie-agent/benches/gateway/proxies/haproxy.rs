//! HAProxy as Debian has it: a map from names to backends, each with its own `source`.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::{Kind, Line, Setup};
use crate::Failure;
use crate::rig::{SERVER, name, source};

/// Each field that our own log has, under HAProxy's names for them.
const LOG: &str = r#"log-format "{\"time\":\"%tr\",\"client\":\"%ci\",\"method\":\"%HM\",\"host\":\"%[capture.req.hdr(0)]\",\"path\":\"%HP\",\"status\":%ST,\"policy\":\"%b\",\"actual_source\":\"%bi\",\"upstream\":\"%si:%sp\",\"bytes_sent\":%U,\"bytes_received\":%B,\"duration_ms\":%Ta}""#;

pub(super) fn command(setup: &Setup, folder: &Path) -> Result<Line, Failure> {
    let config = folder.join("haproxy.cfg");
    let map = folder.join("names.map");
    let names = (0..setup.sources).map(|number| format!("{} s{number}\n", name(number)));
    fs::write(&map, names.collect::<String>())?;
    fs::write(&config, text(setup, &map))?;
    let file = config.display().to_string();
    Ok((
        "haproxy".into(),
        vec!["-db".to_owned(), "-f".to_owned(), file],
    ))
}

fn text(setup: &Setup, map: &Path) -> String {
    let (kind, port) = (setup.kind, setup.port);
    let mut text = String::from(
        "global\n nbthread 1\n maxconn 4000\n log stdout format raw local0\n\
         defaults\n log global\n timeout connect 10s\n timeout client 300s\n timeout server 300s\n \
         timeout http-keep-alive 300s\n default-server pool-purge-delay 60s\n",
    );
    // Writing to a String cannot fail.
    let _ = match kind {
        // It ends no CONNECT itself: it hands the same bytes on, without being asked.
        Kind::Tunnel => writeln!(
            text,
            " mode tcp\nfrontend clients\n bind :{port}\n default_backend s0"
        ),
        _ => writeln!(
            text,
            " mode http\n http-reuse always\nfrontend clients\n bind :{port}{}\n \
             http-request capture req.hdr(host) len 64\n {LOG}\n \
             use_backend %[req.hdr(host),map({})]",
            if kind == Kind::Http2 { " proto h2" } else { "" },
            map.display()
        ),
    };
    let how = match kind {
        Kind::Plain | Kind::Tunnel => String::new(),
        Kind::Http2 => " proto h2".to_owned(),
        Kind::Tls => format!(
            " ssl verify required ca-file {} sni req.hdr(host)",
            setup.ca.display()
        ),
    };
    for number in 0..setup.sources {
        let _ = writeln!(
            text,
            "backend s{number}\n source {}\n server server {SERVER}:{}{how}",
            source(number),
            kind.port()
        );
    }
    text
}
