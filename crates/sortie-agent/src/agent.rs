//! Starts the sources, the core and the server of one host.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use sortie_api::config::AgentConfig;
use sortie_api::workload::Engine;
use sortie_kernel::failpoint::Failpoints;
use sortie_kernel::probe::{self, Feature};
use sortie_kernel::tables::{Foreign, TableWatch};
use sortie_kernel::watch::Watch;
use sortie_kernel::{Kernel, kernel};
use sortie_workloads::docker::{self, EngineConfig};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::api::Removed;
use crate::core::{
    Attachments, Bypasses, Core, Event, Followed, Handle, LearnedNames, NetworkNotes,
};
use crate::metrics::{self, Metrics};
use crate::policies::PolicyFolder;
use crate::{Error, holder, lock, proof, server, standing};

/// How long answers may still be on their way when the agent ends.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// How `sortie agent` is started.
#[derive(Debug, Clone)]
pub struct Options {
    /// The agent's configuration; it need not exist.
    pub config: PathBuf,
    /// The policy folder.
    pub policies: PathBuf,
    /// What outlives a reboot, and may be lost.
    pub state: PathBuf,
    /// The admin API; beside it is kept what must not outlive a reboot.
    pub socket: PathBuf,
    /// The engine's socket, instead of the configuration's.
    pub docker: Option<PathBuf>,
    /// Where to fail on purpose, for tests.
    pub failpoints: Failpoints,
}

/// Runs the agent until it is told to end: first as the holder, and, started by that, as itself.
pub fn run(options: &Options) -> Result<ExitCode, Error> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Error::NotRoot);
    }
    let config = configuration(options)?;
    match holder::inherited() {
        None => holder::hold(&notes(&options.socket)),
        Some(socket) => {
            let missing = missing(&options.failpoints)?;
            let kernel = kernel::Options {
                state: notes(&options.socket),
                failpoints: options.failpoints.clone(),
                socket: Some(socket),
                ..kernel::Options::default()
            };
            agent(options, config, Kernel::open(kernel)?, missing)
        }
    }
}

/// Takes away what a former agent left, when none runs.
pub fn down(socket: &Path) -> Result<Removed, Error> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Error::NotRoot);
    }
    let notes = notes(socket);
    let _lock = lock::take(&notes)?;
    let options = kernel::Options {
        state: notes.clone(),
        ..kernel::Options::default()
    };
    let mut kernel = Kernel::open(options)?;
    let steps = crate::core::remove_everything(&mut kernel, &Attachments::load(&notes))?;
    LearnedNames::in_folder(&notes).remove()?;
    Ok(Removed { steps })
}

/// Ends holder and agent, whether they answer or not, and takes away what they made.
pub fn down_by_force(socket: &Path) -> Result<Removed, Error> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Error::NotRoot);
    }
    holder::end_by_force(&notes(socket))?;
    down(socket)
}

/// What the kernel lacks that we can do without; lacking anything else is an error.
pub(crate) fn missing(failpoints: &Failpoints) -> Result<Vec<Feature>, Error> {
    let missing = probe::missing(failpoints)?;
    if let Some(needed) = missing.iter().find(|feature| feature.is_needed()) {
        let (feature, meaning) = (*needed, needed.meaning());
        return Err(sortie_kernel::Error::Unsupported { feature, meaning }.into());
    }
    for feature in &missing {
        tracing::warn!(%feature, "this kernel does not have it: {}", feature.meaning());
    }
    Ok(missing)
}

pub(crate) fn notes(socket: &Path) -> PathBuf {
    socket
        .parent()
        .unwrap_or(Path::new("/run/sortie"))
        .to_owned()
}

fn configuration(options: &Options) -> Result<AgentConfig, Error> {
    let name = options.config.display().to_string();
    let mut config = match fs::read_to_string(&options.config) {
        Ok(text) => AgentConfig::parse(&name, &text).map_err(Error::Config)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => AgentConfig::default(),
        Err(error) => return Err(Error::file("read", &options.config)(error)),
    };
    if let Some(socket) = &options.docker {
        config.docker.socket.clone_from(socket);
    }
    Ok(config)
}

