//! A gateway that is started while another one runs takes its place: it is given copies of the sockets
//! that listen, and once it serves them the other one ends, as at SIGTERM.
//!
//! They meet at a socket beside the agent's, which only root may connect to. The former one sends
//! bundles, as many at once as a message holds, and then an end; the next one answers a byte when it
//! serves. If it ends before, nothing has changed.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::MsgFlags;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;

use super::kept::{Kept, bundle};

/// How long a former one may take to say what it has.
const FORMER_ANSWERS: Duration = Duration::from_secs(5);

/// The place of the one gateway.
pub(super) struct Place {
    path: PathBuf,
    kept: Kept,
    /// Who has it still.
    former: Option<std::os::unix::net::UnixStream>,
    is_taken: bool,
    replaced: Arc<Notify>,
}

impl Place {
    /// Gets what a former one has, if one runs. `replaced` is told when a next one has taken the place.
    pub(super) fn new(agent: &Path, kept: Kept, replaced: Arc<Notify>) -> Self {
        let path = agent.with_extension("gateway.sock");
        let former = ask(&path, &kept).unwrap_or_else(|error| {
            tracing::warn!(%error, path = %path.display(), "what the gateway that runs listens on is not known");
            None
        });
        Self {
            path,
            kept,
            former,
            is_taken: false,
            replaced,
        }
    }

    /// All that is needed is served here now: a former one may end. To be called inside of a runtime.
    pub(super) fn take(&mut self) {
        if self.is_taken {
            return;
        }
        self.is_taken = true;
        if let Some(mut former) = self.former.take() {
            // It may have ended by itself.
            let _ = io::Write::write_all(&mut former, b"1");
            tracing::info!("the gateway that ran before ends what it has begun");
        }
        match crate::server::bind(&self.path) {
            Ok(listener) => {
                let (kept, replaced) = (self.kept.clone(), Arc::clone(&self.replaced));
                tokio::spawn(succeed(listener, kept, replaced));
            }
            Err(error) => {
                tracing::warn!(%error, "a next gateway cannot take this one's place while it runs");
            }
        }
    }
}

/// The former one's sockets; none when nobody has the place.
fn ask(path: &Path, kept: &Kept) -> io::Result<Option<std::os::unix::net::UnixStream>> {
    let Ok(former) = std::os::unix::net::UnixStream::connect(path) else {
        return Ok(None);
    };
    former.set_read_timeout(Some(FORMER_ANSWERS))?;
    loop {
        let bundles = bundle::receive(&former, MsgFlags::empty())?;
        if bundles.is_empty() {
            return Ok(Some(former));
        }
        bundles.iter().try_for_each(|it| kept.add(it))?;
    }
}

/// Gives what there is to whoever asks, until one serves it.
async fn succeed(listener: UnixListener, kept: Kept, replaced: Arc<Notify>) {
    loop {
        let given = match listener.accept().await {
            Ok((next, _)) => give(next, &kept.bundles()).await,
            Err(error) => Err(error),
        };
        match given {
            Ok(true) => {
                replaced.notify_one();
                return;
            }
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(%error, "another gateway was to take this one's place");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Whether it serves them now.
async fn give(mut next: UnixStream, bundles: &[Arc<OwnedFd>]) -> io::Result<bool> {
    for bundles in bundles.chunks(bundle::MOST) {
        let send = || bundle::send(&next, bundles);
        next.async_io(Interest::WRITABLE, send).await?;
    }
    next.shutdown().await?;
    let serves = next.read(&mut [0]).await;
    Ok(matches!(serves, Ok(1)))
}
