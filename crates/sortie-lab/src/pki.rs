//! Certificates for tests, made by `openssl` in a folder: `NAME.pem` and `NAME.key`.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::error::{Doing, LabError, Result};

/// How each key is made.
const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";

/// A certificate that a CA signs.
#[derive(Debug, Clone, Copy)]
pub struct Signed<'a> {
    /// As `openssl req -subj` takes it, without spaces.
    pub subject: &'a str,
    /// Lines of x509v3_config(5).
    pub extensions: &'a str,
    /// How many days it is good for; with none it has ended in a moment.
    pub days: u8,
}

/// Makes a certificate that is signed by itself, as a CA's is. `options` are further ones of
/// `openssl req`, each begun with a space.
///
/// # Errors
/// What openssl says.
pub fn self_signed(folder: &Path, name: &str, options: &str) -> Result<()> {
    let files = format!("-keyout {name}.key -out {name}.pem");
    openssl(
        folder,
        &format!("req -x509 -days 2 {KEY} {files} -subj /CN={name}{options}"),
    )
}

/// Makes a certificate that the CA of this name signs.
///
/// # Errors
/// What openssl says.
pub fn signed(folder: &Path, name: &str, ca: &str, certificate: Signed<'_>) -> Result<()> {
    let Signed {
        subject,
        extensions,
        days,
    } = certificate;
    let file = folder.join(format!("{name}.extensions"));
    fs::write(&file, extensions).doing("write", file.display())?;
    let files = format!("-keyout {name}.key -out {name}.request");
    openssl(folder, &format!("req {KEY} {files} -subj {subject}"))?;
    let files = format!("-extfile {name}.extensions -in {name}.request -out {name}.pem");
    let ca = format!("-CA {ca}.pem -CAkey {ca}.key -CAcreateserial");
    openssl(folder, &format!("x509 -req -days {days} {ca} {files}"))
}

/// Makes a certificate for these alternative names, such as `DNS:dns.example`.
///
/// # Errors
/// What openssl says.
pub fn of_names(folder: &Path, name: &str, ca: &str, names: &str) -> Result<()> {
    let certificate = Signed {
        subject: &format!("/CN={name}"),
        extensions: &format!("basicConstraints=CA:FALSE\nsubjectAltName={names}\n"),
        days: 2,
    };
    signed(folder, name, ca, certificate)
}

fn openssl(folder: &Path, arguments: &str) -> Result<()> {
    let mut command = Command::new("openssl");
    command.current_dir(folder).args(arguments.split(' '));
    let made = command.output().map_err(|source| LabError::Program {
        program: "openssl".to_owned(),
        source,
    })?;
    if made.status.success() {
        return Ok(());
    }
    Err(LabError::Failed {
        command: format!("openssl {arguments}"),
        status: made.status,
        stderr: String::from_utf8_lossy(&made.stderr).trim().to_owned(),
    })
}
