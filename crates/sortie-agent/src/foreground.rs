//! `sortie run` on a host without an agent: the agent's core in the command's own parent, for one
//! workload, with tables that end with the process.
//!
//! There is no engine, no policy and no admin API. What a killed process leaves (an interface that
//! is closed, routes, settings) is taken away by the next `sortie run`, agent or `sortie down`.

use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};

use sortie_api::config::AgentConfig;
use sortie_kernel::Kernel;
use sortie_kernel::failpoint::Failpoints;
use sortie_kernel::kernel::{self, Lifetime};
use sortie_kernel::netns::Namespace;

use crate::agent::{missing, notes, watch_host};
use crate::api::{AttachRequest, Attachment};
use crate::core::{Attachments, Core, Handle};
use crate::policies::PolicyFolder;
use crate::{Error, lock};

/// The core of this process.
pub struct Foreground {
    handle: Handle,
    thread: JoinHandle<Result<(), Error>>,
}

impl Foreground {
    /// Takes the lock of a network namespace, takes away what a killed process left in it, and
    /// makes the tables. `socket` is where an agent would listen: beside it are its notes.
    ///
    /// # Errors
    /// When somebody else has the namespace, tables of a stopped agent are in force there, or the
    /// kernel lacks what is needed.
    pub fn start(host: Namespace, socket: &Path) -> Result<Self, Error> {
        let (handle, events) = Handle::new();
        let (ready, waiting) = channel();
        let notes = notes(socket);
        let ours = handle.clone();
        // Sockets and settings are those of the thread's namespace; our main thread is inside.
        let run = move || {
            host.enter(move || {
                let _lock = lock::take(&notes)?;
                let core = core(&ours, &notes)?;
                // Nobody waits any more when the command line has failed meanwhile.
                let _ = ready.send(());
                core.run(&events);
                lock::forget_run(&notes);
                Ok(())
            })?
        };
        let thread = thread::Builder::new()
            .name("core".to_owned())
            .spawn(run)
            .map_err(Error::system("start a thread"))?;
        match waiting.recv() {
            Ok(()) => Ok(Self { handle, thread }),
            Err(_) => Err(ended(thread)),
        }
    }

    /// Makes the interface.
    pub async fn attach(&self, request: AttachRequest) -> Result<Attachment, Error> {
        self.handle.call(move |core| core.attach(&request)).await
    }

    /// Takes all away.
    pub async fn end(self, owner: Option<String>) -> Result<(), Error> {
        self.handle
            .call(move |core| {
                let detached = owner.map_or(Ok(()), |owner| core.detach(&owner));
                core.down().and(detached)
            })
            .await?;
        self.thread.join().unwrap_or(Err(Error::Ending))
    }
}

/// Why the thread ended before it was ready.
fn ended(thread: JoinHandle<Result<(), Error>>) -> Error {
    match thread.join() {
        Ok(Err(error)) => error,
        Ok(Ok(())) | Err(_) => Error::Ending,
    }
}

/// A core without sources: the agent's configuration, policies and remembered networks are not
/// read, because they are about workloads that are not this one.
fn core(handle: &Handle, notes: &Path) -> Result<Core, Error> {
    let missing = missing(&Failpoints::default())?;
    let options = kernel::Options {
        state: notes.to_owned(),
        lifetime: Lifetime::Process,
        ..kernel::Options::default()
    };
    let kernel = Kernel::open(options)?;
    lock::note_run(notes)?;
    watch_host(handle)?;
    let nothing = PathBuf::new();
    let mut core = Core::new(
        handle.clone(),
        kernel,
        AgentConfig::default(),
        PolicyFolder::new(nothing.clone(), &nothing),
        Attachments::load(notes),
        Vec::new(),
    )?;
    core.missing = missing;
    core.alone();
    Ok(core)
}