fn agent(
    options: &Options,
    config: AgentConfig,
    kernel: Kernel,
    missing: Vec<Feature>,
) -> Result<ExitCode, Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(Error::system("start the agent"))?;
    let (handle, events) = Handle::new();
    let mut policies = PolicyFolder::new(options.policies.clone(), &options.state);
    policies.reload()?;
    // Subscribed before the first look, so that nothing falls between.
    watch_host(&handle)?;
    watch_folder(&handle, policies.path())?;
    if let Some(watch) = TableWatch::open(&kernel)? {
        watch_tables(&handle, watch)?;
    }
    proof::listen(&handle, &missing)?;
    let sources = [
        EngineConfig {
            engine: Engine::Docker,
            socket: config.docker.socket.clone(),
            others: vec![config.podman.socket.clone()],
        },
        EngineConfig {
            engine: Engine::Podman,
            socket: config.podman.socket.clone(),
            others: vec![config.docker.socket.clone()],
        },
    ];
    let listen = config.metrics.listen;
    let attachments = Attachments::load(&notes(&options.socket));
    let engines = Engine::ALL.map(|engine| {
        let notes = NetworkNotes::load(&options.state, engine);
        Followed::new(engine, &config, notes)
    });
    if let Err(error) = standing::keep(&options.state, &config) {
        tracing::warn!(%error, "the runtime will not know the guard while the agent is away");
    }
    let mut core = Core::new(
        handle.clone(),
        kernel,
        config,
        policies,
        attachments,
        engines.into(),
    )?;
    core.missing = missing;
    core.remember_names(LearnedNames::in_folder(&notes(&options.socket)));
    core.remember_bypasses(Bypasses::load(&options.state));
    if let Some(address) = listen {
        let metrics = Metrics::default();
        let listener = runtime.block_on(metrics::bind(address))?;
        let told = metrics.clone();
        runtime.spawn(metrics::serve(listener, move || told.text()));
        core.tell_to(metrics);
    }
    let listener = runtime.block_on(async { server::bind(&options.socket) })?;
    let teller = handle.clone();
    let (ended, ending) = oneshot::channel::<()>();
    let answering = runtime.spawn(server::serve(listener, handle, async {
        // An error is the other end's being dropped, which means the same.
        let _ = ending.await;
    }));
    runtime.block_on(async move {
        for source in sources {
            let engine = source.engine;
            let (mut changes, _source) = docker::watch(source)?;
            let forward = teller.clone();
            tokio::spawn(async move {
                while let Some(change) = changes.recv().await {
                    if !forward.tell(Event::Engine(engine, change)) {
                        return;
                    }
                }
            });
        }
        let mut terminate =
            signal(SignalKind::terminate()).map_err(Error::system("wait for signals"))?;
        let mut interrupt =
            signal(SignalKind::interrupt()).map_err(Error::system("wait for signals"))?;
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            teller.tell(Event::Stop);
        });
        Ok::<_, Error>(())
    })?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), socket = %options.socket.display(), "the agent runs");
    core.run(&events);
    // An answer to `down` may still be on its way out; followers of flows never end.
    drop(ended);
    let _ = runtime.block_on(async { timeout(LAST_ANSWERS, answering).await });
    runtime.shutdown_background();
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn watch_host(handle: &Handle) -> Result<(), Error> {
    let watch = Watch::open()?;
    let handle = handle.clone();
    let run = move || {
        for change in watch {
            if let Err(error) = &change {
                tracing::warn!(%error, "a report of the kernel could not be read");
            }
            if !handle.tell(Event::HostChanged) {
                return;
            }
        }
    };
    thread::Builder::new()
        .name("host".to_owned())
        .spawn(run)
        .map_err(Error::system("start a thread"))?;
    Ok(())
}

/// Only where the tables are not owned.
fn watch_tables(handle: &Handle, mut watch: TableWatch) -> Result<(), Error> {
    let handle = handle.clone();
    let run = move || {
        loop {
            let foreign = match watch.next(Duration::MAX) {
                Ok(foreign) => foreign,
                Err(error) => {
                    tracing::warn!(%error, "a change of nftables could not be read");
                    Some(Foreign::Lost)
                }
            };
            if foreign.is_some_and(|foreign| !handle.tables_touched(foreign)) {
                return;
            }
        }
    };
    thread::Builder::new()
        .name("tables".to_owned())
        .spawn(run)
        .map_err(Error::system("start a thread"))?;
    Ok(())
}

/// The folder is made if it is not there, so that it can be watched.
fn watch_folder(handle: &Handle, folder: &Path) -> Result<(), Error> {
    fs::create_dir_all(folder).map_err(Error::file("make", folder))?;
    let flags = AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_MOVED_FROM
        | AddWatchFlags::IN_DELETE;
    let inotify =
        Inotify::init(InitFlags::IN_CLOEXEC).map_err(|e| Error::file("watch", folder)(e.into()))?;
    inotify
        .add_watch(folder, flags)
        .map_err(|e| Error::file("watch", folder)(e.into()))?;
    let handle = handle.clone();
    let run = move || {
        while inotify.read_events().is_ok() {
            if !handle.tell(Event::PoliciesChanged) {
                return;
            }
        }
    };
    thread::Builder::new()
        .name("policies".to_owned())
        .spawn(run)
        .map_err(Error::system("start a thread"))?;
    Ok(())
}
